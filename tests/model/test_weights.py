from __future__ import annotations

import torch
from hypothesis import given, settings, strategies as st

from napari_dala.model.weights import pack, unpack


@given(seed=st.integers(0, 2**32), shape=st.sampled_from([(3, 4), (5, 7), (2, 3, 3, 3), (1, 1)]), size=st.floats(-9, 4))
@settings(max_examples=200, deadline=None)
def test_ten_bits_are_float16_numbers_and_stay_what_they_are(seed: int, shape: tuple[int, ...], size: float) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 10**size
    tensor[0] *= 2.0 ** -(seed % 30)
    stored = pack({"w": tensor}, 10, "a model")
    assert stored["w.bytes"].numel() <= shape[0] * 5 * -(-tensor[0].numel() // 4)
    rounded = unpack(stored, "a model")["w"]
    assert rounded.dtype == torch.float16
    assert rounded.shape == tensor.shape
    step = stored["w.scale"].reshape(-1, *[1] * (tensor.ndim - 1))
    assert ((rounded.float() - tensor).abs() <= step / 2 * 1.0001).all()
    again = unpack(pack({"w": rounded.float()}, 10, "a model"), "a model")["w"]
    assert torch.equal(again, rounded)
