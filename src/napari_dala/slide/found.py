"""The slides among files and below folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_dala.slide.backends.dicom import dicom_files
from napari_dala.slide.open import OPENSLIDE_SUFFIXES, TIFF_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUFFIXES = tuple(suffix for suffix in (*OPENSLIDE_SUFFIXES, *TIFF_SUFFIXES) if suffix != ".dcm")


def slide_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Give files as they are, and of folders, and the folders in them, what has the ending of a slide, by name.

    A folder of DICOM files is one slide. What is hidden is passed over, and so are photographs in a folder, which may
    be of anything. No file is opened.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for root, folders, files in os.walk(path):
            here = Path(root)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if dicom_files(here):
                yield here
            for name in sorted(files):
                if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                    yield here / name
