"""The colours of classes, where nobody chose them: by the class's name, else the next of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_dala.errors import BundleError
from napari_dala.model.card import ClassInfo
from napari_dala.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    Color = tuple[int, int, int]

PALETTE: tuple[Color, ...] = (  # Okabe and Ito's, told apart by colour-blind readers too; of classes that are drawn
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
)
MALIGNANT_NAMES = ("malignant", "invasive", "cancer")
_BY_NAME = {"benign": (70, 130, 180), "normal": (44, 160, 44), "insitu": (255, 127, 14)} | dict.fromkeys(
    MALIGNANT_NAMES, (214, 39, 40)
)
_FURTHER = (
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
    (255, 187, 120),
    (152, 223, 138),
)


def class_infos(names: Iterable[str]) -> tuple[ClassInfo, ...]:
    """Return classes of these names, each with a colour; BundleError in one line for a name that cannot be one."""
    names = tuple(names)
    further = iter(_FURTHER * len(names))
    try:
        return tuple(ClassInfo(name=name, color=_BY_NAME.get(name.casefold()) or next(further)) for name in names)
    except ValidationError as error:
        raise BundleError(f"{', '.join(names)[:200]}: no names for classes: {first_problem(error)}") from None
