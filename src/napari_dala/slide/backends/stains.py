"""What the pictures and planes of a file are by their names: slide or label, red, green and blue or stains."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_SLIDE = re.compile(r"\b(label|macro|thumbnail|overview|barcode)(\s*image)?[\W\d]*$", re.IGNORECASE)
_RED_GREEN_BLUE = ["FF0000", "00FF00", "0000FF"]
_NAMES = (["r", "g", "b"], ["red", "green", "blue"], ["channel 0", "channel 1", "channel 2"], ["0", "1", "2"])


def is_no_slide(name: str) -> bool:
    """Return whether a picture is called what scanners call those of the label and of the whole glass."""
    return _NO_SLIDE.search(name) is not None


def are_red_green_blue(names: Sequence[str], colours: Sequence[str]) -> bool:
    """Return whether three planes are a picture's colours, and not three stains.

    Parameters
    ----------
    names, colours
        Of each plane: what it is called, and the colour that it is shown in ("FF0000"); empty where nobody says so.
    """
    named = [name.strip().casefold() for name in names]
    coloured = [colour.lstrip("#").upper() for colour in colours]
    return (not any(named) or named in _NAMES) and (not any(coloured) or coloured == _RED_GREEN_BLUE)
