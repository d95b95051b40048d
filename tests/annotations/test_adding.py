from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from napari_dala.annotations.adding import add_slides, added_text
from napari_dala.annotations.slides import (
    give_mpp,
    listed_slides,
    mpp_of_text,
    name_patient,
    note_of,
    open_known,
    remember_slide,
    slide_in,
    take_off_list,
    write_remark,
)
from napari_dala.errors import DalaError
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.thumbnail import kept_thumbnail

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("slides")
    return [teaching_slide(folder / f"S{seed}.tif", 512, seed).path for seed in (1, 2)]


@pytest.fixture
def folder(drawn: list[Path], tmp_path: Path) -> Path:
    """Two slides, and a file that is none."""
    (tmp_path / "slides").mkdir()
    for path in drawn:
        shutil.copy(path, tmp_path / "slides")
    (tmp_path / "slides" / "broken.svs").write_bytes(b"no slide")
    return tmp_path / "slides"


def test_a_folder_is_added_and_what_cannot_be_read_is_named(folder: Path) -> None:
    added = [*add_slides([folder])]
    assert [one.slide.name for one in added if one.slide] == ["S1", "S2"]
    assert [one.name for one in listed_slides()] == ["S1", "S2"]
    assert all(kept_thumbnail(one.pixels_id) for one in listed_slides())
    text = added_text(added)
    assert text.startswith("2 slides added. Cannot be read: broken.svs")
    assert "\n" not in text
    assert added_text([]) == "No slides found there."
    assert added_text(add_slides([folder])).startswith("2 were there already. Cannot be read: broken.svs")
    for number in range(6):
        (folder / f"x{number}.svs").write_bytes(b"no slide")
    first, *named, rest = added_text(add_slides([folder])).splitlines()
    assert first == "2 were there already. 7 files cannot be read:"
    assert [line.split(":")[0] for line in named] == ["broken.svs", "x0.svs", "x1.svs", "x2.svs", "x3.svs"]
    assert rest == "and 2 others"
    (folder / "x5.svs").unlink()
    assert added_text(add_slides([folder])).endswith("\nand 1 other")


def test_a_slide_that_moved_is_found_again_by_its_fingerprint_with_all_that_is_its_own(
    folder: Path, tmp_path: Path
) -> None:
    list(add_slides([folder / "S1.tif", folder / "S2.tif"]))
    first = next(one for one in listed_slides() if one.name == "S1")
    name_patient(first, "Mrs. Z")
    write_remark(first, "look again")
    give_mpp(first, 0.3)
    moved = tmp_path / "elsewhere" / "deeper" / "renamed.tif"
    moved.parent.mkdir(parents=True)
    (folder / "S1.tif").rename(moved)
    lost = slide_in(first.fingerprint)
    assert lost.path is None
    assert "no longer where it was" in str(lost.problem)
    shutil.copy(folder / "S2.tif", moved.with_name("copy.tif"))
    found = [*add_slides([tmp_path / "elsewhere"], only=[first.fingerprint])]
    assert [one.is_moved for one in found] == [True], "only what is looked for"
    assert added_text(found) == "1 found again."
    again = slide_in(first.fingerprint)
    assert (again.path, again.named_patient, again.given_mpp) == (moved, "Mrs. Z", (0.3, 0.3))
    assert again.note is not None
    assert again.note.remark == "look again"


def test_a_copy_does_not_take_the_place_of_a_slide(folder: Path) -> None:
    list(add_slides([folder / "S1.tif"]))
    shutil.copy(folder / "S1.tif", folder / "copy of S1.tif")
    list(add_slides([folder / "copy of S1.tif"]))
    assert [one.name for one in listed_slides()] == ["S1"]


def test_what_the_user_gave_wins_over_the_file_until_they_give_another(folder: Path) -> None:
    with open_slide(folder / "S1.tif") as slide:
        remember_slide(slide)
        known = slide_in(slide.fingerprint)
        with open_known(known) as opened:
            assert opened.mpp == (0.5, 0.5)
        give_mpp(known, 0.25)
        remember_slide(slide)  # opened again
        known = slide_in(slide.fingerprint)
        assert known.given_mpp == (0.25, 0.25)
        with open_known(known) as opened:
            assert (opened.mpp, opened.mpp_source) == ((0.25, 0.25), "given")


def test_a_file_that_holds_another_slide_now_is_not_taken_for_it(folder: Path) -> None:
    [added] = add_slides([folder / "S1.tif"])
    assert added.slide is not None
    shutil.copy(folder / "S2.tif", folder / "S1.tif")
    with pytest.raises(DalaError, match="another slide is in this file now"):
        open_known(added.slide)


def test_off_the_list_nothing_is_lost_and_adding_brings_it_back(folder: Path) -> None:
    list(add_slides([folder / "S1.tif"]))
    [known] = listed_slides()
    name_patient(known, "A")
    take_off_list(known)
    assert listed_slides() == []
    assert slide_in(known.fingerprint).named_patient == "A"
    list(add_slides([folder / "S1.tif"]))
    assert [one.named_patient for one in listed_slides()] == ["A"]


def test_a_slide_that_was_never_seen_cannot_be_written_on(workspace: Path) -> None:
    (workspace / ("a" * 32)).mkdir()
    with pytest.raises(DalaError, match="open the slide once"):
        write_remark(slide_in("a" * 32), "x")
    assert note_of(workspace / ("a" * 32)) is None


@pytest.mark.parametrize(("text", "mpp"), [("0.25", 0.25), ("0,5", 0.5)])
def test_a_resolution_is_typed_with_a_comma_or_a_point(text: str, mpp: float) -> None:
    assert mpp_of_text(text) == mpp


@pytest.mark.parametrize("text", ["", "x", "250", "nan"])
def test_what_is_no_resolution_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(DalaError) as refused:
        mpp_of_text(text)
    assert "\n" not in str(refused.value)
