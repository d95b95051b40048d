"""Results saved from their layers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_dala.errors import DalaError
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.analysis import Analysis
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileResults
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer


def analysis_of(path: Path, probability: float) -> Analysis:
    """One tile, analysed with this probability of the target class."""
    slide = open_slide(np.zeros((200, 200, 3), np.uint8), mpp=UNTRAINED_CARD.mpp)
    grid = TileGrid.over(slide, UNTRAINED_CARD.tile_px, UNTRAINED_CARD.mpp)
    store = create_store(
        path,
        Setting(slide.fingerprint, grid, "trunk", "fp32"),
        slide=slide.properties,
        bundle_hash="0123456789abcdef",
        card=UNTRAINED_CARD.model_dump(mode="json"),
    )
    first = np.zeros(1, np.intp)
    both = np.array([[1 - probability, probability]], np.float32)
    store.write(TileResults(first, first, both, np.zeros((1, 2, 7, 7)), np.zeros((1, 2048))), [])
    return Analysis(store)


def result_layers(viewer: Viewer, analysis: Analysis) -> None:
    metadata = {"dala_analysis": analysis}
    viewer.add_image(analysis.probability[1], metadata={**metadata, "dala_role": "probability"})
    viewer.add_labels(analysis.class_map(), metadata={**metadata, "dala_role": "class"})


def classes_in(path: Path) -> list[str]:
    return [feature["properties"]["classification"]["name"] for feature in json.loads(path.read_text())["features"]]


@pytest.mark.parametrize("which", [[0], [1], [0, 1]], ids=["probability", "class", "both"])
def test_saving_result_layers_as_geojson_gives_the_regions(viewer: Viewer, tmp_path: Path, which: list[int]) -> None:
    result_layers(viewer, analysis_of(tmp_path / "analysis.zarr", 0.9))
    viewer.layers.selection = {viewer.layers[index] for index in which}
    path = tmp_path / "regions.geojson"
    assert viewer.layers.save(path, selected=True) == [str(path)]
    assert classes_in(path) == [UNTRAINED_CARD.class_names[1]]


def test_the_slide_s_own_layer_may_be_saved_along(viewer: Viewer, tmp_path: Path) -> None:
    viewer.add_image(np.zeros((20, 20, 3), np.uint8), rgb=True)
    result_layers(viewer, analysis_of(tmp_path / "analysis.zarr", 0.9))
    viewer.layers.save(tmp_path / "all.geojson")
    assert len(classes_in(tmp_path / "all.geojson")) == 1


def test_regions_are_those_at_the_threshold_shown(viewer: Viewer, tmp_path: Path) -> None:
    analysis = analysis_of(tmp_path / "analysis.zarr", 0.9)
    analysis.threshold = 0.95
    result_layers(viewer, analysis)
    viewer.layers.save(tmp_path / "regions.geojson")
    assert classes_in(tmp_path / "regions.geojson") == [UNTRAINED_CARD.class_names[0]]


def test_other_layers_are_refused_in_one_line(viewer: Viewer, tmp_path: Path) -> None:
    viewer.add_image(np.zeros((20, 20)))
    with pytest.raises(DalaError, match=r"^none.geojson: no layer of an analysis"):
        viewer.layers.save(tmp_path / "none.geojson")
    result_layers(viewer, analysis_of(tmp_path / "one.zarr", 0.9))
    result_layers(viewer, analysis_of(tmp_path / "two.zarr", 0.1))
    with pytest.raises(DalaError, match="several analyses"):
        viewer.layers.save(tmp_path / "none.geojson")
    assert not (tmp_path / "none.geojson").exists()


def test_napari_s_own_writer_keeps_names_without_an_ending(viewer: Viewer, tmp_path: Path) -> None:
    viewer.add_image(np.zeros((20, 20), np.uint8))
    assert viewer.layers.save(tmp_path / "picture") == [str(tmp_path / "picture.tif")]
