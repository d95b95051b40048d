"""The trunks that a bundle can have, by name, and the spelling of timm's on a card. No torch.

A trunk takes pixels and gives a map F (C, h, w). All that follows it (attention, head, Grad-CAM, familiarity, quick
learning, the store) knows of it C (`ModelCard.channels`) and the side of a cell in pixels (`ModelCard.cell_px`).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import parse_qsl

from napari_dala.errors import BundleError

RESNET50: Final = "dalaresnet50"
"""`ModelCard.architecture` of the paper's network: torchvision's ResNet-50."""
CHANNELS, CELL_PX = 2048, 32
"""Of ResNet-50's layer4: channels of its map, and pixels along a side of a cell."""
TORCHVISION = (RESNET50, "densenet121", "swin_t", "vit_b_16")
"""Trunks that torchvision builds."""
TIMM = "timm/"
"""How the architecture of a trunk of timm's begins: timm/NAME or timm/NAME?option=value&option=value."""

_SWIGLU = "mlp_layer=SwiGLUPacked&act_layer=silu"
NAMED = {
    "resnet50": RESNET50,
    **{name: name for name in TORCHVISION if name != RESNET50},
    "seresnet50": "timm/seresnet50",
    "dinov2_vitb14": "timm/vit_base_patch14_dinov2",
    "uni": "timm/vit_large_patch16_224?init_values=1e-05",
    "uni2-h": "timm/vit_giant_patch14_224?depth=24&num_heads=24&init_values=1e-05&embed_dim=1536&mlp_ratio=5.33334"
    f"&no_embed_class=true&{_SWIGLU}&reg_tokens=8",
    "virchow": f"timm/vit_huge_patch14_224?init_values=1e-05&mlp_ratio=5.3375&{_SWIGLU}",
    "virchow2": f"timm/vit_huge_patch14_224?init_values=1e-05&mlp_ratio=5.3375&reg_tokens=4&{_SWIGLU}",
    "h-optimus-0": "timm/vit_giant_patch14_reg4_dinov2",
    "phikon": "timm/vit_base_patch16_224",
    "phikon-v2": "timm/vit_large_patch16_224?init_values=1e-05",
    "ctranspath": "timm/swin_tiny_patch4_window7_224?stem=convolutional",
}
"""Architectures by the names that people call them by."""

_OPTIONS: dict[str, tuple[str, ...]] = {  # each with the words that it may have; without, it has numbers
    "act_layer": ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu"),
    "class_token": (),
    "depth": (),
    "embed_dim": (),
    "global_pool": ("avg", "token"),
    "init_values": (),
    "mlp_layer": ("Mlp", "SwiGLU", "SwiGLUPacked"),
    "mlp_ratio": (),
    "no_embed_class": (),
    "num_heads": (),
    "patch_size": (),
    "reg_tokens": (),
    "stem": ("convolutional",),
}
_LARGEST = 8192  # value of an option


def architecture_of(name: str) -> str:
    """Return the architecture of a trunk that is called by its name in `NAMED`, or written timm/NAME.

    Raises
    ------
    BundleError
        If there is none; the line lists those that there are.
    """
    found = NAMED.get(name, name)
    if not is_architecture(found):
        raise BundleError(
            f"{name}: there is no trunk of this name; there are {', '.join(NAMED)}, and any of timm's as timm/NAME"
        )
    return found


def is_architecture(text: str) -> bool:
    """Tell whether a card may have this architecture; whether timm knows such a network shows when it is built."""
    if text in TORCHVISION:
        return True
    try:
        timm_parts(text)
    except ValueError:
        return False
    return True


def timm_parts(architecture: str) -> tuple[str, dict[str, Any]]:
    """Return the name of timm's network and the options to make it with.

    A card comes from anywhere: nothing but a plain name (no hub, no folder) and these options is let through.

    Of these options "stem" is ours, not timm's: see `building.convolutional_stem`.

    Raises
    ------
    ValueError
        If it is not spelt like that.
    """
    match = re.fullmatch(rf"{TIMM}([a-z0-9_]+)(?:\?([\w.=&+-]*))?", architecture)
    if match is None or len(architecture) > 400:
        raise ValueError("a trunk of timm's is spelt timm/NAME or timm/NAME?option=value")
    options = {key: _value(key, text) for key, text in parse_qsl(match[2] or "", strict_parsing=bool(match[2]))}
    return match[1], options


def _value(key: str, text: str) -> Any:
    if key not in _OPTIONS:
        raise ValueError(f"the option {key} is not known; there are {', '.join(sorted(_OPTIONS))}")
    if words := _OPTIONS[key]:
        if text not in words:
            raise ValueError(f"{key} is one of {', '.join(words)}")
        return text
    value = json.loads(text)
    if not isinstance(value, (bool, int, float)) or not abs(value) <= _LARGEST:
        raise ValueError(f"{key} is a number of at most {_LARGEST}, true or false")
    return value
