"""Explanations measured on photographs: whether the model needs what they mark, whether they depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy.stats import rankdata

from napari_dala.evaluation.explanations.faithfulness import faithfulness
from napari_dala.evaluation.explanations.maps import (
    GRAD_CAM,
    RANDOMISED,
    ExplainSettings,
    MapMaker,
    cell_um,
    randomised,
    with_thresholds,
)
from napari_dala.evaluation.photographs import fitting, patients_seen_before
from napari_dala.metrics.scores import FEW_PATIENTS, Estimate, mean_estimates
from napari_dala.training.photographs.squares import middle_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.model.bundle import ModelBundle
    from napari_dala.training.photographs.squares import Squares

    Floats: TypeAlias = NDArray[np.float32]
    Row: TypeAlias = dict[str, Any]
    ByMethod: TypeAlias = Mapping[str, Mapping[str, Estimate]]

MEASURES = ("insertion", "deletion", "drop", "increase", "road", "kept")

RANDOM_NETWORKS = 3  # one random head may favour a class by chance

_AT_ONCE = 64  # photographs


@dataclass(frozen=True, eq=False)
class PhotographFigures:
    """What photographs show of each method.

    Attributes
    ----------
    rows
        One per photograph and method, for a table: image, patient, label, the class explained and its probability,
        method, then `MEASURES`.
    means
        By method: each of `MEASURES` over the photographs, with an interval by patient.
    differences
        By method other than Grad-CAM: the same less that of plain Grad-CAM on the same photographs.
    curves
        By method: (2, STEPS + 1), the mean probability during insertion and during deletion.
    randomised
        By method, then by each of `explanations.RANDOMISED`: mean Spearman correlation of the map with those that
        `RANDOM_NETWORKS` with random weights in this part give. A map that stays as it is (1) does not explain the
        network.
    patients_known
        Whether the intervals are by patient.
    notes
        What must be read beside it.
    """

    rows: tuple[Row, ...]
    means: ByMethod
    differences: ByMethod
    curves: Mapping[str, NDArray[np.float64]]
    randomised: Mapping[str, Mapping[str, float]]
    patients_known: bool
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Photographs measured."""
        return len(self.rows) // len(self.means)


def explain_photographs(
    bundle: ModelBundle,
    dataset: ImageDataset,
    indices: NDArray[np.intp],
    settings: ExplainSettings,
    *,
    limit: int | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> PhotographFigures:
    """Measure the maps of the class that the model names for each photograph, on the square in its middle.

    Photographs of one slide have one threshold where DT goes by the slide. The correlations with randomised networks
    are of all photographs.

    Parameters
    ----------
    bundle, dataset, indices
        The model, the photographs, and which of them.
    settings
        How maps are made.
    limit
        The most photographs whose pixels are taken away and put back, chosen at random; all by default.
    on_progress
        Told how many of how many photographs are measured.

    Raises
    ------
    DatasetError
        If the bundle's classes are not the data set's, or a photograph cannot be read.
    DalaError
        See `MapMaker`.
    """
    squares, _, notes = fitting(bundle.card, dataset)
    notes += [note for note in (patients_seen_before(bundle.card.training, dataset, indices),) if note]
    chosen = _Chosen(dataset, indices, squares)
    explainer = MapMaker(bundle, settings)
    probability, maps = chosen.explained(explainer)
    classes = probability.argmax(1)
    by_method = chosen.maps_of(classes, maps, bundle)

    correlations: dict[str, dict[str, float]] = {name: {} for name in by_method}
    for part in RANDOMISED:
        for seed in range(settings.seed, settings.seed + RANDOM_NETWORKS):
            _, others = chosen.explained(MapMaker(randomised(bundle, part, seed), settings))
            for name, changed in chosen.maps_of(classes, others, bundle).items():
                sofar = correlations[name].get(part, 0.0)
                correlations[name][part] = sofar + mean_correlation(by_method[name], changed) / RANDOM_NETWORKS

    rows: list[Row] = []
    curves: dict[str, Any] = dict.fromkeys(by_method, 0.0)
    places = np.random.default_rng(settings.seed).permutation(len(indices))[:limit]
    places.sort()
    for done, place in enumerate(places.tolist(), 1):
        index, explained = int(indices[place]), int(classes[place])

        def of_class(tiles: NDArray[np.uint8], explained: int = explained) -> Floats:
            return explainer.predictor(tiles).probability[:, explained]

        found = faithfulness(
            chosen.square(index), [values[place] for values in by_method.values()], of_class, settings.seed + place
        )
        image = dataset.images[index]
        first = {
            "image": image.path.name,
            "patient": image.patient,
            "label": dataset.classes[image.label],
            "explained": bundle.card.class_names[explained],
            "probability": float(probability[place, explained]),
        }
        for name, figures in zip(by_method, found, strict=True):
            rows.append({**first, "method": name, **{measure: getattr(figures, measure) for measure in MEASURES}})
            curves[name] += np.stack([figures.insertion_curve, figures.deletion_curve]) / len(places)
        if on_progress:
            on_progress(done, len(places))

    measured = indices[places]
    patients = dataset.patients[measured] if dataset.patients_known else measured
    count = len(set(patients.tolist()))
    if dataset.patients_known and count < FEW_PATIENTS:
        notes.append(f"{count} patient{'s'[: count > 1]} only, so the intervals are too narrow")
    means, differences = _summary(rows, list(by_method), patients, settings.seed)
    return PhotographFigures(
        tuple(rows), means, differences, curves, correlations, dataset.patients_known, tuple(notes)
    )


def mean_correlation(maps: Floats, others: Floats) -> float:
    """Return the mean of Spearman's rank correlations of pairs of maps (n, h, w).

    Where one of a pair is flat it counts as 0, where both are, as 1: the map has not changed.
    """
    found = []
    for pair in zip(maps, others, strict=True):
        one, other = (rankdata(values) for values in pair)
        flat = [np.ptp(ranks) == 0 for ranks in (one, other)]
        found.append(float(all(flat)) if any(flat) else float(np.corrcoef(one, other)[0, 1]))
    return float(np.mean(found))


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Some photographs of a data set, by the square in the middle of each."""

    dataset: ImageDataset
    indices: NDArray[np.intp]
    squares: Squares

    def square(self, index: int) -> NDArray[np.uint8]:
        """Return a photograph's square as a tile (px, px, 3)."""
        return middle_tile(self.dataset.images[index], self.squares)

    def explained(self, explainer: MapMaker) -> tuple[Floats, dict[str, Floats]]:
        """Return probabilities (n, classes) and maps (n, classes, h, w) by method."""
        parts = [explainer(np.stack(tiles)) for tiles in self._batches()]
        names = parts[0].maps
        maps = {name: np.concatenate([part.maps[name] for part in parts]) for name in names}
        return np.concatenate([part.probability for part in parts]), maps

    def maps_of(self, classes: NDArray[np.intp], maps: Mapping[str, Floats], bundle: ModelBundle) -> dict[str, Floats]:
        """Return the maps of a class of each photograph, (n, h, w) by method, DT's among them."""
        slides = np.array([self.dataset.images[index].group for index in self.indices])
        places = np.arange(len(classes))
        return with_thresholds(
            {name: values[places, classes] for name, values in maps.items()}, slides, cell_um(bundle)
        )

    def _batches(self) -> Iterator[list[NDArray[np.uint8]]]:
        for start in range(0, len(self.indices), _AT_ONCE):
            yield [self.square(index) for index in self.indices[start : start + _AT_ONCE].tolist()]


def _summary(
    rows: Sequence[Row], methods: Sequence[str], patients: NDArray[Any], seed: int
) -> tuple[ByMethod, ByMethod]:
    """Return the mean of every measure by method, and the mean difference from plain Grad-CAM."""
    values = np.array([[row[measure] for measure in MEASURES] for row in rows], np.float64)
    values = values.reshape(len(patients), len(methods), len(MEASURES))
    found = []
    for kind in (values, values - values[:, methods.index(GRAD_CAM), None]):
        estimates = iter(mean_estimates(kind.reshape(len(patients), -1), patients, seed=seed))
        found.append({method: {measure: next(estimates) for measure in MEASURES} for method in methods})
    means, differences = found
    differences.pop(GRAD_CAM)
    return means, differences
