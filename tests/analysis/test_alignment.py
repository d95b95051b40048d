"""The whole way from pixels to napari's world: what is painted on the slide's far corner is hot there, nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import torch
from napari.components import ViewerModel
from PIL import Image
from shapely import box

from napari_dala.analysis.engine import analyze
from napari_dala.analysis.plan import tissue_tiles
from napari_dala.annotations.regions import tiles_in
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import ModelBundle, untrained
from napari_dala.plugin.viewer.result_layers import ResultLayers
from napari_dala.results.loaded import load
from napari_dala.slide import open_slide
from napari_dala.slide.tiles import CELL_PX, TileGrid, read_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide import Slide

CELL = 384  # what is painted, level-0 px
SIDE = 5120
CORNER = SIDE - CELL  # where the painted cell starts, along x and y
REGION = [box(CORNER - 800, CORNER - 800, SIDE, SIDE), box(1800, 1800, 3000, 3000)]  # around it, and ordinary tissue


@pytest.fixture(scope="module")
def painted_mosaic(mosaic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mosaic with its far corner painted in the colours of nuclei."""
    path = tmp_path_factory.mktemp("painted") / "painted.tiff"
    with tifffile.TiffFile(mosaic) as tif:
        pixels = tif.series[0].asarray()
        resolution = tif.pages[0].resolution
    noise = np.random.default_rng(0).normal(0, 25, (CELL, CELL, 1))
    pixels[CORNER:, CORNER:] = np.clip(np.array([120, 50, 150]) + noise, 0, 255)
    with tifffile.TiffWriter(path) as tif:
        for level in range(4):
            step = 1 << level
            small = np.asarray(Image.fromarray(pixels).reduce(step))
            tif.write(
                small,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                subfiletype=1 if level else 0,
                resolution=(resolution[0] / step, resolution[1] / step),
                resolutionunit="CENTIMETER",
            )
    return path


def _fit(slide: Slide, mpp: float, overlap: float) -> ModelBundle:
    """Fit a head to the painted cell: the network's own features, cell by cell, by ridge regression."""
    bundle = untrained()
    grid = TileGrid.over(slide, 224, mpp, overlap)
    tiles = np.argwhere(tiles_in(REGION, grid) & tissue_tiles(slide, grid)).tolist()
    pixels = np.stack([read_tiles(slide, grid, *tile, 1, 1) for tile in tiles])
    predictor = Predictor(bundle, precision="fp32")
    with torch.inference_mode():
        maps = predictor.trunk(predictor.inputs(pixels)).float() * 1.5  # the attention will add one half
    side = CELL_PX * grid.scale[0]
    left, top = grid.origins()
    x = np.array([[left[column] + (k + 0.5) * side for k in range(7)] for _, column in tiles])
    y = np.array([[top[row] + (k + 0.5) * side for k in range(7)] for row, _ in tiles])
    painted = (y[:, :, None] > CORNER) & (x[:, None, :] > CORNER)
    inside = (y[:, :, None] < SIDE) & (x[:, None, :] < SIDE)
    wanted = torch.from_numpy(np.where(painted & inside, 6.0, -1.0)).float().reshape(-1)
    features = maps.permute(0, 2, 3, 1).reshape(-1, 2048)
    gram = features @ features.T
    weights = features.T @ torch.linalg.solve(gram + 1e-3 * gram.diagonal().mean() * torch.eye(len(gram)), wanted)
    network = bundle.network
    with torch.no_grad():
        for parameter in (*network.attention.parameters(), *network.head.parameters()):
            parameter.zero_()
        network.head.fc1.weight[0], network.head.fc1.weight[1] = weights, -weights
        network.head.fc2.weight[0, 0] = network.head.fc2.weight[1, 1] = 1
        network.head.fc3.weight[1, 0] = network.head.fc3.weight[0, 1] = 5
    card = bundle.card.model_copy(update={"mpp": mpp, "trained": True, "name": "painted"})
    return ModelBundle(network, card)


@pytest.mark.parametrize(("mpp", "overlap"), [(0.48, 0.0), (0.4, 0.5)])
def test_what_is_painted_is_hot_where_it_is_painted(
    painted_mosaic: Path, tmp_path: Path, mpp: float, overlap: float
) -> None:
    with open_slide(painted_mosaic) as slide:
        bundle = _fit(slide, mpp, overlap)
        found = analyze(slide, Predictor(bundle, precision="fp32"), tmp_path, region=REGION, overlap=overlap)
        viewer = ViewerModel()
        base = viewer.add_image(
            slide.read(0, 0, SIDE, SIDE), rgb=True, scale=slide.mpp, units=("um", "um"), metadata={"dala_slide": slide}
        )
        results = ResultLayers(viewer.layers, base, load(tmp_path))
        assert results.analysis.grid == found.grid
        corner = np.array(base.data_to_world((CORNER - 0.5, CORNER - 0.5)))
        end = np.array(base.data_to_world((SIDE - 0.5, SIDE - 0.5)))
        cell_um = found.cell_um

        cam = found.cam(1)
        hot = np.argwhere(np.nan_to_num(cam) > 0.4 * np.nanmax(cam))
        world = np.array([results.cam.data_to_world(position) for position in hot])
        assert np.abs(world.min(0) - cell_um / 2 - corner).max() <= cell_um
        assert np.abs(world.max(0) + cell_um / 2 - end).max() <= cell_um
        assert len(hot) >= 0.7 * np.prod((end - corner) / cell_um)

        likely = np.argwhere(np.nan_to_num(found.probability[1]) > 0.5)
        assert len(likely) >= 1
        tile_um = 224 * mpp
        for position in likely:
            middle = np.array(results.probability.data_to_world(position))
            assert (middle + tile_um / 2 > corner).all()
            assert (middle - tile_um / 2 < end).all()
        best = np.unravel_index(np.nanargmax(found.probability[1]), found.probability[1].shape)
        middle = np.array(results.probability.data_to_world(best))
        assert np.abs(middle - (corner + end) / 2).max() <= tile_um / 2 + cell_um
