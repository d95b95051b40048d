"""A network as named tensors: which ones it has, whether a set of them fits it, their packing and their digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from napari_dala.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shapes = Mapping[str, tuple[int, ...]]

Network = TypeVar("Network", bound=nn.Module)

# counts batch norm's training steps; changes no output
_COUNTER = ".num_batches_tracked"


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's parameters and buffers by name, on the CPU, float32."""
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith(_COUNTER)
    }


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what `weights_of` gives; a network on the meta device will do."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if not name.endswith(_COUNTER)}


def trunk_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of DALAResNet50's trunk by name: ResNet-50 from conv1 to layer4, without building it."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(convolution: str, norm: str, *shape: int) -> None:
        shapes[f"trunk.{convolution}.weight"] = shape
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"trunk.{norm}.{name}"] = shape[:1]

    add("conv1", "bn1", 64, 3, 7, 7)
    channels = 64
    for layer, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            add(f"{name}.conv1", f"{name}.bn1", width, channels, 1, 1)
            add(f"{name}.conv2", f"{name}.bn2", width, width, 3, 3)
            add(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1, 1)
            if block == 0:
                add(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, channels, 1, 1)
            channels = 4 * width
    return shapes


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise BundleError naming the first tensor that holds NaN or infinity."""
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise BundleError(f"{source}: {name} holds NaN or infinite values")


def check_weights(expected: Shapes, found: Mapping[str, Tensor], source: str) -> None:
    """Raise BundleError if a tensor is missing, not part of the network, of another shape, or not finite.

    Parameters
    ----------
    expected : mapping of str to shape
        As `shapes_of` gives them.
    found : mapping of str to Tensor
        Of any floating type.
    source : str
        What to call the tensors in an error.
    """
    for name in sorted(expected.keys() - found.keys()):
        raise BundleError(f"{source}: the tensor {name} is missing")
    for name in sorted(found.keys() - expected.keys()):
        raise BundleError(f"{source}: the tensor {name} is not part of DALAResNet50")
    for name in sorted(expected):
        here, there = tuple(found[name].shape), expected[name]
        if here != there:
            raise BundleError(f"{source}: {name} has shape {here}, expected {there}")
    check_finite(found, source)


def fill(network: Network, weights: Mapping[str, Tensor]) -> Network:
    """Give a network these weights and return it in eval mode, float32.

    Parameters
    ----------
    network : nn.Module
        Best on the meta device, for it takes the tensors over, without a copy where they are float32.
    weights : mapping of str to Tensor
        As `weights_of` gives them, of any floating type.
    """
    counters = {name: torch.tensor(0) for name in network.state_dict() if name.endswith(_COUNTER)}
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
