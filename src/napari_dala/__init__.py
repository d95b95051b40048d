"""napari-dala: DALAResNet50 and DT Grad-CAM over whole-slide images, in napari.

The public names, listed in `__init__.pyi`, load when they are used (PEP 562): importing this package imports neither
torch nor Qt.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

from napari_dala import triton_first

triton_first.watch()
_load, _names, _public = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_public]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes longer than all else here

        return version("napari-dala")
    return _load(name)


def __dir__() -> list[str]:
    return sorted(__all__)
