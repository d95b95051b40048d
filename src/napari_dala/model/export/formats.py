"""The forms in which a model leaves, and what programs read of it: WSInfer's configuration, properties in the file."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from napari_dala import __version__

if TYPE_CHECKING:
    from napari_dala.model.card import ModelCard

INPUT = "image"
"""Name of an ONNX file's input: (n, 3, tile, tile) float32, RGB from 0 to 1."""
OUTPUTS = ("probability", "gradcam")
"""Names of an ONNX file's outputs: (n, classes) and (n, classes, h, w), float32."""
CONFIG = "config.json"
"""File of `wsinfer_config`; WSInfer's model zoo and QuPath look for this name."""
README = "README.md"
"""The page in plain words; QuPath shows a file of this name beside a model."""
PROPERTIES = "model.json"
"""File of the `properties` within a TorchScript file."""


class ExportFormat(StrEnum):
    """A form in which a model leaves; each takes RGB from 0 to 1, normalised inside."""

    WSINFER = "wsinfer"
    """TorchScript that gives logits over the temperature, of which WSInfer and QuPath take the softmax."""
    TORCHSCRIPT = "torchscript"
    """TorchScript that gives probabilities."""
    ONNX = "onnx"
    """ONNX that gives probabilities and Grad-CAM maps."""

    @property
    def label(self) -> str:
        """Its name for people."""
        return {"wsinfer": "WSInfer and QuPath", "torchscript": "TorchScript", "onnx": "ONNX"}[self.value]

    @property
    def file_name(self) -> str:
        """Of the network in the folder of the export; WSInfer's model zoo and QuPath look for theirs."""
        return {"wsinfer": "torchscript_model.pt", "torchscript": "model.pt", "onnx": "model.onnx"}[self.value]

    @property
    def output(self) -> str:
        """What the network gives for n tiles, in words."""
        return {
            "wsinfer": "logits (n, classes), divided by the temperature: their softmax is the probability",
            "torchscript": "probability (n, classes)",
            "onnx": "probability (n, classes); gradcam (n, classes, h, w), not negative, in units of the logit",
        }[self.value]


def wsinfer_config(card: ModelCard) -> dict[str, Any]:
    """Return WSInfer's configuration of a model, by its schema of version 1.0 (`wsinfer-zoo validate-config`).

    QuPath and WSInfer resize a tile to `Resize` and scale it to [0, 1] (`ToTensor`); normalisation is in the network,
    so that nobody can leave it out or do it twice. Both take the softmax of what the network gives; `apply_softmax`
    says so to those versions of QuPath's extension that read it.
    """
    return {
        "spec_version": "1.0",
        "architecture": card.architecture,
        "num_classes": len(card.classes),
        "class_names": list(card.class_names),
        "patch_size_pixels": card.tile_px,
        "spacing_um_px": card.mpp,
        "apply_softmax": True,
        "transform": [{"name": "Resize", "arguments": {"size": card.tile_px}}, {"name": "ToTensor"}],
    }


def properties(card: ModelCard, bundle_hash: str, to: ExportFormat) -> dict[str, str]:
    """Return what a file says of itself: ONNX's metadata, a TorchScript file's `model.json`."""
    return {
        "model": card.name,
        "hash": bundle_hash,
        "exported_by": f"napari-dala {__version__}",
        "intended_use": card.intended_use,
        "input": "RGB, float32 from 0 to 1, (n, 3, tile_px, tile_px); it is normalised inside",
        "output": to.output,
        "class_names": json.dumps(card.class_names, ensure_ascii=False),
        "target_class": card.class_names[card.target_class],
        "operating_threshold": repr(card.operating_threshold),
        "temperature": repr(card.temperature),
        "tile_px": str(card.tile_px),
        "mpp": repr(card.mpp),
    }
