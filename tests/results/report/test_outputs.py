"""What the window saves is what `dala analyze` writes, at the threshold and the doubt that are shown."""

from __future__ import annotations

import json
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_dala.errors import DalaError
from napari_dala.model.threshold import DynamicThreshold
from napari_dala.results.report.outputs import save_results
from napari_dala.results.report.pictures import DT_DEFAULT, thresholded_cam
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"tiles.csv", "regions.geojson", "overview.png", "report.html", "run.json"}
MAPS = {f"{name}.ome.{kind}" for name in ("probability", "dt-grad-cam") for kind in ("tif", "zarr")}


@pytest.fixture
def slide(tmp_path: Path) -> Any:
    """A drawn picture in a file whose name is a patient's."""
    pixels = np.random.default_rng(0).integers(0, 255, (700, 1000, 3), np.uint8)
    path = tmp_path / "jane-doe.tif"
    tifffile.imwrite(path, pixels, photometric="rgb")
    with open_slide(path, mpp=0.25) as opened:
        yield opened


def test_everything_is_saved_at_what_is_shown(slide: Any, paint_analysis: Any, tmp_path: Path) -> None:
    shown = paint_analysis(slide, lambda grid: np.linspace(0, 0.94, 48).reshape(6, 8))
    shown.threshold, shown.doubt = 0.7, 0.1
    rule = DynamicThreshold(strength=0.5)
    folder = save_results(copy(shown), slide, tmp_path / "out", maps=True, rule=rule)
    assert folder.parent == tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == FILES | MAPS
    run = json.loads((folder / "run.json").read_text())
    assert (run["threshold"], run["doubt"]) == (0.7, 0.1)
    features = json.loads((folder / "regions.geojson").read_text())["features"]
    tiles = sum(one["properties"]["measurements"]["Tiles"] for one in features)
    assert tiles == shown.summary().judged < 48
    cam = tifffile.imread(folder / "dt-grad-cam.ome.tif")
    np.testing.assert_array_equal(cam.squeeze(), thresholded_cam(shown, rule).map)
    assert (cam.squeeze() != thresholded_cam(shown).map).any(), "by the rule that is shown"


def test_without_maps_there_are_none(slide: Any, paint_analysis: Any, tmp_path: Path) -> None:
    folder = save_results(paint_analysis(slide, 0.9), slide, tmp_path / "out", rule=DT_DEFAULT)
    assert {path.name for path in folder.iterdir()} == FILES


def test_anonymous_files_name_no_slide(slide: Any, paint_analysis: Any, tmp_path: Path) -> None:
    folder = save_results(
        paint_analysis(slide, 0.9), slide, tmp_path / "out", anonymous=True, maps=True, rule=DT_DEFAULT
    )
    assert folder.name == slide.fingerprint[:8]
    for path in [*folder.rglob("*")]:
        assert "jane-doe" not in path.name
        assert path.is_dir() or b"jane-doe" not in path.read_bytes()


def test_what_is_saved_while_a_run_goes_on_is_what_is_stored(slide: Any, paint_analysis: Any, tmp_path: Path) -> None:
    analysis = paint_analysis(slide, 0.9)
    shown = copy(analysis)
    shown.probability = np.full_like(analysis.probability, np.nan)  # the window has not heard of them yet
    folder = save_results(copy(shown), slide, tmp_path / "out", rule=DT_DEFAULT)
    assert len((folder / "tiles.csv").read_text().splitlines()) == 49
    assert np.isnan(shown.probability).all(), "what is shown stays as it is"


def test_a_folder_that_cannot_be_written_is_one_line(slide: Any, paint_analysis: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DalaError, match=r"cannot be written .*choose another folder") as raised:
        save_results(paint_analysis(slide, 0.9), slide, tmp_path / "file", rule=DT_DEFAULT)
    assert "\n" not in str(raised.value)
