"""Values from outside checked by pydantic, and what is wrong with them in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from napari_dala.errors import DalaError

Settings = TypeVar("Settings", bound=BaseModel)


def first_problem(error: ValidationError) -> str:
    """Return the first thing wrong, in a few words."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def checked(kind: type[Settings], problem: type[DalaError], /, **values: Any) -> Settings:
    """Return settings from what a user typed; `problem` in one line that names the first that cannot be used."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise problem(f"these settings cannot be used: {first_problem(error)}") from None
