"""A fine-tuning as a job: what is asked for, checked and copied into the job's folder. No torch: napari starts it.

progress.jsonl holds its events, one a line (`as_json`); after a resume epochs come again: the last one counts.
result/ holds bundle.safetensors and result.json (see `training.finetune`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003  (pydantic reads the events' fields)
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from napari_dala.annotations.files import read_annotations
from napari_dala.annotations.held_out import HELD_OUT
from napari_dala.errors import AnnotationError, JobError, SlideError
from napari_dala.jobs.job import Job
from napari_dala.jobs.state import Status
from napari_dala.model.catalog import find_model
from napari_dala.slide.backends.remote import absolute, exists
from napari_dala.training.epochs import Epoch as Epoch
from napari_dala.validation import Mpp, conforming, first_problem, read_json

KIND = "finetune"
MODES = ("quick", "deep", "full")
BUNDLE_FILE, RESULT_FILE = "bundle.safetensors", "result.json"  # in the job's folder `result`
DECISION_FILE = "decision.json"
"""In the job's folder, once its model was accepted or discarded."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Prepared:
    """The labelled tiles are read; training begins.

    Attributes
    ----------
    train, held_out
        Tiles of each class that teach and that check.
    split
        What is on one side only: "patient", "slide", "region", or "none" where nothing is held out.
    optimistic
        True where both sides share a slide or a patient.
    notes
        What the reader of a figure must be told, a sentence each.
    epochs
        How many there will be.
    """

    train: Mapping[str, int]
    held_out: Mapping[str, int]
    split: str
    optimistic: bool
    notes: tuple[str, ...]
    epochs: int


@dataclass(frozen=True)
class Finished:
    """The result is written."""


FinetuneEvent: TypeAlias = Prepared | Epoch | Finished
_EVENTS: Mapping[str, type[FinetuneEvent]] = {"prepared": Prepared, "epoch": Epoch, "finished": Finished}
_EVENT_KINDS: Mapping[type[FinetuneEvent], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _EVENTS.values()}


def as_json(event: FinetuneEvent) -> dict[str, Any]:
    """Return what a job reports of an event: `{"event": "prepared", "train": ...}`."""
    name = next(name for name, kind in _EVENTS.items() if isinstance(event, kind))
    return {"event": name, **asdict(event)}


def event_of(reported: Mapping[str, Any]) -> FinetuneEvent | None:
    """Return the event that a job has reported; None for what is none, or of a version that is not known."""
    kind = _EVENTS.get(str(reported.get("event")))
    if kind is None:
        return None
    try:
        values = {one.name: reported[one.name] for one in fields(kind)}
        found: FinetuneEvent = _EVENT_KINDS[kind].validate_python(values)
        return found
    except (KeyError, ValidationError):
        return None


class SlideExamples(BaseModel):
    """One slide to learn from.

    Attributes
    ----------
    slide
        The slide's file (or DICOM folder).
    annotations
        GeoJSON of what was drawn on it.
    analysis
        Folder that holds an `analysis.zarr` of this slide, whose stored features spare reading pixels; None for none.
    mpp
        Micrometres per level-0 px, or (x, y), where the file is silent or wrong; 0.02 to 20.
    icc_profile
        Bring its colours to sRGB by its ICC profile, where it has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slide: Path
    annotations: Path
    analysis: Path | None = None
    mpp: Mpp | tuple[Mpp, Mpp] | None = None
    icc_profile: bool = True


class FinetuneSettings(BaseModel):
    """How a model is retrained; None leaves the choice to the mode (`with_defaults`).

    `dala finetune` makes its options of the fields, with the fields' docstrings as help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: Literal["quick", "deep", "full"] = "quick"
    """quick trains attention and head on cached features, deep layer4 too, full all layers."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the labelled tiles; by default the mode's, of quick by the number of tiles."""
    batch_size: int | None = Field(default=None, ge=2)
    """Tiles in a step; by default the mode's."""
    lr: Positive | None = None
    """Learning rate; by default the mode's."""
    seed: int = Field(default=0, ge=0)
    """Of order, augmentation, dropout and split."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the trunk; auto is bf16 where the device has it natively."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    threads: int | None = Field(default=None, ge=1)
    """Of the processor; by default all."""
    min_cover: float = Field(default=0.5, gt=0, le=1)
    """Part of a tile that its class must cover."""
    validation: float = Field(default=HELD_OUT, gt=0, lt=1)
    """Part of each class that is held out to measure before and after."""
    penalty: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Weight in the loss of the squared distance from the parent's weights; by default the mode's."""
    replay: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Weight in the loss of the parent's own tiles, relative to the labelled ones; 0 for none."""
    n_boot: int = Field(default=1000, ge=0)
    """Draws for the intervals of the figures before and after."""

    def with_defaults(self) -> FinetuneSettings:
        """Return the settings with the mode's own choice where a value is None (quick's epochs go by the tiles)."""
        chosen = {name: value for name, value in _DEFAULTS[self.mode].items() if getattr(self, name) is None}
        return self.model_copy(update=chosen)


_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"batch_size": 32, "lr": 3e-4, "penalty": 1.0},
    "deep": {"epochs": 10, "batch_size": 32, "lr": 1e-4, "penalty": 1.0},
    "full": {"epochs": 10, "batch_size": 32, "lr": 1e-4, "penalty": 1.0},
}


class FinetuneConfig(BaseModel):
    """All that a fine-tuning needs to know.

    Attributes
    ----------
    name
        Of the new model.
    model
        Name or file of the parent.
    slides
        What to learn from.
    settings
        How.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    model: str = "default"
    slides: Annotated[tuple[SlideExamples, ...], Field(min_length=1)]
    settings: FinetuneSettings = FinetuneSettings()


class _Figure(BaseModel):
    value: float | None
    low: float | None = None
    high: float | None = None


class _Scores(BaseModel):
    accuracy: _Figure
    gmean: _Figure
    f1: _Figure
    iba: _Figure
    ece: _Figure
    recall: dict[str, _Figure]


class _Table(BaseModel):
    n: int
    classes: list[str]
    scores: _Scores
    notes: list[str]

    @model_validator(mode="after")
    def _recall_of_each_class(self) -> Self:
        if set(self.scores.recall) != set(self.classes):
            raise ValueError("recall is not of the classes")
        return self


class _Replay(BaseModel):
    tiles: int
    before: float | None
    after: float | None


class _Counts(BaseModel):
    train: dict[str, int]
    held_out: dict[str, int]


class _Result(BaseModel):
    """What readers of `result.json` count on; there is more in it."""

    split: str
    optimistic: bool
    notes: list[str]
    examples: _Counts
    before: _Table | None
    after: _Table | None
    replay: _Replay | None


def read_finetune_result(folder: Path) -> dict[str, Any]:
    """Return `result.json` of a job's result folder; `JobError` in one line where it is not there or damaged."""
    path = folder / RESULT_FILE
    found: dict[str, Any] = read_json(path, JobError)
    conforming(_Result, found, str(path), JobError)
    return found


def create_finetune_job(folder: str | Path, config: FinetuneConfig) -> Job:
    """Make the folder of a fine-tuning job; `Job.start` then runs it as `dala finetune --out FOLDER`.

    The annotation files are copied into the folder, under numbers, so that a job never reads what is drawn later.

    Parameters
    ----------
    folder
        New or empty.
    config
        Its paths may be relative to the current folder.

    Raises
    ------
    DalaError
        In one line: a slide, an annotation file or the model is not there, a file of regions cannot be read, or the
        folder is taken or cannot be written.
    """
    folder = Path(os.path.expanduser(folder)).absolute()
    copies: dict[str, Path] = {}
    slides = []
    for number, one in enumerate(config.slides, 1):
        slide, annotations = (absolute(Path(os.path.expanduser(path))) for path in (one.slide, one.annotations))
        if not exists(slide):
            raise SlideError(f"{slide}: there is no such file")
        read_annotations(annotations)
        copy = f"annotations/{number:03}.geojson"  # a file's name may be a patient's
        copies[copy] = annotations
        analysis = one.analysis and Path(os.path.expanduser(one.analysis)).absolute()
        slides.append(one.model_copy(update={"slide": slide, "annotations": folder / copy, "analysis": analysis}))
    if len({one.slide for one in slides}) < len(slides):
        raise AnnotationError("a slide is named twice; give each slide once, with one file of annotations")
    parent = find_model(config.model)
    model = config.model if parent is None else str(parent.absolute())
    whole = config.model_copy(update={"slides": tuple(slides), "model": model})
    return Job.create(folder, KIND, whole.model_dump(mode="json"), files=copies)


def config_of(job: Job) -> FinetuneConfig:
    """Return what a fine-tuning job is asked to do; `JobError` in one line if it is another kind of job."""
    if job.kind != KIND:
        raise JobError(f"{job.folder}: this is a job of kind “{job.kind}”, not a fine-tuning")
    try:
        return FinetuneConfig.model_validate(job.config)
    except ValidationError as error:
        raise JobError(
            f"{job.folder / 'job.json'}: not the settings of a fine-tuning ({first_problem(error)})"
        ) from None


def is_settled(job: Job) -> bool:
    """Return whether nothing is left to do about a job: it was cancelled, or its model accepted or discarded."""
    return (job.folder / DECISION_FILE).exists() or job.status is Status.CANCELLED
