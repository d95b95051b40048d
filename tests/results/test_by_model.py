"""Whose results lie on disk: each model has its own, at each resolution, and its own threshold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from napari_dala.model.catalog import ModelEntry
from napari_dala.results.analysis import Analysis
from napari_dala.results.by_model import last_results, ran_in_other_colours, results_by, results_in
from napari_dala.results.loaded import load
from napari_dala.results.opening import create_store, open_store
from napari_dala.results.store import Setting
from napari_dala.results.thresholds import (
    THRESHOLDS_FILE,
    KeptThreshold,
    keep_threshold,
    stored_point,
)
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.card import ModelCard
    from napari_dala.results.store import AnalysisStore

MPP = (0.5, 0.5)
_DOUBT_OF_7 = f'{{"{"a" * 64}": {{"threshold": 0.5, "doubt": 7}}}}'


@pytest.fixture
def run(tmp_path: Path, small_tiles: ModelCard) -> Any:
    """Let a model run on a slide: `run(name, hash, mpp)`."""

    def run_one(name: str, bundle_hash: str, mpp: float = 0.5, tiles: int = 1, profile_id: str = "") -> AnalysisStore:
        card = small_tiles.model_copy(update={"name": name, "training": {"run": bundle_hash}})
        grid = TileGrid((640, 640), card.tile_px, (card.mpp / mpp, card.mpp / mpp), 2)
        store = create_store(
            tmp_path / "analysis.zarr",
            Setting("slide", grid, "trunk", "fp32", profile_id),
            slide={},
            bundle_hash=bundle_hash,
            card=card.model_dump(mode="json"),
        )
        if tiles:
            store._arrays["scored"][:tiles, 0] = 1
        return store

    return run_one


def entry(store: AnalysisStore, *, knows_hash: bool, name: str = "renamed") -> ModelEntry:
    card = load(store.path, store.bundle_hash).analysis.card.model_copy(
        update={"name": name, "operating_threshold": 0.3}
    )
    return ModelEntry(name, None, card, hash=store.bundle_hash if knows_hash else None)


@pytest.mark.parametrize("knows_hash", [True, False])
def test_two_models_run_in_turn_and_each_keeps_its_own(run: Any, knows_hash: bool) -> None:
    first, second = run("one", "a" * 64), run("two", "b" * 64)
    for store in (first, second):
        found = results_by(entry(store, knows_hash=knows_hash), store.path, MPP, "")
        assert found.bundle_hash == store.bundle_hash
        assert open_store(store.path, found.bundle_hash, found.setting).bundle_hash == store.bundle_hash
    assert last_results(first.path, MPP, "").bundle_hash == second.bundle_hash
    other = ModelEntry("one", None, None, hash="c" * 64)
    assert results_by(other, first.path, MPP, "") is None, "never another's, whatever its name"


def test_results_at_the_slides_resolution_go_before_later_ones_at_another(run: Any) -> None:
    right, wrong = run("one", "a" * 64, 0.5), run("one", "a" * 64, 0.25)
    one = entry(right, knows_hash=True)
    assert results_by(one, right.path, MPP, "").setting == right.setting.key
    assert results_by(one, right.path, (0.25, 0.25), "").setting == wrong.setting.key
    assert results_by(one, right.path, (1.0, 1.0), "").setting == wrong.setting.key, (
        "of those that do not fit, the last"
    )


def test_results_in_other_colours_are_never_current(run: Any) -> None:
    stored, by_profile = run("one", "a" * 64), run("one", "a" * 64, profile_id="0123456789ab")
    one, path = entry(stored, knows_hash=True), stored.path
    assert stored.setting.key != by_profile.setting.key
    assert open_store(path, "a" * 64, by_profile.setting.key).setting == by_profile.setting
    for profile_id, store in (("", stored), ("0123456789ab", by_profile)):
        assert results_by(one, path, MPP, profile_id).setting == store.setting.key
        assert last_results(path, MPP, profile_id).profile_id == profile_id
        assert [found.setting for found in results_in(path, profile_id)] == [store.setting.key]
    assert results_by(one, path, MPP, "of another") is None
    assert last_results(path, MPP, "of another") is None
    assert ran_in_other_colours(one, path, "of another")
    assert len(list(results_in(path, None))) == 2
    other = ModelEntry("two", None, None, hash="c" * 64)
    assert not ran_in_other_colours(other, path, "of another")


def test_without_a_profile_the_key_is_that_of_before() -> None:
    setting = Setting("slide", TileGrid((640, 640), 64, (1.0, 1.0), 2), "trunk", "fp32")
    assert "profile_id" not in setting.attributes
    assert Setting.from_attributes(setting.attributes) == setting


def test_a_run_that_found_nothing_yet_is_no_result(run: Any) -> None:
    store = run("one", "a" * 64, tiles=0)
    assert last_results(store.path, MPP, "") is None


def test_nothing_or_damage_is_no_result(run: Any, tmp_path: Path) -> None:
    assert last_results(tmp_path / "analysis.zarr", MPP, "") is None
    first, second = run("one", "a" * 64), run("two", "b" * 64)
    one = entry(first, knows_hash=True)
    (first.path / first.setting.key / ("b" * 12) / "zarr.json").write_text("{")
    assert last_results(first.path, MPP, "").bundle_hash == first.bundle_hash
    assert results_by(one, second.path, MPP, "").setting == first.setting.key


def test_a_loaded_result_names_its_model_as_it_is_called_now(run: Any) -> None:
    store = run("one", "a" * 64)
    assert load(store.path, name="mine").analysis.card.name == "mine"
    assert load(store.path).analysis.card.name == "one"
    other = run("two", "b" * 64)
    models = [ModelEntry("another", None, None, hash="c" * 64), entry(store, knows_hash=True)]
    assert [one.card.name for one in results_in(store.path, "", models)] == ["renamed", "two"]
    assert last_results(store.path, MPP, "", [entry(other, knows_hash=True, name="mine")]).card.name == "mine"


def test_a_threshold_is_kept_for_each_model(run: Any) -> None:
    first, second = run("one", "a" * 64), run("two", "b" * 64)
    assert stored_point(first) is None
    keep_threshold(first, 0.62)
    keep_threshold(second, 0.1)
    keep_threshold(first, 0.7, 0.05)
    assert stored_point(first) == KeptThreshold(threshold=0.7, doubt=0.05)
    assert stored_point(second) == KeptThreshold(threshold=0.1)
    assert [stored_point(one).threshold for one in (first, second)] == [0.7, 0.1]
    opened = Analysis.open(first.path, first.bundle_hash)
    assert (opened.threshold, opened.doubt) == (0.7, 0.05), "whoever opens it says the same as the window"


def test_a_threshold_of_before_there_was_a_band_of_doubt_is_read(run: Any) -> None:
    store = run("one", "a" * 64)
    (store.path.parent / THRESHOLDS_FILE).write_text(json.dumps({store.bundle_hash: 0.62}))
    assert stored_point(store) == KeptThreshold(threshold=0.62)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", f'{{"{"a" * 64}": "much"}}', f'{{"{"a" * 64}": 7}}', "null", _DOUBT_OF_7]
)
def test_a_damaged_threshold_is_none_and_can_be_kept_again(run: Any, text: str) -> None:
    store = run("one", "a" * 64)
    (store.path.parent / THRESHOLDS_FILE).write_text(text)
    assert stored_point(store) is None
    keep_threshold(store, 0.4)
    assert stored_point(store).threshold == 0.4
