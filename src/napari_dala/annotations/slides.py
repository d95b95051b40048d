"""The slides of the workspace, known without opening them: where each lies, its note, and what was drawn on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from napari_dala.annotations.document import AnnotationDocument
from napari_dala.annotations.files import ANNOTATIONS_FILE, annotations_path, load_for, save_for
from napari_dala.errors import DalaError
from napari_dala.files import write_text
from napari_dala.results.opening import STORE_FILE
from napari_dala.slide.backends.remote import absolute, exists
from napari_dala.slide.base import MppSource, checked_mpp, pixels_id
from napari_dala.slide.open import open_slide
from napari_dala.validation import read_as
from napari_dala.workspace import slide_folder, workspace_folder

if TYPE_CHECKING:
    from napari_dala.slide import Slide

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_NOTE_FILE, _ANALYSES = "slide.json", "analyses"
_DOCUMENTS = 256  # kept in memory
_changing = Lock()  # a note is read, changed and written by one thread at a time
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
    remark
        What the user wrote of it.
    own_profile_id
        What tells the file's ICC profile (see `Slide.own_profile`), empty where none changes its colours; None where
        nobody has looked yet.
    is_listed
        False once the user took it off the list of slides; all that belongs to it stays.
    """

    model_config = ConfigDict(frozen=True)

    path: Path | None
    dimensions: tuple[PositiveInt, PositiveInt]
    mpp: tuple[Positive, Positive] | None
    mpp_source: MppSource | None
    remark: str = ""
    own_profile_id: str | None = None
    is_listed: bool = True

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
    icc_profile
        Whether it is to be opened with its ICC profile, see `open_slide`.
    """

    fingerprint: str
    workspace: Path
    note: SlideNote | None
    drawn: AnnotationDocument | None = None
    icc_profile: bool = True

    @property
    def name(self) -> str:
        """As shown to the user: never for a log."""
        return self.note.name if self.note else f"slide {self.fingerprint[:8]}"

    @property
    def path(self) -> Path | None:
        """The slide's file, or None where it is unknown or gone."""
        path = self.note.path if self.note else None
        return path if path is not None and exists(path) else None

    @property
    def annotations(self) -> Path:
        """The GeoJSON file."""
        return annotations_path(self.fingerprint, self.workspace)

    @property
    def analysis(self) -> Path | None:
        """The folder that holds an `analysis.zarr` of this slide, or None."""
        return self.analyses if (self.analyses / STORE_FILE).is_dir() else None

    @property
    def analyses(self) -> Path:
        """The folder for an `analysis.zarr` of this slide, whether there is one or not."""
        return self.folder / _ANALYSES

    @property
    def folder(self) -> Path:
        """All that the workspace keeps of it."""
        return slide_folder(self.fingerprint, self.workspace)

    @property
    def given_mpp(self) -> tuple[float, float] | None:
        """The um per level-0 pixel (x, y) that the user gave, or None: to open the slide with."""
        return self.note.mpp if self.note and self.note.mpp_source == "given" else None

    @property
    def profile_id(self) -> str:
        """The `Slide.profile_id` that it has when it is opened."""
        return (self.note.own_profile_id or "") if self.note and self.icc_profile else ""

    @property
    def pixels_id(self) -> str:
        """The `Slide.pixels_id` that it has when it is opened."""
        return pixels_id(self.fingerprint, self.profile_id)

    @property
    def document(self) -> AnnotationDocument | None:
        """What was drawn; None where the file is damaged."""
        content = self._content
        return None if isinstance(content, str) else content

    @property
    def patient(self) -> str:
        """Whom the slide is from: as the user typed it, else the fingerprint."""
        return self.named_patient or self.fingerprint

    @property
    def named_patient(self) -> str:
        """Whom the slide is from, as the user typed it; empty where they did not."""
        document = self.document
        return (document.patient if document else None) or ""

    @property
    def regions(self) -> int:
        """How many regions a model can learn from: those of a class that is not ignored."""
        document = self.document
        if document is None:
            return 0
        passed_over = {None, *(entry.name for entry in document.classes if not entry.is_learned)}
        return sum(one.class_name not in passed_over for one in document.annotations)

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
        except FileNotFoundError:
            return AnnotationDocument(self.fingerprint)
        except DalaError as error:
            return str(error)
        except OSError as error:
            return f"{self.name}: what was drawn cannot be read: {error.strerror or error}"


def remember_slide(slide: Slide, folder: str | Path | None = None) -> Path:
    """Note in the workspace where a slide lies, its size and its resolution; return the note's file.

    A resolution that was given, or that is known already, is not forgotten when the slide is opened with the file's or
    with none. A slide that was taken off the list is on it again.

    Raises
    ------
    DalaError
        When the workspace cannot be written.
    """
    path = slide_folder(slide.fingerprint, folder) / _NOTE_FILE
    with _changing:
        before = note_of(path.parent)
        said_before = before is not None and before.mpp_source == "given" and slide.mpp_source != "given"
        known = before if before is not None and (slide.mpp is None or said_before) else slide
        note = SlideNote(
            path=absolute(slide.path) if slide.path else None,
            dimensions=slide.dimensions,
            mpp=known.mpp,
            mpp_source=known.mpp_source,
            remark=before.remark if before else "",
            own_profile_id=_own_profile_id(slide),
        )
        if note != before:
            _write_note(path, note)
    return path


def remember_profile(slide: AnnotatedSlide, opened: Slide) -> None:
    """Note what ICC profile the file of a slide holds, and nothing else: the rest may have been changed meanwhile.

    Raises
    ------
    DalaError
        When the slide's file was never seen, or the workspace cannot be written.
    """
    _change_note(slide, own_profile_id=_own_profile_id(opened))


def open_known(slide: AnnotatedSlide) -> Slide:
    """Open the file of a slide that the workspace knows, with the resolution that the user gave it.

    Raises
    ------
    DalaError
        When the file is gone, cannot be opened, or holds another slide by now.
    """
    path = slide.path
    if path is None:
        raise DalaError(slide.problem or f"{slide.name}: its file is gone; {_OPEN_IT} where it is now")
    found = open_slide(path, icc_profile=slide.icc_profile)
    if found.fingerprint != slide.fingerprint:
        found.close()
        raise DalaError(f"{path.name}: another slide is in this file now; add it to the list anew")
    return found if slide.given_mpp is None else found.with_mpp(slide.given_mpp)


def write_remark(slide: AnnotatedSlide, remark: str) -> None:
    """Keep what the user writes of a slide.

    Raises
    ------
    DalaError
        When the slide's file was never seen, or the workspace cannot be written.
    """
    _change_note(slide, remark=remark)


def give_mpp(slide: AnnotatedSlide, mpp: float) -> None:
    """Keep the um per level-0 pixel that the user gives a slide; results made at another are outdated from now on.

    Raises
    ------
    DalaError
        When no microscope has that resolution, the file was never seen, or the workspace cannot be written.
    """
    _change_note(slide, mpp=checked_mpp(mpp), mpp_source="given")


def mpp_of_text(text: str) -> float:
    """Return the um per pixel that a user typed, with a comma or a point.

    Raises
    ------
    DalaError
        When that is no number, or no microscope has that resolution.
    """
    try:
        return checked_mpp(float(text.replace(",", ".")))[0]
    except ValueError:
        raise DalaError(f"{text}: not a number; type micrometres per pixel, such as 0.25") from None


def take_off_list(slide: AnnotatedSlide) -> None:
    """List a slide no more until it is opened or added again; what was drawn and found stays.

    Raises
    ------
    DalaError
        When the slide's file was never seen, or the workspace cannot be written.
    """
    _change_note(slide, is_listed=False)


def name_patient(slide: AnnotatedSlide, patient: str) -> None:
    """Keep whom a slide is from, beside what is drawn on it; nobody for an empty text.

    For a slide that is not open: what is drawn on an open one is in the window.

    Raises
    ------
    DalaError
        When what was drawn is damaged, or the workspace cannot be written.
    """
    document = load_for(slide.fingerprint, slide.workspace) or AnnotationDocument(slide.fingerprint)
    if (document.patient or "") != patient:
        save_for(replace(document, patient=patient or None), slide.workspace)


def _change_note(slide: AnnotatedSlide, **changes: Any) -> None:
    with _changing:
        note = note_of(slide.folder)
        if note is None:
            raise DalaError(f"{slide.name}: its file and size are not known; {_OPEN_IT}")
        _write_note(slide.folder / _NOTE_FILE, note.model_copy(update=changes))


def _own_profile_id(slide: Slide) -> str:
    return slide.own_profile.digest if slide.own_profile else ""


def _write_note(path: Path, note: SlideNote) -> None:
    try:
        write_text(path, note.model_dump_json(indent=2) + "\n", private=bool(note.remark))
    except OSError as error:
        raise DalaError(f"{path}: cannot be written: {error.strerror or error}") from error


def annotated_slide(
    slide: Slide, drawn: AnnotationDocument | None = None, folder: str | Path | None = None
) -> AnnotatedSlide:
    """Return an open slide with what is drawn on it, whether that is saved or not."""
    note = SlideNote(
        path=slide.path,
        dimensions=slide.dimensions,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        own_profile_id=_own_profile_id(slide),
    )
    return AnnotatedSlide(slide.fingerprint, workspace_folder(folder), note, drawn, slide.uses_profile)


def annotated_slides(folder: str | Path | None = None, *, icc_profile: bool = True) -> list[AnnotatedSlide]:
    """Return every slide of the workspace that has annotations, by name; damaged ones carry their problem."""
    return _slides_with((ANNOTATIONS_FILE,), folder, icc_profile)


def listed_slides(folder: str | Path | None = None, *, icc_profile: bool = True) -> list[AnnotatedSlide]:
    """Return every slide that the workspace knows, by name: added, drawn on or analysed, and not taken off the list."""
    found = _slides_with((_NOTE_FILE, ANNOTATIONS_FILE, f"{_ANALYSES}/{STORE_FILE}"), folder, icc_profile)
    return [slide for slide in found if slide.note is None or slide.note.is_listed]


def slide_in(fingerprint: str, folder: str | Path | None = None, *, icc_profile: bool = True) -> AnnotatedSlide:
    """Return what the workspace knows of one slide now."""
    workspace = workspace_folder(folder)
    note = note_of(slide_folder(fingerprint, workspace))
    return AnnotatedSlide(fingerprint, workspace, note, icc_profile=icc_profile)


def _slides_with(marks: tuple[str, ...], folder: str | Path | None, icc_profile: bool) -> list[AnnotatedSlide]:
    """Return the slides in whose folders there is one of some files, by name."""
    workspace = workspace_folder(folder)
    names = {path.relative_to(workspace).parts[0] for mark in marks for path in workspace.glob(f"*/{mark}")}
    slides = [slide_in(name, workspace, icc_profile=icc_profile) for name in names]
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
