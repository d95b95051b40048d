"""A network as named tensors: which ones it has, whether a set of them fits it, their packing and their digest."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_dala.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shapes = Mapping[str, tuple[int, ...]]

Network = TypeVar("Network", bound=nn.Module)

_BYTES = ".bytes"
_PACKED = (_BYTES, ".scale", ".shape")
_MOST_WEIGHTS = 1 << 24  # of a tensor in 10 bits; the network's largest has a quarter of it
_MOST, _ZERO = 505, 512  # 505 and not 511: rounding what was rounded then changes nothing

# counts batch norm's training steps; changes no output
_COUNTER = ".num_batches_tracked"


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's parameters and buffers by name, on the CPU, float32; not those that hold whole numbers."""
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what `weights_of` gives; a network on the meta device will do."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


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
        if not _fits(tensor, torch.float32):
            raise BundleError(f"{source}: {name} holds NaN or infinite values")


def _fits(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether all values are finite as `dtype`: their ends say it, and of a tensor with NaN both are NaN."""
    return not tensor.numel() or bool(torch.stack(tensor.float().aminmax()).to(dtype).isfinite().all())


def check_weights(expected: Shapes, found: Mapping[str, Tensor], source: str, network: str = "DALAResNet50") -> None:
    """Raise BundleError if a tensor is missing, not part of the network, of another shape or type, or not finite.

    Parameters
    ----------
    expected : mapping of str to shape
        As `shapes_of` gives them.
    found : mapping of str to Tensor
        Of any floating type.
    source : str
        What to call the tensors in an error.
    network : str
        What to call the network in an error.
    """
    for name in sorted(expected.keys() - found.keys()):
        raise BundleError(f"{source}: the tensor {name} is missing")
    for name in sorted(found.keys() - expected.keys()):
        raise BundleError(f"{source}: the tensor {name} is not part of {network}")
    for name in sorted(expected):
        here, there = tuple(found[name].shape), expected[name]
        if here != there:
            raise BundleError(f"{source}: {name} has shape {here}, expected {there}")
        if not found[name].is_floating_point():
            kind = str(found[name].dtype).removeprefix("torch.")
            raise BundleError(f"{source}: {name} has values of type {kind}, expected floats")
    check_finite(found, source)


def fill(network: Network, weights: Mapping[str, Tensor]) -> Network:
    """Give a network these weights and return it in eval mode, float32.

    Parameters
    ----------
    network : nn.Module
        Best on the meta device, for it takes the tensors over, without a copy where they are float32. Whole numbers
        other than batch norm's counters stay its own.
    weights : mapping of str to Tensor
        As `weights_of` gives them, of any floating type.
    """
    integers = {
        name: torch.tensor(0) if name.endswith(_COUNTER) else tensor
        for name, tensor in network.state_dict().items()
        if not tensor.is_floating_point()
    }
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()} | integers, assign=True)
    return network.eval()


def pack(tensors: Mapping[str, Tensor], bits: int, source: str) -> dict[str, Tensor]:
    """Return tensors as they are stored: vectors as float32, matrices and kernels in 16 or 10 bits a weight.

    16 bits are float16. In 10 bits a weight is q s, with an integer q from -505 to 505 and for each row (the output
    channel) the least s among 1 and 1.5 times powers of two that reaches its largest weight. Such numbers are float16
    numbers too, so that a model in 10 bits stays what it is when it is stored in 16. Four q, each plus 512, lie in five
    bytes, the lowest bits first; beside the bytes stand s and the shape.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Finite, float.
    bits : int
        16, or 10.
    source : str
        What to call the tensors in an error.

    Raises
    ------
    ValueError
        If `bits` is another number.
    BundleError
        If a value does not fit into float16.
    """
    if bits not in (10, 16):
        raise ValueError(f"weights are stored with 16 or 10 bits, not {bits}")
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor.contiguous()
        elif not _fits(tensor, torch.float16):
            raise BundleError(f"{source}: {name}: values beyond 65504 do not fit into 16 bits")
        elif bits == 16:
            stored[name] = tensor.to(torch.float16).contiguous()
        else:
            stored |= _in_10_bits(name, tensor)
    return stored


def unpack(stored: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the tensors of a file, those in 10 bits as the float16 numbers that they are, the others as they are.

    Raises
    ------
    BundleError
        If the parts of a tensor in 10 bits do not fit together; `source` names the file.
    """
    tensors = {name: tensor for name, tensor in stored.items() if not name.endswith(_PACKED)}
    for name in stored:
        if name.endswith(_BYTES):
            whole = name.removesuffix(_BYTES)
            parts = [stored[whole + part] for part in _PACKED if whole + part in stored]
            if whole in stored or len(parts) < len(_PACKED) or not _fit_together(*parts):
                raise BundleError(f"{source}: {whole} is packed, and its parts do not fit together")
            tensors[whole] = _from_10_bits(*parts)
    return tensors


def _in_10_bits(name: str, tensor: Tensor) -> dict[str, Tensor]:
    rows = tensor.float().flatten(1)
    wanted = rows.abs().amax(1).clamp_min(_MOST * 2.0**-24) / _MOST  # 2 ** -24: float16 has nothing finer
    power = torch.exp2(wanted.log2().floor())
    scale = torch.where(wanted <= power, power, torch.where(wanted <= 1.5 * power, 1.5 * power, 2 * power))
    scale = torch.where(scale < 2.0**-23, torch.exp2(scale.log2().ceil()), scale)  # 1.5 times 2 ** -24 is finer
    q = (rows / scale[:, None]).round().clamp(-_MOST, _MOST).to(torch.int16) + _ZERO
    q = functional.pad(q, (0, -q.shape[1] % 4), value=_ZERO).reshape(len(q), -1, 4)
    one, two, three, four = q.unbind(-1)
    joined = [one, one >> 8 | two << 2, two >> 6 | three << 4, three >> 4 | four << 6, four >> 2]
    packed = (torch.stack(joined, -1) & 255).to(torch.uint8).flatten(1).contiguous()
    return dict(zip((name + part for part in _PACKED), (packed, scale, torch.tensor(tensor.shape)), strict=True))


def _fit_together(packed: Tensor, scale: Tensor, shape: Tensor) -> bool:
    """Tell whether the parts of a tensor in 10 bits are what `_in_10_bits` gives for some shape."""
    kinds = [(part.dtype, part.ndim) for part in (packed, scale, shape)]
    if kinds != [(torch.uint8, 2), (torch.float32, 1), (torch.int64, 1)]:
        return False
    if len(shape) not in (2, 3, 4) or int(shape.min()) < 1:
        return False
    rows, *sides = (int(side) for side in shape)
    row = math.prod(sides)
    return (
        rows * row <= _MOST_WEIGHTS and len(packed) == len(scale) == rows and packed.shape[1] == math.ceil(row / 4) * 5
    )


def _from_10_bits(packed: Tensor, scale: Tensor, shape: Tensor) -> Tensor:
    one, two, three, four, five = packed.to(torch.int16).reshape(len(packed), -1, 5).unbind(-1)
    joined = [one | two << 8, two >> 2 | three << 6, three >> 4 | four << 4, four >> 6 | five << 2]
    q = (torch.stack(joined, -1) & 1023).flatten(1) - _ZERO
    sides = shape.tolist()
    row = int(shape[1:].prod())
    return (q[:, :row] * scale[:, None]).to(torch.float16).reshape(sides)


def digest(tensors: Mapping[str, Tensor], settings: str) -> str:
    """Return the SHA-256 (hex) of names, shapes and float32 bytes of the tensors, in order of name, and settings."""
    sha = hashlib.sha256(settings.encode())
    for name in sorted(tensors):
        array = tensors[name].detach().to("cpu", torch.float32).contiguous().numpy()
        sha.update(f"\n{name} {array.shape}\n".encode())
        sha.update(array.reshape(-1).data.cast("B"))
    return sha.hexdigest()
