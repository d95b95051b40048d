"""A job in a real process is followed from the window: events, pauses, its end, its death and its second start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from napari_dala.errors import JobError
from napari_dala.jobs.job import PROGRAMS, Job
from napari_dala.jobs.process import ProcessMark
from napari_dala.jobs.state import JobState, Status
from napari_dala.plugin.learn.job_watch import JobWatch

if TYPE_CHECKING:
    from pathlib import Path

WORK = """
import time
from pathlib import Path
from napari_dala.files import write_text
from napari_dala.jobs.run import JobRun

with JobRun(Path.cwd()) as run:
    saved = run.job.checkpoints / "steps"
    for step in range(int(saved.read_text()) if saved.exists() else 0, run.job.config["steps"]):
        time.sleep(0.02)
        run.say(f"step {step}")
        run.report(step=step)
        write_text(saved, str(step + 1))
        if run.should_stop():
            break
"""


class Heard:
    """What a watch has told."""

    def __init__(self, watch: JobWatch) -> None:
        self.steps: list[int] = []
        self.states: list[tuple[Status, str]] = []
        self.ends = 0
        self.order: list[str] = []
        watch.reported.connect(lambda event: (self.steps.append(event["step"]), self.order.append("event")))
        watch.state.connect(lambda *state: self.states.append(state))
        watch.ended.connect(self._on_ended)

    def _on_ended(self) -> None:
        self.ends += 1
        self.order.append("end")

    @property
    def status(self) -> Status:
        return self.states[-1][0]


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "count", ("-c", WORK))


def job_of(folder: Path, steps: int) -> Job:
    return Job.create(folder, "count", {"steps": steps})


def test_follow_to_the_end_and_read_it_again_later(qtbot: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path / "job", 20)
    job.start()
    watch = JobWatch(job)
    heard = Heard(watch)
    assert watch.is_live
    qtbot.waitUntil(lambda: heard.ends == 1, timeout=30_000)
    assert heard.steps == list(range(20))
    assert heard.order[-1] == "end", "the end is told after the last event"
    assert heard.states[-1] == (Status.DONE, "step 19")
    assert Status.RUNNING in [status for status, _ in heard.states]
    assert not watch.is_live

    later = Heard(watch_again := JobWatch(Job.open(job.folder)))
    qtbot.waitUntil(lambda: later.ends == 1)
    assert later.steps == heard.steps
    assert later.states == [(Status.DONE, "step 19")]
    with pytest.raises(JobError, match="done"):
        watch_again.pause()


def test_pause_resume_and_cancel(qtbot: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path / "job", 10_000)
    job.start()
    watch = JobWatch(job)
    heard = Heard(watch)
    qtbot.waitUntil(lambda: len(heard.steps) > 3, timeout=30_000)
    watch.pause()
    qtbot.waitUntil(lambda: heard.status is Status.PAUSED)
    watch.look()
    steps = len(heard.steps)
    qtbot.wait(400)
    assert len(heard.steps) == steps
    assert watch.is_live
    watch.resume()
    qtbot.waitUntil(lambda: heard.status is Status.RUNNING and len(heard.steps) > steps)
    watch.cancel()
    qtbot.waitUntil(lambda: heard.ends == 1)
    assert heard.status is Status.CANCELLED
    assert heard.steps == list(range(len(heard.steps)))


def test_a_killed_process_is_told_and_started_again(qtbot: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path / "job", 60)
    job.start()
    watch = JobWatch(job)
    heard = Heard(watch)
    qtbot.waitUntil(lambda: len(heard.steps) > 3, timeout=30_000)
    psutil.Process(job.state.process.pid).kill()
    qtbot.waitUntil(lambda: heard.ends == 1)
    assert heard.status is Status.INTERRUPTED
    assert "ended unexpectedly" in heard.states[-1][1]
    watch.resume()
    qtbot.waitUntil(lambda: heard.ends == 2, timeout=30_000)
    assert heard.status is Status.DONE
    assert sorted(set(heard.steps)) == list(range(60))


def test_a_folder_that_is_gone_is_said_and_may_come_back(qtbot: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path / "job", 1)
    JobState(Status.RUNNING, "step 0", ProcessMark.of(os.getpid())).write(job.folder)
    watch = JobWatch(job)
    heard = Heard(watch)
    qtbot.waitUntil(lambda: heard.states == [(Status.RUNNING, "step 0")])
    away = job.folder.rename(tmp_path / "away")
    qtbot.waitUntil(lambda: "state.json" in heard.states[-1][1])
    assert heard.status is Status.RUNNING
    away.rename(job.folder)
    qtbot.waitUntil(lambda: heard.states[-1] == (Status.RUNNING, "step 0"))
    assert heard.ends == 0


def test_stopping_to_look_leaves_the_job_alone(qtbot: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path / "job", 40)
    job.start()
    watch = JobWatch(job)
    heard = Heard(watch)
    qtbot.waitUntil(lambda: len(heard.steps) > 3, timeout=30_000)
    watch.stop()
    assert job.wait(30) is Status.DONE
    qtbot.wait(300)
    assert heard.ends == 0
