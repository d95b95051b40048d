"""Job folders that somebody else prepared: nothing of theirs runs, nothing is written elsewhere, nobody waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from napari_dala.errors import JobError
from napari_dala.jobs.job import PROGRAMS, Job, jobs_in
from napari_dala.jobs.process import ProcessMark
from napari_dala.jobs.run import JobRun
from napari_dala.jobs.state import JobState, Status

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and FIFOs of POSIX")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setitem(PROGRAMS, "test", ("-c", "from napari_dala.jobs.run import JobRun\nwith JobRun('.'): pass"))
    made = Job.create(tmp_path / "jobs" / "job", "test", {})
    (made.folder / "annotations").mkdir()
    return made


def rewrite(path: Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize("kind", ["finetune", "test", "shell", "napari_dala.cli\n\x1b[2J"])
def test_a_command_in_the_folder_never_runs(job: Job, kind: str) -> None:
    trap = job.folder.parent / "this-command-ran"
    code = f"open({str(trap)!r}, 'w')"
    (job.folder / "napari_dala.py").write_text(code)  # nor what lies there like a module of ours
    rewrite(job.folder / "job.json", kind=kind, command=[sys.executable, "-c", code], program=code, cwd="/")
    state = {"status": "queued", "pid": 31156, "process_created": 1795892768.76}
    rewrite(job.folder / "state.json", **state)
    (opened,) = jobs_in(job.folder.parent)  # an old folder, which opens
    if kind in PROGRAMS:
        opened.resume()
        assert opened.wait(60) == {"test": "done", "finetune": "failed"}[kind], opened.state.message
    else:
        with pytest.raises(JobError, match="does no jobs of kind") as refused:
            opened.resume()
        assert str(refused.value).isprintable()
    assert not trap.exists()


NAMES = ["job.json", "state.json", "control", "progress.jsonl", "log.txt", "lock", "checkpoints", "result"]
INSIDE = ["checkpoints/last.ckpt", "result/result.json", "result/bundle.safetensors", "annotations/001.geojson"]


@posix
@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", NAMES + INSIDE)
@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "link to nothing", "fifo", "socket"])
def test_what_is_no_file_is_refused_at_once(job: Job, name: str, kind: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".precious-abcd1234").write_text("precious")
    path, before = job.folder / name, (job.folder / name).with_name("was")
    if path.exists():
        path.rename(before)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, 0o140600)
    else:
        path.symlink_to(
            {"file": outside / ".precious-abcd1234", "folder": outside, "nothing": outside / "new"}[kind.split()[-1]]
        )
    begun = time.monotonic()
    reasons: list[str] = []
    assert jobs_in(job.folder.parent, reasons.append) == []
    assert len(reasons) == 1
    assert name in reasons[0]
    assert "\n" not in reasons[0]
    for attempt in (job.start, lambda: JobRun(job.folder), lambda: Job.open(job.folder)):
        with pytest.raises(JobError):
            attempt()
    if name == "state.json":  # what looks at a job again and again
        with pytest.raises(JobError):
            _ = job.state
    if name == "progress.jsonl" and kind in ("fifo", "link to a folder"):
        with pytest.raises(JobError):
            job.events()
    assert time.monotonic() - begun < 5
    assert {item.name: item.read_text() for item in outside.iterdir()} == {".precious-abcd1234": "precious"}


@posix
@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["progress.jsonl", "lock"])
def test_a_link_that_comes_later_is_not_written_through(job: Job, name: str, tmp_path: Path) -> None:
    run = JobRun(job.folder)
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (job.folder / name).unlink(missing_ok=True)
    (job.folder / name).symlink_to(outside)
    with pytest.raises(JobError, match=f"{name}: a link, which is not written to"), run:
        run.report(step=1)
    assert outside.read_text() == "precious"


@posix
@pytest.mark.timeout(30)
def test_a_control_fifo_does_not_hold_a_running_job(job: Job) -> None:
    with JobRun(job.folder) as run:
        os.mkfifo(job.folder / "control")
        assert run.poll() == "go"
        job.cancel()  # takes its place
        assert run.poll() == "cancel"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("job.json", "[" * 100_000),
        ("state.json", '{"status": "queued", "pid": 1' + "0" * 5000 + "}"),
        ("state.json", '{"status": "running", "message": "", "pid": -1, "process_created": 1e999, "updated": "now"}'),
        ("job.json", '{"kind": "finetune", "config": {}, "created": 1, "version": "' + " " * 17_000_000 + '"}'),
        ("job.json", "\0" * 1000),
    ],
)
def test_a_folder_of_nonsense_is_one_line(job: Job, file: str, content: str) -> None:
    (job.folder / file).write_text(content)
    reasons: list[str] = []
    assert jobs_in(job.folder.parent, reasons.append) == []
    assert len(reasons) == 1
    assert file in reasons[0]
    assert "\n" not in reasons[0]
    assert len(reasons[0]) < 400


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 2**70])
def test_a_process_that_cannot_be_is_none(job: Job, pid: int) -> None:
    assert ProcessMark(pid, 0.0).process() is None
    rewrite(job.folder / "state.json", status="running", pid=pid, process_created=0)
    with pytest.raises(JobError, match=r"state\.json: damaged, not what it should be \(pid"):
        job.kill()


@pytest.mark.parametrize("line", [b"7", b"[1]", b"null", b"[" * 100_000, b"\xff"])
def test_a_line_that_is_no_event_is_passed_over(job: Job, line: bytes) -> None:
    (job.folder / "progress.jsonl").write_bytes(line + b'\n{"step": 1}\n')
    assert job.events()[0] == [{"step": 1}]


@pytest.mark.skipif(sys.platform != "linux", reason="the others store the create time")
def test_a_clock_that_is_set_ends_no_job(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    JobState(Status.RUNNING, process=ProcessMark.of(os.getpid())).write(job.folder)
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) - 3600)
    assert job.status == "running"
    me = ProcessMark.of(os.getpid())
    assert me.start is not None
    boot, ticks = me.start.split()
    for other in (f"{boot} {int(ticks) + 1}", f"another {ticks}", ""):  # its number was given out again
        JobState(Status.RUNNING, process=ProcessMark(me.pid, me.created, other)).write(job.folder)
        assert job.status == "interrupted"


@posix
def test_what_a_killed_job_left_is_swept_by_the_next_start(job: Job) -> None:
    code = (
        "from pathlib import Path\nfrom napari_dala.files import replacing\nfrom napari_dala.jobs.run import JobRun\n"
        "with JobRun('.') as run, replacing(run.job.checkpoints / 'layer3-a.npy') as file:\n"
        "    file.write_bytes(bytes(1000))\n    run.report(at='work')\n    import time; time.sleep(60)\n"
    )
    PROGRAMS["test"] = ("-c", code)

    def kill_it_at_work() -> None:
        seen = len(job.events()[0])
        job.start()
        while len(job.events()[0]) == seen:
            assert job.state.is_live, job.state.message
            time.sleep(0.01)
        assert job.state.process is not None
        os.kill(job.state.process.pid, signal.SIGKILL)
        job.wait(10)

    kill_it_at_work()
    kill_it_at_work()
    assert len(list(job.checkpoints.iterdir())) == 1  # of the second alone
    job.cancel()  # given up for good
    assert not list(job.checkpoints.iterdir())


@posix
def test_a_job_that_was_never_whole_is_swept(tmp_path: Path) -> None:
    """Whoever was making it was killed; another who is making one is not disturbed."""
    code = (
        "import sys, time, shutil; from napari_dala.jobs.job import Job\n"
        "def hold(*_): print('copying', flush=True); time.sleep(60)\n"
        "shutil.copyfile = hold\n"
        "Job.create(sys.argv[1], 'test', {}, files={'annotations/1': 'none'})\n"
    )
    names = [str(tmp_path / name) for name in ("killed", "living")]
    makers = [subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE) for name in names]
    for maker in makers:
        assert maker.stdout is not None
        with maker.stdout:
            assert maker.stdout.readline() == b"copying\n"
    makers[0].kill()
    makers[0].wait()
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == [".killed", ".living"]
    Job.create(tmp_path / "new", "test", {})
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == [".living", "new"]
    makers[1].kill()
    makers[1].wait()
