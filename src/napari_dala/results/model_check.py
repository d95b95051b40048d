"""How good a model is on what was held out: counts, curves, calibration, the hardest samples. No torch.

`check.json` holds it, in the folder of a training or of a learning job; `check_page` shows it as a page, the dock
*Annotate & learn* as a section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_dala.errors import JobError
from napari_dala.files import write_json
from napari_dala.metrics.bootstrap import FEWEST_UNITS
from napari_dala.metrics.operating import OperatingPoint, at_threshold, operating_points, reliability
from napari_dala.metrics.scores import predicted_classes
from napari_dala.validation import read_as

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CHECK_FILE, PAGE_FILE = "check.json", "check.html"
FEWEST_SAMPLES = 20  # of a class, without which there are counts and no intervals

Unit: TypeAlias = Literal["patient", "slide", "region", "image"]


class Sample(BaseModel):
    """One held-out tile or photograph.

    Attributes
    ----------
    label
        Index of its class.
    probability
        Of every class.
    group
        What the split kept together, under a key that names nobody.
    slide, row, column, x, y
        Of a tile: its slide's fingerprint, its place in the grid and its centre in level-0 px.
    name
        Of a photograph: its file's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: int = Field(ge=0)
    probability: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    group: str
    slide: str = ""
    row: int = 0
    column: int = 0
    x: float = 0
    y: float = 0
    name: str = ""


class ModelCheck(BaseModel):
    """What a model makes of what was held out.

    Attributes
    ----------
    model
        Its name.
    classes
        Names, in the order of the probabilities.
    target
        Index of the class that the threshold is of.
    of
        What was judged: "tiles" or "photographs".
    unit
        What the split kept together.
    threshold
        Operating threshold of the model.
    temperature
        Of the model; `refitted` says whether these samples gave it.
    samples
        At least one.
    notes
        What must be read beside it, a sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    classes: tuple[str, ...] = Field(min_length=2)
    target: int = Field(ge=0)
    of: Literal["tiles", "photographs"] = "tiles"
    unit: Unit
    threshold: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0)
    refitted: bool = False
    samples: tuple[Sample, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _samples_are_of_the_classes(self) -> Self:
        count = len(self.classes)
        if self.target >= count or any(s.label >= count or len(s.probability) != count for s in self.samples):
            raise ValueError(f"target and samples are not of {count} classes")
        return self

    @property
    def labels(self) -> NDArray[np.intp]:
        """Class of each sample, (n,)."""
        return np.array([sample.label for sample in self.samples], np.intp)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, C)."""
        return np.array([sample.probability for sample in self.samples], np.float64)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether a sample is of the target class, (n,)."""
        return np.asarray(self.labels == self.target)

    def predicted(self, threshold: float | None = None) -> NDArray[np.intp]:
        """Return the class that each sample is given, (n,); see `metrics.predicted_classes`."""
        return predicted_classes(self.probabilities, self.threshold if threshold is None else threshold, self.target)

    def confusion(self, threshold: float | None = None) -> list[list[list[int]]]:
        """Return the samples of each true class (rows) by the class they are given (columns)."""
        labels, predicted = self.labels, self.predicted(threshold)
        every = range(len(self.classes))
        return [[np.flatnonzero((labels == a) & (predicted == b)).tolist() for b in every] for a in every]

    def hardest(self, most: int = 24) -> list[int]:
        """Return the samples whose own class the model gives the least probability, the hardest first."""
        own = self.probabilities[np.arange(len(self.samples)), self.labels]
        return [int(index) for index in np.argsort(own, kind="stable")[:most]]

    @property
    def has_curves(self) -> bool:
        """Whether both the target class and another one are there."""
        return bool(self.positive.any() and not self.positive.all())

    def points(self) -> list[OperatingPoint]:
        """Return every operating point, thresholds ascending: the ROC curve; see `has_curves`."""
        return operating_points(self.positive, self.probabilities[:, self.target])

    def point(self, threshold: float | None = None) -> OperatingPoint:
        """Return what a threshold gives, by default the model's own; see `has_curves`."""
        at = self.threshold if threshold is None else threshold
        return at_threshold(self.positive, self.probabilities[:, self.target], at)

    def precision_recall(self) -> list[tuple[float, float]]:
        """Return (recall, precision) of every threshold at which some sample is given the target class."""
        positive, scores = self.positive, self.probabilities[:, self.target]
        found = []
        for point in self.points():
            named = scores >= point.threshold
            if named.any():
                found.append((point.sensitivity, float(positive[named].mean())))
        return found

    def reliability(self) -> list[tuple[float, float, int]]:
        """Return (mean confidence, part that is right, count) by bins of the likeliest class' probability."""
        probabilities = self.probabilities
        return reliability(probabilities.argmax(1) == self.labels, probabilities.max(1))

    @property
    def too_few(self) -> str:
        """Why these samples are too few for an interval, one sentence; empty where they are enough."""
        return too_few(self.labels, [sample.group for sample in self.samples], self.classes, self.of, self.unit)

    def save(self, folder: Path) -> Path:
        """Write check.json into a folder."""
        path = folder / CHECK_FILE
        write_json(path, self.model_dump(mode="json"))
        return path

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read check.json of a folder.

        Raises
        ------
        JobError
            If it is not there or damaged, one line.
        """
        return read_as(cls, folder / CHECK_FILE, JobError)


@dataclass(frozen=True)
class _Held:
    """How much of a class is held out."""

    name: str
    samples: int
    units: int


def too_few(labels: Any, groups: Any, classes: tuple[str, ...], of: str, unit: str) -> str:
    """Say why held-out samples are too few for an interval: 20 and 3 units of each class; empty where they are enough.

    A class without any is not judged, and does not count here.

    Parameters
    ----------
    labels, groups
        (n,) class and unit of each sample.
    classes
        Names.
    of, unit
        What the samples and the units are called, as `ModelCheck` has them.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    held = [
        _Held(name, int((labels == index).sum()), len(np.unique(groups[labels == index])))
        for index, name in enumerate(classes)
    ]
    short = [one for one in held if one.samples and (one.samples < FEWEST_SAMPLES or one.units < FEWEST_UNITS)]
    if not short:
        return ""
    parts = []
    for one in short:
        samples = of if one.samples != 1 else of.removesuffix("s")
        parts.append(f"{one.samples} {samples} of {one.units} {unit}{'s'[: one.units != 1]} of {one.name}")
    said = ", ".join(parts)
    return (
        f"Counts only, no intervals: {said} {'are' if len(short) > 1 or short[0].samples != 1 else 'is'} held out; "
        f"an interval needs {FEWEST_SAMPLES} {of} and {FEWEST_UNITS} {unit}s of each class."
    )
