"""What training needs of each tile, computed once and kept in a job's folder until the job is done.

A file of rows (.npy) is written whole or not at all, and read row by row through ordinary reads: a memory map of it
would end the process where the disk has no room, and could not be removed on Windows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor
from torch.utils.data import Dataset

from napari_dala.files import replacing
from napari_dala.inference.predictor import Predictor
from napari_dala.jobs.state import job_errors
from napari_dala.model.weights import digest
from napari_dala.training.learner import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Self

    from numpy.typing import DTypeLike, NDArray

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.training.finetune.gather import LabelledTiles
    from napari_dala.training.finetune.job import FinetuneSettings


Kind: TypeAlias = Literal["layer3", "pixels"]

_CHANNELS, _STRIDE = 1024, 16  # of layer3
_STEP = 8  # tiles at a time


def tile_rows(
    folder: Path,
    kind: Kind,
    bundle: ModelBundle,
    tiles: LabelledTiles,
    indices: NDArray[np.intp],
    settings: FinetuneSettings,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Return a .npy file with a row for each of some tiles, which is made unless it is there.

    Parameters
    ----------
    folder
        Where to keep it, under a name that no other rows have.
    kind
        "layer3": the trunk's maps after layer3, (n, tile_px / 16, tile_px / 16, 1024) float16, computed at the job's
        precision; "pixels": (n, tile_px, tile_px, 3) uint8.
    bundle, tiles, settings
        Whose trunk, which tiles, on which device and at which precision.
    indices
        (n,) which of the tiles.
    should_stop
        Asked before every few tiles.

    Raises
    ------
    Stopped
        If it was asked to stop; no file is left then.
    DalaError
        If a tile cannot be read, the disk is full or the folder cannot be written.
    """
    examples, side = tiles.examples, bundle.card.tile_px
    places = [getattr(examples, name)[indices].tolist() for name in ("slide", "row", "column")]
    key = digest({}, f"{kind} {bundle.trunk_hash} {settings.precision} {places}")
    path = folder / f"{kind}-{key[:16]}.npy"
    if path.exists():
        return path
    for other in folder.glob(f"{kind}-*.npy"):  # of an earlier start, when the annotated slides had other tiles
        other.unlink()

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(indices), _STEP):
            if should_stop and should_stop():
                raise Stopped
            yield np.stack([tiles.read(index) for index in indices[start : start + _STEP].tolist()])

    if kind == "pixels":
        write_rows(path, (len(indices), side, side, 3), np.uint8, pixels())
    else:
        cells = side // _STRIDE
        maps = _layer3(Predictor(bundle, settings.device, settings.precision), pixels())
        write_rows(path, (len(indices), cells, cells, _CHANNELS), np.float16, maps)
    return path


def write_rows(path: Path, shape: tuple[int, ...], dtype: DTypeLike, blocks: Iterable[NDArray[np.generic]]) -> None:
    """Write an array of this shape and type, given as blocks of rows; where they raise, no file is left.

    Raises
    ------
    JobError
        If the disk is full or the folder cannot be written.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with job_errors(path), replacing(path) as temporary, temporary.open("wb") as file:
        npy.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)


class RowFile:
    """The rows of a file that `write_rows` wrote, as a context that closes it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        npy.read_magic(self._file)
        shape, _, self._dtype = npy.read_array_header_1_0(self._file)
        self._start, self._shape = self._file.tell(), shape[1:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Return one row, new in memory."""
        count = math.prod(self._shape)
        self._file.seek(self._start + index * count * self._dtype.itemsize)
        return np.fromfile(self._file, self._dtype, count).reshape(self._shape)


def _layer3(predictor: Predictor, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float16]]:
    trunk: Any = predictor.trunk
    for block in blocks:
        with torch.inference_mode():
            maps = trunk[:-1](predictor.inputs(block))
            yield maps.permute(0, 2, 3, 1).half().cpu().numpy()


class CachedTiles:
    """Tiles with a row each, (h, w, channels); a `learner.ExampleSource`.

    Parameters
    ----------
    rows
        Of n tiles: pixels, or maps of features.
    labels
        (n,) class of each.
    classes
        How many there are.
    train
        So many, the first ones, are to learn from, the others to be judged on.
    to_input
        Gives the network's input for some rows.
    augment
        Gives another view of (channels, h, w); None where rows are learned from as they are.
    """

    def __init__(
        self,
        rows: RowFile,
        labels: NDArray[np.intp],
        classes: int,
        train: int,
        to_input: Callable[[Tensor], Tensor],
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.rows, self.classes, self.labels = rows, classes, labels[:train]
        self.groups = np.zeros(train, np.intp)  # whose they are does not matter
        self.held_out = _HeldOut(rows, labels, train)
        self.to_input, self.augment = to_input, augment

    def row(self, index: int) -> Tensor:
        """Return a tile to learn from as it is, (h, w, channels)."""
        return torch.from_numpy(self.rows[index])

    def example(self, index: int) -> Tensor:
        """Return a tile to learn from, (h, w, channels)."""
        row = self.row(index)
        return row if self.augment is None else self.augment(row.permute(2, 0, 1)).permute(1, 2, 0)

    def inputs(self, batch: Tensor) -> Tensor:
        """Return the network's input for rows (n, h, w, channels)."""
        return self.to_input(batch)


class _HeldOut(Dataset[tuple[Tensor, int]]):
    """The one view of each tile to be judged on, (1, h, w, channels), and its label."""

    def __init__(self, rows: RowFile, labels: NDArray[np.intp], first: int) -> None:
        self.rows, self.labels, self.first = rows, labels, first

    def __len__(self) -> int:
        return len(self.labels) - self.first

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        index = self.first + place
        return torch.from_numpy(self.rows[index])[None], int(self.labels[index])
