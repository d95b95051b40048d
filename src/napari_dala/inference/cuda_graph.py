"""Functions of one batch as CUDA graphs: a GPU gets all of a network in one launch.

Launched one by one, the some 150 kernels of a batch each wait for the interpreter's lock, which readers and writer want
too.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)
_WARM = 3  # calls before a capture, in which libraries choose their kernels
Result = TypeVar("Result", bound="Tensor | tuple[Tensor | None, ...]")


def captured(run: Callable[[Tensor], Result], device: torch.device) -> Callable[[Tensor], Result]:
    """Return a function that does the same, as a CUDA graph if the device has those.

    Parameters
    ----------
    run
        Takes a tensor on the device, and gives one or a tuple of tensors, of which some may be None. It must do without
        the processor: no copies from there, nothing that depends on values. What it uses must stay as it is.
    device
        Where it computes.
    """
    return CapturedFunction(run) if device.type == "cuda" else run


class CapturedFunction:
    """See `captured`; several threads, with a CUDA stream each, may call it: the device takes their batches in turn.

    Inputs of another size are captured anew. What cannot be captured is run as it is.
    """

    def __init__(self, run: Callable[[Tensor], Any]) -> None:
        self._run = run
        self._graph: _Graph | None = None
        self._lock = threading.Lock()
        self.fails = False

    @torch.inference_mode()
    def __call__(self, inputs: Tensor) -> Any:
        """Return what the function gives."""
        with self._lock:
            if not self.fails and (self._graph is None or self._graph.inputs.shape != inputs.shape):
                self._capture(inputs)
            if self._graph is not None:
                return self._graph(inputs)
        return self._run(inputs)

    def _capture(self, inputs: Tensor) -> None:
        if self._graph is not None:
            self._graph.wait()
            self._graph = None  # its memory is free for the next one
        try:
            self._graph = _Graph(self._run, inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.fails = True
            _log.warning("The network runs without a CUDA graph: %s", str(error).splitlines()[0])


class _Graph:
    """One captured graph with the memory that it computes in."""

    def __init__(self, run: Callable[[Tensor], Any], example: Tensor) -> None:
        self.inputs = example.clone()
        stream = torch.cuda.Stream(example.device)
        stream.wait_stream(torch.cuda.current_stream(example.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM):
                run(self.inputs)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):  # others go on meanwhile
            self._results = run(self.inputs)
        self._read = torch.cuda.Event()

    def __call__(self, inputs: Tensor) -> Any:
        """Return the results for other inputs of the example's size, in memory of their own."""
        stream = torch.cuda.current_stream(inputs.device)
        stream.wait_event(self._read)  # whoever had it last may still be reading
        self.inputs.copy_(inputs)
        self._graph.replay()
        if isinstance(self._results, Tensor):
            results: Any = self._results.clone()
        else:
            results = tuple(None if part is None else part.clone() for part in self._results)
        self._read.record(stream)
        return results

    def wait(self) -> None:
        """Wait until the device is done with it."""
        self._read.synchronize()


def to_host(parts: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Return tensors on the processor, copied together and waited for once."""
    device = next(part.device for part in parts if part is not None)
    if device.type != "cuda":
        return tuple(None if part is None else part.cpu() for part in parts)
    host = tuple(None if part is None else _pinned_copy(part) for part in parts)
    torch.cuda.current_stream(device).synchronize()
    return host


def _pinned_copy(part: Tensor) -> Tensor:
    """Begin to copy a tensor from a GPU."""
    return torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part, non_blocking=True)
