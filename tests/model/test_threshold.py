"""The dynamic threshold keeps what stands out of a map, and nothing of a flat one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_dala.model.threshold import DynamicThreshold, Method, Scope, ThresholdedMap
from tests.cost import cost_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("otsu", "mean_std", "percentile", "max_fraction")
SCOPES = ("slide", "tile")
RULES = [DynamicThreshold(method, scope, min_area_um2=0) for method in METHODS for scope in SCOPES]
UM, TILE = 16.0, 7

maps = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=23), elements=st.floats(0, 8, width=16))
rules = st.sampled_from(RULES)


def cut(rule: DynamicThreshold, cam: NDArray, valid: NDArray | None = None) -> ThresholdedMap:
    return rule(cam, cell_um=UM, tile_cells=TILE, valid=valid)


def smooth_map(side: int, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32)
    return np.maximum(ndimage.gaussian_filter(noise, 2), 0)


@given(rules, maps, st.integers(-6, 6))
@settings(deadline=None)
def test_a_map_in_another_unit_keeps_the_same_cells(rule: DynamicThreshold, cam: NDArray, power: int) -> None:
    assert np.array_equal(cut(rule, cam).mask, cut(rule, cam * np.float32(2.0**power)).mask)


@given(rules, maps)
@settings(deadline=None)
def test_what_it_returns_is_consistent(rule: DynamicThreshold, cam: NDArray) -> None:
    result = cut(rule, cam)
    assert result.kept_fraction == result.mask.mean()
    assert np.array_equal(result.map > 0, result.mask)
    assert result.map.dtype == np.float32
    assert result.map.max() <= 1
    assert 0 <= result.scaled.min() <= result.scaled.max() <= 1
    if result.mask.any():
        assert result.map[result.mask].min() >= 0.1 - 1e-6
        assert result.map[result.scaled == result.scaled.max()].max() == pytest.approx(1)


@given(rules, maps, st.floats(0, 3), st.floats(0, 3))
@settings(deadline=None)
def test_more_strength_keeps_less(rule: DynamicThreshold, cam: NDArray, one: float, other: float) -> None:
    weak, strong = (cut(replace(rule, strength=s), cam).mask for s in sorted((one, other)))
    assert not np.any(strong & ~weak)


@given(rules, maps, st.data())
@settings(deadline=None)
def test_cells_not_valid_are_never_kept_and_count_in_nothing(rule: DynamicThreshold, cam: NDArray, data) -> None:
    valid = data.draw(arrays(np.bool_, cam.shape))
    garbage = data.draw(arrays(np.float32, cam.shape, elements=st.sampled_from([0, 5, 1000, np.nan, np.inf])))
    clean, dirty = (cut(rule, np.where(valid, cam, other), valid) for other in (0, garbage))
    assert not np.any(dirty.mask & ~valid)
    assert not np.any(dirty.scaled[~valid])
    np.testing.assert_array_equal(dirty.threshold, clean.threshold)
    np.testing.assert_array_equal(dirty.map, clean.map)
    assert dirty.kept_fraction == dirty.mask.sum() / max(valid.sum(), 1)


@given(maps, st.sampled_from([("otsu", None), ("mean_std", 0.7), ("percentile", 61.0), ("max_fraction", 0.3)]))
@settings(deadline=None)
def test_tile_scope_is_every_tile_by_itself(cam: NDArray, how: tuple) -> None:
    method, parameter = how
    valid = cam != 4
    result = cut(DynamicThreshold(method, "tile", min_area_um2=0, parameter=parameter), cam, valid)
    for row in range(0, cam.shape[0], TILE):
        for col in range(0, cam.shape[1], TILE):
            here = np.s_[row : row + TILE, col : col + TILE]
            known = cam[here][valid[here]]
            if known.size == 0 or np.ptp(known) <= 1e-3 * known.max():
                assert not result.mask[here].any()
                assert np.isnan(result.threshold[row // TILE, col // TILE])
                continue
            known = known / known.max()
            np.testing.assert_allclose(result.scaled[here][valid[here]], known, rtol=1e-6)
            threshold = result.threshold[row // TILE, col // TILE]
            kept = result.mask[here][valid[here]]
            if method == "otsu":
                level, count = np.unique(known, return_counts=True)
                oracle = threshold_otsu(hist=(count, level)) if len(level) > 1 else level[0]
                assert _between(known, kept) == pytest.approx(_between(known, known > oracle), rel=1e-4)
                continue
            expected = {
                "mean_std": min(known.mean(dtype=float) + 0.7 * known.std(dtype=float), 1),
                "percentile": np.percentile(known, 61.0),
                "max_fraction": 0.3,
            }[method]
            assert threshold == pytest.approx(expected, abs=1e-6)
            assert np.array_equal(kept, (known >= threshold) & (known > 0))


def _between(values: NDArray, upper: NDArray) -> float:
    """Return the between-class variance, so that equally good splits count as equal."""
    low, high = values[~upper].astype(float), values[upper].astype(float)
    return low.size * high.size * (high.mean() - low.mean()) ** 2


def test_slide_otsu_agrees_with_scikit_image() -> None:
    cam = smooth_map(200)
    result = cut(DynamicThreshold(min_area_um2=0), cam)
    assert result.threshold == pytest.approx(threshold_otsu(result.scaled, nbins=256), abs=1 / 256)


@pytest.mark.parametrize(
    ("method", "parameter", "threshold"),
    [
        ("mean_std", None, lambda m: m.mean() + m.std()),
        ("mean_std", 0.0, lambda m: m.mean()),
        ("percentile", None, lambda m: np.percentile(m, 80)),
        ("percentile", 95.0, lambda m: np.percentile(m, 95)),
        ("max_fraction", None, lambda m: 0.5),
        ("max_fraction", 0.25, lambda m: 0.25),
    ],
)
def test_the_other_thresholds_of_a_slide(method: str, parameter: float | None, threshold) -> None:
    result = cut(DynamicThreshold(method, min_area_um2=0, parameter=parameter), smooth_map(100))
    assert result.threshold == pytest.approx(threshold(result.scaled.astype(float)), abs=1e-6)
    assert np.array_equal(result.mask, (result.scaled >= np.float32(result.threshold)) & (result.scaled > 0))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method}-{rule.scope}")
@pytest.mark.parametrize(
    "cam",
    [
        np.zeros((15, 15), np.float32),
        np.full((15, 15), 2.5, np.float16),
        np.full((15, 15), 2.5, np.float32) + np.linspace(0, 2e-4, 225, dtype=np.float32).reshape(15, 15),
        np.full((15, 15), np.nan, np.float32),
        np.full((15, 15), -1.0, np.float32),
        np.zeros((0, 9), np.float32),
    ],
    ids=["zero", "constant", "rounding", "nan", "negative", "empty"],
)
def test_a_flat_map_keeps_nothing(rule: DynamicThreshold, cam: NDArray) -> None:
    result = cut(replace(rule, strength=0.0), cam)
    assert not result.mask.any()
    assert not result.map.any()
    assert result.kept_fraction == 0
    assert np.all(np.isnan(result.threshold))
    assert result.contours() == []


def test_a_benign_tile_looks_hot_only_in_tile_scope() -> None:
    cam = np.zeros((7, 14), np.float32)
    cam[1:4, 1:4], cam[1:4, 8:11] = 10.0, 0.2
    assert not cut(DynamicThreshold(), cam).mask[:, 7:].any()
    assert cut(DynamicThreshold(scope="tile"), cam).mask[:, 7:].any()


def test_single_hot_cells_do_not_dim_the_slide() -> None:
    cam = np.zeros((100, 100), np.float32)
    cam[10:40, 10:40] = 1.0
    cam[80, 80] = 50.0
    result = cut(DynamicThreshold(), cam)
    assert result.scaled[20, 20] == 1
    assert result.mask.sum() == 900  # the lone cell is too small an island
    sparse = np.zeros((100, 100), np.float32)
    sparse[5:7, 5:7] = 3.0  # fewer cells than the 99.9th percentile sees
    assert cut(DynamicThreshold(), sparse).mask.sum() == 4


@pytest.mark.parametrize(
    ("cell_um", "min_area_um2", "kept"),
    [
        (16.0, 400.0, 2 + 3),  # one cell is 256 um2
        (16.0, 256.0, 1 + 2 + 3),  # an island of just the area stays
        (16.0, 512.1, 3),
        (12.9, 400.0, 3),
        (25.0, 400.0, 1 + 2 + 3),
        (16.0, 0.0, 1 + 2 + 3),
        (16.0, 1e6, 0),
        (None, 1e6, 1 + 2 + 3),
        (np.nan, 1e6, 1 + 2 + 3),
    ],
)
@pytest.mark.parametrize("scope", SCOPES)
def test_islands_under_the_area_are_dropped(cell_um: float | None, min_area_um2: float, kept: int, scope: str) -> None:
    cam = np.zeros((14, 14), np.float32)
    cam[1, 1] = 1
    cam[4, 6:8] = 1  # across two tiles
    cam[9, 9] = cam[10, 10] = cam[11, 9] = 1  # touching by corners
    rule = DynamicThreshold("max_fraction", scope, min_area_um2=min_area_um2)
    assert rule(cam, cell_um=cell_um, tile_cells=7).mask.sum() == kept


def test_contours_are_closed_and_lie_around_the_kept_cells() -> None:
    cam = np.zeros((9, 9), np.float32)
    cam[0:3, 0:4] = 1  # at the border
    cam[5, 5] = cam[6, 6] = 1  # one island
    outlines = sorted(cut(DynamicThreshold(), cam).contours(), key=len)
    assert len(outlines) == 2
    assert all(np.array_equal(line[0], line[-1]) for line in outlines)
    corner = outlines[1]
    assert np.array_equal(corner.min(0), [-0.5, -0.5])
    assert np.array_equal(corner.max(0), [2.5, 3.5])


def test_half_precision_gives_the_same_cells() -> None:
    cam = smooth_map(100).astype(np.float16)
    assert np.array_equal(cut(DynamicThreshold(), cam).mask, cut(DynamicThreshold(), cam.astype(np.float32)).mask)


def test_the_raw_map_is_left_alone() -> None:
    cam = smooth_map(30)
    before = cam.copy()
    result = cut(DynamicThreshold(), cam)
    assert result.raw is cam
    assert np.array_equal(cam, before)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method}-{rule.scope}")
def test_tiles_of_one_cell_and_maps_smaller_than_a_tile(rule: DynamicThreshold) -> None:
    cam = smooth_map(5)
    assert rule(cam, cell_um=UM, tile_cells=1).mask.any() == (rule.scope == "slide")
    assert np.array_equal(rule(cam, cell_um=UM, tile_cells=50).mask, rule(cam, cell_um=UM, tile_cells=5).mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "sauvola"}, "method is one of otsu"),
        ({"scope": "image"}, "scope is one of slide, tile"),
        ({"strength": -1.0}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"min_area_um2": -1.0}, "min_area_um2"),
        ({"parameter": 1.0}, "otsu takes no parameter"),
        ({"method": "percentile", "parameter": 101.0}, "from 0 to 100"),
        ({"method": "max_fraction", "parameter": 1.5}, "from 0 to 1"),
        ({"method": "mean_std", "parameter": float("nan")}, "parameter of mean_std"),
    ],
)
def test_bad_settings_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DynamicThreshold(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cam": np.zeros((2, 3, 4), np.float32)}, r"\(H, W\) array of floats"),
        ({"cam": np.zeros((3, 3), np.uint8)}, "floats, not"),
        ({"cell_um": 0.0}, "cell_um"),
        ({"tile_cells": 0}, "tile_cells"),
        ({"valid": np.ones((2, 2), bool)}, "valid is a"),
        ({"valid": np.ones((3, 3), int)}, "array of bool"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    call = {"cam": np.zeros((3, 3), np.float32), "cell_um": UM, "tile_cells": TILE, **arguments}
    with pytest.raises(ValueError, match=message):
        DynamicThreshold()(call.pop("cam"), **call)


@pytest.mark.parametrize("scope", ["slide", "tile"])
def test_a_whole_slide_follows_a_slider(scope: str) -> None:
    cam = smooth_map(2240)
    rule, stored = DynamicThreshold(scope=scope), cam.astype(np.float16)
    assert cost_ratio(lambda: cut(rule, stored), lambda: np.sort(cam, axis=None)) < 5  # 2 to 2.3 measured, 0.2 s


@pytest.mark.parametrize("scope", get_args(Scope))
@pytest.mark.parametrize("method", get_args(Method))
def test_a_part_at_the_whole_maps_level_is_that_part_of_the_whole(method: Method, scope: Scope) -> None:
    cam = np.random.default_rng(0).normal(size=(70, 63)).astype(np.float32)
    rule = DynamicThreshold(method, scope, min_area_um2=0)
    whole = rule(cam, cell_um=16, tile_cells=7)
    level = DynamicThreshold(method, scope, strength=2).level(cam, 7)  # strength is no part of it
    part = slice(14, 42), slice(7, 35)
    here = rule.keep(cam[part], level.of_tiles(slice(2, 6), slice(1, 5)), cell_um=16, tile_cells=7)
    for name in ("scaled", "mask", "map"):
        np.testing.assert_array_equal(getattr(here, name), getattr(whole, name)[part])


@pytest.mark.parametrize("method", get_args(Method))
def test_how_many_tiles_are_done_at_a_time_changes_nothing(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    cam = np.random.default_rng(0).normal(size=(68, 63)).astype(np.float32)
    rule = DynamicThreshold(method, "tile")
    whole = rule.level(cam, 7)
    monkeypatch.setattr("napari_dala.model.threshold._BAND_TILES", 20)  # two rows, the last one cut
    bands = rule.level(cam, 7)
    np.testing.assert_array_equal(bands.threshold, whole.threshold)
    np.testing.assert_array_equal(bands.top, whole.top)
