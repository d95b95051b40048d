"""Bringing weights in: a PyTorch checkpoint becomes a bundle, a bundle is copied into the workspace."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.model.bundle import ModelBundle, load_bundle, network_from, seeded_network
from napari_dala.model.card import IMAGENET_MEAN, IMAGENET_STD, ClassInfo, ModelCard
from napari_dala.model.catalog import SUFFIX, copy_bundle, installed_path
from napari_dala.model.weights import weights_of
from napari_dala.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "_orig_mod.")


def import_checkpoint(
    path: str | Path,
    *,
    classes: Sequence[ClassInfo],
    mpp: float,
    name: str,
    tile_px: int = 224,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> ModelBundle:
    """Return a bundle with the weights of a PyTorch checkpoint; nothing is saved.

    A checkpoint of DALAResNet50 gives the whole network. One of torchvision's ResNet-50 gives the trunk; attention
    and head are then random (seed 0) and the card says that the model is untrained.

    Parameters
    ----------
    path : str or Path
        A .pt or .pth file: a state dict, or a dict that holds one as "state_dict", "model_state_dict" or "model".
        Only tensors are read (`weights_only=True`); no code in the file runs.
    classes : sequence of ClassInfo
        The classes in the order of the logits.
    mpp : float
        Micrometres per pixel of the tiles it was trained on.
    name : str
        Name of the model.
    tile_px : int
        Side of a tile in pixels.
    mean, std : tuple of float
        Per channel of pixels scaled to [0, 1]; ImageNet's by default.

    Raises
    ------
    BundleError
        If the file is missing, is not such a checkpoint, holds more than tensors, or its weights do not fit.
        Or if the settings do not make a valid card.
    """
    path = Path(path)
    weights = _state_dict(path)
    trunk_only = "conv1.weight" in weights
    training: dict[str, Any] = {"imported_from": path.name}
    if trunk_only:
        training |= {"trunk": "imported, torchvision layout", "attention and head": "random, seed 0"}
    try:
        card = ModelCard(
            name=name,
            classes=tuple(classes),
            mpp=mpp,
            tile_px=tile_px,
            mean=mean,
            std=std,
            trained=not trunk_only,
            training=training,
        )
    except ValidationError as error:
        raise BundleError(f"{path.name}: {first_problem(error)}") from None
    if trunk_only:
        trunk = {f"trunk.{key}": tensor for key, tensor in weights.items() if not key.startswith("fc.")}
        fresh = weights_of(seeded_network(len(classes)))
        weights = {key: tensor for key, tensor in fresh.items() if not key.startswith("trunk.")} | trunk
    return ModelBundle(network_from(weights, len(classes), path.name), card).as_stored()


def install_model(bundle_or_path: ModelBundle | str | Path, name: str | None = None) -> Path:
    """Write a bundle into the workspace, where `load_model` and `list_models` find it by name.

    Parameters
    ----------
    bundle_or_path : ModelBundle or str or Path
        A bundle, which is saved, or the file of one, which is validated and copied byte by byte.
    name : str, optional
        Its name; the card's, or the file's without suffix, by default.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    BundleError
        If the file is not a valid bundle, or the name is taken or not fit for a file name.
    """
    if isinstance(bundle_or_path, ModelBundle):
        target = _free_path(name or bundle_or_path.card.name)
        bundle_or_path.save(target)
        return target
    source = Path(bundle_or_path)
    load_bundle(source)
    target = _free_path(name or source.stem)
    copy_bundle(source, target)
    return target


def _free_path(name: str) -> Path:
    target = installed_path(name)
    if target.exists():
        raise BundleError(f"{name}: a model of this name is installed already; choose another")
    return target


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == SUFFIX:
        raise BundleError(f"{path.name}: this is a safetensors file; install it as it is, it has its own card")
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file") from None
    except OSError as error:
        raise BundleError(f"{path.name}: it cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged pickle can raise anything
        unsafe = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, UnpicklingError) else None
        if unsafe:
            reason = f"refused, it asks to run {unsafe[1]}; save the network's state_dict() alone"
        else:
            reason = "this is not a state dict saved by torch.save, or it is damaged"
        raise BundleError(f"{path.name}: {reason}") from None
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise BundleError(f"{path.name}: it holds no state dict (names with their tensors)")
    weights: dict[str, Tensor] = {str(key): tensor for key, tensor in found.items()}
    while prefix := next((one for one in _PREFIXES if all(key.startswith(one) for key in weights)), None):
        weights = {key.removeprefix(prefix): tensor for key, tensor in weights.items()}
    return {key: tensor for key, tensor in weights.items() if not key.endswith(".num_batches_tracked")}
