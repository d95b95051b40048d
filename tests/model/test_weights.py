from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from napari_dala.errors import BundleError
from napari_dala.model.weights import check_finite, pack, unpack


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_one_value_that_is_not_finite_is_found_in_every_kind_of_float(kind: str, bad: float) -> None:
    tensor = torch.linspace(-2, 2, 1000).to(getattr(torch, kind))
    check_finite({"whole": tensor, "none": tensor[:0]}, "a.safetensors")
    tensor[500] = bad
    with pytest.raises(BundleError, match=r"a\.safetensors: broken holds NaN or infinite values"):
        check_finite({"whole": torch.ones(3), "broken": tensor}, "a.safetensors")
