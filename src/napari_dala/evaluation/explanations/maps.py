"""The maps that explain a tile: Grad-CAM, DT Grad-CAM in every way, and references to hold them against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from napari_dala.errors import DalaError
from napari_dala.inference.predictor import Predictor
from napari_dala.model.bundle import seeded_network
from napari_dala.model.threshold import DynamicThreshold, Method, Scope, ThresholdedMap
from napari_dala.model.trunks.names import RESNET50

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_dala.model.bundle import ModelBundle

    Floats = NDArray[np.float32]

GRAD_CAM, RANDOM = "Grad-CAM", "random"
REFERENCES = ("Grad-CAM++", "EigenCAM")
THRESHOLDS = {
    f"DT {method} by {scope}": DynamicThreshold(method, scope)
    for scope in get_args(Scope)
    for method in get_args(Method)
}
RANDOMISED = ("head", "head and layer4", "all")
"""What `randomised` can replace, from the network's end to all of it."""

_BATCH = 8
_FAR = 1000  # from the seeds that training begins with: its own initial weights are not random to a network


@dataclass(frozen=True, eq=False)
class TileMaps:
    """What a model says of n tiles, and maps that are to say why.

    Attributes
    ----------
    probability
        (n, classes) float32.
    maps
        By method: (n, classes, h, w) float32, not negative; Grad-CAM in logits, the others in units of their own.
    """

    probability: Floats
    maps: dict[str, Floats]


@dataclass(frozen=True)
class ExplainSettings:
    """How maps are made.

    Attributes
    ----------
    device, precision
        See `Predictor`.
    references
        Whether to make Grad-CAM++ and EigenCAM too, by pytorch-grad-cam.
    seed
        Of all that is random.
    """

    device: str = "auto"
    precision: str = "auto"
    references: bool = True
    seed: int = 0


class MapMaker:
    """Makes Grad-CAM, the references and the random map of tiles; the trunk runs once for all of them.

    Parameters
    ----------
    bundle
        The model.
    settings
        With the same seed two explainers give the same random maps to tiles in the same order.

    Raises
    ------
    DalaError
        If pytorch-grad-cam is asked for and not installed, or the device is not there.
    """

    def __init__(self, bundle: ModelBundle, settings: ExplainSettings) -> None:
        if settings.references and find_spec("pytorch_grad_cam") is None:
            raise DalaError(
                "Grad-CAM++ and EigenCAM are pytorch-grad-cam's, which is not installed: "
                'pip install "napari-dala[explain-eval]", or leave them out with --no-references'
            )
        self.predictor = Predictor(bundle, settings.device, settings.precision)
        self.references = settings.references
        self._rng = np.random.default_rng(settings.seed)

    def __call__(self, tiles: NDArray[np.uint8]) -> TileMaps:
        """Explain every class of tiles (n, h, w, 3), n > 0."""
        parts = [self._explain(tiles[start : start + _BATCH]) for start in range(0, len(tiles), _BATCH)]
        maps = {name: np.concatenate([part.maps[name] for part in parts]) for name in parts[0].maps}
        return TileMaps(np.concatenate([part.probability for part in parts]), maps)

    def _explain(self, tiles: NDArray[np.uint8]) -> TileMaps:
        logits, cams, _, features = self.predictor.forward_cam(self.predictor.inputs(tiles))
        maps = {GRAD_CAM: cams.cpu().numpy()}
        if self.references:
            maps |= _reference_maps(self.predictor.network, features.float().clone())
        count, classes, height, width = cams.shape
        noise = self._rng.random((count, 1, height, width), np.float32)
        maps[RANDOM] = np.broadcast_to(noise, (count, classes, height, width))
        return TileMaps(self.predictor.bundle.probabilities(logits).cpu().numpy(), maps)


def thresholded(cams: Floats, threshold: DynamicThreshold, cell_um: float) -> Floats:
    """Return the maps of tiles where DT keeps them, in their own unit, and 0 elsewhere; see `threshold_tiles`."""
    return np.where(np.stack([found.mask for found in threshold_tiles(cams, threshold, cell_um)]), cams, 0)


def threshold_tiles(cams: Floats, threshold: DynamicThreshold, cell_um: float) -> list[ThresholdedMap]:
    """Threshold the maps of one slide's tiles.

    Parameters
    ----------
    cams
        (n, h, w) raw Grad-CAM of tiles that need not lie side by side: no island reaches from one into another. With
        scope "slide" they have one maximum and one threshold.
    threshold
        The rule.
    cell_um
        Side of a cell.

    Returns
    -------
    list of ThresholdedMap
        Of each tile; its kept fraction is of this tile.
    """
    height = cams.shape[1]
    if threshold.scope == "tile":
        return [threshold(cam, cell_um=cell_um, tile_cells=max(cam.shape)) for cam in cams]
    apart = np.pad(cams, [(0, 0), (0, 1), (0, 0)], constant_values=np.nan).reshape(-1, cams.shape[2])
    whole = threshold(apart, cell_um=cell_um, tile_cells=height)
    rows = [slice(top, top + height) for top in range(0, len(apart), height + 1)]
    return [
        ThresholdedMap(
            cams[place], whole.scaled[part], whole.threshold, float(whole.mask[part].mean()), whole.mask[part],
            whole.map[part],
        )
        for place, part in enumerate(rows)
    ]  # fmt: skip


def with_thresholds(maps: Mapping[str, Floats], groups: NDArray[Any], side_um: float) -> dict[str, Floats]:
    """Return maps (n, h, w) by method with every DT map among them, behind plain Grad-CAM.

    Parameters
    ----------
    maps
        Of tiles, Grad-CAM among them.
    groups
        (n,) the slide of each tile.
    side_um
        Side of a cell.
    """
    plain = maps[GRAD_CAM]
    kept = {name: np.zeros_like(plain) for name in THRESHOLDS}
    for group in np.unique(groups):
        here = groups == group
        for name, threshold in THRESHOLDS.items():
            kept[name][here] = thresholded(plain[here], threshold, side_um)
    return {GRAD_CAM: plain, **kept, **maps}


def cell_um(bundle: ModelBundle) -> float:
    """Return the side of a cell of the bundle's maps, um."""
    return bundle.card.mpp * bundle.card.cell_px


def randomised(bundle: ModelBundle, part: str, seed: int = 0) -> ModelBundle:
    """Return the bundle with random weights in a part of its network, one of `RANDOMISED`.

    Of a trunk without a layer4 "head and layer4" is all.

    References
    ----------
    Adebayo, J. et al. (2018). Sanity checks for saliency maps. NeurIPS; arXiv 1810.03292: weights are randomised from
    the output downwards, and an explanation of the model must change with them.
    """
    network = seeded_network(len(bundle.card.classes), _FAR + seed, bundle.card)
    has_layer4 = bundle.card.architecture == RESNET50
    if part == "head" or (has_layer4 and part != "all"):
        kept = bundle.network.trunk.state_dict()
        if part == "head and layer4":
            kept = {name: value for name, value in kept.items() if not name.startswith("layer4.")}
        network.trunk.load_state_dict(kept, strict=False)
    return replace(bundle, network=network)


class _AfterTrunk(nn.Module):
    """Attention and head as a network of their own, so that the references need no second pass of the trunk."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.attention, self.head = network.attention, network.head

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attention(features).mean((2, 3)))
        return logits


def _reference_maps(network: nn.Module, features: Tensor) -> dict[str, Floats]:
    """Return pytorch-grad-cam's maps of the attention's output, (n, classes, h, w).

    Grad-CAM++ is scaled to [0, 1] in each map; EigenCAM is the same for every class, and its sign is as it happens.
    """
    from pytorch_grad_cam import GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    model = _AfterTrunk(network)
    count, classes = len(features), int(network.num_classes)  # type: ignore[arg-type]  # torch: any attribute may be a module
    with torch.enable_grad(), GradCAMPlusPlus(model, [model.attention]) as method:
        plus = [method(features, [ClassifierOutputTarget(index)] * count) for index in range(classes)]
    model.zero_grad()
    with torch.no_grad():
        # The channels turned onto as many axes as there are cells: the same projection, a hundred times as fast.
        turned = torch.linalg.qr(model.attention(features).flatten(2)).R
    eigen = get_2d_projection(turned.reshape(count, -1, *features.shape[2:]).cpu().numpy())
    maps = (np.stack(plus, 1), np.stack([np.maximum(eigen, 0)] * classes, 1))
    return {name: np.asarray(values, np.float32) for name, values in zip(REFERENCES, maps, strict=True)}
