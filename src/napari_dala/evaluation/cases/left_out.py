"""What models make of the photographs that each left out: one tile each, its probabilities and its maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.evaluation.explanations.maps import cell_um, threshold_tiles
from napari_dala.evaluation.photographs import fitting, unseen_by_each
from napari_dala.inference.predictor import Predictor
from napari_dala.metrics.anonymous import patient_key
from napari_dala.metrics.scores import predicted_classes
from napari_dala.model.threshold import DynamicThreshold
from napari_dala.training.photographs.squares import middle_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset, LabelledImage
    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.threshold import ThresholdedMap
    from napari_dala.training.photographs.squares import Squares

RULE = DynamicThreshold()
_AT_ONCE = 64  # photographs


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The middle tile of each photograph that some model was not trained on; classes in the data set's order.

    Attributes
    ----------
    dataset
        The photographs.
    predictors, squares
        The models, made ready, and how each reads photographs.
    orders
        For each model, its own place of each class.
    indices
        (n,) place of each photograph in the data set.
    judge
        (n,) number of the model that judges it: the first of those that left its patient out.
    probability
        (n, C), softened by the model's temperature.
    called
        (n,) class at the model's operating threshold.
    cams
        Raw Grad-CAM of each tile, (C, h, w).
    notes
        What must be read beside it, a sentence each.
    """

    dataset: ImageDataset
    predictors: tuple[Predictor, ...]
    squares: tuple[Squares, ...]
    orders: tuple[tuple[int, ...], ...]
    indices: NDArray[np.intp]
    judge: NDArray[np.intp]
    probability: NDArray[np.float64]
    called: NDArray[np.intp]
    cams: tuple[NDArray[np.float32], ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> NDArray[np.intp]:
        """(n,) true class."""
        return self.dataset.labels[self.indices]

    @property
    def patients(self) -> NDArray[np.str_]:
        """(n,) patient."""
        return self.dataset.patients[self.indices]

    @property
    def own_probability(self) -> NDArray[np.float64]:
        """(n,) probability of the true class."""
        return self.probability[np.arange(len(self)), self.labels]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether it is called what it is."""
        return np.asarray(self.called == self.labels)

    def image(self, place: int) -> LabelledImage:
        """Return what is known of a photograph."""
        return self.dataset.images[int(self.indices[place])]

    def patient_key(self, place: int) -> str:
        """Return a key of a photograph's patient that names nobody."""
        return patient_key(self.image(place).identity)

    def tile(self, place: int) -> NDArray[np.uint8]:
        """Return the tile of a photograph, (px, px, 3)."""
        return middle_tile(self.image(place), self.squares[self.judge[place]])

    def tile_um(self, place: int) -> float:
        """Return the side of a tile, um."""
        card = self.predictors[self.judge[place]].bundle.card
        return float(card.tile_px * card.mpp)

    def map_of(self, place: int) -> ThresholdedMap:
        """Return DT Grad-CAM of the class that a tile is called.

        As on a slide, all tiles of its slide that the same model judges have one maximum and one threshold.
        """
        groups = np.array([self.dataset.images[index].group for index in self.indices.tolist()])
        slide = np.flatnonzero((groups == groups[place]) & (self.judge == self.judge[place]))
        cams = np.stack([self.cams[other][self.called[place]] for other in slide.tolist()])
        found = threshold_tiles(cams, RULE, cell_um(self.predictors[self.judge[place]].bundle))
        return found[slide.tolist().index(place)]

    def probability_of(self, place: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """Return what gives the probability of the class that a tile is called, (n,) for tiles (n, px, px, 3)."""
        model = int(self.judge[place])
        column = self.orders[model][self.called[place]]

        def of_class(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
            return self.predictors[model](tiles).probability[:, column]

        return of_class


def judge_left_out(
    bundles: Sequence[ModelBundle],
    dataset: ImageDataset,
    *,
    device: str = "auto",
    precision: str = "auto",
    on_progress: Callable[[int, int], object] | None = None,
) -> LeftOut:
    """Have each photograph judged by the first model that was not trained on its patient, by the models' cards.

    Parameters
    ----------
    bundles
        At least one; their classes must be the data set's. The folds' models of one recipe are what it is made for.
    dataset
        The photographs.
    device, precision
        See `Predictor`.
    on_progress
        Told how many of how many photographs are done.

    Raises
    ------
    DatasetError
        If a card does not name the patients its model was trained on, or the model was trained on all of these; if
        classes differ or a photograph cannot be read.
    DalaError
        If the device is not there.
    """
    judge = np.full(len(dataset), -1)
    squares: list[Squares] = []
    orders: list[list[int]] = []
    notes: list[str | None] = []
    for number, (bundle, new_to_it) in enumerate(zip(bundles, unseen_by_each(bundles, dataset), strict=True)):
        judge[new_to_it[judge[new_to_it] < 0]] = number
        its_squares, order, said = fitting(bundle.card, dataset)
        squares.append(its_squares)
        orders.append(order)
        notes += [bundle.card.warning, *said]
    predictors = tuple(Predictor(bundle, device, precision) for bundle in bundles)
    indices = np.flatnonzero(judge >= 0)
    if len(indices) < len(dataset):
        notes.append(f"{len(dataset) - len(indices)} photographs are of patients that every model was trained on")
    probability = np.zeros((len(indices), len(dataset.classes)))
    called = np.zeros(len(indices), np.intp)
    cams: list[Any] = [None] * len(indices)
    done = 0
    for number, (predictor, order) in enumerate(zip(predictors, orders, strict=True)):
        its = np.flatnonzero(judge[indices] == number)
        card = predictor.bundle.card
        for start in range(0, len(its), _AT_ONCE):
            places = its[start : start + _AT_ONCE]
            found = predictor(np.stack([middle_tile(dataset.images[i], squares[number]) for i in indices[places]]))
            probability[places] = found.probability[:, order]
            for place, cam in zip(places.tolist(), found.cam[:, order], strict=True):
                cams[place] = np.asarray(cam, np.float32)
            done += len(places)
            if on_progress:
                on_progress(done, len(indices))
        called[its] = predicted_classes(probability[its], card.operating_threshold, order.index(card.target_class))
    return LeftOut(
        dataset,
        predictors,
        tuple(squares),
        tuple(map(tuple, orders)),
        indices,
        judge[indices],
        probability,
        called,
        tuple(cams),
        tuple(note for note in dict.fromkeys(notes) if note),
    )
