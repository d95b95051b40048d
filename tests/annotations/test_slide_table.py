from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shapely

from napari_dala.annotations.adding import add_slides
from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import save_for
from napari_dala.annotations.slide_export import export_slides
from napari_dala.annotations.slide_table import (
    SlideRow,
    State,
    analysis_by,
    by_number,
    columns,
    list_text,
    obstacles_text,
    slide_row,
    state_text,
)
from napari_dala.annotations.slides import give_mpp, listed_slides, name_patient, slide_in, write_remark
from napari_dala.errors import DalaError
from napari_dala.metrics.anonymous import patient_key
from napari_dala.model.catalog import ModelEntry
from napari_dala.results.thresholds import keep_threshold
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide

if TYPE_CHECKING:
    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.card import ModelCard

PAINTED = "abcdef0123456789"  # of `paint_analysis`


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching_slide(tmp_path_factory.mktemp("slides") / "S2.tif", 512).path


@pytest.fixture
def slide(drawn: Path, tmp_path: Path) -> AnnotatedSlide:
    """In the list, with two regions drawn, one of them to be ignored."""
    [added] = add_slides([Path(shutil.copy(drawn, tmp_path))])
    assert added.slide is not None
    classes = (AnnotationClass("malignant", (200, 0, 0)), AnnotationClass("Ignore", (9, 9, 9), ignore=True))
    regions = [Annotation.drawn(shapely.box(0, 0, 200, 100), name) for name in ("malignant", "Ignore")]
    save_for(AnnotationDocument(added.slide.fingerprint, classes, tuple(regions), "Mrs. Z"))
    return slide_in(added.slide.fingerprint)


@pytest.fixture
def entry(small_tiles: ModelCard) -> ModelEntry:
    return ModelEntry("painted", None, small_tiles, hash=PAINTED)


@pytest.fixture
def analysed(slide: AnnotatedSlide, paint_analysis: Any, tmp_path: Path) -> Any:
    """Paint an analysis into the slide's folder: an eighth malignant, or as asked."""

    def paint(**how: Any) -> None:
        assert slide.path is not None
        with open_slide(slide.path) as opened:
            paint_analysis(opened, lambda grid: 0.9 * (grid.middles()[1][:, None] < 64) + 0.05, **how)
        shutil.rmtree(slide.analyses, ignore_errors=True)
        slide.analyses.mkdir(parents=True)
        shutil.move(tmp_path / "analysis.zarr", slide.analyses / "analysis.zarr")

    return paint


def cells(row: SlideRow, card: ModelCard | None) -> dict[str, str]:
    return {column.title: column.shown(row) for column in columns(card)}


def test_a_slide_that_was_not_analysed(slide: AnnotatedSlide, entry: ModelEntry) -> None:
    row = slide_row(slide, entry)
    assert cells(row, entry.card) == {
        "Slide": "S2",
        "Status": "not analysed",
        "Regions": "1",
        "malignant": "",
        "malignant mm²": "",
        "benign": "",
        "benign mm²": "",
        "Not judged": "",
        "Patient": "Mrs. Z",
        "Size": "0.3 × 0.3 mm",
        "µm/px": "0.5",
        "Remark": "",
    }
    assert row.wants_analysis


def test_what_a_model_found(slide: AnnotatedSlide, entry: ModelEntry, analysed: Any) -> None:
    analysed()
    row = slide_row(slide, entry)
    shown = cells(row, entry.card)
    assert [shown[title] for title in ("Status", "malignant", "benign", "Not judged")] == [
        "done",
        "13 %",
        "87 %",
        "0 %",
    ]
    assert float(shown["malignant mm²"]) == pytest.approx(8 * 0.032**2, abs=0.005)
    assert not row.wants_analysis
    assert row.summary is not None
    analysed(todo=((4, 4), (5, 5)), unreadable=((0, 0),))
    row = slide_row(slide, entry)
    assert state_text(row) == "97 % done"
    assert cells(row, entry.card)["Not judged"] == "2 %"
    assert row.wants_analysis


def test_the_threshold_that_was_set_for_the_slide_counts(
    slide: AnnotatedSlide, entry: ModelEntry, analysed: Any
) -> None:
    analysed()
    analysis = analysis_by(slide, entry)
    assert analysis is not None
    keep_threshold(analysis.store, 0.99)
    assert cells(slide_row(slide, entry), entry.card)["malignant"] == "0 %"


def test_results_in_other_colours_of_the_slide_are_stale(
    slide: AnnotatedSlide, entry: ModelEntry, analysed: Any
) -> None:
    analysed()
    assert slide.note is not None
    profiled = replace(slide, note=slide.note.model_copy(update={"own_profile_id": "0123456789ab"}))
    row = slide_row(profiled, entry)
    assert (row.state, row.summary, row.wants_analysis) == (State.OUTDATED, None, True)
    assert "ICC profile" in row.about
    assert analysis_by(profiled, entry) is None
    as_stored = replace(profiled, icc_profile=False)
    assert (slide_row(as_stored, entry).state, as_stored.pixels_id) == (State.DONE, slide.fingerprint)


def test_stale_is_what_another_model_or_another_resolution_gave(
    slide: AnnotatedSlide, entry: ModelEntry, analysed: Any
) -> None:
    analysed()
    other = slide_row(slide, replace(entry, name="other", hash="0" * 16))
    assert (other.state, other.summary) == (State.BY_ANOTHER, None), "nothing is shown as another model's"
    assert "painted" in other.about
    give_mpp(slide, 0.25)
    row = slide_row(slide_in(slide.fingerprint), entry)
    assert row.state is State.OUTDATED
    assert "0.25" in row.about
    assert row.wants_analysis


def test_a_missing_file_and_damage_are_said_and_lose_nothing(
    slide: AnnotatedSlide, entry: ModelEntry, analysed: Any
) -> None:
    analysed()
    assert slide.path is not None
    slide.path.unlink()
    row = slide_row(slide, entry)
    shown = cells(row, entry.card)
    assert (shown["Status"], shown["malignant"], shown["Regions"]) == ("done, file missing", "13 %", "1")
    assert "no longer where it was" in row.about
    assert not row.wants_analysis
    for header in slide.analyses.glob("analysis.zarr/*/*/probability/zarr.json"):
        header.write_text("{}")
    assert slide_row(slide, entry).state is State.DAMAGED


def test_a_slide_of_unknown_resolution_says_so(slide: AnnotatedSlide, entry: ModelEntry) -> None:
    assert slide.note is not None
    row = slide_row(replace(slide, note=slide.note.model_copy(update={"mpp": None, "mpp_source": None})), entry)
    assert not row.wants_analysis
    assert obstacles_text([row, row, slide_row(slide, entry)]) == "2 slides left out: its resolution is not known"
    assert cells(row, None)["Size"] == ""
    assert list_text([row, row], 1) == "2 slides · 0 done · 1 shown"


def test_sorting_is_by_number_and_what_is_not_known_is_last_both_ways(slide: AnnotatedSlide) -> None:
    names = ["s10", "S9", "b", "S9b"]
    assert sorted(names, key=by_number) == ["b", "S9", "S9b", "s10"]
    patient = next(column for column in columns(None) if column.title == "Patient")
    rows = [SlideRow(slide, patient=name) for name in ("", "P2", "P10")]
    assert [row.patient for row in sorted(rows, key=patient.order)] == ["P2", "P10", ""]
    backwards = sorted(rows, key=lambda row: patient.order(row, backwards=True), reverse=True)
    assert [row.patient for row in backwards] == ["P10", "P2", ""]


def test_two_tables_are_written_without_the_patients_name(
    slide: AnnotatedSlide, entry: ModelEntry, analysed: Any, drawn: Path, tmp_path: Path
) -> None:
    analysed()
    write_remark(slide, "look again")
    other = teaching_slide(tmp_path / "bare.tif", 512, 7).path
    list(add_slides([other]))
    slides = listed_slides()
    table, regions = export_slides(slides, entry, tmp_path / "out" / "all.csv")
    assert regions.name == "all-regions.csv"
    rows = table_of(table)
    assert [row["slide"] for row in rows] == ["bare", "S2"]
    assert (rows[0]["status"], rows[0]["malignant_mm2"], rows[0]["patient_key"]) == ("not analysed", "", "")
    assert rows[1]["patient_key"] == patient_key("Mrs. Z")
    assert rows[1]["remark"] == "look again"
    assert float(rows[1]["malignant_share"]) == pytest.approx(1 / 8)
    assert float(rows[1]["benign_share"]) == pytest.approx(7 / 8)
    found = table_of(regions)
    assert [(row["kind"], row["class"]) for row in found] == [
        ("found", "malignant"), ("found", "benign"), ("drawn", "malignant"), ("drawn", "Ignore"),
    ]  # fmt: skip
    total = sum(float(row["area_mm2"]) for row in found if row["kind"] == "found")
    assert total == pytest.approx(0.256**2, rel=1e-3)
    assert float(found[2]["area_mm2"]) == pytest.approx(200 * 100 * 0.25 / 1e6)
    assert (found[2]["x_px"], found[2]["mean_probability"]) == ("100.0", "")
    text = table.read_text() + regions.read_text()
    assert "Mrs" not in text
    both = export_slides(slides, entry, tmp_path / "anonymous.csv", anonymous=True)
    text = "".join(path.read_text() for path in both)
    assert "S2" not in text
    assert "look again" not in text
    assert slide.fingerprint in text


def test_what_a_user_typed_is_no_formula_in_a_spreadsheet(
    slide: AnnotatedSlide, entry: ModelEntry, tmp_path: Path
) -> None:
    write_remark(slide, '=HYPERLINK("http://x")\nlook')
    rows = table_of(export_slides(listed_slides(), entry, tmp_path / "all.csv")[0])
    assert [row["remark"] for row in rows] == ['\'=HYPERLINK("http://x") look']


def test_nothing_to_export_and_no_place_are_one_line(slide: AnnotatedSlide, entry: ModelEntry, tmp_path: Path) -> None:
    with pytest.raises(DalaError, match="no slide in the list"):
        export_slides([], entry, tmp_path / "all.csv")
    (tmp_path / "file").touch()
    with pytest.raises(DalaError, match="cannot be written"):
        export_slides([slide], entry, tmp_path / "file" / "all.csv")
    name_patient(slide, "")
    save_for(AnnotationDocument(slide.fingerprint))
    _, regions = export_slides([slide], entry, tmp_path / "all.csv")
    assert regions.read_text().startswith("slide,fingerprint,kind,class,")
    assert table_of(regions) == []


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]
