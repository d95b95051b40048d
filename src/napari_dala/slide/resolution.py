"""Micrometres per pixel, compared."""

from __future__ import annotations

from math import isclose

_SAME = 1e-3  # relative: what rounding makes of a number that was typed


def is_at(mpp: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether two resolutions, um per px (x, y), are the same but for rounding."""
    return all(isclose(one, another, rel_tol=_SAME) for one, another in zip(mpp, other, strict=True))
