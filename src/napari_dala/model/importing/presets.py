"""How weights from elsewhere read pixels, and where they come from, by a name. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from napari_dala.model.card import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Preset:
    """What a file of weights does not say of itself.

    Attributes
    ----------
    mean, std
        Per channel (red, green, blue) of pixels scaled to [0, 1].
    files
        Matches the names that its files are published under.
    trunks
        Names of networks that are published with it.
    data, licence, citation
        For the model card.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    files: str = "(?!)"
    trunks: tuple[str, ...] = ()
    data: str = ""
    licence: str = ""
    citation: str = ""


IMAGENET = "imagenet"
USUAL_MPP = 0.5
"""Micrometres per pixel that is proposed for a trunk that has none of its own: that of a 20x scan."""
PRESETS = {
    IMAGENET: Preset(IMAGENET_MEAN, IMAGENET_STD),
    "lunit": Preset(
        mean=(0.70322989, 0.53606487, 0.66096631),
        std=(0.21716536, 0.26081574, 0.20723464),
        files=r"(bt|mocov2|swav)_rn50_ep200",
        data="The trunk: 19 million patches of TCGA's slides, without labels (Barlow Twins, MoCo v2 or SwAV).",
        licence="The trunk: Lunit's public licence, research only, not commercial.",
        citation="Kang et al. 2023, Benchmarking Self-Supervised Learning on Diverse Pathology Datasets, CVPR, "
        "arXiv 2212.04690",
    ),
    "h-optimus": Preset(
        mean=(0.707223, 0.578729, 0.703617),
        std=(0.211883, 0.230117, 0.177517),
        trunks=("h-optimus-0",),
        citation="The trunk: Bioptimus 2024, H-optimus-0",
    ),
}
"""ImageNet's normalisation, which torchvision's and timm's ResNet-50 have, and that of pathology's own weights."""


def preset_of(file_name: str, trunk: str) -> str:
    """Return the name of the preset that a network, or a file of such a name, is published with; else ImageNet's."""
    fits = (name for name, one in PRESETS.items() if trunk in one.trunks or re.match(one.files, file_name))
    return next(fits, IMAGENET)
