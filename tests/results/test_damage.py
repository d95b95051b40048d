"""Stores that were damaged: what is wrong is named, computed again, and never believed."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.analysis.engine import analyze
from napari_dala.errors import DalaError
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import create_store, open_store
from napari_dala.results.store import Setting
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.inference.predictor import Predictor

ARRAYS = ("status", "features", "layer4", "scored", "exact", "probability", "cam", "unfamiliarity")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 16
    path.write_bytes(held)


def removed(path: Path) -> None:
    path.unlink()


def chunk_of(folder: Path, name: str) -> Path:
    """Return an array's first chunk."""
    return sorted(path for path in folder.rglob(f"{name}/c/**/*") if path.is_file())[0]


def assert_same(found: Analysis, expected: Analysis) -> None:
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_array_equal(found.probability, expected.probability)
    np.testing.assert_array_equal(found.approximate, expected.approximate)
    np.testing.assert_array_equal(found.unfamiliar, expected.unfamiliar)
    for name in ("cam", "features", "layer4"):
        np.testing.assert_array_equal(found.store.read(name), expected.store.read(name))


@pytest.mark.parametrize(
    ("name", "damage"),
    [*((name, flipped) for name in ARRAYS), *((name, emptied) for name in ("status", "features", "cam"))],
)
def test_a_damaged_chunk_is_named_and_computed_again(
    drawn_slide: Path,
    seen: Path,
    with_basis: Predictor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    folder = shutil.copytree(seen, tmp_path / "analysis")
    chunk = chunk_of(folder, name)
    damage(chunk)
    if name in ("features", "layer4") and damage is flipped:  # shows when somebody reads it
        with pytest.raises(DalaError, match="damaged"):
            open_store(folder / "analysis.zarr").read(name)
        return
    if name not in ("features", "layer4"):
        before = Analysis.open(folder)  # as the window opens it
        assert not before.analysed.all() or name in ("status", "exact", "cam", "unfamiliarity")
        if name != "cam":
            assert any(str(chunk) in line for line in before.warnings)
    with open_slide(drawn_slide) as slide:
        again = analyze(slide, with_basis, folder)
    assert str(chunk) in caplog.text
    assert_same(again, Analysis.open(seen))
    assert not Analysis.open(folder).store.damaged


@pytest.mark.parametrize("name", ["features", "cam", "probability"])
def test_a_chunk_that_is_gone_or_cut_is_computed_again(
    drawn_slide: Path, seen: Path, with_basis: Predictor, tmp_path: Path, name: str
) -> None:
    for damage in (removed, cut) if name != "features" else (removed,):
        folder = shutil.copytree(seen, tmp_path / damage.__name__)
        damage(chunk_of(folder, name))
        with open_slide(drawn_slide) as slide:
            assert_same(analyze(slide, with_basis, folder), Analysis.open(seen))


@pytest.mark.parametrize("name", ["", "status", "cam", "features", "probability"])
def test_a_damaged_header_is_made_anew_and_loses_nothing(
    drawn_slide: Path, seen: Path, with_basis: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    folder = shutil.copytree(seen, tmp_path / "analysis")
    header = next(folder.rglob(f"{name}/zarr.json")) if name else folder / "analysis.zarr" / "zarr.json"
    header.write_text("")
    with pytest.raises(DalaError):
        open_store(folder / "analysis.zarr")
    runs: list[int] = []
    with open_slide(drawn_slide) as slide:
        again = analyze(slide, with_basis, folder, on_progress=lambda progress: runs.append(progress.done))
    assert str(header) in caplog.text
    assert_same(again, Analysis.open(seen))
    assert len(runs) == 1, "nothing was computed again"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cam", lambda held: held | {"fill_value": 1.0}),
        (
            "probability",
            lambda held: held | {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}}},
        ),
        ("head", lambda held: held["attributes"]["card"].update(operating_threshold=0.9) or held),
        ("head", lambda held: held["attributes"].pop("sealed") and held),
        ("setting", lambda held: held["attributes"]["slide"].update(width=7) or held),
    ],
)
def test_a_changed_header_is_named_and_put_right(
    drawn_slide: Path, seen: Path, with_basis: Predictor, tmp_path: Path, name: str, change: Callable[..., object]
) -> None:
    folder = shutil.copytree(seen, tmp_path / "analysis")
    places = {"head": "*/*/cam/../zarr.json", "setting": "*/zarr.json"}
    header = next((folder / "analysis.zarr").glob(places.get(name, f"*/*/{name}/zarr.json"))).resolve()
    header.write_text(json.dumps(change(json.loads(header.read_text()))))
    with pytest.raises(DalaError, match="damaged; run the analysis again") as refused:
        Analysis.open(folder)
    assert str(header) in str(refused.value)
    with open_slide(drawn_slide) as slide:
        again = analyze(slide, with_basis, folder)
    assert_same(again, Analysis.open(seen))
    assert Analysis.open(folder).card == Analysis.open(seen).card


def test_features_that_turn_out_damaged_are_not_scored(
    drawn_slide: Path, seen: Path, with_basis: Predictor, new_head: object, tmp_path: Path
) -> None:
    folder, fresh = shutil.copytree(seen, tmp_path / "analysis"), tmp_path / "fresh"
    flipped(chunk_of(folder, "features"))
    other = with_basis.with_bundle(new_head)  # type: ignore[arg-type]
    with open_slide(drawn_slide) as slide:
        found, expected = analyze(slide, other, folder), analyze(slide, other, fresh)
    np.testing.assert_array_equal(found.probability, expected.probability)
    np.testing.assert_array_equal(found.store.read("features"), expected.store.read("features"))


def test_a_link_in_a_store_is_not_followed(
    drawn_slide: Path, seen: Path, with_basis: Predictor, tmp_path: Path
) -> None:
    folder = shutil.copytree(seen, tmp_path / "analysis")
    chunks = next(folder.rglob("cam/c"))
    shutil.move(chunks, tmp_path / "elsewhere")
    chunks.symlink_to(tmp_path / "elsewhere")
    with open_slide(drawn_slide) as slide, pytest.raises(DalaError, match="a link, which is not followed"):
        analyze(slide, with_basis, folder)


def test_a_store_that_declares_too_many_tiles_is_refused(seen: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(seen, tmp_path / "analysis")
    header = next(path for path in (folder / "analysis.zarr").glob("*/zarr.json"))
    held = json.loads(header.read_text())
    held["attributes"]["setting"]["grid"]["slide_size"] = [10**7, 10**7]
    header.write_text(json.dumps(held))
    with pytest.raises(DalaError, match="more than"):
        open_store(folder / "analysis.zarr")


@pytest.mark.parametrize("damage", ["text", ["a", "list"], None, 7])
def test_a_setting_of_another_kind_is_refused(seen: Path, tmp_path: Path, damage: object) -> None:
    folder = shutil.copytree(seen, tmp_path / "analysis")
    header = next(path for path in (folder / "analysis.zarr").glob("*/zarr.json"))
    held = json.loads(header.read_text())
    for place in (held["attributes"]["setting"], held["attributes"]):
        place["grid" if "grid" in place else "setting"] = damage
        header.write_text(json.dumps(held))
        with pytest.raises(DalaError, match="not an analysis by napari-dala"):
            open_store(folder / "analysis.zarr")


def test_another_models_damaged_header_stops_nothing(tmp_path: Path) -> None:
    card = UNTRAINED_CARD.model_dump(mode="json")
    setting = Setting("f" * 32, TileGrid((448, 448), 224, (1.0, 1.0), 7), "trunk", "fp32")
    path = tmp_path / "analysis.zarr"
    for bundle in ("a" * 64, "b" * 64):
        create_store(path, setting, slide={}, bundle_hash=bundle, card=card)
    (path / setting.key / ("b" * 12) / "zarr.json").write_text("{")
    assert open_store(path, "a" * 64).bundle_hash == "a" * 64
    with pytest.raises(DalaError):
        open_store(path, "b" * 64)
