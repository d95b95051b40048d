"""Micrometres per pixel: units as files write them, and two resolutions compared."""

from __future__ import annotations

from math import isclose

_SAME = 1e-3  # relative: what rounding makes of a number that was typed
_UM = {"um": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0}
_UM |= {"pm": 1e-6, "å": 1e-4, "angstrom": 1e-4, "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3}
_UM |= {"mm": 1e3, "millimeter": 1e3, "millimetre": 1e3, "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4}
_UM |= {"dm": 1e5, "m": 1e6, "meter": 1e6, "metre": 1e6, "inch": 25400.0, "in": 25400.0}


def um_in(unit: str) -> float:
    """Return how many micrometres a unit is, 0 where it is no length; micro is written in many ways."""
    plain = unit.strip().casefold().replace("\\u00b5", "u")
    return _UM.get(plain.replace("µ", "u").replace("\u03bc", "u"), 0) or _UM.get(plain.removesuffix("s"), 0)


def is_at(mpp: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether two resolutions, um per px (x, y), are the same but for rounding."""
    return all(isclose(one, another, rel_tol=_SAME) for one, another in zip(mpp, other, strict=True))
