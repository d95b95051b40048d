"""The learning jobs of one slide: their folders, what came of them, and what the user decided about it."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from napari_dala.errors import JobError
from napari_dala.files import write_json
from napari_dala.jobs.job import jobs_in
from napari_dala.jobs.state import job_errors
from napari_dala.model.catalog import free_name
from napari_dala.training.finetune.job import BUNDLE_FILE, DECISION_FILE, KIND, is_settled, read_finetune_result
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.jobs.job import Job


def jobs_folder(fingerprint: str, workspace: Path) -> Path:
    """Return the folder of a slide's learning jobs."""
    return slide_folder(fingerprint, workspace) / "jobs"


def new_job_folder(fingerprint: str, workspace: Path) -> Path:
    """Return the folder of a new job, named by time so that they sort; it is not made."""
    return jobs_folder(fingerprint, workspace) / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


def new_model_name(base: str, mode: str, workspace: Path) -> str:
    """Return a free name that says what the model was made from, how and when; never after a slide or a patient."""
    root = re.sub(r"( (quick|deep|full) \d{4}-\d\d-\d\d( \d+)?)+$", "", base)
    return free_name(f"{root} {mode} {datetime.now():%Y-%m-%d}", workspace)


def open_job(fingerprint: str, workspace: Path) -> Job | None:
    """Return the slide's newest learning job if it is not settled: it runs, can be resumed, or waits for a decision.

    Raises
    ------
    JobError
        When the folder cannot be read.
    """
    jobs = [job for job in jobs_in(jobs_folder(fingerprint, workspace)) if job.kind == KIND]
    return jobs[0] if jobs and not is_settled(jobs[0]) else None


def decide(job: Job, model: str | None) -> None:
    """Note that a job's model was installed under a name, or, with None, discarded.

    Raises
    ------
    JobError
        When the folder cannot be written.
    """
    path = job.folder / DECISION_FILE
    with job_errors(path):
        write_json(path, {"accepted": model is not None, "model": model, "time": datetime.now(UTC).isoformat()})


@dataclass(frozen=True)
class Learned:
    """What came of a job: the file of its bundle, and `result.json` as `training.finetune_job` describes it."""

    bundle: Path
    report: dict[str, Any]

    @classmethod
    def of(cls, job: Job) -> Learned:
        """Read the result of a job that is done; `JobError` where it is not there."""
        bundle = job.result / BUNDLE_FILE
        if not bundle.is_file():
            raise JobError(f"{bundle}: the new model is gone; learn again")
        return cls(bundle, read_finetune_result(job.result))
