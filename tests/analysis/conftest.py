from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_dala.model.card import UNTRAINED_CARD, ClassInfo
from napari_dala.results.analysis import Analysis
from napari_dala.results.store import Setting, TileResults, TileStatus, create_store
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import BLOCK, TileGrid, read_tiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle_head import BundleHead
    from napari_dala.model.card import ModelCard
    from napari_dala.slide import Slide

    PaintAnalysis = Callable[..., Analysis]

SMALL_TILES = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "trained": True, "name": "painted"})


@pytest.fixture
def small_tiles() -> ModelCard:
    """A card with tiles of 64 px (2 x 2 CAM cells) at 0.5 um/px."""
    return SMALL_TILES


@pytest.fixture
def paint_analysis(tmp_path: Path) -> PaintAnalysis:
    """Make an analysis without a network: `paint(slide, malignant)`, malignant(grid) giving (rows, columns)."""

    def paint(
        slide: Slide,
        malignant: Callable[[TileGrid], Any] | float,
        *,
        card: ModelCard = SMALL_TILES,
        overlap: float = 0.0,
        unreadable: tuple[tuple[int, int], ...] = (),
        todo: tuple[tuple[int, int], ...] = (),
        background: tuple[tuple[int, int], ...] = (),
    ) -> Analysis:
        grid = TileGrid.over(slide, card.tile_px, card.mpp, overlap)
        store = create_store(
            tmp_path / "analysis.zarr",
            Setting(slide.fingerprint, grid, "0" * 12, "fp32"),
            slide=slide.properties,
            bundle_hash="abcdef0123456789",
            card=card.model_dump(mode="json"),
            restart=True,
        )
        probability = np.broadcast_to(malignant(grid) if callable(malignant) else malignant, grid.shape)
        tissue = np.ones(grid.shape, bool)
        for tile in background:
            tissue[tile] = False
        store.mark_background(tissue)
        for block in np.ndindex(grid.blocks()):
            first = np.array(block) * BLOCK
            part = store.read("status", block) == TileStatus.TODO
            tiles = [tuple(int(i) for i in first + at) for at in np.argwhere(part)]
            done = [tile for tile in tiles if tile not in unreadable and tile not in todo]
            row, column = np.array(done, np.intp).reshape(-1, 2).T
            p = np.array([probability[tile] for tile in done], np.float32)
            both = np.stack((1 - p, p), 1)
            peak = np.linspace(0, 1, grid.cells, dtype=np.float32)
            cam = both[:, :, None, None] * peak[:, None] * peak * 5
            results = TileResults(row, column, both, cam, np.zeros((len(done), 2048), np.float16))
            store.write(results, [tile for tile in tiles if tile in unreadable])
        return Analysis(store)

    return paint


@pytest.fixture(scope="session")
def drawn_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn teaching slide of 25 tiles in 4 blocks."""
    return teaching_slide(tmp_path_factory.mktemp("slides") / "drawn.tif", 1120).path


@pytest.fixture(scope="session")
def with_basis(drawn_slide: Path) -> Predictor:
    """A model with random weights, and a basis of layer4 from every other tile of the drawn slide."""
    import torch

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.bundle import ModelBundle, seeded_network
    from napari_dala.model.familiarity import Familiarity

    network = seeded_network(2)
    bare = Predictor(ModelBundle(network, UNTRAINED_CARD))
    with open_slide(drawn_slide) as slide, torch.inference_mode():
        grid = TileGrid.over(slide, 224, UNTRAINED_CARD.mpp)
        tiles = [read_tiles(slide, grid, row, column, 1, 1) for row in range(5) for column in range(row % 2, 5, 2)]
        maps = bare.trunk(bare.inputs(np.stack(tiles))).float()
        components = torch.linalg.svd(maps.permute(0, 2, 3, 1).reshape(-1, 2048), full_matrices=False).Vh[:128]
    known = Familiarity.fit(maps.mean((2, 3)), directions=4)
    return Predictor(ModelBundle(network, UNTRAINED_CARD, components.T.clone(), vars(known)).as_stored())


@pytest.fixture(scope="session")
def seen(drawn_slide: Path, with_basis: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an analysis of the drawn slide with that model. Tests work on copies."""
    from napari_dala.analysis.engine import analyze

    folder = tmp_path_factory.mktemp("seen")
    with open_slide(drawn_slide) as slide:
        analyze(slide, with_basis, folder)
    return folder


@pytest.fixture(scope="session")
def new_head(with_basis: Predictor, seen: Path) -> BundleHead:
    """The same trunk under a head whose three classes are the ways in which the drawn slide's tiles differ most."""
    import torch

    from napari_dala.model.bundle_head import BundleHead
    from napari_dala.model.head import HeadNetwork

    means = torch.from_numpy(Analysis.open(seen).store.read("features").reshape(-1, 2048)).float()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = HeadNetwork(3).eval()
        head, means = network.head, means[means.any(1)]
        pooled = means * (1 + network.attention.gains(means))
        _, spread, directions = torch.linalg.svd(pooled - pooled.mean(0), full_matrices=False)
        head.fc1.weight[:3] = directions[:3] / spread[:3, None] * len(means) ** 0.5
        head.fc1.bias[:3] = -head.fc1.weight[:3] @ pooled.mean(0)
        head.fc2.weight[:3] = torch.eye(3, 512)
        head.fc3.weight.copy_(3 * torch.eye(3, 128))
    third = ClassInfo(name="third", color=(0, 160, 80))
    card = UNTRAINED_CARD.model_copy(update={"classes": (*UNTRAINED_CARD.classes, third), "name": "three kinds"})
    return BundleHead.of(with_basis.bundle).with_head(network, card, None)
