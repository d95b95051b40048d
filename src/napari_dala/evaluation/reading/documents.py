"""The two files of a reader study beside the form: its key, and a filled form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from napari_dala.errors import ReadingError
from napari_dala.validation import read_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Side: TypeAlias = Literal["left", "right"]
Choice: TypeAlias = Literal["left", "equal", "right"]
Match: TypeAlias = Annotated[int, Field(ge=1, le=5)]
ReaderCode: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,16}$")]

_MOST_BYTES = 4 << 20
CANNOT_TELL = "cannot tell"
"""The diagnosis of a reader to whom a tile does not say enough."""


class _StudyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyItem(_StudyFile):
    """One pair of a form, and what the form does not say.

    Attributes
    ----------
    item
        Its name in the form.
    dt
        The side on which DT Grad-CAM stands.
    repeats
        The earlier item that shows the same pair, sides swapped; None where it is shown for the first time.
    image, patient
        The photograph's file and a key of its patient.
    label, explained
        What it is; the class that the model calls it, which both maps explain.
    probability
        Of the explained class.
    kept
        Part of the tile that DT keeps.
    """

    item: str
    dt: Side
    repeats: str | None = None
    image: str
    patient: str
    label: str
    explained: str
    probability: float = Field(ge=0, le=1)
    kept: float = Field(ge=0, le=1)


class ReadingKey(_StudyFile):
    """What undoes the blinding of a form. Readers must not have it before they are done.

    Attributes
    ----------
    form
        The form's name.
    seed
        Of which photographs, in which order, on which side.
    classes
        Of the data set.
    command
        That made the form.
    items
        In the order in which they are shown.
    """

    format: Literal["napari-dala reading key"] = "napari-dala reading key"
    form: str
    seed: int
    classes: tuple[str, ...] = Field(min_length=2)
    command: str = ""
    items: tuple[KeyItem, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _repeats_are_of_items(self) -> Self:
        names = [item.item for item in self.items]
        if len(set(names)) < len(names) or any(item.repeats not in (None, *names) for item in self.items):
            raise ValueError("an item is there twice, or repeats one that is not there")
        return self


class Answer(_StudyFile):
    """What a reader said of a pair; None for what is still open.

    Attributes
    ----------
    diagnosis
        A class, or `CANNOT_TELL`.
    better
        Which map shows better what makes the reader call it so.
    left, right
        How well each map matches it, 1 (not at all) to 5 (fully).
    """

    diagnosis: str | None = None
    better: Choice | None = None
    left: Match | None = None
    right: Match | None = None


class FilledForm(_StudyFile):
    """What a reader saved; it may be unfinished."""

    format: Literal["napari-dala filled form"] = "napari-dala filled form"
    form: str
    reader: ReaderCode
    answers: dict[str, Answer]


def read_key(path: Path) -> ReadingKey:
    """Return the key in a file; `ReadingError` in one line where there is none."""
    return read_as(ReadingKey, path, ReadingError, most=_MOST_BYTES)


def read_forms(paths: Sequence[Path], key: ReadingKey) -> list[FilledForm]:
    """Return the filled forms in files, each checked against the key.

    Raises
    ------
    ReadingError
        Where a file is no filled form, is of another form, answers what is not asked, or where two are of one reader.
    """
    found: dict[str, tuple[Path, FilledForm]] = {}
    for path in paths:
        filled = read_as(FilledForm, path, ReadingError, most=_MOST_BYTES)
        if filled.form != key.form:
            raise ReadingError(
                f"{path}: is of form {filled.form}, the key of form {key.form}; give what belongs together"
            )
        _check_answers(path, filled, (item.item for item in key.items), (*key.classes, CANNOT_TELL))
        if filled.reader in found:
            other = found[filled.reader][0]
            raise ReadingError(f"{path}: reader {filled.reader} is in {other} too; give the later one only")
        found[filled.reader] = (path, filled)
    return [filled for _, filled in found.values()]


def _check_answers(path: Path, filled: FilledForm, items: Iterable[str], diagnoses: Sequence[str]) -> None:
    known = set(items)
    for item, answer in filled.answers.items():
        if item not in known:
            raise ReadingError(f"{path}: answers item {item}, which the form does not have")
        if answer.diagnosis not in (None, *diagnoses):
            raise ReadingError(
                f"{path}: item {item} has the diagnosis “{answer.diagnosis}”, not {', '.join(diagnoses)}"
            )
