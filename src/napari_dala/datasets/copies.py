"""One picture in two classes, or of two patients, told by its bytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_dala.errors import DatasetError
from napari_dala.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from napari_dala.datasets.images import ImageDataset, LabelledImage

_log = logging.getLogger(__name__)


def check_copies(root: Path, dataset: ImageDataset) -> None:
    """Raise `DatasetError` if one picture lies in two classes, and warn if it lies with two patients."""
    shared = 0
    groups: Iterable[list[LabelledImage]] = [list(dataset.images)]
    for key in (_size, _sample, sha256_of):  # each reads more of fewer files
        groups = [same for group in groups for same in _alike(group, key)]
    for first, *copies in groups:
        for copy in copies:
            if copy.label != first.label:
                one, other = (image.path.relative_to(root) for image in (first, copy))
                raise DatasetError(
                    f"{root}: {one} and {other} are the same picture in two classes; remove it where it is wrong"
                )
        shared += any(copy.patient != first.patient for copy in copies)
    if shared:
        _log.warning("%s: %d images lie there under more than one patient: figures may be too good", root, shared)


def _alike(images: Iterable[LabelledImage], key: Callable[[Path], object]) -> Iterator[list[LabelledImage]]:
    found: dict[object, list[LabelledImage]] = {}
    for image in images:
        try:
            found.setdefault(key(image.path), []).append(image)
        except OSError:  # who reads it next says so
            continue
    return (same for same in found.values() if len(same) > 1)


def _size(path: Path) -> object:
    return path.stat().st_size or path  # what is empty is nobody's copy


def _sample(path: Path) -> object:
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        return file.read(4096)
