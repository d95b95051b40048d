"""Where the user says a slide's micrometres per pixel: for each slide anew, and again where it was wrong."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QPushButton, QWidget
from superqt.utils import signals_blocked

from napari_dala.annotations.slides import note_of, remember_slide
from napari_dala.plugin.analyze.run import analyses_folder
from napari_dala.plugin.preferences import load_preferences
from napari_dala.validation import MPP_LIMITS

if TYPE_CHECKING:
    from napari_dala.slide import Slide

USUAL = {"40×": 0.25, "20×": 0.5}
"""Micrometres per pixel of the scanners' usual objectives."""
ASK_MPP = (
    "This picture does not say its resolution. Choose how it was scanned, or enter micrometres per pixel, "
    f"{MPP_LIMITS[0]:g} to {MPP_LIMITS[1]:g}."
)


class ResolutionRow(QWidget):
    """A number and the usual values of it, for a slide whose file does not state its resolution."""

    chosen = Signal(float)
    """The current slide has this many micrometres per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self._slide: tuple[str, tuple[float, float] | None] | None = None
        self.box = QDoubleSpinBox()
        self.box.setRange(0, MPP_LIMITS[1])
        self.box.setDecimals(4)
        self.box.setSingleStep(0.05)
        self.box.setSpecialValueText("unknown")
        self.box.setSuffix(" µm/px")
        self.box.setToolTip("Micrometres per pixel")
        self.box.editingFinished.connect(self.settle)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box, 1)
        self.usual = {}
        for name, mpp in USUAL.items():
            button = self.usual[name] = QPushButton(name)
            button.setToolTip(f"Scanned at {name}: {mpp:g} micrometres per pixel")
            button.clicked.connect(partial(self._choose_usual, mpp))
            layout.addWidget(button)

    def follow(self, slide: Slide | None) -> None:
        """Show a slide's own resolution: what was given for it, now or when it was open before; never another's."""
        now = None if slide is None else (slide.fingerprint, slide.mpp)
        if now == self._slide:
            return
        self._slide = now
        with signals_blocked(self.box):
            self.box.setValue(0 if slide is None else (slide.mpp or _given_before(slide) or (0,))[0])

    @property
    def value(self) -> float | None:
        """Micrometres per pixel as entered; None where that is nothing a microscope has."""
        value = self.box.value()
        return value if MPP_LIMITS[0] <= value <= MPP_LIMITS[1] else None

    def _choose_usual(self, mpp: float) -> None:
        self.box.setValue(mpp)
        self.settle()

    def settle(self) -> None:
        """Take what is entered, where it is another value than the slide has."""
        if self._slide is not None and self.value is not None and not self._is_same:
            self.chosen.emit(self.value)

    @property
    def _is_same(self) -> bool:
        known = self._slide and self._slide[1]
        return known is not None and round(known[0], self.box.decimals()) == self.box.value()


def keep_resolution(slide: Slide) -> None:
    """Keep in the workspace what was given for a slide, for when it is opened again.

    Raises
    ------
    DalaError
        When the workspace cannot be written.
    """
    analyses_folder(slide)  # which takes over the slide's folder of before
    remember_slide(slide, load_preferences().workspace)


def _given_before(slide: Slide) -> tuple[float, float] | None:
    note = note_of(analyses_folder(slide).parent)
    return note.mpp if note is not None and note.mpp_source == "given" else None
