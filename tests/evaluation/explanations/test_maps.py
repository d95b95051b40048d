from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from skimage.data import immunohistochemistry

from napari_dala.datasets.images import ImageDataset, LabelledImage
from napari_dala.errors import DalaError, DatasetError
from napari_dala.evaluation.explanations import maps as explanations
from napari_dala.evaluation.explanations.maps import (
    RANDOMISED,
    THRESHOLDS,
    ExplainSettings,
    MapMaker,
    TileMaps,
    randomised,
    thresholded,
)
from napari_dala.evaluation.explanations.photographs import mean_correlation
from napari_dala.evaluation.photographs import unseen
from napari_dala.metrics.anonymous import patient_key
from napari_dala.model.bundle import ModelBundle, untrained
from napari_dala.model.gradcam import grad_cam
from napari_dala.model.threshold import DynamicThreshold

if TYPE_CHECKING:
    from numpy.typing import NDArray

SETTINGS = ExplainSettings("cpu", "fp32")
RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return untrained()


@pytest.fixture(scope="module")
def tiles() -> NDArray[np.uint8]:
    picture = immunohistochemistry()
    return np.stack([picture[y : y + 128, x : x + 128] for y, x in ((0, 0), (60, 250), (300, 100))])


@pytest.fixture(scope="module")
def explained(bundle: ModelBundle, tiles: NDArray[np.uint8]) -> TileMaps:
    return MapMaker(bundle, SETTINGS)(tiles)


def test_grad_cam_and_probability_are_the_networks(
    bundle: ModelBundle, tiles: NDArray[np.uint8], explained: TileMaps
) -> None:
    logits, cams = grad_cam(bundle.network, bundle.normalize(torch.from_numpy(tiles)))
    np.testing.assert_allclose(explained.maps["Grad-CAM"], cams, atol=float(cams.max()) * 1e-3)
    np.testing.assert_allclose(explained.probability, bundle.probabilities(logits), atol=1e-4)


def test_grad_cam_plus_plus_is_that_of_the_whole_network(
    bundle: ModelBundle, tiles: NDArray[np.uint8], explained: TileMaps
) -> None:
    network = bundle.network
    assert all(parameter.grad is None for parameter in network.attention.parameters())
    for index, own in enumerate(torch.from_numpy(explained.maps["Grad-CAM++"][0])):
        with GradCAMPlusPlus(network, [network.attention]) as oracle:
            expected = oracle(bundle.normalize(torch.from_numpy(tiles[:1])), [ClassifierOutputTarget(index)])[0]
        enlarged = torch.nn.functional.interpolate(own[None, None], expected.shape, mode="bilinear")[0, 0]
        assert np.corrcoef(enlarged.ravel(), expected.ravel())[0, 1] > 0.99
    network.zero_grad()


def test_eigen_cam_is_that_of_all_channels_up_to_its_sign(
    bundle: ModelBundle, tiles: NDArray[np.uint8], explained: TileMaps
) -> None:
    with torch.no_grad():
        attended = bundle.network.attention(bundle.network.features(bundle.normalize(torch.from_numpy(tiles))))
    for found, expected in zip(explained.maps["EigenCAM"], get_2d_projection(attended.numpy()), strict=True):
        np.testing.assert_array_equal(found[0], found[1])
        errors = [np.abs(found[0] - np.maximum(sign * expected, 0)).max() for sign in (1, -1)]
        assert min(errors) < 1e-3 * np.abs(expected).max()


def test_random_maps_depend_on_the_seed_alone(
    bundle: ModelBundle, tiles: NDArray[np.uint8], explained: TileMaps
) -> None:
    other = MapMaker(randomised(bundle, "head"), replace(SETTINGS, references=False))(tiles)
    assert list(other.maps) == ["Grad-CAM", "random"]
    np.testing.assert_array_equal(other.maps["random"], explained.maps["random"])


def test_without_pytorch_grad_cam_one_line_says_what_to_do(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanations, "find_spec", lambda _name: None)
    with pytest.raises(DalaError, match=r'pip install "napari-dala\[explain-eval\]", or .*--no-references'):
        MapMaker(bundle, SETTINGS)


@pytest.mark.parametrize("part", RANDOMISED)
def test_weights_are_randomised_in_one_part(bundle: ModelBundle, part: str) -> None:
    before, after = bundle.network.state_dict(), randomised(bundle, part).network.state_dict()
    changed = {
        name.removeprefix("trunk.").split(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    always = {"attention", "head"}
    layers = {"conv1", "layer1", "layer2", "layer3", "layer4"}
    assert changed == always | {"head": set(), "head and layer4": {"layer4"}, "all": layers}[part]


def test_maps_change_with_the_weights_but_a_constant_one_does_not(bundle: ModelBundle, tiles, explained) -> None:
    other = MapMaker(randomised(bundle, "all"), SETTINGS)(tiles)
    assert abs(mean_correlation(explained.maps["Grad-CAM"][:, 1], other.maps["Grad-CAM"][:, 1])) < 0.8
    constant = np.broadcast_to(np.arange(16, dtype=np.float32).reshape(4, 4), (3, 4, 4))
    assert mean_correlation(constant, constant) == pytest.approx(1)
    assert mean_correlation(constant, -constant) == pytest.approx(-1)
    assert mean_correlation(0 * constant, 0 * constant) == 1
    assert mean_correlation(0 * constant, constant) == 0


@pytest.mark.parametrize("name", [name for name in THRESHOLDS if name.endswith("tile")])
def test_dt_by_tiles_is_each_tiles_own(name: str) -> None:
    cams = RNG.random((4, 7, 7), np.float32) * np.array([1, 10, 0.1, 5], np.float32)[:, None, None]
    found = thresholded(cams, THRESHOLDS[name], 16.0)
    for cam, kept in zip(cams, found, strict=True):
        alone = THRESHOLDS[name](cam, cell_um=16.0, tile_cells=7)
        np.testing.assert_array_equal(kept, np.where(alone.mask, cam, 0))


def test_dt_by_the_slide_empties_faint_tiles_and_keeps_tiles_apart() -> None:
    cams = np.zeros((3, 7, 7), np.float32)
    cams[0, 6, 3] = 5  # alone at the edge, above the next tile's
    cams[1, 0, 3] = 5
    cams[1, 3, 2:5] = 4
    cams[2, 2:5, 2:5] = 0.2
    found = thresholded(cams, DynamicThreshold("max_fraction", "slide"), 16.0)
    assert np.argwhere(found).tolist() == [[1, 3, 2], [1, 3, 3], [1, 3, 4]]


def dataset(patients: tuple[str, ...]) -> ImageDataset:
    from pathlib import Path

    images = [LabelledImage(Path(f"{number}.png"), number % 2, name, name) for number, name in enumerate(patients)]
    return ImageDataset("few", ("benign", "malignant"), tuple(images))


def test_photographs_of_patients_that_the_model_never_saw() -> None:
    few = dataset(("a", "b", "c", "a", "d"))
    seen = {"patients_trained": [patient_key("a"), patient_key("c")]}
    assert unseen(few, seen).tolist() == [1, 4]
    with pytest.raises(DatasetError, match="trained on all of these patients"):
        unseen(few, {"patients_trained": [patient_key(name) for name in "abcd"]})
    with pytest.raises(DatasetError, match="does not name the patients"):
        unseen(few, {})
