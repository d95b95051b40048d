from __future__ import annotations

import json
import os
import shutil
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import annotations_path, save_for
from napari_dala.annotations.slides import (
    annotated_slide,
    annotated_slides,
    give_mpp,
    open_known,
    remember_profile,
    remember_slide,
    slide_in,
    take_off_list,
)
from napari_dala.errors import DalaError
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide import Slide

TUMOR = AnnotationClass("malignant", (200, 0, 0))


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching_slide(tmp_path_factory.mktemp("slides") / "Zoe 7.tif", 512).path


@pytest.fixture
def slide(drawn_once: Path, tmp_path: Path) -> Slide:
    return open_slide(shutil.copy(drawn_once, tmp_path))


def drawn_on(fingerprint: str, patient: str | None = None) -> AnnotationDocument:
    region = Annotation.drawn(shapely.box(0, 0, 200, 200), "malignant")
    return AnnotationDocument(fingerprint, (TUMOR,), (region,), patient)


def test_a_slide_is_known_without_being_open(slide: Slide, workspace: Path) -> None:
    save_for(drawn_on(slide.fingerprint, "Mrs. Z"))
    note = remember_slide(slide)
    assert note == workspace / slide.fingerprint / "slide.json"
    [found] = annotated_slides()
    assert (found.name, found.path, found.patient) == ("Zoe 7", slide.path, "Mrs. Z")
    assert found.is_readable
    assert found.problem is None
    assert found.given_mpp is None, "the file says it"
    assert found.analysis is None
    assert found.document is not None
    assert found.document.annotations[0].class_name == "malignant"
    assert found.note is not None
    assert TileGrid.over(found.note, 224, 0.25) == TileGrid.over(slide, 224, 0.25)


def test_the_note_is_written_only_when_it_changes(slide: Slide, tmp_path: Path) -> None:
    path = remember_slide(slide)
    before = path.stat()
    assert remember_slide(slide) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino
    moved = tmp_path / "moved.tif"
    assert slide.path is not None
    os.rename(slide.path, moved)
    save_for(drawn_on(slide.fingerprint))
    [found] = annotated_slides()
    assert found.path is None
    assert not found.is_readable
    assert "Zoe 7: its file is no longer where it was" in str(found.problem)
    with open_slide(moved) as again:
        remember_slide(again)
    [found] = annotated_slides()
    assert found.path == moved
    assert found.is_readable


def test_a_resolution_that_was_given_is_not_forgotten(slide: Slide) -> None:
    save_for(drawn_on(slide.fingerprint))
    remember_slide(slide.with_mpp((0.3, 0.3)))
    silent = copy(slide)
    silent._resolution = None
    remember_slide(silent)
    assert annotated_slides()[0].given_mpp == (0.3, 0.3)


def test_damaged_ones_are_listed_with_their_problem(slide: Slide, workspace: Path) -> None:
    save_for(drawn_on(slide.fingerprint))
    remember_slide(slide)
    for name, text in (("b" * 32, "{"), ("a" * 32, json.dumps({"type": "Polygon", "coordinates": ["x"]}))):
        path = annotations_path(name)
        path.parent.mkdir()
        path.write_text(text)
    save_for(drawn_on("c" * 32))
    (workspace / ("c" * 32) / "slide.json").write_text('{"path": 3}')
    (workspace / "models").mkdir()
    found = annotated_slides()
    assert [one.name for one in found] == ["slide aaaaaaaa", "slide bbbbbbbb", "slide cccccccc", "Zoe 7"]
    assert [one.is_readable for one in found] == [False, False, False, True]
    problems = [str(one.problem) for one in found[:3]]
    assert "not a GeoJSON file" in problems[0]
    assert "not JSON" in problems[1]
    assert "its file and size are not known; open the slide once" in problems[2]
    assert not any("\n" in problem for problem in problems)
    assert found[0].document is None
    assert found[0].patient == "a" * 32
    assert found[2].document is not None


def test_what_is_saved_later_is_seen_and_what_is_not_saved_too(slide: Slide) -> None:
    first = drawn_on(slide.fingerprint)
    save_for(first)
    remember_slide(slide)
    [found] = annotated_slides()
    assert found.document is found.document, "read once"
    save_for(replace(first, patient="someone else"))
    assert found.patient == "someone else"
    unsaved = replace(first, patient="not saved yet")
    assert annotated_slide(slide, unsaved).patient == "not saved yet"
    assert annotated_slide(slide, unsaved).is_readable


def test_an_array_has_no_file() -> None:
    with open_slide(np.zeros((300, 300, 3), np.uint8), mpp=0.5) as slide:
        remember_slide(slide)
        save_for(drawn_on(slide.fingerprint))
    [found] = annotated_slides()
    assert found.name == "image"
    assert found.path is None
    assert found.given_mpp == (0.5, 0.5)


def test_no_workspace_no_slides_and_no_place_an_error(slide: Slide, tmp_path: Path) -> None:
    assert annotated_slides(tmp_path / "nowhere") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DalaError, match=r"slide.json: cannot be written"):
        remember_slide(slide, tmp_path / "file")


def test_a_profile_is_noted_and_what_was_changed_meanwhile_stays(slide: Slide) -> None:
    remember_slide(slide)
    known = slide_in(slide.fingerprint)
    give_mpp(known, 0.3)
    with open_known(slide_in(slide.fingerprint)) as opened:
        give_mpp(known, 0.4)
        take_off_list(known)
        remember_profile(known, opened)
    note = slide_in(slide.fingerprint).note
    assert note is not None
    assert (note.mpp, note.is_listed, note.own_profile_id) == ((0.4, 0.4), False, "")
