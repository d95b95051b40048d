from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.models import resnet50

from napari_dala.model.dalaresnet import CHANNELS, STRIDE, DALAResNet50, LightweightAttention

if TYPE_CHECKING:
    from napari_dala.model.bundle import ModelBundle


def test_attention_formula() -> None:
    torch.manual_seed(0)
    attention = LightweightAttention(5)
    features = torch.randn(2, 5, 3, 4)
    gains = torch.sigmoid(features.mean((2, 3)) @ attention.fc.weight.T + attention.fc.bias)
    expected = features + features * gains[:, :, None, None]
    torch.testing.assert_close(attention(features), expected)


def test_head_from_means_is_the_rest_of_the_network(bundle: ModelBundle, images: Tensor, features: Tensor) -> None:
    with torch.no_grad():
        expected = bundle.network(images)
        found = bundle.network.head_from_means(features.mean((2, 3)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float(expected.std(0).min()) > 0, "the tiles must differ"


def test_trunk_is_torchvisions(bundle: ModelBundle, images: Tensor, features: Tensor) -> None:
    reference = resnet50(weights=None).eval()
    reference.load_state_dict(bundle.network.trunk.state_dict(), strict=False)
    maps: list[Tensor] = []
    reference.layer4.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    with torch.no_grad():
        reference(images)
    torch.testing.assert_close(features, maps[0])
    assert features.shape == (len(images), CHANNELS, 160 // STRIDE, 160 // STRIDE)


def test_sizes_of_head_and_dropout() -> None:
    with torch.device("meta"):
        network = DALAResNet50(num_classes=4, dropout=0.1)
    head = network.head
    assert [tuple(layer.weight.shape) for layer in (head.fc1, head.fc2, head.fc3)] == [
        (512, CHANNELS),
        (128, 512),
        (4, 128),
    ]
    assert head.dropout.p == 0.1


def test_dropout_works_in_training_only(bundle: ModelBundle) -> None:
    means = torch.rand(1, CHANNELS)
    head = bundle.network.head
    with torch.no_grad():
        assert torch.equal(head(means), head(means))
        head.train()
        try:
            assert not torch.equal(head(means), head(means))
        finally:
            head.eval()
