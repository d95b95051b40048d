"""A slide analysed, learned from and scored again on trunks other than ResNet-50, with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
import torch

from napari_dala.analysis.engine import analyze
from napari_dala.analysis.patch import explain_patch
from napari_dala.analysis.rescore import rescore
from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import write_annotations
from napari_dala.errors import BundleError
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import ModelBundle, load_bundle, seeded_network
from napari_dala.model.bundle_head import load_head
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.model.familiarity import Familiarity
from napari_dala.model.threshold import DynamicThreshold
from napari_dala.results.opening import for_bundle, open_store
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide import open_slide
from napari_dala.slide.teaching.slide import teaching_slide
from napari_dala.slide.tiles import TileGrid, read_tiles
from napari_dala.training.finetune.finetune import run_finetune
from napari_dala.training.finetune.job import FinetuneConfig, FinetuneSettings, SlideExamples, create_finetune_job
from napari_dala.training.statistics import statistics_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.card import ModelCard
    from napari_dala.results.analysis import Analysis

FAST: dict[str, Any] = {"threads": 1, "n_boot": 0, "device": "cpu", "precision": "fp32"}
TRUNKS = {  # tile side, architecture, channels, cell side
    "a ViT of patches of 16 px": (64, "timm/vit_tiny_patch16_224", 192, 16),
    "a ViT of patches of 14 px": (56, "timm/vit_tiny_patch16_224?patch_size=14", 192, 14),
    "DenseNet-121": (64, "densenet121", 1024, 32),
}


class Pupil:
    """A drawn slide, a bundle with everything on one of the trunks, its analysis, and regions of two classes."""

    def __init__(self, folder: Path, name: str) -> None:
        side, architecture, channels, cell_px = TRUNKS[name]
        trunk = {"architecture": architecture, "channels": channels, "cell_px": cell_px}
        self.folder, self.slide = folder, teaching_slide(folder / "slide.tif", 768, 1).path
        self.card: ModelCard = UNTRAINED_CARD.model_copy(
            update={**trunk, "tile_px": side, "training": {"trunk_only": True}, "name": "frozen"}
        )
        network = seeded_network(2, 3, self.card)
        plain = ModelBundle(network, self.card)
        with open_slide(self.slide) as slide:
            grid = TileGrid.over(slide, side, self.card.mpp, cell_px=cell_px)
            tiles = [read_tiles(slide, grid, row, column, 1, 1) for row in (3, 5, 7) for column in (3, 5, 7, 8)]
            with torch.no_grad():
                maps = network.features(plain.normalize(torch.from_numpy(np.stack(tiles))))
            basis, _ = statistics_of([(maps, torch.zeros(len(maps), dtype=torch.int64))])
            known = Familiarity.fit(maps.mean((2, 3)), 8).with_limit(2)
            self.bundle = ModelBundle(network, self.card, basis, dict(vars(known))).as_stored()
            self.model = folder / "frozen.safetensors"
            self.bundle.save(self.model)
            self.analysis: Analysis = analyze(slide, self.bundle, folder, device="cpu", precision="fp32")
            drawn = [
                Annotation.drawn(shapely.box(*box), kind)
                for kind, box in (("benign", (200, 200, 380, 560)), ("malignant", (400, 200, 580, 560)))
            ]
            classes = tuple(AnnotationClass(info.name, info.color) for info in self.card.classes)
            self.regions = folder / "drawn.geojson"
            write_annotations(AnnotationDocument(slide.fingerprint, classes, tuple(drawn)), self.regions)

    def learn(self, folder: Path, **settings: Any) -> Path:
        """Learn from the regions; return the new bundle's file."""
        examples = SlideExamples(slide=self.slide, annotations=self.regions, analysis=self.folder)
        config = FinetuneConfig(
            name="pupil", model=str(self.model), slides=(examples,), settings=FinetuneSettings(**FAST | settings)
        )
        path = run_finetune(create_finetune_job(folder, config).folder)
        assert path is not None
        return path


@pytest.fixture(scope="module", params=TRUNKS)
def pupil(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pupil:
    return Pupil(tmp_path_factory.mktemp("pupil"), request.param)


def test_the_store_follows_the_trunk(pupil: Pupil) -> None:
    store, card = pupil.analysis.store, pupil.card
    grid = store.grid
    cells = card.tile_px // card.cell_px
    assert (grid.cell_px, grid.cells) == (card.cell_px, cells)
    assert store.read("features").shape == (*grid.shape, card.channels)
    assert store.read("layer4").shape == (*grid.shape, cells, cells, min(128, card.channels))
    assert store.read("cam").shape == (2, grid.shape[0] * cells, grid.shape[1] * cells)
    assert pupil.analysis.cam(1).shape == grid.cam_shape
    assert pupil.analysis.cell_um == pytest.approx(card.mpp * card.cell_px)
    done = store.status == TileStatus.DONE
    assert done.any()
    row, column = np.argwhere(done)[0]
    with open_slide(pupil.slide) as slide:
        tile = read_tiles(slide, grid, row, column, 1, 1)
    found = Predictor(pupil.bundle, "cpu", "fp32")(tile[None])
    np.testing.assert_allclose(pupil.analysis.probability[:, row, column], found.probability[0], atol=1e-6)
    again = open_store(store.path)
    assert again.setting == store.setting
    assert again.knows_unfamiliar


def test_quick_learning_and_scoring_again(pupil: Pupil, tmp_path: Path) -> None:
    path = pupil.learn(tmp_path / "job", mode="quick", epochs=30)
    child = load_head(path)
    assert child.trunk_hash == pupil.bundle.trunk_hash
    assert (child.card.trained, child.card.warning) == (True, None)  # what was random before has learned
    assert (child.card.architecture, child.card.cell_px) == (pupil.card.architecture, pupil.card.cell_px)
    assert child.replay is not None
    assert child.replay.features.shape[1] == pupil.card.channels
    store = for_bundle(pupil.analysis.store, child.hash, child.card.model_dump(mode="json"))
    assert rescore(store, child) == int((store.status == TileStatus.DONE).sum())
    scored, cams = store.read("probability"), store.read_cams().astype(np.float32)
    with open_slide(pupil.slide) as slide:
        exact = analyze(slide, load_bundle(path), tmp_path / "exact", device="cpu", precision="fp32")
    done = exact.analysed
    np.testing.assert_allclose(scored[:, done], exact.probability[:, done], atol=5e-3)
    right = exact.store.read_cams().astype(np.float32)
    seen = np.isfinite(right[1]) & np.isfinite(cams[1])
    assert seen.any()
    assert np.corrcoef(right[1][seen], cams[1][seen])[0, 1] > 0.9


def test_full_learning_changes_the_trunk_and_deep_says_it_cannot(pupil: Pupil, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"^frozen: its trunk, .*, has no layer4, which the mode deep trains; choose"):
        pupil.learn(tmp_path / "deep", mode="deep", epochs=1)
    child = load_bundle(pupil.learn(tmp_path / "full", mode="full", epochs=1, batch_size=4))
    assert child.trunk_hash != pupil.bundle.trunk_hash
    assert child.basis is not None
    assert child.basis.shape == (pupil.card.channels, min(128, pupil.card.channels))


def test_one_tile_explained(pupil: Pupil) -> None:
    side = pupil.card.tile_px
    with open_slide(pupil.slide) as whole:
        picture = whole.read(300, 300, side, side)
    predictor = Predictor(pupil.bundle, "cpu", "fp32")
    with open_slide(picture, mpp=pupil.card.mpp) as patch:
        found = explain_patch(patch, predictor, DynamicThreshold())
    assert found.maps[1].raw.shape == (side // pupil.card.cell_px,) * 2
    assert found.probability.sum() == pytest.approx(1, abs=1e-5)
