"""The slides among files and below folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_dala.slide.backends.dicom import dicom_files
from napari_dala.slide.backends.zarr_store import OME_ZARR_SUFFIXES
from napari_dala.slide.open import OPENSLIDE_SUFFIXES, TIFF_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUFFIXES = tuple(s for s in (*OPENSLIDE_SUFFIXES, *TIFF_SUFFIXES, *OME_ZARR_SUFFIXES) if s != ".dcm")
_ZARR = ".zarr"
_OURS = ("analysis.zarr", "probability.ome.zarr", "dt-grad-cam.ome.zarr")  # results, which lie beside slides at times


def slide_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Give files as they are, and of folders, and the folders in them, what has the ending of a slide, by name.

    A folder of DICOM files is one slide, and so is an OME-Zarr. What is hidden is passed over, and so are photographs
    in a folder, which may be of anything. No file is opened.
    """
    for path in paths:
        if not path.is_dir() or path.name.lower().endswith(_ZARR):
            yield path
            continue
        for root, folders, files in os.walk(path):
            here = Path(root)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if dicom_files(here):
                yield here
            zarrs = [name for name in folders if name.lower().endswith(_ZARR)]
            folders[:] = [name for name in folders if name not in zarrs]
            yield from (here / name for name in zarrs if name not in _OURS)
            for name in sorted(files):
                if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                    yield here / name
