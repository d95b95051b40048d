"""What is pending when the window goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PyQt6 import sip

from napari_dala.annotations.document import AnnotationDocument
from napari_dala.annotations.files import load_for
from napari_dala.plugin.annotate.autosave import Autosave
from napari_dala.slide import open_slide
from napari_dala.workspace import workspace_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_pending_is_written_though_the_window_has_taken_the_timers(qapp: Any, small_slide: Path) -> None:
    saving, slide = Autosave(), open_slide(small_slide)
    saving.later(AnnotationDocument(slide.fingerprint, patient="the last word"), slide, workspace_folder())
    sip.delete(saving)
    saving.flush()
    written = load_for(slide.fingerprint)
    assert written is not None
    assert written.patient == "the last word"
