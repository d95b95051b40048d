"""Which device and precision the network runs in."""

from __future__ import annotations

import os
from typing import Any

import torch

from napari_dala.errors import DalaError

PRECISIONS = ("auto", "fp32", "bf16")


def choose_device(name: str) -> torch.device:
    """Return the torch device for "auto" or a name; DalaError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ", ".join(entry["name"] for entry in devices())
        raise DalaError(f"device “{name}” is not there; there is: {there}") from error
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return "fp32" or "bf16"; "auto" takes bf16 only where the hardware computes in it."""
    if name not in PRECISIONS:
        raise DalaError(f"precision “{name}”: choose one of {', '.join(PRECISIONS)}")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and processor_has_bf16() else "fp32"


def processor_has_bf16() -> bool:
    """Return True where the processor multiplies bf16 itself (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def devices() -> list[dict[str, Any]]:
    """Return the devices to choose from: `name` for torch, `kind` for people."""
    found = [{"name": "cpu", "kind": f"processor, {os.cpu_count()} cores"}]
    found += [
        {"name": f"cuda:{index}", "kind": torch.cuda.get_device_name(index)}
        for index in range(torch.cuda.device_count())
    ]
    if torch.mps.is_available():
        found.append({"name": "mps", "kind": "Apple GPU"})
    return found
