"""oneDNN's fused operators give what the trunk gives, layer for layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import immunohistochemistry
from torch import nn

from napari_dala.inference.onednn_trunk import FusedConvolution, fused_trunk
from napari_dala.inference.predictor import Predictor, fold_batch_norm
from napari_dala.model.bundle import load_model

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_each_layer_is_the_trunks(dtype: torch.dtype, tolerance: float) -> None:
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bf16 for this processor, nor do we choose it there")
    bundle = load_model("default")
    folded = fold_batch_norm(bundle.network.trunk).to(dtype, memory_format=torch.channels_last)
    picture = immunohistochemistry()
    tiles = np.stack([picture[at : at + 224, at : at + 224] for at in (0, 90, 180)])
    inputs = bundle.normalize(torch.from_numpy(tiles)).to(dtype)
    fused = fused_trunk(folded, inputs[:2])  # and right for another number of tiles
    assert fused is not None
    with torch.inference_mode():
        for cut in (-3, -2, -1, None):
            expected, found = (nn.Sequential(*list(net)[:cut])(inputs).float() for net in (folded, fused))
            assert found.shape == expected.shape
            assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def test_the_predictor_runs_it() -> None:
    predictor = Predictor(load_model("untrained"))
    assert any(isinstance(module, FusedConvolution) for module in predictor.trunk.modules())


def test_a_trunk_of_another_make_runs_as_it_is() -> None:
    odd = nn.Sequential(nn.Conv2d(3, 8, 3).double(), nn.Identity(), nn.ReLU(), nn.MaxPool2d(2))
    assert fused_trunk(odd, torch.zeros(1, 3, 32, 32, dtype=torch.float64)) is None
