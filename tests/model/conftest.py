from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from skimage.data import immunohistochemistry
from torch import Tensor, nn

from napari_dala.model.bundle import untrained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dala.model.bundle import ModelBundle

    PeerGradCAM = Callable[[nn.Module, nn.Module, Tensor, int], Tensor]


@pytest.fixture(scope="session")
def bundle() -> ModelBundle:
    """The built-in model. Tests do not change it."""
    built_in = untrained()
    built_in.network.trunk.requires_grad_(False)  # an oracle's backward pass need not go through it
    return built_in


@pytest.fixture(scope="session")
def images(bundle: ModelBundle) -> Tensor:
    """Two small normalised tiles of a real photograph of stained tissue."""
    photograph = torch.from_numpy(immunohistochemistry().copy())
    corners = ((0, 0), (60, 250))
    return bundle.normalize(torch.stack([photograph[y : y + 160, x : x + 160] for y, x in corners]))


@pytest.fixture(scope="session")
def features(bundle: ModelBundle, images: Tensor) -> Tensor:
    """layer4's maps of `images`."""
    with torch.no_grad():
        return bundle.network.features(images)


@pytest.fixture(scope="session")
def saved(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model in a file. Tests do not change it."""
    path = tmp_path_factory.mktemp("bundle") / "saved.safetensors"
    bundle.save(path)
    return path


class _RawGradCAM(GradCAM):
    """pytorch-grad-cam up to its own scaling and resizing, which go through OpenCV."""

    def aggregate_multi_layers(self, cam_per_target_layer: list[np.ndarray]) -> np.ndarray:
        return cam_per_target_layer[0]

    def compute_cam_per_layer(self, input_tensor: Tensor, targets: list, eigen_smooth: bool) -> list[np.ndarray]:
        activations, gradients = self.activations_and_grads.activations[0], self.activations_and_grads.gradients[0]
        cam = self.get_cam_image(
            input_tensor, self.target_layers[0], targets, activations.numpy(), gradients.numpy(), eigen_smooth
        )
        return [np.maximum(cam, 0)]


@pytest.fixture(scope="session")
def peer_grad_cam() -> PeerGradCAM:
    """pytorch-grad-cam's maps (B, h, w) of a network's layer for a class."""

    def maps(network: nn.Module, layer: nn.Module, images: Tensor, index: int) -> Tensor:
        with _RawGradCAM(network, [layer]) as peer:
            found = torch.from_numpy(peer(images, [ClassifierOutputTarget(index)] * len(images)))
        network.zero_grad()
        return found

    return maps
