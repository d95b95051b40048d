"""Labelled images: what is known of each, a data set of them, and several data sets as one. No pixel is read here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_SAME_SHAPE = 0.02  # of the height


@dataclass(frozen=True)
class LabelledImage:
    """One image file and what is known of it.

    Attributes
    ----------
    path
        The file.
    label
        Index into the data set's classes.
    patient
        Whose tissue it is. Where nobody can tell, an identity of the image's own.
    group
        The slide it was taken from, else the image itself.
    subtype
        Finer diagnosis, where there is one.
    magnification
        Of the objective and camera as the publisher counts it, such as 100.
    mpp
        Micrometres per pixel; None where it is unknown.
    published_px
        Width and height of the image as it was published, where that is known: `mpp` is of that size.
    source
        Name of the data set it came from.
    known_as
        What its own set calls the patient, where `patient` is another: a group that a split keeps together.
    icc_profile
        Whether its colours are brought to sRGB by the file's ICC profile, where it has one.
    """

    path: Path
    label: int
    patient: str
    group: str
    subtype: str | None = None
    magnification: int | None = None
    mpp: float | None = None
    published_px: tuple[int, int] | None = None
    source: str = ""
    known_as: str = ""
    icc_profile: bool = True

    @property
    def identity(self) -> str:
        """What its own set calls the patient: by this a model's card knows a patient again."""
        return self.known_as or self.patient

    def mpp_at(self, width: int, height: int) -> float | None:
        """Return micrometres per pixel of the file, which has so many pixels; None where it is unknown.

        An image of the published shape and of another size was resized by somebody; any other one was cut out.
        """
        if self.mpp is None or self.published_px is None:
            return self.mpp
        ratio = self.published_px[0] / width
        return self.mpp * ratio if abs(height * ratio / self.published_px[1] - 1) < _SAME_SHAPE else self.mpp


@dataclass(frozen=True)
class ImageDataset:
    """Labelled images of one kind.

    Attributes
    ----------
    name
        For tables and model cards, such as ``breakhis-100x``.
    classes
        Names, in the order of the labels.
    images
        In the order of their paths.
    patients_known
        False where some image's patient is not known: then a split by `patients` may still put one person on both
        sides, and whatever is measured on it must say so.
    cohort
        Sets of one cohort call one person by one name, such as all parts of BreakHis; of class folders, the folder.
    licence, citation
        As the publisher states them, as far as known.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    patients_known: bool = True
    cohort: str = ""
    licence: str = ""
    citation: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Label of every image, (n,)."""
        return np.array([image.label for image in self.images], np.intp)

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """Patient of every image, (n,): what a split must keep together."""
        return np.array([image.patient for image in self.images])

    @cached_property
    def sources(self) -> NDArray[np.str_]:
        """Name of the data set that every image came from, (n,)."""
        return np.array([image.source for image in self.images])

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel of the coarsest images as published; None where that of some image is unknown."""
        known = [image.mpp for image in self.images if image.mpp is not None]
        return max(known) if len(known) == len(self) else None

    def with_mpp(self, mpp: float) -> ImageDataset:
        """Return the same with this many micrometres per pixel for the images of which nobody knew."""
        images = tuple(image if image.mpp is not None else replace(image, mpp=mpp) for image in self.images)
        return replace(self, images=images)

    def without_profiles(self) -> ImageDataset:
        """Return the same with all images' colours as the files store them, whatever ICC profiles say."""
        return replace(self, images=tuple(replace(image, icc_profile=False) for image in self.images))

    @property
    def summary(self) -> str:
        """One line: how many images of how many patients each class has."""
        unit = "patients" if self.patients_known else "images of unknown patients"
        parts = (
            f"{name} {np.sum(self.labels == index)} of {len(set(self.patients[self.labels == index]))} {unit}"
            for index, name in enumerate(self.classes)
        )
        return f"{self.name}: {len(self)} images ({', '.join(parts)})"


def joined_datasets(datasets: Sequence[ImageDataset]) -> ImageDataset:
    """Return several data sets as one, to be trained on and split together.

    Classes of one name, in any case, are one class. An image that several sets of one cohort hold counts once. Patients
    of one name are one person within a cohort; elsewhere its name is put before theirs.

    Parameters
    ----------
    datasets
        At least one; of one only, it is returned as it is.
    """
    if len(datasets) == 1:
        return datasets[0]
    datasets = _named_apart(datasets)
    names = tuple(dict.fromkeys(one.name for one in datasets))
    classes = {name.casefold(): name for one in reversed(datasets) for name in reversed(one.classes)}
    order = list(reversed(classes))
    whose: dict[str, set[str]] = {}
    for one in datasets:
        for image in one.images:
            whose.setdefault(image.patient, set()).add(one.cohort)
    images: dict[tuple[str, str], LabelledImage] = {}
    for one in datasets:
        for image in one.images:
            patient = image.patient if len(whose[image.patient]) == 1 else f"{one.name}/{image.patient}"
            label = order.index(one.classes[image.label].casefold())
            key = (one.cohort, image.path.stem if image.magnification else str(image.path))
            images.setdefault(key, replace(image, label=label, patient=patient, known_as=image.identity))
    return ImageDataset(
        name="+".join(names),
        classes=tuple(classes[key] for key in order),
        images=tuple(images.values()),
        patients_known=all(one.patients_known for one in datasets),
        licence="; ".join(dict.fromkeys(one.licence for one in datasets if one.licence)),
        citation="; ".join(dict.fromkeys(one.citation for one in datasets if one.citation)),
    )


def _named_apart(datasets: Sequence[ImageDataset]) -> list[ImageDataset]:
    """Return the sets so that those of different cohorts have different names, by a number behind them."""
    taken: dict[str, list[str]] = {}
    found = []
    for one in datasets:
        cohorts = taken.setdefault(one.name, [])
        if one.cohort not in cohorts:
            cohorts.append(one.cohort)
        number = cohorts.index(one.cohort) + 1
        name = one.name if number == 1 else f"{one.name} {number}"
        images = tuple(replace(image, source=name) for image in one.images)
        found.append(replace(one, name=name, images=images))
    return found
