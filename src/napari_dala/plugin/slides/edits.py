"""What the user types into the table, kept in the workspace, and in the window where the slide is open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_dala.annotations.slides import give_mpp, mpp_of_text, name_patient, write_remark

if TYPE_CHECKING:
    from napari_dala.annotations.slide_table import SlideRow
    from napari_dala.plugin.slides.reading import SlideReader
    from napari_dala.plugin.slides.walk import Walk


def edit_slide(row: SlideRow, what: str, text: str, walk: Walk, reader: SlideReader) -> None:
    """Let something of a slide ("patient", "mpp", "remark") be another text; its row is read anew.

    Raises
    ------
    DalaError
        When it is no resolution.
    """
    slide = row.slide
    if what == "remark":
        reader.write(write_remark, slide, text)
    elif what == "mpp":
        mpp = mpp_of_text(text)
        walk.give_mpp(slide.fingerprint, mpp)
        reader.write(give_mpp, slide, mpp)
    elif walk.drawing.name_patient(slide.fingerprint, text):
        reader.row_read.emit(replace(row, patient=text))  # it is saved with what is drawn
    else:
        reader.write(name_patient, slide, text)
