"""Dealing groups of examples to parts so that each part gets its share of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Indices: TypeAlias = NDArray[np.intp]

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
