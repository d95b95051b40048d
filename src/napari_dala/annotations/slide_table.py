"""The slides of the workspace as a table: of each what is known, what was drawn, and what one model found."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from napari_dala.errors import DalaError
from napari_dala.results.analysis import Analysis
from napari_dala.results.by_model import OTHER_COLOURS, last_results, ran_in_other_colours, results_by
from napari_dala.results.opening import STORE_FILE, open_store
from napari_dala.slide.resolution import is_at
from napari_dala.words import counted, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.card import ModelCard
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.results.analysis import Summary
    from napari_dala.results.by_model import ModelResults

_MM = 1e-3  # in a um


class State(StrEnum):
    """How far a model is with a slide, as the table says it."""

    UNREAD = "…"
    NOT_ANALYSED = "not analysed"
    BY_ANOTHER = "other model"
    IN_PART = "in part"
    OUTDATED = "outdated"
    DAMAGED = "damaged"
    DONE = "done"


@dataclass(frozen=True, eq=False)
class SlideRow:
    """One slide, and what the chosen model found on it.

    Attributes
    ----------
    patient
        As the user typed it, or empty.
    regions
        Drawn ones that a model can learn from.
    summary
        Of the model's results at the threshold that was set for them; None where there are none.
    about
        What is to be said of the state, or of the slide, beyond a word; or empty.
    is_missing
        True where its file was not where it was seen last; what was drawn and found is there all the same.
    """

    slide: AnnotatedSlide
    patient: str = ""
    regions: int = 0
    state: State = State.NOT_ANALYSED
    summary: Summary | None = None
    about: str = ""
    is_missing: bool = False

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Micrometres per level-0 pixel (x, y)."""
        return self.slide.note.mpp if self.slide.note else None

    @property
    def size_mm(self) -> tuple[float, float] | None:
        """Width and height, where the resolution is known."""
        note, mpp = self.slide.note, self.mpp
        if note is None or mpp is None:
            return None
        width, height = (side * step * _MM for side, step in zip(note.dimensions, mpp, strict=True))
        return width, height

    @property
    def not_judged_share(self) -> float | None:
        """Part of what was looked at that the model could not judge, by area; None where it has looked at nothing."""
        if self.summary is None:
            return None
        seen = self.summary.judged_mm2 + self.summary.not_judged_mm2
        return self.summary.not_judged_mm2 / seen if seen else None

    @property
    def remark(self) -> str:
        """What the user wrote of it."""
        return self.slide.note.remark if self.slide.note else ""

    @property
    def obstacle(self) -> str:
        """Why it cannot be analysed now, a few words, or empty."""
        if self.is_missing:
            return "its file is missing"
        return "" if self.mpp else "its resolution is not known"

    @property
    def wants_analysis(self) -> bool:
        """True where the model has something left to do on it."""
        return not self.obstacle and self.state is not State.DONE


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes
    ----------
    title, tip
        Its heading, and what that means.
    value
        What stands in it; None where it is not known.
    text
        How a value that is known is shown.
    key
        What it is sorted by, of a row; by default the value.
    edits
        What of a slide is changed by typing here ("patient", "mpp", "remark"), or empty.
    is_number
        Numbers stand to the right.
    """

    title: str
    value: Callable[[SlideRow], Any]
    tip: str = ""
    text: Callable[[Any], str] = str
    key: Callable[[SlideRow], Any] | None = None
    edits: str = ""
    is_number: bool = False

    def shown(self, row: SlideRow) -> str:
        """Return what stands in the cell."""
        value = self.value(row)
        return "" if value is None else self.text(value)

    def order(self, row: SlideRow, backwards: bool = False) -> tuple[bool, Any]:
        """Return what rows are sorted by; what is not known comes last, `backwards` too."""
        if self.value(row) in (None, ""):
            return (not backwards, 0)
        return (backwards, (self.key or self.value)(row))


def slide_row(slide: AnnotatedSlide, entry: ModelEntry | None) -> SlideRow:
    """Read what there is to say of a slide for one model; some small files, so not in the main thread."""
    known: dict[str, Any] = {
        "patient": slide.named_patient,
        "regions": slide.regions,
        "about": slide.problem or "",
        "is_missing": slide.path is None,
    }
    if slide.analysis is None or entry is None:
        return SlideRow(slide, **known)
    try:
        analysis = analysis_by(slide, entry)
        if analysis is None:
            path = slide.analysis / STORE_FILE
            if (other := last_results(path, _mpp(slide, entry), slide.profile_id)) is not None:
                known |= {"state": State.BY_ANOTHER, "about": f"“{other.card.name}” has run on this slide."}
            elif ran_in_other_colours(entry, path, slide.profile_id):
                known |= {"state": State.OUTDATED, "about": OTHER_COLOURS}
            return SlideRow(slide, **known)
        summary = analysis.summary()
    except DalaError as error:
        return SlideRow(slide, **known | {"state": State.DAMAGED, "about": str(error)})
    state = State.IN_PART if summary.todo else State.DONE
    if slide.note and slide.note.mpp and not is_at(analysis.mpp, slide.note.mpp):
        state = State.OUTDATED
        known["about"] = f"Found at {analysis.mpp[0]:.4g} µm per pixel; the slide has {slide.note.mpp[0]:.4g} now."
    return SlideRow(slide, **known, state=state, summary=summary)


def results_on(slide: AnnotatedSlide, entry: ModelEntry) -> ModelResults | None:
    """Find a model's results on a slide in its colours, best those at its resolution; None where it has none."""
    if slide.analysis is None:
        return None
    return results_by(entry, slide.analysis / STORE_FILE, _mpp(slide, entry), slide.profile_id)


def analysis_by(slide: AnnotatedSlide, entry: ModelEntry) -> Analysis | None:
    """Read what a model found on a slide, as `results_on` finds it.

    Raises
    ------
    DalaError
        When what is stored is damaged.
    """
    found = results_on(slide, entry)
    if found is None:
        return None
    return Analysis(open_store(slide.analyses / STORE_FILE, found.bundle_hash, found.setting))


def _mpp(slide: AnnotatedSlide, entry: ModelEntry) -> tuple[float, float]:
    if slide.note is not None and slide.note.mpp is not None:
        return slide.note.mpp
    return (entry.card.mpp,) * 2 if entry.card else (1.0, 1.0)


def state_text(row: SlideRow) -> str:
    """Return the state in a few words."""
    said = row.state.value
    if row.state is State.IN_PART and row.summary is not None:
        said = f"{percent(row.summary.done_share)} done"
    return f"{said}, file missing" if row.is_missing else said


def columns(card: ModelCard | None) -> list[Column]:
    """Return the table's columns for a model's classes, its target class first."""
    names = list(card.class_names) if card else []
    if card is not None:
        names.insert(0, names.pop(card.target_class))
    states = list(State)
    return [
        Column("Slide", lambda row: row.slide.name, _SLIDE, key=lambda row: by_number(row.slide.name)),
        Column("Status", state_text, key=lambda row: (states.index(row.state), state_text(row))),
        *(column for name in names for column in _of_class(name)),
        Column("Not judged", lambda row: row.not_judged_share, _NOT_JUDGED, percent, is_number=True),
        Column("Regions", lambda row: row.regions, "Drawn regions that a model can learn from", is_number=True),
        Column("Patient", lambda row: row.patient, _PATIENT, key=lambda row: by_number(row.patient), edits="patient"),
        Column("Size", lambda row: row.size_mm, "Width and height", "{0[0]:.1f} × {0[1]:.1f} mm".format),
        Column("µm/px", lambda row: row.mpp and row.mpp[0], _MPP, "{:.4g}".format, edits="mpp", is_number=True),
        Column("Remark", lambda row: row.remark, "Whatever you want to note", edits="remark"),
    ]


def _of_class(name: str) -> tuple[Column, Column]:
    """Return the columns of a class: its share and its area."""

    def figure(which: str) -> Callable[[SlideRow], float | None]:
        return lambda row: getattr(row.summary, which).get(name) if row.summary else None

    share = f"Part of the judged tissue that is {name}"
    area = f"Area in mm² that is {name}"
    return (
        Column(name, figure("share"), share, percent, is_number=True),
        Column(f"{name} mm²", figure("area_mm2"), area, "{:.2f}".format, is_number=True),
    )


_SLIDE = "Tick the slides to learn from; double-click one to open it"
_NOT_JUDGED = "Part of the tissue looked at that the model could not judge: unfamiliar or unreadable"
_PATIENT = "Slides of one patient are never split between training and held-out figures"
_MPP = "Micrometres per pixel; type it where the file is silent or wrong"


def by_number(text: str) -> tuple[tuple[bool, int, str], ...]:
    """Return what sorts texts as people do: S2 before S10, whatever the letters' case."""
    parts = re.split(r"(\d+)", text)
    return tuple((part.isdecimal(), int(part) if part.isdecimal() else 0, part.casefold()) for part in parts)


def list_text(rows: Sequence[SlideRow], shown: int) -> str:
    """Return what a list of slides holds, of which some are shown, in one line: "40 slides · 12 done · 1 missing"."""
    done, missing = (sum(row.state is State.DONE for row in rows), sum(row.is_missing for row in rows))
    parts = [counted(len(rows), "slide"), f"{done} done"]
    parts += [f"{missing} missing"] if missing else []
    parts += [f"{shown} shown"] if shown != len(rows) else []
    return " · ".join(parts) if rows else ""


def obstacles_text(rows: Sequence[SlideRow]) -> str:
    """Return why some slides cannot be analysed, in one line; empty where all can be or are done."""
    reasons = Counter(row.obstacle for row in rows if row.obstacle and row.state is not State.DONE)
    found = [f"{counted(number, 'slide')} left out: {reason}" for reason, number in reasons.items()]
    return ". ".join(found)
