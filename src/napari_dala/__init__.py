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
    from napari_dala.errors import BundleError, DalaError, SlideError
    from napari_dala.model.bundle import ModelBundle, load_model
    from napari_dala.model.gradcam import grad_cam
    from napari_dala.model.threshold import DynamicThreshold, ThresholdedMap
    from napari_dala.results.analysis import Analysis
    from napari_dala.slide import Slide, open_slide
    from napari_dala.training.finetune.finetune import finetune

triton_first.watch()

_HOME = {
    "Analysis": "results.analysis",
    "BundleError": "errors",
    "DalaError": "errors",
    "DynamicThreshold": "model.threshold",
    "ModelBundle": "model.bundle",
    "RunControl": "analysis.control",
    "Slide": "slide",
    "SlideError": "errors",
    "ThresholdedMap": "model.threshold",
    "analyze": "analysis.engine",
    "finetune": "training.finetune.finetune",
    "grad_cam": "model.gradcam",
    "load_model": "model.bundle",
    "open_slide": "slide",
}

__all__ = [
    "Analysis",
    "BundleError",
    "DalaError",
    "DynamicThreshold",
    "ModelBundle",
    "RunControl",
    "Slide",
    "SlideError",
    "ThresholdedMap",
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
