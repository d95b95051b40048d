"""A bundle made ready for one device and precision: tiles in, probabilities and maps out."""

from __future__ import annotations

import copy
import weakref
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_dala.errors import DalaError
from napari_dala.inference.cuda_graph import captured, to_host
from napari_dala.inference.cudnn_trunk import cudnn_trunk
from napari_dala.inference.devices import choose_device, choose_precision
from napari_dala.inference.onednn_trunk import fused_trunk
from napari_dala.model.gradcam import head_grad_cam
from napari_dala.model.head import HeadNetwork
from napari_dala.model.trunks.names import RESNET50

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.bundle_file import Bundle

Tiles: TypeAlias = "NDArray[np.uint8] | Tensor | list[Tensor]"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_BATCH = {"cpu": 8, "cuda": 128, "mps": 64}
_BATCH_FP32 = 4  # on the processor: as fast as 8, and the first tiles are there in half the time


@dataclass(frozen=True)
class Prediction:
    """Arrays for n tiles; see `TileResults` for their shapes."""

    probability: NDArray[np.float32]
    cam: NDArray[np.float32]
    features: NDArray[np.float32]
    layer4: NDArray[np.float16] | None
    unfamiliarity: NDArray[np.float32] | None = None


class Predictor:
    """The trunk folded and cast for speed, the head in fp32.

    What folds and fuses is made for ResNet-50; another trunk runs as it is, in the same precisions.

    Parameters
    ----------
    bundle
        The model.
    device
        "auto" (CUDA, else Apple's MPS, else the processor) or a torch device.
    precision
        "auto" (bf16 where the device has it natively), "fp32" or "bf16".

    Raises
    ------
    DalaError
        When the device or precision is not there.
    """

    def __init__(self, bundle: ModelBundle, device: str = "auto", precision: str = "auto") -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.batch_size = _BATCH.get(self.device.type, 16)
        if (self.device.type, self.precision) == ("cpu", "fp32"):
            self.batch_size = _BATCH_FP32
        self._dtype = _DTYPES[self.precision]
        is_resnet = bundle.card.architecture == RESNET50
        trunk = fold_batch_norm(bundle.network.trunk) if is_resnet else copy.deepcopy(bundle.network.trunk).eval()
        # torch declares no overload of `to` with a device, a type and a memory format
        self.trunk = trunk.to(self.device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._take_head(bundle)
        side = bundle.card.tile_px
        example = self.inputs(np.zeros((self.batch_size, side, side, 3), np.uint8))
        fused = {"cpu": fused_trunk, "cuda": cudnn_trunk}.get(self.device.type)
        if fused is not None and is_resnet:
            self.trunk = fused(self.trunk, example) or self.trunk
        if self.device.type == "cuda":
            self(np.zeros((1, side, side, 3), np.uint8))  # captured now, not when a user waits for the first tile

    def with_bundle(self, bundle: Bundle) -> Predictor:
        """Return a predictor with another bundle's head on this one's trunk, which is not prepared again.

        Raises
        ------
        ValueError
            If the bundles' trunks differ.
        """
        if bundle.trunk_hash != self.bundle.trunk_hash:
            raise ValueError(f"{bundle.card.name} has another trunk than {self.bundle.card.name}")
        other = copy.copy(self)
        other._take_head(bundle)
        return other

    def _take_head(self, bundle: Bundle) -> None:
        self.bundle: Bundle = bundle
        self.network = head_of(bundle.network).to(self.device) if self.device.type != "cpu" else bundle.network
        self._known = bundle.known and bundle.known.to(self.device)
        self._basis = None if bundle.basis is None else bundle.basis.to(self.device, self._dtype)
        # Else it would keep itself, and its memory on the device, until Python looks for cycles.
        myself = weakref.ref(self)

        def compute(tiles: Tensor) -> tuple[Tensor | None, ...]:
            predictor = myself()
            assert predictor is not None
            return predictor._results(tiles)

        self._compute = captured(compute, self.device)

    def inputs(self, tiles: Tiles) -> Tensor:
        """Return tiles (n, h, w, 3) uint8 as the trunk's input, normalised, on the device."""
        return self.bundle.normalize(_tensor(tiles).to(self.device, non_blocking=True), self._dtype)

    @torch.inference_mode()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits alone, (n, classes): the bare forward pass that benchmarks compare with."""
        return self.network.head_from_means(self.trunk(inputs).float().mean((2, 3)))

    @torch.inference_mode()
    def forward_cam(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits, Grad-CAM of every class, channel means and the trunk's map."""
        maps = self.trunk(inputs)
        return *head_grad_cam(self.network, maps), maps

    def __call__(self, tiles: Tiles) -> Prediction:
        """Predict tiles (n, h, w, 3) uint8, n > 0, or a list of such, in batches; in smaller ones when memory is short.

        A tile's results are the same bits in any company: matrix products round differently for another number
        of rows, so a batch that is not full is filled up with blank tiles.
        """
        tiles = _tensor(tiles)
        while True:
            size = self.batch_size  # another thread may halve it meanwhile
            try:
                parts = [self._predict(tiles[start : start + size], size) for start in range(0, len(tiles), size)]
                return _joined(parts)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise DalaError("The device has too little memory for one tile; choose the device “cpu”.") from None
            torch.cuda.empty_cache()
            self.batch_size = min(self.batch_size, size // 2)

    @torch.inference_mode()
    def _predict(self, tiles: Tensor, size: int) -> Prediction:
        """Predict at most `size` tiles as a batch of that size."""
        count = len(tiles)
        if count < size:
            tiles = torch.cat([tiles, tiles.new_zeros((size - count, *tiles.shape[1:]))])
        found = to_host(self._compute(tiles.to(self.device, non_blocking=True)))
        parts: list[Any] = [None if part is None else part[:count].numpy() for part in found]
        return Prediction(*parts)

    def _results(self, tiles: Tensor) -> tuple[Tensor | None, ...]:
        """Return the tensors of a `Prediction`, on the device, for a full batch of tiles that is there."""
        logits, cams, means, maps = self.forward_cam(self.inputs(tiles))
        layer4 = None if self._basis is None else (maps.permute(0, 2, 3, 1) @ self._basis).half()
        ratio = None if self._known is None else self._known.ratio(means)
        return self.bundle.probabilities(logits), cams, means, layer4, ratio


def head_of(network: HeadNetwork) -> HeadNetwork:
    """Return attention and head of a network, without the trunk that it may have; tensors are shared."""
    with torch.device("meta"):
        head = HeadNetwork(network.num_classes, channels=network.channels)
    head.load_state_dict(
        {name: tensor for name, tensor in network.state_dict().items() if name in head.state_dict()}, assign=True
    )
    return head.eval()


def fold_batch_norm(trunk: nn.Module) -> nn.Module:
    """Return a copy of a ResNet trunk in eval mode with each batch norm folded into the convolution before it."""
    trunk = copy.deepcopy(trunk).eval()
    for module in trunk.modules():
        parts = list(module.named_children())
        for (name, part), (next_name, following) in pairwise(parts):
            if isinstance(part, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(part, following))
                setattr(module, next_name, nn.Identity())
    return trunk


def _tensor(tiles: Tiles) -> Tensor:
    if isinstance(tiles, np.ndarray):
        return torch.from_numpy(np.require(tiles, requirements=("C", "W")))
    if isinstance(tiles, Tensor):
        return tiles
    return tiles[0] if len(tiles) == 1 else torch.cat(tiles)


def _joined(parts: list[Prediction]) -> Prediction:
    """Put predictions behind one another."""
    arrays: dict[str, Any] = {}
    for name, first in vars(parts[0]).items():
        arrays[name] = None if first is None else np.concatenate([getattr(part, name) for part in parts])
    return Prediction(**arrays)
