"""A network's probabilities for whole photographs, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.errors import DatasetError
from napari_dala.metrics.anonymous import patient_key
from napari_dala.training.photographs.squares import Squares, predict_photographs, scored, scored_by_set, squares_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.metrics.scores import ScoreTable
    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.card import ModelCard


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a bundle makes of a data set.

    Attributes
    ----------
    table
        The figures; its notes say what must be read beside them.
    probabilities
        (n, C) in the order of the data set's images.
    by_set
        Where there are several data sets, the figures of each by its name.
    """

    table: ScoreTable
    probabilities: NDArray[np.float64]
    by_set: Mapping[str, ScoreTable]


def evaluate(
    bundle: ModelBundle,
    dataset: ImageDataset,
    *,
    device: str = "auto",
    n_boot: int = 2000,
    on_progress: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Score a bundle on photographs, read at its own resolution and tile size, at its operating threshold.

    Parameters
    ----------
    bundle
        Its classes must be the data set's, in any order and case.
    dataset
        Where its resolution is unknown, a square is as large as the photographs allow, and a note says so.
    device
        "auto" or a torch device.
    n_boot
        Draws of patients for the intervals.
    on_progress
        Told how many of how many photographs are done.

    Raises
    ------
    DatasetError
        If the classes differ or a photograph cannot be read.
    """
    card = bundle.card
    squares, order, notes = fitting(card, dataset)
    everything = range(len(dataset))
    found = predict_photographs(bundle.network, dataset, everything, squares, device=device, on_progress=on_progress)
    probabilities = found.of_photographs(card.temperature)[:, order]
    notes += [note for note in (card.warning, patients_seen_before(card.training, dataset, everything)) if note]
    threshold = card.operating_threshold, order.index(card.target_class)
    by_set = scored_by_set(dataset, everything, probabilities, threshold, n_boot=n_boot)
    table = scored(dataset, everything, probabilities, notes, threshold, n_boot=n_boot)
    return Evaluation(table, probabilities, by_set)


def fitting(card: ModelCard, dataset: ImageDataset) -> tuple[Squares, list[int], list[str]]:
    """Return how a bundle reads a data set's photographs: its squares, its place for each class, what must be said.

    Raises
    ------
    DatasetError
        If the classes differ or a photograph is no image.
    """
    order = _order(card.class_names, dataset.classes, card.name)
    squares, notes = squares_at(card.mpp, dataset, card.tile_px, card.mean, card.std)
    return squares, order, notes


def _order(of_bundle: Sequence[str], of_dataset: Sequence[str], name: str) -> list[int]:
    """Return where the bundle has each class of the data set."""
    places = {known.casefold(): place for place, known in enumerate(of_bundle)}
    if sorted(places) != sorted(known.casefold() for known in of_dataset):
        raise DatasetError(
            f"{name} tells apart {', '.join(of_bundle)}, the data set {', '.join(of_dataset)}; both must be the same"
        )
    return [places[known.casefold()] for known in of_dataset]


def patients_seen_before(
    training: dict[str, Any], dataset: ImageDataset, indices: Sequence[int] | NDArray[np.intp]
) -> str | None:
    """Say how many of some photographs' patients the model was trained on, by its own card; None where it is none."""
    known = training.get("patients_trained")
    if not isinstance(known, list):
        return "the model's card does not name the patients it was trained on: some of these may be among them"
    there = {patient_key(dataset.images[index].identity) for index in np.asarray(indices).tolist()}
    seen = len(there & {str(key) for key in known})
    if not seen:
        return None
    unit = "patients" if dataset.patients_known else "images"
    return f"the model was trained on {seen} of these {len(there)} {unit}: the figures come out too good"


def unseen(dataset: ImageDataset, training: Mapping[str, Any]) -> NDArray[np.intp]:
    """Return the photographs of patients that a model was not trained on, by its card's account of its training.

    Raises
    ------
    DatasetError
        If the card does not name its patients, or the model was trained on all of these.
    """
    known = training.get("patients_trained")
    if not isinstance(known, list):
        raise DatasetError("the model's card does not name the patients it was trained on")
    left_out = np.flatnonzero([patient_key(image.identity) not in known for image in dataset.images])
    if not len(left_out):
        raise DatasetError(f"{dataset.name}: the model was trained on all of these patients")
    return left_out


def unseen_by_each(bundles: Sequence[ModelBundle], dataset: ImageDataset) -> list[NDArray[np.intp]]:
    """Return for each of several bundles the photographs of patients that it was not trained on, as `unseen` does.

    Raises
    ------
    DatasetError
        As `unseen`, with the name and number of the bundle.
    """
    found = []
    for number, bundle in enumerate(bundles, 1):
        try:
            found.append(unseen(dataset, bundle.card.training))
        except DatasetError as error:
            raise DatasetError(f"{bundle.card.name} (model {number} of {len(bundles)}): {error}") from None
    return found
