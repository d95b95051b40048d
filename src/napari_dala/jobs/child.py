"""A warm child process that is asked things over a pipe: one JSON object a line, both ways.

The parent sends requests, which run one after another, and may tell a running one something (cancel, look there).
The child sends events. When the parent goes away, however it ends, the child's input closes and the child ends.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from napari_dala.errors import DalaError
from napari_dala.jobs.process import last_line, lower_priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import IO

_log = logging.getLogger(__name__)

_GRACE_S = 5.0  # for what is running to stop once the parent is gone
_LAST_WORDS_S = 1.0  # for what a child that has died said to arrive; a process that it left may keep its output open
_LONGEST_LINE = 4_000_000  # bytes; what is said takes some hundreds


class Child:
    """The parent's side of a child process.

    Parameters
    ----------
    module
        Run as `python -m <module>`; it calls `serve`.
    on_event
        Called from a thread with (request id, event name, payload). Id 0 is about the child itself: "ready", and
        "died" with a reason when it ended unasked.
    environment
        Added to this process's environment.
    """

    def __init__(
        self,
        module: str,
        on_event: Callable[[int, str, dict[str, Any]], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._ids = count(1)
        self._closing = self._has_died = False
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
        )
        lower_priority(self._process.pid)  # from its imports on
        self._listener = threading.Thread(target=self._listen, daemon=True, name="dala-child")
        self._listener.start()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="dala-child-watcher")
        self._watcher.start()

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def request(self, action: str, **arguments: Any) -> int:
        """Queue an action; its events carry the returned id."""
        number = next(self._ids)
        self._send({"id": number, "action": action, "arguments": arguments})
        return number

    def tell(self, request: int, verb: str, **arguments: Any) -> None:
        """Tell a queued or running request something; a request that has ended does not hear it."""
        self._send({"id": request, "tell": verb, "arguments": arguments})

    def close(self, timeout: float = _GRACE_S) -> None:
        """Ask the child to stop, wait for it, and end it if it does not."""
        self._closing = True
        process = self._process
        with self._lock:
            if process.stdin and not process.stdin.closed:
                try:
                    process.stdin.close()
                except OSError:
                    pass
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if threading.current_thread() not in (self._listener, self._watcher):
            self._watcher.join(timeout)

    def _send(self, message: dict[str, Any]) -> None:
        with self._lock:
            stdin = self._process.stdin
            try:
                if stdin and not stdin.closed:
                    stdin.write(json.dumps(message).encode() + b"\n")
                    stdin.flush()
            except OSError:
                pass  # it has died; `_watch` says so

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for message in _messages(stream):
                match message:
                    case {"id": int(number), "event": str(event), "payload": dict(payload)}:
                        if not self._has_died:
                            self._on_event(number, event, payload)
                    case _:
                        _pass_over("not a message")

    def _watch(self) -> None:
        code = self._process.wait()
        self._listener.join(_LAST_WORDS_S)
        self._has_died = True
        with self._errors as file:
            said = last_line(file)
        if not self._closing:
            self._on_event(0, "died", {"reason": said or f"exit code {code}"})


class Request:
    """The child's side of one request."""

    def __init__(self, number: int, send: Callable[[int, str, dict[str, Any]], None]) -> None:
        self.number = number
        self._send = send
        self._lock = threading.Lock()
        self._told: list[tuple[str, dict[str, Any]]] = []
        self._hear: Callable[[str, dict[str, Any]], None] | None = None

    def emit(self, event: str, **payload: Any) -> None:
        """Send an event to the parent; may be called from any thread."""
        self._send(self.number, event, payload)

    def listen(self, hear: Callable[[str, dict[str, Any]], None]) -> None:
        """Have `hear(verb, arguments)` called for everything the parent told, and tells, this request."""
        with self._lock:
            self._hear = hear
            for verb, arguments in self._told:
                hear(verb, arguments)

    def told(self, verb: str, arguments: dict[str, Any]) -> None:
        """Pass on what the parent said."""
        with self._lock:
            self._told.append((verb, arguments))
            if self._hear:
                self._hear(verb, arguments)


def serve(actions: Mapping[str, Callable[..., dict[str, Any]]], prepare: Callable[[], dict[str, Any]]) -> None:
    """Be the child: answer requests from standard input until it closes.

    Parameters
    ----------
    actions
        By name: called with the `Request` and its arguments; what it returns is the "result" event. A `DalaError`
        becomes an "error" event of one line.
    prepare
        Called first (imports, a warm model); what it returns is the "ready" event.
    """
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not speak into the protocol
    lock = threading.Lock()

    def send(number: int, event: str, payload: dict[str, Any]) -> None:
        with lock:
            try:
                output.write(json.dumps({"id": number, "event": event, "payload": payload}) + "\n")
                output.flush()
            except OSError:
                pass  # the parent is gone; standard input says so too

    waiting: queue.Queue[tuple[Request, str, dict[str, Any]] | None] = queue.Queue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, send, waiting), daemon=True).start()
    send(0, "ready", prepare())
    while (item := waiting.get()) is not None:
        request, action, arguments = item
        try:
            send(request.number, "result", actions[action](request, **arguments))
        except DalaError as error:
            send(request.number, "error", {"message": str(error)})
        except Exception as error:
            traceback.print_exc()
            send(request.number, "error", {"message": f"{type(error).__name__}: {error}"})


def _receive(
    stream: IO[bytes],
    send: Callable[[int, str, dict[str, Any]], None],
    waiting: queue.Queue[tuple[Request, str, dict[str, Any]] | None],
) -> None:
    """Sort what the parent says; when it is gone cancel everything and end."""
    requests: dict[int, Request] = {}
    for message in _messages(stream):
        number = message["id"]
        if "action" in message:
            requests[number] = Request(number, send)
            waiting.put((requests[number], message["action"], message["arguments"]))
        elif number in requests:
            requests[number].told(message["tell"], message["arguments"])
    for request in requests.values():
        request.told("cancel", {})
    waiting.put(None)
    threading.Timer(_GRACE_S, os._exit, args=(1,)).start()


def _messages(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Give what the other side says until it is gone; what is not a whole line with a JSON object is passed over."""
    while line := stream.readline(_LONGEST_LINE):
        message, fault = None, "not a JSON object"
        if not line.endswith(b"\n"):
            fault = "longer than is ever said" if len(line) == _LONGEST_LINE else "cut off: it may have died"
            while line and not line.endswith(b"\n"):
                line = stream.readline(_LONGEST_LINE)
        else:
            with suppress(ValueError, RecursionError):
                message = json.loads(line)
        if isinstance(message, dict):
            yield message
        else:
            _pass_over(fault)


def _pass_over(fault: str) -> None:
    _log.warning("A line from another process of napari-dala is passed over, for it is %s.", fault)
