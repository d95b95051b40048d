"""Photographs as the network reads them: squares at a scale, what it makes of these, and the figures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from napari_dala.errors import DatasetError
from napari_dala.inference.devices import choose_device
from napari_dala.metrics.scores import ScoreTable, score
from napari_dala.training.photographs.augment import for_evaluation, read_photograph
from napari_dala.training.views import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset, LabelledImage


Triple: TypeAlias = tuple[float, float, float]
MOST_ENLARGED = 2.0
"""Beyond this a photograph is too coarse for a model, as a slide is (`TileGrid`)."""
_ENLARGED = 1.1  # beyond this it is said


@dataclass(frozen=True)
class Squares:
    """How photographs become network input.

    Attributes
    ----------
    tile_px
        Side of a tile.
    mean, std
        Per channel of pixels scaled to [0, 1].
    mpp
        Micrometres per pixel of a tile: each photograph is cut into all its tiles at this scale. None where the
        photographs' resolution is unknown.
    square_px
        Without `mpp`, the side in pixels of a photograph of what is scaled to a tile; of a smaller photograph, its
        shorter side.
    """

    tile_px: int
    mean: Triple
    std: Triple
    mpp: float | None = None
    square_px: int = 0

    def side(self, labelled: LabelledImage, width: int, height: int) -> float:
        """Return the side of a tile in pixels of a photograph, which has so many pixels.

        Raises
        ------
        DatasetError
            If the photograph shows less than half a tile, or would have to be enlarged more than twofold.
        """
        if self.mpp is None:
            return min(self.square_px, width, height)
        own = labelled.mpp_at(width, height)
        assert own is not None, "squares at a scale are of photographs whose scale is known"
        side = self.tile_px * self.mpp / own
        if side > 2 * min(width, height):
            raise DatasetError(
                f"{labelled.path}: it shows {min(width, height) * own:.0f} um of tissue, less than half a tile of the "
                f"model ({self.tile_px * self.mpp:.0f} um); take photographs at a lower --magnification, or train at a "
                "finer --model-mpp"
            )
        if own > self.mpp * MOST_ENLARGED:
            raise DatasetError(
                f"{labelled.path}: it has {own:.2f} um/px, the model needs {self.mpp:.2f}, more than twice as fine; "
                "take photographs at a higher --magnification, or train at a coarser --model-mpp"
            )
        return side

    def normalize(self, tiles: Tensor) -> Tensor:
        """Return network input (n, 3, h, w) float32, channels last, for tiles (n, 3, h, w) uint8."""
        mean, std = (torch.tensor(v, device=tiles.device)[:, None, None] * 255 for v in (self.mean, self.std))
        return ((tiles - mean) / std).contiguous(memory_format=torch.channels_last)


class FixedSquares(Dataset[tuple[Tensor, int]]):
    """The squares that cover each photograph, (n, 3, tile_px, tile_px) uint8, and its label."""

    def __init__(self, dataset: ImageDataset, indices: Sequence[int] | NDArray[np.intp], squares: Squares) -> None:
        self.dataset, self.squares = dataset, squares
        self.indices = [int(index) for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        labelled = self.dataset.images[self.indices[place]]
        image = read_photograph(labelled.path, icc_profile=labelled.icc_profile)
        side = self.squares.side(labelled, image.shape[2], image.shape[1])
        return for_evaluation(image, side, self.squares.tile_px), labelled.label


def middle_tile(labelled: LabelledImage, squares: Squares) -> NDArray[np.uint8]:
    """Return the square in the middle of a photograph as a tile, (tile_px, tile_px, 3).

    Raises
    ------
    DatasetError
        If the photograph cannot be read or brought to the scale, see `Squares.side`.
    """
    image = read_photograph(labelled.path, icc_profile=labelled.icc_profile)
    height, width = image.shape[-2:]
    side = round(squares.side(labelled, width, height))
    rows, columns = min(side, height), min(side, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    tile = for_evaluation(image[..., top : top + rows, left : left + columns], side, squares.tile_px)[0]
    return np.ascontiguousarray(tile.permute(1, 2, 0).numpy())


@dataclass(frozen=True, eq=False)
class TileLogits:
    """What a network makes of the tiles of some photographs.

    Attributes
    ----------
    logits
        (tiles, C) float64, photograph by photograph.
    counts
        (photographs,) how many tiles each has.
    """

    logits: NDArray[np.float64]
    counts: NDArray[np.intp]

    def of_photographs(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """Return the probabilities of photographs, (n, C): the mean over the tiles of each."""
        firsts = np.cumsum(self.counts) - self.counts
        return np.add.reduceat(softmax(self.logits / temperature, axis=1), firsts) / self.counts[:, None]


@torch.inference_mode()
def predict_photographs(
    network: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int] | NDArray[np.intp],
    squares: Squares,
    *,
    device: str = "auto",
    batch_size: int = 16,
    workers: int = 0,
    on_progress: Callable[[int, int], object] | None = None,
) -> TileLogits:
    """Return what a network makes of the squares of photographs, computed in float32.

    Parameters
    ----------
    network
        Put into eval mode and moved to the device.
    dataset, indices
        The photographs, at least one, and which of them.
    squares
        How they are read.
    device
        "auto" or a torch device.
    batch_size
        Photographs at a time.
    workers
        Processes that read photographs; 0 reads them here.
    on_progress
        Told how many of how many photographs are done.
    """
    place = choose_device(device)
    network.eval().to(place)
    loader: DataLoader[Any] = DataLoader(
        FixedSquares(dataset, indices, squares), batch_size, collate_fn=joined, num_workers=workers
    )
    logits: list[Tensor] = []
    counts: list[Tensor] = []
    for tiles, of_each, _ in loader:
        logits.append(network(squares.normalize(tiles.to(place))).double().cpu())
        counts.append(of_each)
        if on_progress:
            on_progress(sum(map(len, counts)), len(indices))
    return TileLogits(torch.cat(logits).numpy(), torch.cat(counts).numpy().astype(np.intp))


def squares_at(mpp: float, dataset: ImageDataset, tile_px: int, mean: Triple, std: Triple) -> tuple[Squares, list[str]]:
    """Return how photographs are read at a scale (um/px), and what must be said about it.

    Raises
    ------
    DatasetError
        If a photograph is no image or cannot be brought to the scale, see `Squares.side`.
    """
    sizes = image_sizes(dataset)
    if dataset.mpp is None:
        shorter = typical_side(sizes)
        note = f"resolution unknown: a tile is a square of {shorter} px, as large as the photographs allow"
        return Squares(tile_px, mean, std, square_px=shorter), [note]
    squares = Squares(tile_px, mean, std, mpp)
    sides = [squares.side(image, *size) for image, size in zip(dataset.images, sizes, strict=True)]
    smaller = sum(side > min(size) + 1 for side, size in zip(sides, sizes, strict=True))
    enlarged = sum(side < tile_px / _ENLARGED for side in sides)
    notes = []
    if smaller:
        notes.append(
            f"{smaller} of {len(sides)} photographs are smaller than a tile of the model: their edges were mirrored"
        )
    if enlarged:
        notes.append(
            f"{enlarged} of {len(sides)} photographs are coarser than the model's {mpp:.2f} um/px and were enlarged"
        )
    return squares, notes


def scored(
    dataset: ImageDataset,
    indices: Sequence[int] | NDArray[np.intp],
    probabilities: NDArray[np.float64],
    notes: Sequence[str] = (),
    threshold: tuple[float, int] | None = None,
    *,
    n_boot: int = 2000,
) -> ScoreTable:
    """Return the figures of some photographs with intervals by patient, `notes` before the table's own.

    `threshold` is one and the class that it is of; without, the likeliest class counts.
    """
    chosen = np.asarray(indices)
    table = score(
        dataset.labels[chosen],
        probabilities,
        threshold=threshold and threshold[0],
        target=threshold and threshold[1],
        groups=dataset.patients[chosen] if dataset.patients_known else None,
        classes=dataset.classes,
        n_boot=n_boot,
    )
    return replace(table, notes=(*notes, *table.notes))


def scored_by_set(
    dataset: ImageDataset,
    indices: Sequence[int] | NDArray[np.intp],
    probabilities: NDArray[np.float64],
    threshold: tuple[float, int] | None = None,
    *,
    n_boot: int = 2000,
) -> dict[str, ScoreTable]:
    """Return the figures of each data set by its name, as `scored` gives them; none where there is one set only."""
    chosen = np.asarray(indices)
    sources = dataset.sources[chosen]
    names = sorted(set(sources.tolist()))
    return {
        name: scored(dataset, chosen[sources == name], probabilities[sources == name], (), threshold, n_boot=n_boot)
        for name in names[: len(names) if len(names) > 1 else 0]
    }


def image_sizes(dataset: ImageDataset) -> list[tuple[int, int]]:
    """Return width and height of every image in pixels, from the files' headers where Pillow can read them.

    Raises
    ------
    DatasetError
        If one cannot be read.
    """
    return [_size_of(labelled.path) for labelled in dataset.images]


def _size_of(path: Path) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.size
    except Exception:  # decoders raise what they like; our own reader takes more kinds, or says what is wrong
        _, height, width = read_photograph(path).shape
        return width, height


def typical_side(sizes: Sequence[tuple[int, int]]) -> int:
    """Return the median of the images' shorter sides in pixels."""
    return round(float(np.median([min(size) for size in sizes])))
