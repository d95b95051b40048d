from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_dala.model.dalaresnet import DALAResNet50
from napari_dala.model.gradcam import cam_weights, grad_cam, head_grad_cam
from napari_dala.model.head import HeadNetwork
from napari_dala.model.weights import shapes_of, trunk_shapes, weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dala.model.bundle import ModelBundle


@pytest.fixture
def head(bundle: ModelBundle) -> HeadNetwork:
    """The built-in model's attention and head, without its trunk."""
    network = HeadNetwork(2)
    network.load_state_dict(
        {name: tensor for name, tensor in weights_of(bundle.network).items() if not name.startswith("trunk.")}
    )
    return network.eval()


@pytest.mark.parametrize("classes", [2, 5])
def test_head_and_trunk_are_the_whole_network(classes: int) -> None:
    with torch.device("meta"):
        whole, head = DALAResNet50(classes), HeadNetwork(classes)
    assert trunk_shapes() | shapes_of(head) == shapes_of(whole)
    assert isinstance(whole, HeadNetwork)


def test_it_scores_and_explains_as_the_whole_network_does(
    bundle: ModelBundle, head: HeadNetwork, features: Tensor
) -> None:
    means = features.mean((2, 3))
    with torch.no_grad():
        assert torch.equal(head.head_from_means(means), bundle.network.head_from_means(means))
    for found, expected in zip(cam_weights(head, means, 25), cam_weights(bundle.network, means, 25), strict=True):
        assert torch.equal(found, expected)
    for found, expected in zip(head_grad_cam(head, features), head_grad_cam(bundle.network, features), strict=True):
        assert torch.equal(found, expected)


def test_grad_cam_of_images_needs_the_trunk(head: HeadNetwork, images: Tensor) -> None:
    with pytest.raises(TypeError, match="needs a network with a trunk, not HeadNetwork"):
        grad_cam(head, images)  # type: ignore[arg-type]
