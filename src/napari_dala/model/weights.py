"""A network as named tensors: which ones it has, whether a set of them fits it, their packing and their digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.model.dalaresnet import DALAResNet50

if TYPE_CHECKING:
    from collections.abc import Mapping

# counts batch norm's training steps; changes no output
_COUNTER = ".num_batches_tracked"


def weights_of(network: DALAResNet50) -> dict[str, Tensor]:
    """Return the network's parameters and buffers by name, on the CPU, float32."""
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith(_COUNTER)
    }


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise BundleError naming the first tensor that holds NaN or infinity."""
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise BundleError(f"{source}: {name} holds NaN or infinite values")


def network_from(weights: Mapping[str, Tensor], num_classes: int, source: str) -> DALAResNet50:
    """Return a network in eval mode with these weights, which it takes over without a copy where they are float32.

    Parameters
    ----------
    weights : mapping of str to Tensor
        As `weights_of` gives them, of any floating type.
    num_classes : int
        Number of classes.
    source : str
        What to call the weights in an error.

    Raises
    ------
    BundleError
        If a tensor is missing, unexpected, of another shape, or not finite.
    """
    with torch.device("meta"):
        network = DALAResNet50(num_classes)
    expected = network.state_dict()
    counters = {name: torch.tensor(0) for name in expected if name.endswith(_COUNTER)}
    _check_shapes({name: expected[name] for name in expected.keys() - counters.keys()}, weights, source)
    check_finite(weights, source)
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()} | counters, assign=True)
    return network.eval()


def pack(tensor: Tensor, bits: int, source: str) -> Tensor:
    """Return the tensor as it is stored: float16 for matrices and kernels, float32 for vectors.

    Raises
    ------
    ValueError
        If `bits` is not 16.
    BundleError
        If a value does not fit into float16; `source` names it.
    """
    if bits != 16:
        raise ValueError(f"weights are stored with 16 bits, not {bits}")
    if tensor.ndim < 2:
        return tensor.contiguous()
    packed = tensor.to(torch.float16).contiguous()
    if not bool(packed.isfinite().all()):
        raise BundleError(f"{source}: values beyond 65504 do not fit into 16 bits")
    return packed


def unpack(tensor: Tensor) -> Tensor:
    """Return a stored tensor as the network uses it, float32."""
    return tensor.float()


def digest(tensors: Mapping[str, Tensor], settings: str) -> str:
    """Return the SHA-256 (hex) of names, shapes and float32 bytes of the tensors, in order of name, and settings."""
    sha = hashlib.sha256(settings.encode())
    for name in sorted(tensors):
        array = tensors[name].detach().to("cpu", torch.float32).contiguous().numpy()
        sha.update(f"\n{name} {array.shape}\n".encode())
        sha.update(array.reshape(-1).data.cast("B"))
    return sha.hexdigest()


def _check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    for name in sorted(expected.keys() - found.keys()):
        raise BundleError(f"{source}: the tensor {name} is missing")
    for name in sorted(found.keys() - expected.keys()):
        raise BundleError(f"{source}: the tensor {name} is not part of DALAResNet50")
    for name in sorted(expected):
        here, there = tuple(found[name].shape), tuple(expected[name].shape)
        if here != there:
            raise BundleError(f"{source}: {name} has shape {here}, expected {there}")
