from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings, strategies as st

from napari_dala.errors import JobError
from napari_dala.jobs.job import PROGRAMS, Job, jobs_in
from napari_dala.jobs.process import ProcessMark
from napari_dala.jobs.run import JobRun
from napari_dala.jobs.state import JobState, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")

WORK = """
import sys, time
from pathlib import Path
from napari_dala.files import write_text
from napari_dala.jobs.run import JobRun

print("at work")
with JobRun(Path.cwd()) as run:
    saved = run.job.checkpoints / "steps"
    first = int(saved.read_text()) if saved.exists() else 0
    run.report(first=first)
    for step in range(first, run.job.config["steps"]):
        time.sleep(run.job.config["step_s"])
        run.report(step=step, loss=1 / (step + 1))
        write_text(saved, str(step + 1))
        if run.should_stop():
            break
    else:
        write_text(run.job.result / "model", "trained")
"""

FAIL = """
import sys
from napari_dala.errors import SlideError
from napari_dala.jobs.run import JobRun
with JobRun(".") as run:
    {}
"""


START = "from napari_dala.jobs.job import PROGRAMS, Job; PROGRAMS[{!r}] = ('-c', {!r}); Job.open({!r}).start()"


@pytest.fixture
def make_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Job]]:
    made: list[Job] = []

    def make(code: str = WORK, *, steps: int = 3, step_s: float = 0.0) -> Job:
        config = {"steps": steps, "step_s": step_s}
        kind = f"test{len(made)}"
        monkeypatch.setitem(PROGRAMS, kind, ("-c", code))
        made.append(Job.create(tmp_path / "jobs" / f"job{len(made)}", kind, config))
        return made[-1]

    yield make
    for job in made:
        with contextlib.suppress(JobError):  # a test may have damaged it
            job.kill()


def wait_for(fact: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def steps(job: Job) -> list[int]:
    return [event["step"] for event in job.events()[0] if "step" in event]


def test_a_job_runs_to_its_end(make_job: Callable[..., Job]) -> None:
    job = make_job()
    assert job.state == JobState(Status.QUEUED, updated=job.state.updated)
    assert job.wait(0) == "queued"  # nobody has started it
    assert Job.open(job.folder) == job
    job.start()
    assert job.status in ("queued", "running", "done")
    assert job.wait(10) == "done"
    assert steps(job) == [0, 1, 2]
    assert (job.result / "model").read_text() == "trained"
    assert (job.folder / "log.txt").read_text() == "at work\n"
    with pytest.raises(JobError, match="done; make a new one"):
        job.start()
    with pytest.raises(JobError, match="is done, there is nothing to pause"):
        job.pause()
    job.cancel()
    job.kill()
    assert job.status == "done"
    assert sorted(path.name for path in job.folder.iterdir()) == sorted(
        ["job.json", "state.json", "progress.jsonl", "log.txt", "lock", "checkpoints", "result"]
    )


@posix
def test_a_process_of_its_own_at_low_priority(make_job: Callable[..., Job]) -> None:
    job = make_job(steps=1000, step_s=0.05)
    job.start()
    assert job.state.process is not None
    process = job.state.process.process()
    assert process is not None
    assert os.getsid(process.pid) == process.pid
    assert process.nice() >= 10
    job.kill()
    assert job.status in ("interrupted", "failed")
    wait_for(lambda: not psutil.pid_exists(process.pid))  # no zombie is left


@posix
def test_a_job_outlives_its_killed_parent(make_job: Callable[..., Job]) -> None:
    job = make_job(steps=20, step_s=0.05)
    code = START.format(job.kind, WORK, str(job.folder)) + "; import time; time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    wait_for(lambda: job.status == "running")
    os.killpg(parent.pid, signal.SIGKILL)  # as a closed terminal would: the whole group
    parent.wait()
    events, offset = job.events()
    assert job.status == "running"
    assert Job.open(job.folder).wait(10) == "done"
    events += job.events(offset)[0]
    assert [event["step"] for event in events[1:]] == list(range(20))


@posix
def test_killed_at_any_moment_it_stays_readable_and_goes_on(make_job: Callable[..., Job]) -> None:
    job = make_job(steps=100_000, step_s=0.002)
    draw = random.Random(3)
    for _ in range(3):
        job.start()
        wait_for(lambda: job.status != "queued")
        time.sleep(draw.uniform(0, 0.15))
        assert job.state.process is not None
        os.kill(job.state.process.pid, signal.SIGKILL)
        assert job.wait(10) == "interrupted"
        assert "ended unexpectedly: log.txt ends with “at work”" in job.state.message
        assert [found.status for found in jobs_in(job.folder.parent)] == ["interrupted"]
        assert sorted(set(steps(job))) == list(range(len(set(steps(job)))))
    before = max(steps(job))
    job.start()
    wait_for(lambda: max(steps(job)) > before + 3)
    job.cancel()
    assert job.wait(10) == "cancelled"
    assert sorted(set(steps(job))) == list(range(max(steps(job)) + 1))
    starts = [event["first"] for event in job.events()[0] if "first" in event]
    assert starts == sorted(starts)
    assert starts[-1] > 0  # from its checkpoint, not from the beginning


def test_pause_resume_cancel_and_again(make_job: Callable[..., Job]) -> None:
    job = make_job(steps=1000, step_s=0.01)
    job.start()
    job.pause()  # heard even while it starts
    wait_for(lambda: job.status == "paused")
    before = steps(job)
    time.sleep(0.2)
    assert steps(job) == before
    with pytest.raises(JobError, match="paused already"):
        job.start()
    job.resume()
    wait_for(lambda: len(steps(job)) > len(before))
    assert job.status == "running"
    job.cancel()
    assert job.wait(10) == "cancelled"
    assert not (job.result / "model").exists()
    done = len(steps(job))
    job.resume()  # the request of before does not cancel it again
    wait_for(lambda: len(steps(job)) > done + 3)
    assert steps(job) == list(range(len(steps(job))))
    job.pause()
    wait_for(lambda: job.status == "paused")
    job.cancel()
    assert job.wait(10) == "cancelled"


def test_a_job_that_does_not_run_is_cancelled_at_once(make_job: Callable[..., Job]) -> None:
    job = make_job()
    job.cancel()
    assert job.status == "cancelled"


@posix
def test_sigterm_cancels(make_job: Callable[..., Job]) -> None:
    job = make_job(steps=1000, step_s=0.01)
    job.start()
    wait_for(lambda: job.status == "running")
    assert job.state.process is not None
    os.kill(job.state.process.pid, signal.SIGTERM)
    assert job.wait(10) == "cancelled"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (FAIL.format("raise SlideError('slide.svs: broken')"), "slide.svs: broken"),
        (FAIL.format("raise RuntimeError('out of\\nmemory')"), "RuntimeError: out of"),
        (FAIL.format("sys.exit(3)"), "exit code 3"),
        ("import no_such_module", "could not start: log.txt ends with “ModuleNotFoundError: No module named"),
    ],
)
def test_a_failure_says_why(make_job: Callable[..., Job], code: str, message: str) -> None:
    job = make_job(code)
    job.start()
    assert job.wait(10) == "failed"
    assert job.state.message.startswith(message)
    assert "\n" not in job.state.message


def test_a_program_that_cannot_be_run(make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(JobError, match="/no/such/python: cannot be run"):
        job.start()
    assert job.status == "queued"


@pytest.mark.parametrize(
    ("leave", "status"),
    [(KeyboardInterrupt, "cancelled"), (SystemExit, "cancelled"), (GeneratorExit, "cancelled")],
)
def test_left_early_is_not_done(make_job: Callable[..., Job], leave: type[BaseException], status: str) -> None:
    job = make_job()
    run = JobRun(job.folder)

    def work() -> None:
        with run:
            run.say("epoch 1 of 9")
            assert job.state.message == "epoch 1 of 9"
            raise leave

    with pytest.raises(leave):
        work()
    assert (job.status, job.state.message) == (status, "epoch 1 of 9")


def test_only_one_of_many_starts(make_job: Callable[..., Job]) -> None:
    job = make_job(steps=1000, step_s=0.05)
    refused: list[str] = []

    def start() -> None:
        try:
            job.start()
        except JobError as error:
            refused.append(str(error))

    code = START.format(job.kind, WORK, str(job.folder))
    other = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stderr=subprocess.PIPE)
    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused += other.communicate()[1].decode().splitlines()[-1:]
    assert len(refused) == 4
    assert all("already" in line or "another process is running" in line for line in refused)
    wait_for(lambda: job.status == "running")
    with pytest.raises(JobError, match="running this job"):
        run_by_hand(job, patience_s=0.1)
    job.cancel()
    assert job.wait(10) == "cancelled"
    assert sum("first" in event for event in job.events()[0]) == 1


def run_by_hand(job: Job, patience_s: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_dala.jobs.run._PATIENCE_S", patience_s)
        with JobRun(job.folder):
            pass


def test_a_job_that_another_just_started_is_not_run_by_hand(make_job: Callable[..., Job]) -> None:
    job = make_job()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    JobState(Status.QUEUED, "starting", ProcessMark.of(other.pid)).write(job.folder)
    with pytest.raises(JobError, match="another process is running this job"):
        run_by_hand(job, 0.1)
    other.communicate()
    run_by_hand(job, 0.1)
    assert job.status == "done"


@posix
def test_a_forked_worker_does_not_hold_the_lock(make_job: Callable[..., Job]) -> None:
    code = """
import os, time
from napari_dala.jobs.run import JobRun
with JobRun(".") as run:
    worker = os.fork()
    if worker:
        run.report(worker=worker)
    time.sleep(60)
"""
    job = make_job(code)
    job.start()
    wait_for(lambda: bool(job.events()[0]))
    assert job.state.process is not None
    os.kill(job.state.process.pid, signal.SIGKILL)
    job.wait(10)
    worker = job.events()[0][0]["worker"]
    try:
        assert psutil.pid_exists(worker)
        run_by_hand(job, 0.1)
        assert job.status == "done"
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_recycled_pid_is_not_ours(make_job: Callable[..., Job]) -> None:
    job = make_job()
    me = ProcessMark.of(os.getpid())
    JobState(Status.RUNNING, process=ProcessMark(me.pid, me.created - 60)).write(job.folder)
    assert job.status == "interrupted"
    job.kill()  # and is not killed
    JobState(Status.RUNNING, process=me).write(job.folder)
    assert job.status == "running"
    job.cancel()
    JobState(Status.RUNNING, process=ProcessMark(me.pid, me.created - 60)).write(job.folder)
    with JobRun(job.folder) as run:  # an old request is not for this run
        assert run.poll() == "go"


def test_a_torn_last_line_is_not_an_event(make_job: Callable[..., Job]) -> None:
    job = make_job()
    path = job.folder / "progress.jsonl"
    path.write_bytes(b'{"step": 0}\n\0\0\n{"step": 1}\n{"ste')
    events, offset = job.events()
    assert events == [{"step": 0}, {"step": 1}]
    with JobRun(job.folder) as run:
        run.report(step=2)
    assert steps(job) == [0, 1, 2]
    assert [event["step"] for event in job.events(offset)[0]] == [2]


def test_events_are_plain_json(make_job: Callable[..., Job]) -> None:
    job = make_job()
    with JobRun(job.folder) as run:
        run.report(
            loss=np.float32("nan"),
            step=np.int64(7),
            recall=np.array([0.5, np.inf]),
            name=Path("µ"),
            done=False,
            x={1: ()},
        )
    event = json.loads((job.folder / "progress.jsonl").read_text(), parse_constant=pytest.fail)
    assert abs(event.pop("time") - time.time()) < 5
    assert event == {"loss": None, "step": 7, "recall": [0.5, None], "name": "µ", "done": False, "x": {"1": []}}


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_the_pieces_of_events_are_all_of_them(reported: list[dict[str, Any]], cuts: list[int]) -> None:
    data = b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in reported)
    with tempfile.TemporaryDirectory() as folder:
        job = Job.create(Path(folder) / "job", "test", {})
        pieces, offset, at = [], 0, 0
        with (job.folder / "progress.jsonl").open("ab", buffering=0) as file:
            for turn in range(len(data) + 1):
                new, offset = job.events(offset)
                pieces += new
                if at >= len(data):
                    break
                size = cuts[turn % len(cuts)]
                file.write(data[at : at + size])
                at += size
        assert pieces == reported == job.events()[0]
        assert offset == len(data)


def test_jobs_newest_first_without_the_damaged(make_job: Callable[..., Job]) -> None:
    jobs = [make_job() for _ in range(5)]
    folder = jobs[0].folder.parent
    (jobs[1].folder / "job.json").write_text("{")
    (jobs[2].folder / "job.json").write_text("{}")
    (jobs[3].folder / "state.json").unlink()
    (folder / "notes.txt").touch()
    reasons: list[str] = []
    assert jobs_in(folder, reasons.append) == [jobs[4], jobs[0]]
    assert len(reasons) == 3
    assert all(str(job.folder) in reason and "\n" not in reason for job, reason in zip(jobs[1:4], reasons, strict=True))
    assert jobs_in(folder / "absent") == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("job.json", {"created": "2026-11-28T10:00:00"}),  # without a time zone: could not be sorted among the others
        ("job.json", {"created": 1e300}),
        ("job.json", {"config": [1]}),
        ("job.json", {"kind": None}),
        ("state.json", {"status": "resting"}),
        ("state.json", {"message": 3}),
        ("state.json", {"pid": 10**30}),
        ("state.json", {"pid": -1}),
        ("state.json", {"pid": True}),
        ("state.json", {"process_created": "now", "pid": 3}),
        ("state.json", {"updated": "yesterday"}),
    ],
)
def test_values_that_a_job_cannot_have(make_job: Callable[..., Job], name: str, change: dict[str, Any]) -> None:
    good, bad = make_job(), make_job()
    path = bad.folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    reasons: list[str] = []
    assert jobs_in(good.folder.parent, reasons.append) == [good]
    assert len(reasons) == 1
    assert f"{path}: damaged" in reasons[0]


def test_what_is_no_event_is_left_out(make_job: Callable[..., Job]) -> None:
    job = make_job()
    lines = ['{"time": 1}', "[1]", "3", "NaN", "[" * 100_000, '{"a": ', '{"time": 1, "time": 2}', '{"time": 2}']
    (job.folder / "progress.jsonl").write_text("\n".join(lines) + "\n")
    assert job.events()[0] == [{"time": 1}, {"time": 2}]


def test_a_folder_that_is_taken(make_job: Callable[..., Job], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Job.create(tmp_path / "empty", "test", {})
    with pytest.raises(JobError, match="not empty"):
        Job.create(tmp_path / "empty", "test", {})
    with pytest.raises(TypeError):
        Job.create(tmp_path / "new", "test", {"no": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_leaves_what_was_there(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "test", ("-c", WORK))
    job = Job.create(small_disk / "job", "test", {"steps": 3, "step_s": 0.0})
    before = b""

    def work() -> None:
        nonlocal before
        with JobRun(job.folder) as run:
            run.report(text="")
            fill(small_disk)
            before = (job.folder / "state.json").read_bytes()
            with pytest.raises(JobError, match=r"state\.json: the disk is full; free some space"):
                run.say("epoch 2")
            assert (job.folder / "state.json").read_bytes() == before
            while True:
                run.report(text="x" * 1500)

    with pytest.raises(JobError, match=r"progress\.jsonl: the disk is full"):
        work()
    assert (job.folder / "state.json").read_bytes() == before  # the last state had no place either
    assert (job.folder / "progress.jsonl").read_bytes().endswith(b'"}\n')
    reported = len(job.events()[0])
    JobState.read(job.folder)
    assert not list(small_disk.rglob(".*"))

    with pytest.raises(JobError, match="full"):
        Job.create(small_disk / "other", "test", {})
    assert {path.name for path in small_disk.iterdir()} == {"job", "ballast"}

    (small_disk / "ballast").unlink()
    JobState(Status.CANCELLED).write(job.folder)
    fill(small_disk)
    contents = everything(job.folder)
    with pytest.raises(JobError, match="full"):
        job.start()
    assert everything(job.folder) == {**contents, "log.txt": b""}
    (small_disk / "ballast").unlink()
    job.start()
    assert job.wait(10) == "done"
    assert len(job.events()[0]) == reported + 4


def test_a_read_only_folder_is_readable(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "test", ("-c", WORK))
    job = Job.create(small_disk / "job", "test", {})
    JobState(Status.RUNNING, process=ProcessMark(os.getpid(), 0.0)).write(job.folder)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert [found.status for found in jobs_in(small_disk)] == ["interrupted"]
    assert job.events() == ([], 0)
    for attempt in (
        job.start,
        job.cancel,
        JobRun(job.folder).__enter__,
        lambda: Job.create(small_disk / "other", "test", {}),
    ):
        with pytest.raises(JobError, match="read-only; choose a workspace that can be written to"):
            attempt()
