from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from napari_dala.jobs.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ECHO = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
from napari_dala.errors import DalaError
from napari_dala.jobs.child import serve

def echo(request, **arguments):
    print("a library speaks")  # must not enter the protocol
    request.emit("half", **arguments)
    return arguments

def wait(request):
    heard = []
    request.listen(lambda verb, arguments: heard.append(verb))
    request.emit("waiting")
    while "cancel" not in heard:
        time.sleep(0.01)
    return {"heard": heard}

def fail(request, kind):
    if kind == "known":
        raise DalaError("slide.svs: broken")
    raise RuntimeError("unforeseen")

def die(request):
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(3)

def idle():
    with ThreadPoolExecutor(1) as pool:
        return sys.platform == "linux" and pool.submit(os.sched_getscheduler, 0).result() == os.SCHED_IDLE

actions = {"echo": echo, "wait": wait, "fail": fail, "die": die}
serve(actions, lambda: {"pid": os.getpid(), "nice": os.nice(0), "idle": idle()})
"""


class _Events:
    def __init__(self) -> None:
        self.queue: queue.Queue[tuple[int, str, dict[str, Any]]] = queue.Queue()

    def __call__(self, number: int, name: str, payload: dict[str, Any]) -> None:
        self.queue.put((number, name, payload))

    def next(self) -> tuple[int, str, dict[str, Any]]:
        return self.queue.get(timeout=20)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[tuple[Child, _Events, dict[str, Any]]]:
    (tmp_path / "echo_child.py").write_text(ECHO)
    events = _Events()
    made = Child("echo_child", events, {"PYTHONPATH": str(tmp_path)})
    number, name, payload = events.next()
    assert (number, name) == (0, "ready")
    yield made, events, payload
    made.close()
    assert not made.is_alive


def test_requests_are_answered_in_order_and_prints_stay_out(child: tuple[Child, _Events, dict[str, Any]]) -> None:
    made, events, ready = child
    assert ready["nice"] >= 10
    assert ready["idle"] == (sys.platform == "linux")  # of a thread that it started, too
    first, second = made.request("echo", text="µ"), made.request("echo", text="b")
    assert [events.next() for _ in range(4)] == [
        (first, "half", {"text": "µ"}),
        (first, "result", {"text": "µ"}),
        (second, "half", {"text": "b"}),
        (second, "result", {"text": "b"}),
    ]


def test_a_running_and_a_queued_request_can_be_told(child: tuple[Child, _Events, dict[str, Any]]) -> None:
    made, events, _ = child
    running, queued = made.request("wait"), made.request("wait")
    assert events.next() == (running, "waiting", {})
    made.tell(queued, "cancel")
    made.tell(running, "look_at", view=None)
    made.tell(running, "cancel")
    assert events.next() == (running, "result", {"heard": ["look_at", "cancel"]})
    assert events.next() == (queued, "waiting", {})
    assert events.next() == (queued, "result", {"heard": ["cancel"]})


def test_failures_are_one_line_and_the_child_goes_on(child: tuple[Child, _Events, dict[str, Any]]) -> None:
    made, events, _ = child
    first, second = made.request("fail", kind="known"), made.request("fail", kind="other")
    assert events.next() == (first, "error", {"message": "slide.svs: broken"})
    assert events.next() == (second, "error", {"message": "RuntimeError: unforeseen"})
    third = made.request("echo")
    assert events.next()[:2] == (third, "half")


def test_a_child_that_dies_says_why(child: tuple[Child, _Events, dict[str, Any]]) -> None:
    made, events, _ = child
    made.request("die")
    assert events.next() == (0, "died", {"reason": "out of luck"})
    made.request("echo")  # no harm


BABBLE = """
import os, sys, time
from pathlib import Path
line, ending = Path(__file__).with_name("line").read_bytes(), os.environ["ENDING"]
sys.stdout.buffer.write(line)
sys.stdout.buffer.flush()
if ending == "with an heir" and os.fork() == 0:
    time.sleep(15)  # and keeps the pipe open
elif ending == "goes on":
    print('{"id": 7, "event": "after", "payload": {}}', flush=True)
    sys.stdin.read()
else:
    os.write(2, b"\\xff\\xfe torn\\n")
os._exit(3)
"""


@pytest.fixture
def babbling(tmp_path: Path) -> Iterator[Callable[[bytes, str], _Events]]:
    """Start a child that says something that is no message, and ends or goes on; give what is heard of it."""
    made: list[Child] = []

    def start(line: bytes, ending: str) -> _Events:
        (tmp_path / "babble_child.py").write_text(BABBLE)
        (tmp_path / "line").write_bytes(line)
        events = _Events()
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        made.append(Child("babble_child", events, {"PYTHONPATH": path, "ENDING": ending}))
        return events

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("ending", ["at once", "with an heir"])
@pytest.mark.parametrize("line", [b'{"id": 1, "event": "half", "payl', b"", b'{"id": 1}\n', b"x" * 9_000_000])
def test_a_child_that_dies_in_mid_line_is_noticed(
    babbling: Callable[[bytes, str], _Events], line: bytes, ending: str
) -> None:
    if ending == "with an heir" and sys.platform == "win32":
        pytest.skip("fork")
    begun = time.monotonic()
    assert babbling(line, ending).next() == (0, "died", {"reason": "\N{REPLACEMENT CHARACTER}" * 2 + " torn"})
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"not JSON\n", "not a JSON object"),
        (b"7\n", "not a JSON object"),
        (b"\xff\xfe\n", "not a JSON object"),
        (b"[" * 100_000 + b"\n", "not a JSON object"),
        (b"x" * 9_000_000 + b"\n", "longer than is ever said"),
        (b'{"id": "one", "event": 2, "payload": []}\n', "not a message"),
    ],
)
def test_a_line_that_is_no_message_is_passed_over(
    babbling: Callable[[bytes, str], _Events], line: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert babbling(line, "goes on").next() == (7, "after", {})
    assert said in caplog.text
    assert len(caplog.text) < 300  # nothing of what it said, which may name a patient


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_child_ends_when_its_parent_is_killed_in_mid_line(tmp_path: Path) -> None:
    (tmp_path / "echo_child.py").write_text(ECHO)
    made = subprocess.Popen(
        [sys.executable, "-m", "echo_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )
    assert made.stdin is not None
    with made.stdin:
        made.stdin.write(b'no message\n{"id": 1, "action": "echo", "argum')
    assert made.wait(20) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "echo_child.py").write_text(ECHO)
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time\n"
            "from napari_dala.jobs.child import Child\n"
            "def say(number, name, payload):\n"
            "    print(payload.get('pid'), flush=True)\n"
            "child = Child('echo_child', say)\n"
            "child.request('wait')\n"
            "time.sleep(60)\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 10
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)
