"""How long each of our own callbacks holds napari's event loop."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from qtpy.QtWidgets import QApplication

from napari_dala import plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FunctionType, TracebackType

_MEASURING = "napari_dala.plugin.bench"  # what drives and measures is not what is measured


@dataclass(frozen=True)
class CallTime:
    """One call from the event loop.

    Attributes
    ----------
    wall_s
        Seconds by the clock.
    cpu_s
        Seconds of processor time of all threads of this process; zarr reads in one of its own.
    """

    wall_s: float
    cpu_s: float

    @property
    def own_s(self) -> float:
        """The shorter of both: time that other processes took is not in it. Nor is waiting for a disk."""
        return min(self.wall_s, self.cpu_s)


class CallbackTimes:
    """Times, as a context, every function and method of `napari_dala.plugin` that the main thread enters from outside.

    Such an entry is a slot, a timer, an event of napari or a handler of Qt's. What it calls in turn, napari's work
    among it, is part of it, but for the events that Qt is told to handle meanwhile (napari's progress bars do so):
    then the window answers. Properties and constructors are not timed, nor what was connected before: enter the context
    before the docks are made.

    Attributes
    ----------
    calls
        {"Class.method" or "function": its calls, in order}.
    """

    def __init__(self) -> None:
        self.calls: defaultdict[str, list[CallTime]] = defaultdict(list)
        self._inside = False
        self._away = (0.0, 0.0)  # seconds, by the clock and of the processor, in which events were handled
        self._handle_events = QApplication.processEvents
        self._replaced: list[tuple[Any, str, FunctionType]] = []

    def __enter__(self) -> Self:
        for owner, name, function in list(_functions()):
            self._replaced.append((owner, name, function))
            setattr(owner, name, self._timed(function))
        QApplication.processEvents = staticmethod(self._handling)  # type: ignore[method-assign, assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for owner, name, function in self._replaced:
            setattr(owner, name, function)
        self._replaced.clear()
        del QApplication.processEvents  # the one it has from QCoreApplication shows again

    def _timed(self, function: FunctionType) -> Callable[..., Any]:
        most = _positional(function)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            arguments = arguments[:most]  # PyQt offers every argument of a signal and looks whether fewer will do
            if self._inside or threading.current_thread() is not threading.main_thread():
                return function(*arguments, **named)
            self._inside, self._away = True, (0.0, 0.0)
            begun = _now()
            try:
                return function(*arguments, **named)
            finally:
                self._inside = False
                spent = (end - start - away for end, start, away in zip(_now(), begun, self._away, strict=True))
                self.calls[function.__qualname__].append(CallTime(*spent))

        return timed

    def _handling(self, *arguments: Any) -> Any:
        """Handle events in the midst of a callback."""
        if not self._inside or threading.current_thread() is not threading.main_thread():
            return self._handle_events(*arguments)
        before, begun = self._away, _now()
        self._inside = False  # what is called now is called from the event loop
        try:
            return self._handle_events(*arguments)
        finally:
            self._inside = True
            spent = zip(before, _now(), begun, strict=True)
            wall, cpu = (earlier + end - start for earlier, end, start in spent)
            self._away = (wall, cpu)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _functions() -> Iterator[tuple[Any, str, FunctionType]]:
    """Give (class or module, name, function) of all that is defined in the plugin and its sub-packages."""
    for found in pkgutil.walk_packages(plugin.__path__, f"{plugin.__name__}."):
        if found.name.startswith(_MEASURING):
            continue
        module = importlib.import_module(found.name)
        classes = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == found.name]
        for owner in (module, *classes):
            for name, value in list(vars(owner).items()):
                plain = inspect.isfunction(value) and not inspect.isgeneratorfunction(value)
                if plain and value.__module__ == found.name and not name.startswith("__"):
                    yield owner, name, value


def _positional(function: FunctionType) -> int:
    """Return how many positional arguments a function takes."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return sys.maxsize
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
