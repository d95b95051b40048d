"""Which examples train and which test: a patient, a slide or a region is never on both sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import ndimage

from napari_dala.errors import DatasetError

if TYPE_CHECKING:
    from napari_dala.datasets.images import ImageDataset


if TYPE_CHECKING:
    from napari_dala.datasets.images import ImageDataset


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Indices: TypeAlias = NDArray[np.intp]


SAME_SLIDE = "same slide, optimistic"
IMAGE_PROTOCOL_WARNING = (
    "Protocol 'image' puts images of one patient on both sides of the split: the model then recognises the patient's "
    "stain and tissue, and the figures come out too good. It is here to reproduce the literature; what to expect of a "
    "new patient is what protocol 'patient' measures."
)

_REGION_TRIALS = 8  # of which the one that drops fewest tiles is taken


def _no_index() -> NDArray[np.intp]:
    return np.zeros(0, np.intp)


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the examples on each side.

    Attributes
    ----------
    train, test
        Ascending indices; disjoint, and so are their groups.
    dropped
        Indices on neither side: training tiles too near to a test tile.
    optimistic
        True where both sides share a slide or a patient, so that figures measured on `test` come out too good.
    notes
        What the reader of a figure must be told, a sentence each.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    dropped: NDArray[np.intp] = field(default_factory=_no_index)
    optimistic: bool = False
    notes: tuple[str, ...] = ()


def patient_folds(
    labels: ArrayLike, groups: ArrayLike, n_folds: int = 5, seed: int = 0, *, class_names: Sequence[str] = ()
) -> list[Split]:
    """Deal whole patients into folds, each fold the test part of one split.

    Where every patient has one class, each class with at least `n_folds` patients is in the test and the training
    part of every split; where patients have several classes, that is searched for. Within this the folds have nearly
    the same share of each class's images and patients.

    Parameters
    ----------
    labels
        (n,) class of each example.
    groups
        (n,) patient of each example; its slide where patients are unknown.
    n_folds
        At least 2.
    seed
        Another seed deals otherwise, about as evenly.
    class_names
        For the notes.

    Returns
    -------
    list of Split
        `n_folds` of them; each example is in the test part of exactly one. Notes name the classes that a part lacks.

    Raises
    ------
    DatasetError
        When there are fewer patients than folds.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds {n_folds}: must be at least 2")
    tally = _GroupCounts.of(labels, groups, class_names)
    if len(tally.counts) < n_folds:
        raise DatasetError(
            f"{n_folds} folds need at least {n_folds} patients, found {len(tally.counts)}; ask for fewer folds"
        )
    rng = np.random.default_rng(seed)
    fold = deal(tally.counts, np.full(n_folds, 1 / n_folds), np.ones(n_folds), rng)[tally.group]
    return [tally.split(fold == number) for number in range(n_folds)]


def image_folds(labels: ArrayLike, n_folds: int = 5, seed: int = 0) -> list[Split]:
    """Deal single images into folds, class by class: the literature's protocol "image", see IMAGE_PROTOCOL_WARNING.

    Parameters
    ----------
    labels
        (n,) class of each image.
    n_folds, seed
        As for `patient_folds`.

    Returns
    -------
    list of Split
        Marked optimistic, the warning among their notes. Folds differ by at most one image of each class.
    """
    labels = np.asarray(labels)
    if n_folds < 2:
        raise ValueError(f"n_folds {n_folds}: must be at least 2")
    if len(labels) < n_folds:
        raise DatasetError(f"{n_folds} folds need at least {n_folds} images, found {len(labels)}; ask for fewer folds")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    fold = np.empty(len(labels), np.intp)
    fold[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(labels)) % n_folds
    return [
        Split(
            np.flatnonzero(fold != number),
            np.flatnonzero(fold == number),
            optimistic=True,
            notes=(IMAGE_PROTOCOL_WARNING,),
        )
        for number in range(n_folds)
    ]


def holdout(
    labels: ArrayLike, groups: ArrayLike, fraction: float = 0.2, seed: int = 0, *, class_names: Sequence[str] = ()
) -> Split:
    """Set whole patients aside for validation.

    Each class with two patients or more is on both sides (see `patient_folds`); a class with one stays in training.

    Parameters
    ----------
    labels, groups, seed, class_names
        As for `patient_folds`.
    fraction
        Of each class's images and patients, wished for in `test`; above 0 and below 1.

    Returns
    -------
    Split
        `test` is the validation part. It is empty where every class has one patient only; the notes say so.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction {fraction}: must be above 0 and below 1")
    tally = _GroupCounts.of(labels, groups, class_names)
    side = _two_sides(tally.counts, fraction, np.random.default_rng(seed))
    return tally.split(side[tally.group])


def region_split(
    tile_rows: ArrayLike,
    tile_columns: ArrayLike,
    region_ids: ArrayLike,
    labels: ArrayLike,
    gap: int = 1,
    seed: int = 0,
    *,
    fraction: float = 0.25,
    class_names: Sequence[str] = (),
) -> Split:
    """Set whole regions of one slide aside for validation, with a gap around them; for SAME_SLIDE figures.

    A class with a single region, or whose regions lie so near to each other that the gap would swallow its training
    tiles, stays in training whole: its validation is given up rather than leaked.

    Parameters
    ----------
    tile_rows, tile_columns
        (n,) place of each labelled tile in the slide's grid.
    region_ids
        (n,) the annotated region that labelled it.
    labels
        (n,) class of each tile.
    gap
        Tiles that must lie between the two sides: training tiles at a Chebyshev distance of `gap` or less from a
        validation tile are dropped. In steps of the grid; where tiles overlap, a tile is several steps wide.
    seed
        Chooses among regions.
    fraction
        Of each class, wished for in validation.
    class_names
        For the notes.

    Returns
    -------
    Split
        Always optimistic; `test` is the validation part, empty where no class can be validated.
    """
    if gap < 0:
        raise ValueError(f"gap {gap}: must not be negative")
    tally = _GroupCounts.of(labels, region_ids, class_names, unit="region")
    rows, columns = (np.asarray(place) - np.min(place) for place in (tile_rows, tile_columns))
    rng = np.random.default_rng(seed)
    whole = tally.holds.sum(0) < 2  # classes that stay in training

    def trial() -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Choose regions; return the tiles to test on, those to drop, and the classes that training then lacks."""
        free = ~np.asarray(tally.holds[:, whole].any(1))
        chosen = np.zeros(len(free), np.bool_)
        if free.any():
            chosen[free] = _two_sides(tally.counts[free], fraction, rng)
        test = chosen[tally.group]
        near = np.zeros((rows.max() + 1, columns.max() + 1), np.bool_)
        near[rows[test], columns[test]] = True
        near = ndimage.maximum_filter(near, 2 * gap + 1, mode="constant")
        dropped = near[rows, columns] & ~test
        return test, dropped, np.bincount(tally.label[~test & ~dropped], minlength=len(whole)) == 0

    while True:
        trials = [trial() for _ in range(_REGION_TRIALS)]
        test, dropped, lost = min(trials, key=lambda made: (made[2].sum(), made[1].sum()))
        if not lost.any():
            return tally.split(test, dropped)
        # A class that stays in training and is lost all the same lies within others' gaps: none can be validated.
        whole = whole | lost if (lost & ~whole).any() else np.ones_like(whole)


@dataclass(frozen=True, eq=False)
class _GroupCounts:
    """Examples by group and class, numbered without holes."""

    label: NDArray[np.intp]
    group: NDArray[np.intp]
    counts: NDArray[np.intp]  # (groups, classes)
    names: tuple[str, ...]
    unit: str

    @classmethod
    def of(
        cls, labels: ArrayLike, groups: ArrayLike, class_names: Sequence[str], unit: str = "patient"
    ) -> _GroupCounts:
        labels, groups = np.asarray(labels), np.asarray(groups)
        if not len(labels) or labels.shape != groups.shape:
            raise ValueError(f"labels and groups must be of one length above 0, found {labels.shape}, {groups.shape}")
        classes, label = np.unique(labels, return_inverse=True)
        kinds, group = np.unique(groups, return_inverse=True)
        counts = np.zeros((len(kinds), len(classes)), np.intp)
        np.add.at(counts, (group, label), 1)
        names = tuple(class_names[value] if class_names else f"class {value}" for value in classes)
        return cls(label, group, counts, names, unit)

    @property
    def holds(self) -> NDArray[np.bool_]:
        """Whether a group has examples of a class, (groups, classes)."""
        return self.counts > 0

    def split(self, test: NDArray[np.bool_], dropped: NDArray[np.bool_] | None = None) -> Split:
        """Return the split with these test examples, and notes on the classes that a side lacks."""
        regions = dropped is not None
        dropped = np.zeros_like(test) if dropped is None else dropped
        train = ~test & ~dropped
        notes = [SAME_SLIDE] if regions else []
        advice = "; draw another region of it, away from the others, to validate it" if regions else ""
        for number, (name, held) in enumerate(zip(self.names, self.holds.sum(0).tolist(), strict=True)):
            sides = {"training": train, "test": test}
            lacking = [side for side, mask in sides.items() if number not in self.label[mask]]
            if lacking:
                unit = self.unit if held == 1 else f"{self.unit}s"
                notes.append(f"{name} has {held} {unit}: none of it in the {' or '.join(lacking)} part{advice}")
        return Split(np.flatnonzero(train), np.flatnonzero(test), np.flatnonzero(dropped), regions, tuple(notes))


def _two_sides(counts: NDArray[np.intp], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which groups to set aside, (groups,); what only one side can have, training has."""
    return np.asarray(deal(counts, np.array([1 - fraction, fraction]), np.array([2.0, 1.0]), rng) == 1)


UNCOVERED = 1e3  # cost of a class that a part lacks: far more than any imbalance
REFINED_GROUPS = 500  # with more groups, dealing the largest first is balanced enough


def deal(counts: Indices, parts: Floats, needs: Floats, rng: np.random.Generator) -> Indices:
    """Give each group to one part.

    Groups are dealt one by one to the part where that costs least, then exchanged while an exchange lowers the cost:
    the squared distance of each part from its share of each class's groups, of its examples and of all examples, and
    far more for a class that it lacks. A new group of a class thus goes to a part that lacks the class, so that
    wherever no group has two classes, a class is missing somewhere only if it has fewer groups than there are parts.

    Parameters
    ----------
    counts
        (groups, classes) examples.
    parts
        (parts,) wished share of each, adding to 1.
    needs
        (parts,) how much it matters, relative to the others, that a part has every class.
    rng
        Chooses the order, hence among deals that are about as good.

    Returns
    -------
    (groups,) index of the part
    """
    counts = counts[:, counts.any(0)]
    groups, classes = counts.shape
    holds = counts > 0
    everything = counts.sum(1, keepdims=True) / counts.sum()
    shares = np.hstack([holds / holds.sum(0), counts / counts.sum(0), everything])

    def cost(filled: Floats, part: Indices) -> Floats:
        off = filled - parts[part, None]
        missing = (filled[:, :classes] < 1e-9).sum(1)
        return np.asarray((off * off).sum(1) + UNCOVERED * needs[part] * missing)

    order = rng.permutation(groups)
    if groups > REFINED_GROUPS:
        order = order[np.argsort(-shares[order].sum(1), kind="stable")]
    every = np.arange(len(parts))
    filled = np.zeros((len(parts), shares.shape[1]))
    owner = np.empty(groups, np.intp)
    for group in order:
        owner[group] = np.argmin(cost(filled + shares[group], every) - cost(filled, every))
        filled[owner[group]] += shares[group]
    if groups > REFINED_GROUPS:
        return owner

    # An empty group in each part, so that a move is an exchange too.
    shares = np.vstack([shares, np.zeros_like(filled)])
    owner = np.append(owner, every)
    better = True
    while better:
        better = False
        for group in order:
            here = owner[group]
            change = shares - shares[group]
            before = cost(filled, every)
            after = cost(filled[here] + change, np.full_like(owner, here)) + cost(filled[owner] - change, owner)
            gain = np.where(owner == here, 0.0, before[here] + before[owner] - after)
            other = gain.argmax()
            if gain[other] > 1e-9:
                there = owner[other]
                filled[here] += change[other]
                filled[there] -= change[other]
                owner[group] = there
                if other < groups:
                    owner[other] = here
                better = True
    return owner[:groups]


def folds_of(images: ImageDataset, protocol: str, folds: int, seed: int, fold: int | None = None) -> dict[int, Split]:
    """Return the split of each fold by its number, from 1, or that of one fold.

    Raises
    ------
    DatasetError
        If there is no such protocol ("patient" or "image") or fold, or there are fewer patients than folds.
    """
    if protocol not in ("patient", "image"):
        raise DatasetError(f"protocol {protocol}: choose patient or image")
    if fold is not None and not 1 <= fold <= folds:
        raise DatasetError(f"fold {fold}: there are {folds} folds, 1 to {folds}")
    splits = (
        image_folds(images.labels, folds, seed)
        if protocol == "image"
        else patient_folds(images.labels, images.patients, folds, seed, class_names=images.classes)
    )
    return {number: split for number, split in enumerate(splits, start=1) if fold in (None, number)}


def nothing_held_out(count: int) -> Split:
    """Return the split of so many examples that has them all in training."""
    return Split(np.arange(count), _no_index())
