"""A network's probabilities for whole photographs, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from napari_dala.analysis.predictor import choose_device  # before torch: it sees to triton
from napari_dala.errors import DatasetError
from napari_dala.training.anonymous import patient_key
from napari_dala.training.augment import for_evaluation, read_photograph
from napari_dala.training.metrics import ScoreTable, score

# isort: split
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_dala.model.bundle import ModelBundle
    from napari_dala.model.card import ModelCard
    from napari_dala.training.datasets import ImageDataset

Triple: TypeAlias = tuple[float, float, float]

_SCALE_SLACK = 0.05  # of a tile's resolution, before its photographs are said to be at another one


@dataclass(frozen=True)
class Squares:
    """How photographs become network input.

    Attributes
    ----------
    square_px
        Side of a square in pixels of the photograph.
    tile_px
        Side of the tile that it is scaled to.
    mean, std
        Per channel of pixels scaled to [0, 1].
    """

    square_px: int
    tile_px: int
    mean: Triple
    std: Triple

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
        image = read_photograph(labelled.path)
        return for_evaluation(image, self.squares.square_px, self.squares.tile_px), labelled.label


def joined(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return all views (a photograph's tiles) of some examples, how many each has, and the examples' labels."""
    views, labels = zip(*items, strict=True)
    return torch.cat(views), torch.tensor([len(part) for part in views]), torch.tensor(labels)


def means(values: Tensor, counts: Tensor) -> Tensor:
    """Return the mean row of each example, (examples, C), of values of its views (views, C)."""
    return torch.stack([part.mean(0) for part in torch.split(values, counts.tolist())])


@torch.inference_mode()
def predict(
    network: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int] | NDArray[np.intp],
    squares: Squares,
    *,
    temperature: float = 1.0,
    device: str = "auto",
    batch_size: int = 16,
    workers: int = 0,
    on_progress: Callable[[int, int], object] | None = None,
) -> NDArray[np.float64]:
    """Return the probabilities of photographs, (n, C): the mean over the squares of each, computed in float32.

    Parameters
    ----------
    network
        Put into eval mode and moved to the device.
    dataset, indices
        The photographs, and which of them.
    squares
        How they are read.
    temperature
        Logits are divided by it before the softmax.
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
    rows: list[Tensor] = []
    for tiles, counts, _ in loader:
        logits = network(squares.normalize(tiles.to(place))).float()
        rows.extend(means(torch.softmax(logits / temperature, dim=1), counts).double().cpu())
        if on_progress:
            on_progress(len(rows), len(indices))
    return np.asarray(torch.stack(rows))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a bundle makes of a data set.

    Attributes
    ----------
    table
        The figures; its notes say what must be read beside them.
    probabilities
        (n, C) in the order of the data set's images.
    """

    table: ScoreTable
    probabilities: NDArray[np.float64]


def evaluate(
    bundle: ModelBundle,
    dataset: ImageDataset,
    *,
    device: str = "auto",
    n_boot: int = 2000,
    on_progress: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Score a bundle on photographs, read at its own resolution and tile size.

    Parameters
    ----------
    bundle
        Its classes must be the data set's, in any order and case.
    dataset
        Where its resolution is unknown, a square is as large as the photographs allow, and a note says so.
    device
        "auto" or a torch device.
    n_boot
        Draws of patients for the intervals.
    on_progress
        Told how many of how many photographs are done.

    Raises
    ------
    DatasetError
        If the classes differ or a photograph cannot be read.
    """
    card = bundle.card
    squares, order, notes = fitting(card, dataset)
    everything = range(len(dataset))
    probabilities = predict(
        bundle.network,
        dataset,
        everything,
        squares,
        temperature=card.temperature,
        device=device,
        on_progress=on_progress,
    )[:, order]
    notes += [note for note in (card.warning, seen_before(card.training, dataset, everything)) if note]
    return Evaluation(scored(dataset, everything, probabilities, notes, n_boot=n_boot), probabilities)


def fitting(card: ModelCard, dataset: ImageDataset) -> tuple[Squares, list[int], list[str]]:
    """Return how a bundle reads a data set's photographs: its squares, its place for each class, what must be said.

    Raises
    ------
    DatasetError
        If the classes differ or a photograph is no image.
    """
    order = _order(card.class_names, dataset.classes, card.name)
    side, notes = _side_at(card.mpp, card.tile_px, dataset)
    return Squares(side, card.tile_px, card.mean, card.std), order, notes


def scored(
    dataset: ImageDataset,
    indices: Sequence[int] | NDArray[np.intp],
    probabilities: NDArray[np.float64],
    notes: Sequence[str] = (),
    *,
    n_boot: int = 2000,
) -> ScoreTable:
    """Return the figures of some photographs with intervals by patient, `notes` before the table's own."""
    chosen = np.asarray(indices)
    groups = dataset.patients[chosen] if dataset.patients_known else None
    table = score(dataset.labels[chosen], probabilities, groups=groups, classes=dataset.classes, n_boot=n_boot)
    return replace(table, notes=(*notes, *table.notes))


def typical_side(dataset: ImageDataset) -> int:
    """Return the median of the images' shorter sides in pixels, reading the files' headers only.

    Raises
    ------
    DatasetError
        If one is no image.
    """
    sides = []
    for labelled in dataset.images:
        try:
            with Image.open(labelled.path) as image:
                sides.append(min(image.size))
        except (OSError, UnidentifiedImageError) as error:
            raise DatasetError(f"{labelled.path}: this image cannot be read ({error})") from None
    return round(float(np.median(sides)))


def _order(of_bundle: Sequence[str], of_dataset: Sequence[str], name: str) -> list[int]:
    """Return where the bundle has each class of the data set."""
    places = {known.casefold(): place for place, known in enumerate(of_bundle)}
    if sorted(places) != sorted(known.casefold() for known in of_dataset):
        raise DatasetError(
            f"{name} tells apart {', '.join(of_bundle)}, the data set {', '.join(of_dataset)}; both must be the same"
        )
    return [places[known.casefold()] for known in of_dataset]


def _side_at(mpp: float, tile_px: int, dataset: ImageDataset) -> tuple[int, list[str]]:
    """Return the side of a tile in pixels of the photographs, and what must be said about it."""
    shorter = typical_side(dataset)
    if dataset.mpp is None:
        return shorter, [f"resolution unknown: a tile is a square of {shorter} px, as large as the photographs allow"]
    wanted = tile_px * mpp / dataset.mpp
    if wanted > shorter * (1 + _SCALE_SLACK):
        return shorter, [
            f"the photographs are smaller than a tile of the model: it was given {shorter * dataset.mpp / tile_px:.3f} "
            f"um/px instead of its {mpp:.3f}"
        ]
    return min(round(wanted), shorter), []


def seen_before(
    training: dict[str, Any], dataset: ImageDataset, indices: Sequence[int] | NDArray[np.intp]
) -> str | None:
    """Say how many of some photographs' patients the model was trained on, by its own card; None where it is none."""
    known = training.get("patients_trained")
    if not isinstance(known, list):
        return "the model's card does not name the patients it was trained on: some of these may be among them"
    there = {patient_key(str(patient)) for patient in dataset.patients[np.asarray(indices)]}
    seen = len(there & {str(key) for key in known})
    if not seen:
        return None
    unit = "patients" if dataset.patients_known else "images"
    return f"the model was trained on {seen} of these {len(there)} {unit}: the figures come out too good"
