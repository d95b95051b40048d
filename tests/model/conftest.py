from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from skimage.data import immunohistochemistry
from torch import Tensor

from napari_dala.model.bundle import untrained

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.bundle import ModelBundle


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
