"""The slides of the workspace that something was drawn on, known without opening them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from napari_dala.annotations.files import ANNOTATIONS_FILE, annotations_path, load_for
from napari_dala.errors import DalaError
from napari_dala.files import write_text
from napari_dala.slide.base import MppSource
from napari_dala.validation import read_as
from napari_dala.workspace import slide_folder, workspace_folder

if TYPE_CHECKING:
    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.slide import Slide

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_NOTE_FILE = "slide.json"
_DOCUMENTS = 256  # kept in memory
_OPEN_IT = "open the slide once, so that it is known"


class SlideNote(BaseModel):
    """What is remembered of a slide while it is not open.

    Attributes
    ----------
    path
        Where it was seen last; None for pixels without a file.
    dimensions
        Width and height, level-0 px.
    mpp, mpp_source
        Micrometres per level-0 pixel (x, y) and who said so; None where nobody has.
    """

    model_config = ConfigDict(frozen=True)

    path: Path | None
    dimensions: tuple[PositiveInt, PositiveInt]
    mpp: tuple[Positive, Positive] | None
    mpp_source: MppSource | None

    @property
    def name(self) -> str:
        """The file's name without its ending, for the user's own screen, never for a log."""
        return self.path.stem if self.path else "image"


@dataclass(frozen=True, eq=False)
class AnnotatedSlide:
    """A slide and what was drawn on it, read when it is asked for.

    Attributes
    ----------
    fingerprint
        Of the slide.
    workspace
        Where its folder lies.
    note
        What is remembered of it, or None.
    drawn
        What is drawn on it just now, in place of what is saved.
    """

    fingerprint: str
    workspace: Path
    note: SlideNote | None
    drawn: AnnotationDocument | None = None

    @property
    def name(self) -> str:
        """As shown to the user: never for a log."""
        return self.note.name if self.note else f"slide {self.fingerprint[:8]}"

    @property
    def path(self) -> Path | None:
        """The slide's file, or None where it is unknown or gone."""
        path = self.note.path if self.note else None
        return path if path is not None and os.path.exists(path) else None  # of `os`: it takes any name

    @property
    def annotations(self) -> Path:
        """The GeoJSON file."""
        return annotations_path(self.fingerprint, self.workspace)

    @property
    def analysis(self) -> Path | None:
        """The folder that holds an `analysis.zarr` of this slide, or None."""
        folder = slide_folder(self.fingerprint, self.workspace) / "analyses"
        return folder if (folder / "analysis.zarr").is_dir() else None

    @property
    def given_mpp(self) -> tuple[float, float] | None:
        """The um per level-0 pixel (x, y) that the user gave, or None: to open the slide with."""
        return self.note.mpp if self.note and self.note.mpp_source == "given" else None

    @property
    def document(self) -> AnnotationDocument | None:
        """What was drawn; None where the file is damaged."""
        content = self._content
        return None if isinstance(content, str) else content

    @property
    def patient(self) -> str:
        """Whom the slide is from: as the user typed it, else the fingerprint."""
        document = self.document
        return (document.patient if document else None) or self.fingerprint

    @property
    def problem(self) -> str | None:
        """Why it cannot be learnt from, one line, or None."""
        content = self._content
        if isinstance(content, str):
            return content
        if self.note is None:
            return f"{self.name}: its file and size are not known; {_OPEN_IT}"
        if self.path is None:
            return f"{self.name}: its file is no longer where it was; {_OPEN_IT} where it is now"
        return None

    @property
    def is_readable(self) -> bool:
        """True where both the slide's file and what was drawn are there."""
        return self.problem is None

    @property
    def _content(self) -> AnnotationDocument | str:
        """What was drawn, or what is wrong with the file, as it is now."""
        if self.drawn is not None:
            return self.drawn
        try:
            state = self.annotations.stat()
            return _read(self.fingerprint, self.workspace, state.st_mtime_ns, state.st_size)
        except DalaError as error:
            return str(error)
        except OSError as error:
            return f"{self.name}: what was drawn cannot be read: {error.strerror or error}"


def remember_slide(slide: Slide, folder: str | Path | None = None) -> Path:
    """Note in the workspace where a slide lies, its size and its resolution; return the note's file.

    A resolution that is known already is not forgotten when the slide is opened without one.

    Raises
    ------
    DalaError
        When the workspace cannot be written.
    """
    path = slide_folder(slide.fingerprint, folder) / _NOTE_FILE
    before = note_of(path.parent)
    known = slide if slide.mpp is not None or before is None else before
    note = SlideNote(
        path=slide.path.absolute() if slide.path else None,
        dimensions=slide.dimensions,
        mpp=known.mpp,
        mpp_source=known.mpp_source,
    )
    if note != before:
        try:
            write_text(path, note.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise DalaError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def annotated_slide(
    slide: Slide, drawn: AnnotationDocument | None = None, folder: str | Path | None = None
) -> AnnotatedSlide:
    """Return an open slide with what is drawn on it, whether that is saved or not."""
    note = SlideNote(path=slide.path, dimensions=slide.dimensions, mpp=slide.mpp, mpp_source=slide.mpp_source)
    return AnnotatedSlide(slide.fingerprint, workspace_folder(folder), note, drawn)


def annotated_slides(folder: str | Path | None = None) -> list[AnnotatedSlide]:
    """Return every slide of the workspace that has annotations, by name; damaged ones carry their problem."""
    workspace = workspace_folder(folder)
    slides = [
        AnnotatedSlide(path.parent.name, workspace, note_of(path.parent))
        for path in workspace.glob(f"*/{ANNOTATIONS_FILE}")
    ]
    return sorted(slides, key=lambda slide: (slide.name.casefold(), slide.fingerprint))


def note_of(folder: Path) -> SlideNote | None:
    """Return the note in a slide's folder, None where there is none or it is damaged: opening the slide writes it."""
    try:
        return read_as(SlideNote, folder / _NOTE_FILE, DalaError)
    except DalaError:
        return None


@lru_cache(maxsize=_DOCUMENTS)
def _read(fingerprint: str, workspace: Path, modified_ns: int, size: int) -> AnnotationDocument:
    """Read what was drawn; the same object as long as the file is the same."""
    document = load_for(fingerprint, workspace)
    if document is None:
        raise FileNotFoundError("it is gone")
    return document
