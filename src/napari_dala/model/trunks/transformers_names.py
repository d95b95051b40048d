"""Tensors of a ViT or DINOv2 as Hugging Face's transformers names them, under timm's names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_MARK = "embeddings.cls_token"
_QKV = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")
_NAMES = {
    r"embeddings\.cls_token": "cls_token",
    r"embeddings\.position_embeddings": "pos_embed",
    r"embeddings\.patch_embeddings\.projection\.(\w+)": r"patch_embed.proj.\1",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)": r"blocks.\1.attn.proj.\2",
    r"encoder\.layer\.(\d+)\.(?:intermediate\.dense|mlp\.fc1|mlp\.weights_in)\.(\w+)": r"blocks.\1.mlp.fc1.\2",
    r"encoder\.layer\.(\d+)\.(?:output\.dense|mlp\.fc2|mlp\.weights_out)\.(\w+)": r"blocks.\1.mlp.fc2.\2",
    r"encoder\.layer\.(\d+)\.(?:layernorm_before|norm1)\.(\w+)": r"blocks.\1.norm1.\2",
    r"encoder\.layer\.(\d+)\.(?:layernorm_after|norm2)\.(\w+)": r"blocks.\1.norm2.\2",
    r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
    r"layernorm\.(\w+)": r"norm.\1",
}


def with_timm_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors, those of transformers' networks under timm's names, behind the prefix that they have.

    Query, key and value are one matrix in timm. Pooler and mask token, which no map needs, are left out.
    """
    prefixes = tuple(name.removesuffix(_MARK) for name in tensors if name.endswith(_MARK))
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)} if prefixes else tensors
    for prefix in prefixes:
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        found |= {f"{prefix}{name}": tensor for name, tensor in _renamed(inside).items()}
    return found


def _renamed(inside: dict[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in inside.items():
        if part := _QKV.fullmatch(name):
            if part[2] == "query":
                three = [inside.get(name.replace(".query.", f".{one}.")) for one in ("query", "key", "value")]
                found[f"blocks.{part[1]}.attn.qkv.{part[3]}"] = torch.cat([one for one in three if one is not None])
            continue
        for theirs, ours in _NAMES.items():
            if match := re.fullmatch(theirs, name):
                found[match.expand(ours)] = tensor
                break
    return found
