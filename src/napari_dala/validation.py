"""Values from outside: JSON read and checked in one place, pydantic's complaints in a few words, plausible ranges."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError

from napari_dala.files import open_to_read

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.errors import DalaError

Settings = TypeVar("Settings", bound=BaseModel)

MPP_LIMITS = (0.02, 20.0)
"""Micrometres per pixel that a microscope's picture can have; outside lies a printer's 72 dpi."""

MOST_BYTES = 128 << 20  # of a JSON file
_MOST_PARTS = 10_000_000  # commas and opening brackets; about 100 bytes of memory each
_DEEPEST = 64
_MOST_DIGITS = 308  # of a whole number; more do not fit into a float
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def plausible_mpp(value: float) -> float:
    """Return a resolution, or raise ValueError where no microscope has it: millimetres typed, a unit mistaken."""
    low, high = MPP_LIMITS
    if not low <= value <= high:
        raise ValueError(
            f"{value:g} is no plausible resolution; give micrometres per pixel, {low:g} to {high:g} "
            "(a 40x scan has about 0.25)"
        )
    return value


Mpp = Annotated[float, AfterValidator(plausible_mpp)]
"""Micrometres per pixel, within `MPP_LIMITS`."""


def first_problem(error: ValidationError) -> str:
    """Return the first thing wrong, in a few words."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def checked(kind: type[Settings], problem: type[DalaError], /, **values: Any) -> Settings:
    """Return settings from what a user typed; `problem` in one line that names the first that cannot be used."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise problem(f"these settings cannot be used: {first_problem(error)}") from None


def read_json(
    path: Path, problem: type[DalaError], *, source: str = "", special: bool = False, most: int = MOST_BYTES
) -> Any:
    """Return what is in a JSON file from outside; `problem` in one line that names the file where it cannot be read.

    Parameters
    ----------
    path
        UTF-8, with or without a byte order mark.
    problem
        What to raise.
    source
        What to call it in an error; by default its path.
    special
        As in `parse_json`.
    most
        Bytes that it may have.
    """
    source = source or str(path)
    try:
        with open_to_read(path) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"larger than {most >> 20} MB")
    except OSError as error:
        raise problem(f"{source}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise problem(f"{source}: cannot be read: {error}") from error
    return parse_json(data, source, problem, special=special)


def read_as(kind: type[Settings], path: Path, problem: type[DalaError], *, most: int = MOST_BYTES) -> Settings:
    """Return what is in a JSON file from outside; `problem` in one line that names the file and the first fault."""
    return conforming(kind, read_json(path, problem, most=most), str(path), problem)


def conforming(kind: type[Settings], value: Any, source: str, problem: type[DalaError]) -> Settings:
    """Return a value from outside as what it should be; `problem` in one line that names its source and first fault."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise problem(f"{source}: damaged, not what it should be ({first_problem(error)})") from None


def parse_json(data: bytes | str, source: str, problem: type[DalaError], *, special: bool = False) -> Any:
    """Return a JSON value from outside; `problem` in one line where it is damaged or more than this program takes.

    What comes back is nested at most 64 deep, its text can be written as UTF-8 and its numbers fit into a float; whole
    numbers beyond 64 bits come as floats. No object names a thing twice.

    Parameters
    ----------
    data
        Text, or UTF-8 with or without a byte order mark.
    source
        What to call it in an error.
    problem
        What to raise.
    special
        Let NaN and infinity through, which other programs write as measurements though JSON knows neither.
    """

    def not_finite(name: str) -> float:
        if not special:
            raise ValueError(f"{name[:20]} is not a number that JSON knows")
        return float(name)

    def real(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else not_finite(digits)

    def whole(digits: str) -> int | float:
        return real(digits) if special and len(digits) > _MOST_DIGITS else _whole(digits)

    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        if sum(map(text.count, ",[{")) > _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS:,} values")
        value = json.loads(
            text, parse_int=whole, parse_float=real, parse_constant=not_finite, object_pairs_hook=_object
        )
        _check_depth(value)
        if r"\ud" in text.lower() and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            raise ValueError("half a character (a lone surrogate)")
    except (ValueError, RecursionError) as error:  # RecursionError: deeper than even the parser goes
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise problem(f"{source}: damaged, not JSON ({reason})") from error
    return value


def _whole(digits: str) -> int | float:
    if len(digits.removeprefix("-")) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    value = int(digits)
    return value if -(2**63) <= value < 2**63 else float(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"“{next(name for name in names if names.count(name) > 1)}” is there twice")
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [
            part
            for one in level
            if isinstance(one, (dict, list))
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"nested more than {_DEEPEST} deep")
