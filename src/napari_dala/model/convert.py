"""Bringing weights in: a file of weights becomes a bundle, a bundle is copied into the workspace."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from napari_dala.errors import BundleError
from napari_dala.files import open_to_read
from napari_dala.model.bundle import ModelBundle, load_bundle, network_from, seeded_network
from napari_dala.model.bundle_file import TRUNK
from napari_dala.model.card import IMAGENET_MEAN, IMAGENET_STD, ClassInfo, ModelCard
from napari_dala.model.catalog import copy_bundle, installed_path
from napari_dala.model.tensor_file import is_pickle, read_header
from napari_dala.model.weights import trunk_shapes, weights_of
from napari_dala.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_OF_TORCH = (".pt", ".pth", ".ckpt")
_STEM = "conv1.weight"  # the first tensor of torchvision's ResNet-50, of timm's and of our trunk
_SAVE = "save the network's state_dict() alone, as .pth"


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
    """Return a bundle with the weights of a file without a card; nothing is saved.

    Weights of DALAResNet50 give the whole network. Those of torchvision's ResNet-50, or timm's, give the trunk;
    attention and head are then random (seed 0) and the card says that the model is untrained.

    Parameters
    ----------
    path : str or Path
        A safetensors file, or one of `torch.save` (.pt, .pth, Lightning's .ckpt): a state dict, or a dict that holds
        one as "state_dict", "model_state_dict" or "model". Names may have a prefix, the network's place in a larger
        one. Only tensors are read (`weights_only=True`); no code in the file runs.
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
    weights = _network(_tensors(path), path.name)
    trunk_only = _STEM in weights
    if trunk_only:
        lacking = sorted(name for name in trunk_shapes() if name.removeprefix(TRUNK) not in weights)
        if lacking:
            raise BundleError(
                f"{path.name}: this is no whole ResNet-50 with torchvision's names: {lacking[0].removeprefix(TRUNK)} "
                f"is missing, and so are {len(lacking) - 1} more; save the state dict of a whole one as .pth"
            )
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
        trunk = {f"{TRUNK}{key}": tensor for key, tensor in weights.items() if not key.startswith("fc.")}
        fresh = weights_of(seeded_network(len(classes)))
        weights = {key: tensor for key, tensor in fresh.items() if not key.startswith(TRUNK)} | trunk
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


def is_bundle(path: Path) -> bool:
    """Tell whether a file has a model card, so that `install_model` takes it, or weights for `import_checkpoint`.

    Raises
    ------
    BundleError
        If it is neither, one line that says what it is.
    """
    if path.suffix.lower() in _OF_TORCH or _is_pickle(path):
        return False
    return "card" in read_header(path).metadata


def _is_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_pickle(file.read(8))
    except (OSError, ValueError):
        return False  # whoever reads it says why


def _tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file of weights by name."""
    if path.suffix.lower() in _OF_TORCH or _is_pickle(path):
        return _state_dict(path)
    if is_bundle(path):
        raise BundleError(f"{path.name}: it has a model card of its own; install it as it is")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path.name}: it cannot be read ({error})") from None


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with open_to_read(path) as file:
            found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BundleError(f"{path}: there is no such file") from None
    except OSError as error:
        raise BundleError(f"{path.name}: it cannot be read ({error.strerror})") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        unsafe = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, UnpicklingError) else None
        if unsafe:
            reason = f"refused, it asks to run {unsafe[1]}; {_SAVE}"
        else:
            reason = "this is not a state dict saved by torch.save, or it is damaged"
        raise BundleError(f"{path.name}: {reason}") from None
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not found or not all(map(_is_plain, found.values())):
        raise BundleError(f"{path.name}: it holds no state dict (names with their tensors); {_SAVE}")
    return {str(key): tensor for key, tensor in found.items()}


def _is_plain(value: object) -> bool:
    """Tell whether a value is a tensor with its numbers in memory, one by one."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _network(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the tensors of the one ResNet-50 among these, without the prefix that its place gives their names."""
    stems = [name.removesuffix(_STEM) for name in tensors if re.fullmatch(rf"(?!.*\blayer\d)(.*\.)?{_STEM}", name)]
    if len(stems) != 1:
        first = min(tensors, default="none")
        found = f"{len(stems)} networks" if stems else f"no network (its first tensor is {first})"
        raise BundleError(
            f"{source}: it holds {found} with the names of DALAResNet50 or of torchvision's ResNet-50; {_SAVE}"
        )
    prefix = stems[0].removesuffix(TRUNK)
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not name.endswith(".num_batches_tracked")
    }
