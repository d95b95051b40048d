"""What a workspace has of a slide under the fingerprint of before is found again; what is another's is not."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from PIL import Image

from napari_dala.annotations.adoption import adopt_old_folder
from napari_dala.annotations.document import Annotation, AnnotationDocument
from napari_dala.annotations.files import load_for, read_annotations, save_for
from napari_dala.annotations.slides import annotated_slides, remember_slide
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.opening import create_store, open_store
from napari_dala.results.store import Setting
from napari_dala.slide import Slide, open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import TileGrid
from napari_dala.workspace import slide_folder

if TYPE_CHECKING:
    from pathlib import Path

MPP = 0.4


def _bitmap(path: Path, spot: int) -> Path:
    """Write a picture whose size and margins are those of any other."""
    pixels = np.full((380, 256, 3), 244, np.uint8)
    pixels[180:200, 100:160] = spot
    Image.fromarray(pixels).save(path)
    return path


def _store(slide: Slide, fingerprint: str) -> None:
    setting = Setting(fingerprint, TileGrid.over(slide, 64, 0.5), "0" * 12, "fp32")
    store = create_store(
        slide_folder(fingerprint) / "analyses" / "analysis.zarr",
        setting,
        slide={**slide.properties, "fingerprint": fingerprint},
        bundle_hash="abcdef0123456789",
        card=UNTRAINED_CARD.model_dump(mode="json"),
    )
    store.mark_background(np.zeros(store.grid.shape, bool))
    store.make_latest()


def _as_before(path: Path, note: bool = True) -> None:
    """Leave in the workspace what the program of before left of a slide."""
    with open_slide(path, mpp=MPP) as slide:
        old = slide.old_fingerprint
        slide.__dict__["fingerprint"] = old
        if note:
            save_for(AnnotationDocument(old, annotations=(Annotation.drawn(shapely.box(0, 0, 9, 9), "x"),)))
            remember_slide(slide)
        _store(slide, old)
    job = slide_folder(old) / "jobs" / "1"
    job.mkdir(parents=True)
    (job / "job.json").write_text(f'{{"out": "{slide_folder(old)}/jobs/1"}}')


def test_annotations_results_and_jobs_are_found_again(tmp_path: Path) -> None:
    path = _bitmap(tmp_path / "a.bmp", 90)
    _as_before(path)
    with open_slide(path, mpp=MPP) as slide:
        assert load_for(slide.fingerprint) is None
        adopt_old_folder(slide)
        adopt_old_folder(slide)
        folder = slide_folder(slide.fingerprint)
        assert not slide_folder(slide.old_fingerprint).exists()
        assert len(load_for(slide.fingerprint).annotations) == 1
        assert read_annotations(folder / "annotations.geojson").fingerprint == slide.fingerprint
        [found] = annotated_slides()
        assert (found.fingerprint, found.path, found.given_mpp) == (slide.fingerprint, path, (MPP, MPP))
        store = open_store(folder / "analyses" / "analysis.zarr")
        assert store.setting.fingerprint == slide.fingerprint
        assert store.slide["fingerprint"] == slide.fingerprint
        again = create_store(  # what goes on with it finds it
            folder / "analyses" / "analysis.zarr",
            Setting(slide.fingerprint, TileGrid.over(slide, 64, 0.5), "0" * 12, "fp32"),
            slide=store.slide,
            bundle_hash="abcdef0123456789",
            card=store.card,
        )
        assert (again.status == store.status).all()
        assert again.status.any()
        assert str(folder) in (folder / "jobs/1/job.json").read_text()


def test_what_is_another_slides_stays_its_own(tmp_path: Path) -> None:
    first, second = _bitmap(tmp_path / "a.bmp", 90), _bitmap(tmp_path / "b.bmp", 120)
    _as_before(first)
    with open_slide(second, mpp=MPP) as slide:
        adopt_old_folder(slide)
        assert load_for(slide.fingerprint) is None
        assert not slide_folder(slide.fingerprint).exists()
    with open_slide(first, mpp=MPP) as slide:
        adopt_old_folder(slide)
        assert load_for(slide.fingerprint) is not None


def test_a_moved_slide_is_found_and_a_copy_beside_it_is_not(tmp_path: Path) -> None:
    path = _bitmap(tmp_path / "a.bmp", 90)
    _as_before(path)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "a.bmp"
    shutil.copy(path, moved)
    with open_slide(moved, mpp=MPP) as slide:
        adopt_old_folder(slide)
        assert load_for(slide.fingerprint) is None
        path.unlink()
        adopt_old_folder(slide)
        assert load_for(slide.fingerprint) is not None


@pytest.mark.parametrize("photograph", [True, False])
def test_results_without_a_note_are_a_slides_not_a_photographs(tmp_path: Path, photograph: bool) -> None:
    path = _bitmap(tmp_path / "a.bmp", 90) if photograph else teaching_slide(tmp_path / "a.tif", 512).path
    _as_before(path, note=False)
    with open_slide(path, mpp=MPP) as slide:
        adopt_old_folder(slide)
        assert slide_folder(slide.fingerprint).exists() != photograph


def test_what_was_cut_short_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_dala.annotations import adoption

    path = _bitmap(tmp_path / "a.bmp", 90)
    _as_before(path)
    with open_slide(path, mpp=MPP) as slide:
        replace_in, done = adoption._replace_in, []

        def fail_later(*args: object) -> None:
            if len(done) == 3:
                raise OSError("no space left on device")
            done.append(replace_in(*args))

        with monkeypatch.context() as patch:
            patch.setattr(adoption, "_replace_in", fail_later)
            adopt_old_folder(slide)
        assert not slide_folder(slide.fingerprint).exists()
        adopt_old_folder(slide)
        assert load_for(slide.fingerprint) is not None
        assert (
            open_store(slide_folder(slide.fingerprint) / "analyses" / "analysis.zarr").setting.fingerprint
            == slide.fingerprint
        )
