"""Which tiles are shown: by stated rules, of different patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.evaluation.cases.left_out import LeftOut

KINDS = {
    "best": "called rightly, with the highest probability of their class",
    "typical": "called rightly, with a probability of their class nearest to the median of all that are",
    "failed": "called wrongly, with the lowest probability of their class",
}
"""Which tiles of a class are shown, and by what rule."""


def chosen_cases(found: LeftOut, label: int, each: int) -> dict[str, list[int]]:
    """Return the tiles of a class by kind (`KINDS`), `each` of a kind at most, no patient twice.

    Kinds take turns, so that where patients are few none goes without; one may have fewer, or none.
    """
    own = found.own_probability
    right = np.flatnonzero((found.labels == label) & found.right)
    wrong = np.flatnonzero((found.labels == label) & ~found.right)
    away = np.abs(own[right] - np.median(own[right])) if len(right) else own[right]
    orders = {
        "best": right[np.argsort(-own[right], kind="stable")],
        "typical": right[np.argsort(away, kind="stable")],
        "failed": wrong[np.argsort(own[wrong], kind="stable")],
    }
    chosen: dict[str, list[int]] = {kind: [] for kind in KINDS}
    taken: set[str] = set()
    for _ in range(each):
        for kind, order in orders.items():
            new = _of_another_patient(found, order, taken)
            chosen[kind] += new
            taken.update(found.patients[new].tolist())
    return chosen


def drawn_cases(found: LeftOut, count: int, rng: np.random.Generator) -> list[int]:
    """Return tiles drawn at random: as many of each class as far as there are, of as many patients as can be.

    Parameters
    ----------
    found
        The tiles.
    count
        The most that are drawn.
    rng
        Source of the draw.

    Returns
    -------
    list of int
        In random order.
    """
    queues = [_by_patient(found, label, rng) for label in range(len(found.dataset.classes))]
    drawn: list[int] = []
    while len(drawn) < count and any(queues):
        for queue in queues:
            if queue and len(drawn) < count:
                drawn.append(queue.pop(0))
    return [drawn[place] for place in rng.permutation(len(drawn))]


def _of_another_patient(found: LeftOut, order: NDArray[np.intp], taken: set[str]) -> list[int]:
    """Return the first tile of none of these patients, in a list; an empty one where there is none."""
    return [place for place in order.tolist() if found.patients[place] not in taken][:1]


def _by_patient(found: LeftOut, label: int, rng: np.random.Generator) -> list[int]:
    """Return the tiles of a class in random order, one of every patient before the second of any."""
    places = rng.permutation(np.flatnonzero(found.labels == label)).tolist()
    seen: dict[str, int] = {}
    turns: list[tuple[int, int]] = []
    for number, place in enumerate(places):
        patient = str(found.patients[place])
        seen[patient] = seen.get(patient, -1) + 1
        turns.append((seen[patient], number))
    return [places[number] for _, number in sorted(turns)]
