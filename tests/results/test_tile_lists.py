"""Lists of tiles: what is in each, and what comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.model.card import ClassInfo
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_lists import (
    ListKind,
    Opinion,
    TileList,
    list_tiles,
    lists_of,
    opinion_elsewhere,
    verdict_on,
)
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.model.card import ModelCard

    Paint = Callable[..., Analysis]

MALIGNANT = np.array([[0.1, 0.9, 0.45], [0.6, np.nan, 0.99]], np.float32)
STRANGE = np.array([[0.2, 3.0, 0.5], [0.1, 0.0, 1.5]], np.float16)  # above 1 a tile is unfamiliar
UNFAMILIAR = [(0, 1), (1, 2)]


@pytest.fixture
def paint(tmp_path: Path, small_tiles: ModelCard) -> Paint:
    """Write an analysis of these probabilities of malignant, NaN where a tile was not analysed."""

    def painted(
        malignant: Any = MALIGNANT, strange: Any = STRANGE, name: str = "painted", tile_px: int = 64
    ) -> Analysis:
        card = small_tiles.model_copy(update={"name": name, "tile_px": tile_px})
        malignant = np.asarray(malignant, np.float32)
        grid = TileGrid(
            (malignant.shape[1] * tile_px, malignant.shape[0] * tile_px), tile_px, (1.0, 1.0), tile_px // 32
        )
        store = create_store(
            tmp_path / name / "analysis.zarr",
            Setting("f00d", grid, "trunk", "fp32"),
            slide={},
            bundle_hash="0" * 16,
            card=card.model_dump(mode="json"),
            knows_unfamiliar=strange is not None,
        )
        there = np.isfinite(malignant)
        values = {
            "probability": np.stack((1 - malignant, malignant)),
            "scored": there,
            "status": np.where(there, TileStatus.DONE, TileStatus.BACKGROUND),
        }
        for array, value in (values | ({} if strange is None else {"unfamiliarity": strange})).items():
            store._arrays[array][:] = value
        return Analysis(store)

    return painted


def listed(kind: ListKind, analysis: Analysis, called: Any = None, **about: Any) -> list[tuple[int, int]]:
    called = analysis.class_map() if called is None else np.asarray(called)
    return [(row, column) for row, column in list_tiles(kind, analysis, called, **about).tolist()]


def test_the_strongest_of_a_class_come_first_and_what_is_unfamiliar_is_not_among_them(paint: Paint) -> None:
    analysis = paint()
    assert listed(ListKind.STRONGEST, analysis) == [(1, 0), (0, 2), (0, 0)]
    assert listed(ListKind.STRONGEST, analysis, class_index=0) == [(0, 0), (0, 2), (1, 0)]


def test_the_least_sure_are_listed_though_they_may_not_be_judged(paint: Paint) -> None:
    in_doubt = np.array([[1, 0, 0], [2, 0, 0]])  # as a class map with a band of doubt says it
    assert listed(ListKind.LEAST_SURE, paint(), in_doubt) == [(0, 2), (1, 0), (0, 0)]


def test_the_strangest_come_first(paint: Paint) -> None:
    assert listed(ListKind.UNFAMILIAR, paint()) == UNFAMILIAR
    assert listed(ListKind.UNFAMILIAR, paint(strange=None, name="old")) == []


def test_a_class_has_the_tiles_that_are_called_so(paint: Paint) -> None:
    analysis = paint(strange=None)
    assert listed(ListKind.CALLED, analysis, class_index=1) == [(1, 2), (0, 1), (1, 0)]
    assert listed(ListKind.CALLED, analysis, analysis.class_map(0.95), class_index=1) == [(1, 2)]
    assert listed(ListKind.CALLED, analysis, class_index=0) == [(0, 0), (0, 2)]


def test_labels_that_the_model_contradicts(paint: Paint) -> None:
    analysis = paint(strange=None)
    #                 right    wrong     wrong        wrong   background  of a class that the model does not have
    labels = np.array([[0, 0, 1], [0, 0, 2]])
    assert listed(ListKind.CONTRADICTED, analysis, labels=labels) == [(0, 1), (1, 0), (0, 2)]
    assert listed(ListKind.CONTRADICTED, analysis, labels=np.full((2, 3), -1)) == []
    assert listed(ListKind.CONTRADICTED, analysis) == []


def test_what_two_models_disagree_on(paint: Paint) -> None:
    analysis = paint(strange=None)
    other = paint([[0.8, 0.95, 0.55], [0.2, 0.9, 0.6]], STRANGE, name="other")
    opinion = opinion_elsewhere(analysis.grid, analysis.card, other, other.class_map())
    assert listed(ListKind.DISAGREED, analysis, other=opinion) == [(0, 0), (1, 0), (0, 2)]
    assert opinion.says(0, 0) == "malignant 80 %"
    assert listed(ListKind.DISAGREED, analysis) == []


def test_a_model_with_larger_tiles_is_asked_for_what_lies_around_each_tile(paint: Paint) -> None:
    analysis = paint(np.full((4, 4), 0.9), None)
    other = paint([[0.1, 0.9], [0.9, 0.9]], None, name="large", tile_px=128)
    opinion = opinion_elsewhere(analysis.grid, analysis.card, other, other.class_map())
    assert listed(ListKind.DISAGREED, analysis, other=opinion) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    back = opinion_elsewhere(other.grid, other.card, analysis, analysis.class_map())
    assert listed(ListKind.DISAGREED, other, other=back) == [(0, 0)]


def test_classes_of_another_model_are_matched_by_name(paint: Paint) -> None:
    analysis, other = paint([[0.9, 0.1]], None), paint([[0.9, 0.1]], None, name="turned")
    classes = (ClassInfo(name="malignant", color=(1, 1, 1)), ClassInfo(name="necrosis", color=(2, 2, 2)))
    other.card = other.card.model_copy(update={"classes": classes})
    opinion = opinion_elsewhere(analysis.grid, analysis.card, other, other.class_map())
    assert opinion.class_names == ("benign", "malignant", "necrosis")
    assert [opinion.says(0, column) for column in (0, 1)] == ["necrosis 90 %", "malignant 90 %"]
    assert listed(ListKind.DISAGREED, analysis, other=opinion) == [(0, 0), (0, 1)]


def test_equal_tiles_come_by_row_then_column(paint: Paint) -> None:
    assert listed(ListKind.STRONGEST, paint(np.full((2, 2), 0.7), None)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_what_is_said_of_a_tile(paint: Paint) -> None:
    analysis = paint()
    called = analysis.class_map()
    called[0, 2] = 0  # in doubt
    opinion = Opinion("painted", analysis.card.class_names, analysis.probability, called)
    benign, malignant = (entry.color for entry in analysis.card.classes)
    said = {at: verdict_on(analysis, opinion, *at) for at in ((0, 0), (1, 0), (0, 1), (0, 2))}
    assert [(one.text, one.mark) for one in said.values()] == [
        ("benign 90 %", ""),
        ("malignant 60 %", ""),
        ("malignant 90 %", "unfamiliar"),
        ("benign 55 %", "not judged"),
    ]
    assert (said[0, 0].color, said[1, 0].color) == (benign, malignant)
    assert said[0, 1].color == said[0, 2].color not in (benign, malignant)
    assert verdict_on(analysis, opinion, 0, 0, 1).text == "malignant 10 %"
    assert verdict_on(analysis, opinion, 0, 0, 1).color == benign


def test_the_lists_that_results_have(paint: Paint) -> None:
    first, second, *_ = lists = lists_of(paint())
    assert first == TileList("Strongest: malignant", ListKind.STRONGEST, 1)
    assert second == TileList("Strongest: benign", ListKind.STRONGEST, 0)
    assert {one.kind for one in lists} == set(ListKind)
    assert ListKind.UNFAMILIAR not in {one.kind for one in lists_of(paint(strange=None, name="old"))}
