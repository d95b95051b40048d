"""Pretrained weights that lie on this machine already; nothing is ever downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from napari_dala.errors import BundleError
from napari_dala.model.trunks.importing import fitted
from napari_dala.training.networks.timm import DinoV2


@dataclass(frozen=True)
class Pretrained:
    """Which weights a network can begin with, and what of them fits it.

    Attributes
    ----------
    name
        Of the network that has them, in its library.
    library
        "torchvision" (its file lies in torch's hub folder) or "timm" (there, or in Hugging Face's cache).
    prefix
        Where that network sits in ours.
    left_out
        Beginnings of that network's names that have no place in ours.
    own
        Beginnings of our names that the file need not have.
    of
        What they were trained on.
    """

    name: str
    library: str = "torchvision"
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    of: str = "ImageNet"


def load_pretrained(network: nn.Module, name: str, source: Pretrained) -> str:
    """Put pretrained weights into a network if they are on this machine.

    Parameters
    ----------
    network
        Changed in place.
    name
        Of the network, for messages.
    source
        See there.

    Returns
    -------
    str
        Which weights these are, or that there are none and where they were looked for.

    Raises
    ------
    BundleError
        If the file is damaged or does not fit.
    """
    path, looked_for = _find(source)
    if path is None:
        return f"no {source.of} weights: {looked_for}; training starts from scratch"
    try:
        inner = network.vit if isinstance(network, DinoV2) else network
        weights = fitted(_read(path), inner)
        weights = {
            source.prefix + key: tensor for key, tensor in weights.items() if not key.startswith(source.left_out)
        }
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except (RuntimeError, UnpicklingError, SafetensorError, OSError, EOFError, KeyError, AttributeError) as error:
        raise BundleError(f"{path}: not the {source.of} weights of {name} ({_first_line(error)})") from None
    lacking = [key for key in missing if not key.startswith(source.own) and not key.endswith("num_batches_tracked")]
    if lacking or unexpected:
        raise BundleError(f"{path}: not the {source.of} weights of {name} (see {(lacking + unexpected)[0]})")
    return f"{source.of} weights from {path.name}"


def _find(source: Pretrained) -> tuple[Path | None, str]:
    """Return the file, or None and why there is none."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if source.library == "torchvision":
        url = models.get_model_weights(source.name).IMAGENET1K_V1.url
        path = folder / Path(url).name
        return (path if path.is_file() else None), f"{_from_home(path)} is not there (from {url})"
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    origin: Any = get_pretrained_cfg(source.name)
    path = folder / Path(origin.url).name
    cached = try_to_load_from_cache(origin.hf_hub_id, "model.safetensors")
    found = Path(cached) if isinstance(cached, str) else path
    looked_for = f"{_from_home(path)} is not there, nor {origin.hf_hub_id} in Hugging Face's cache (from {origin.url})"
    return (found if found.is_file() else None), looked_for


def _from_home(path: Path) -> str:
    """Return a path without the user's name: it is kept in model cards."""
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["it ends too early"])[0]
