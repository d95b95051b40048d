"""napari-dala: DALAResNet50 and DT Grad-CAM over whole-slide images, in napari.

The public names load lazily (PEP 562): importing this package imports neither torch nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_dala import triton_first

if TYPE_CHECKING:
    __version__: str
    from napari_dala.analysis.control import RunControl
    from napari_dala.analysis.engine import analyze
    from napari_dala.errors import (
        AnnotationError,
        BundleError,
        ClusterError,
        DalaError,
        DatasetError,
        JobError,
        SlideError,
    )
    from napari_dala.inference.predictor import Prediction, Predictor
    from napari_dala.model.bundle import ModelBundle, load_model
    from napari_dala.model.bundle_file import Bundle, Replay
    from napari_dala.model.card import ClassInfo, ModelCard
    from napari_dala.model.dalaresnet import DALAResNet50
    from napari_dala.model.familiarity import Familiarity
    from napari_dala.model.gradcam import grad_cam
    from napari_dala.model.head import HeadNetwork
    from napari_dala.model.threshold import DynamicThreshold, MapLevel, ThresholdedMap
    from napari_dala.results.analysis import Analysis, Spot, Summary
    from napari_dala.results.progress import Progress
    from napari_dala.results.request import AnalysisRequest
    from napari_dala.results.store import AnalysisStore, Setting
    from napari_dala.results.tile_results import RescoredTiles, TileArrays, TileResults, TileStatus
    from napari_dala.slide import Level, Slide, open_slide
    from napari_dala.slide.base import SlideFacts
    from napari_dala.slide.tiles import Measured, TileGrid
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.finetune.finetune import finetune
    from napari_dala.training.finetune.job import FinetuneSettings, Finished, Prepared, SlideExamples

triton_first.watch()

_HOME = {
    "Analysis": "results.analysis",
    "AnalysisRequest": "results.request",
    "AnalysisStore": "results.store",
    "AnnotationError": "errors",
    "Bundle": "model.bundle_file",
    "BundleError": "errors",
    "ClassInfo": "model.card",
    "ClusterError": "errors",
    "DALAResNet50": "model.dalaresnet",
    "DalaError": "errors",
    "DatasetError": "errors",
    "DynamicThreshold": "model.threshold",
    "Epoch": "training.epochs",
    "Familiarity": "model.familiarity",
    "FinetuneSettings": "training.finetune.job",
    "Finished": "training.finetune.job",
    "HeadNetwork": "model.head",
    "JobError": "errors",
    "Level": "slide",
    "MapLevel": "model.threshold",
    "Measured": "slide.tiles",
    "ModelBundle": "model.bundle",
    "ModelCard": "model.card",
    "Prediction": "inference.predictor",
    "Predictor": "inference.predictor",
    "Prepared": "training.finetune.job",
    "Progress": "results.progress",
    "Replay": "model.bundle_file",
    "RescoredTiles": "results.tile_results",
    "RunControl": "analysis.control",
    "Setting": "results.store",
    "Slide": "slide",
    "SlideError": "errors",
    "SlideExamples": "training.finetune.job",
    "SlideFacts": "slide.base",
    "Spot": "results.analysis",
    "Summary": "results.analysis",
    "ThresholdedMap": "model.threshold",
    "TileArrays": "results.tile_results",
    "TileGrid": "slide.tiles",
    "TileResults": "results.tile_results",
    "TileStatus": "results.tile_results",
    "analyze": "analysis.engine",
    "finetune": "training.finetune.finetune",
    "grad_cam": "model.gradcam",
    "load_model": "model.bundle",
    "open_slide": "slide",
}

__all__ = [
    "Analysis",
    "AnalysisRequest",
    "AnalysisStore",
    "AnnotationError",
    "Bundle",
    "BundleError",
    "ClassInfo",
    "ClusterError",
    "DALAResNet50",
    "DalaError",
    "DatasetError",
    "DynamicThreshold",
    "Epoch",
    "Familiarity",
    "FinetuneSettings",
    "Finished",
    "HeadNetwork",
    "JobError",
    "Level",
    "MapLevel",
    "Measured",
    "ModelBundle",
    "ModelCard",
    "Prediction",
    "Predictor",
    "Prepared",
    "Progress",
    "Replay",
    "RescoredTiles",
    "RunControl",
    "Setting",
    "Slide",
    "SlideError",
    "SlideExamples",
    "SlideFacts",
    "Spot",
    "Summary",
    "ThresholdedMap",
    "TileArrays",
    "TileGrid",
    "TileResults",
    "TileStatus",
    "__version__",
    "analyze",
    "finetune",
    "grad_cam",
    "load_model",
    "open_slide",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # a third of what importing this package takes

        return version("napari-dala")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
