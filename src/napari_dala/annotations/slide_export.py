"""The table of slides as CSV: a row a slide, and beside it a row a region, found and drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_dala.annotations.slide_table import analysis_by, slide_row, state_text
from napari_dala.errors import DalaError
from napari_dala.files import csv_text, write_text
from napari_dala.metrics.anonymous import patient_key
from napari_dala.results.report.export import regions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_dala.annotations.slide_table import SlideRow
    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.catalog import ModelEntry

Record = dict[str, object]


def export_slides(
    slides: Sequence[AnnotatedSlide], entry: ModelEntry, path: Path, *, anonymous: bool = False
) -> tuple[Path, Path]:
    """Write two tables of slides and what a model found on them; return their files.

    `path` has one row a slide; `<stem>-regions.csv` beside it one row a region, both found and drawn. Areas are mm²,
    places level-0 px, shares 0 to 1; what is not known is empty. A patient is named by a key alone. Much is read: not
    for the main thread.

    Parameters
    ----------
    anonymous
        Leave out the slides' names and the remarks, too.

    Raises
    ------
    DalaError
        When there is no slide, or a table cannot be written.
    """
    if not slides:
        raise DalaError("there is no slide in the list to export: add some first")
    rows = [slide_row(slide, entry) for slide in slides]
    tables = {
        path: [_slide_record(row, entry, anonymous) for row in rows],
        path.with_name(f"{path.stem}-regions.csv"): [
            record for row in rows for record in _region_records(row, entry, anonymous)
        ],
    }
    for target, records in tables.items():
        try:
            write_text(target, csv_text(records) if records else ",".join(_region_record(_which(slides[0], anonymous))))
        except OSError as error:
            raise DalaError(f"{target}: cannot be written: {error.strerror or error}") from error
    first, second = tables
    return first, second


def _which(slide: AnnotatedSlide, anonymous: bool) -> Record:
    names: Record = {} if anonymous else {"slide": slide.name}
    return {**names, "fingerprint": slide.fingerprint}


def _slide_record(row: SlideRow, entry: ModelEntry, anonymous: bool) -> Record:
    note, summary, names = row.slide.note, row.summary, entry.card.class_names if entry.card else ()
    width, height = note.dimensions if note else ("", "")
    record: Record = {
        **_which(row.slide, anonymous),
        "patient_key": patient_key(row.patient) if row.patient else "",
        "width_px": width,
        "height_px": height,
        "um_per_px": row.mpp[0] if row.mpp else "",
        "status": state_text(row),
        "model": entry.name if summary else "",
        "threshold": summary.threshold if summary else "",
        "regions_drawn": row.regions,
        "tiles_judged": summary.judged if summary else "",
        "tiles_not_judged": summary.not_judged if summary else "",
        "not_judged_mm2": round(summary.not_judged_mm2, 6) if summary else "",
        "not_judged_share": "" if row.not_judged_share is None else round(row.not_judged_share, 6),
    }
    for name in names:
        record[f"{name}_mm2"] = round(summary.area_mm2.get(name, 0.0), 6) if summary else ""
        record[f"{name}_share"] = round(summary.share.get(name, 0.0), 6) if summary else ""
    return record if anonymous else record | {"remark": row.remark}


def _region_records(row: SlideRow, entry: ModelEntry, anonymous: bool) -> Iterator[Record]:
    """Give what was found, of results that can be read, then what was drawn."""
    which, mpp = _which(row.slide, anonymous), row.mpp
    analysis = analysis_by(row.slide, entry) if row.summary else None
    if analysis is not None:
        for region in regions_of(analysis):
            values = {
                "area_mm2": region.area_mm2,
                "tiles": region.tiles,
                "mean_probability": region.mean_probability,
                "max_probability": region.max_probability,
            }
            name = analysis.card.class_names[region.class_index]
            yield _region_record(which, "found", name, region.polygon, values)
    document = row.slide.document
    for drawn in document.annotations if document else ():
        if not drawn.area.is_empty:
            area = {} if mpp is None else {"area_mm2": drawn.area.area * mpp[0] * mpp[1] / 1e6}
            yield _region_record(which, "drawn", drawn.class_name or "", drawn.area, area)


def _region_record(which: Record, kind: str = "", name: str = "", area: Any = None, values: Any = None) -> Record:
    middle = None if area is None else area.representative_point()
    place = {"x_px": round(middle.x, 1), "y_px": round(middle.y, 1)} if middle else {"x_px": "", "y_px": ""}
    figures = dict.fromkeys(("area_mm2", "tiles", "mean_probability", "max_probability"), "")
    rounded = {key: value if isinstance(value, int) else round(value, 6) for key, value in (values or {}).items()}
    return {**which, "kind": kind, "class": name, **place, **figures, **rounded}
