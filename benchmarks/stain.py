"""Measure whether adapting to a slide's stain helps on patients, or a laboratory, that a model never saw.

    python -m benchmarks.stain --data DATA --runs RUNS [--breakhis A.safetensors] [--most 3] --out OUT

Each slide (of BreakHis a patient's photographs, of UCSB the fields of one array and day) is read as it is, and adapted
by what can be known of it without a label: its colours after Reinhard et al. 2001 (doi 10.1109/38.946629) or its stains
after Macenko et al. 2009 (doi 10.1109/ISBI.2009.5193250) brought to those of the training photographs, or the network's
batch norm statistics moved towards the slide's, after Schneider et al. 2020 (arXiv 2006.16971). Judged are the folds'
models of `scripts/train_default.py` (RUNS) on patients they left out, as they are and stained otherwise on the computer
(each slide its own way, more than training varied it), and a model of BreakHis alone (A, as in docs/results.md) on
UCSB. OUT gets stain.json and stain.md. Of each patient at most `--most` photographs.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.color import lab2rgb, rgb2lab
from torch import nn

from napari_dala.evaluation.tables import Table, signed
from napari_dala.files import write_json, write_text
from napari_dala.inference.devices import choose_device, choose_precision
from napari_dala.metrics.operating import best_gmean, operating_points
from napari_dala.metrics.paired import paired_differences
from napari_dala.metrics.temperature import fit_temperature
from napari_dala.model.bundle import ModelBundle, load_bundle
from napari_dala.training.photographs.augment import StainJitter
from napari_dala.training.photographs.squares import FixedSquares, Squares, TileLogits, scored
from napari_dala.training.views import joined
from scripts.train_default import BITS, FOLDS, data_of, folds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset

    Floats = NDArray[np.float64]
    Tiles = NDArray[np.uint8]  # (n, h, w, 3)
    Recolour = Callable[[Tiles], Tiles]

PLAIN, REINHARD, MACENKO, BATCH_NORM = WAYS = ("as it is", "Reinhard", "Macenko", "batch norm")
TARGET_PHOTOGRAPHS = 60  # of the training side, patients alike
STAINED = 0.15  # optical density (base e) from which a pixel is tissue; Macenko's beta
EXTREMES = (1, 99)  # percentiles of the angles between stains and of their amounts; Macenko's alpha
FITTED_PX = 200_000
SOURCE_WEIGHT = 16  # tiles that the trained statistics count as; Schneider's N
OTHERWISE = StainJitter(0.6, 0.05)


@dataclass(frozen=True)
class Look:
    """What is known of the colours of a slide, or of the training photographs.

    Attributes
    ----------
    mean, spread
        (3,) of CIELAB, over the tissue.
    stains
        (2, 3) optical densities (base e) of haematoxylin and eosin, of length 1.
    most
        (2,) their amounts in the 99th percentile.
    """

    mean: Floats
    spread: Floats
    stains: Floats
    most: Floats

    @classmethod
    def of(cls, tiles: Tiles) -> Look:
        """Look at the tissue of some tiles."""
        pixels = tiles.reshape(-1, 3)
        pixels = pixels[:: max(1, len(pixels) // FITTED_PX)]
        density = density_of(pixels)
        is_tissue = density.min(1) > STAINED if (density.min(1) > STAINED).sum() > 1000 else density.min(1) >= 0
        lab = rgb2lab(pixels[is_tissue])
        stains = stains_of(density[is_tissue])
        most = np.percentile(amounts(density[is_tissue], stains), EXTREMES[1], axis=0)
        return cls(lab.mean(0), lab.std(0), stains, most)


def density_of(pixels: Tiles) -> Floats:
    """Return optical densities to base e of 8-bit pixels."""
    return np.asarray(-np.log((pixels.astype(np.float64) + 1) / 256))


def stains_of(density: Floats) -> Floats:
    """Return the two stains, haematoxylin first, as the extreme directions in the plane of the two largest axes."""
    axes = np.linalg.eigh(np.cov(density.T))[1][:, [2, 1]]
    axes *= np.where(axes.sum(0) < 0, -1, 1)
    angles = np.arctan2(*(density @ axes).T[::-1])
    found = np.stack([axes @ (np.cos(angle), np.sin(angle)) for angle in np.percentile(angles, EXTREMES)])
    found = found[np.argsort(-found[:, 0])]  # haematoxylin takes more of the red
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def amounts(density: Floats, stains: Floats) -> Floats:
    """Return how much of each stain there is, (n, 2)."""
    return np.asarray(np.linalg.lstsq(stains.T, density.T, rcond=None)[0].T)


def recolour(way: str, own: Look, target: Look) -> Recolour:
    """Return what brings a slide's tiles to the colours of the training photographs."""

    def reinhard(tiles: Tiles) -> Tiles:
        lab = (rgb2lab(tiles) - own.mean) * (target.spread / own.spread) + target.mean
        return np.asarray(np.clip(lab2rgb(lab) * 255, 0, 255).round().astype(np.uint8))

    def macenko(tiles: Tiles) -> Tiles:
        found = amounts(density_of(tiles.reshape(-1, 3)), own.stains) * (target.most / own.most)
        pixels = np.exp(-found @ target.stains) * 256 - 1
        return np.asarray(np.clip(pixels, 0, 255).round().astype(np.uint8).reshape(tiles.shape))

    return {REINHARD: reinhard, MACENKO: macenko}.get(way, lambda tiles: tiles)


@contextmanager
def adapted(network: nn.Module, tiles: int) -> Iterator[None]:
    """Move the statistics of every batch norm towards those of the one batch of `tiles` tiles that is run in here."""
    share = tiles / (tiles + SOURCE_WEIGHT)
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(layer.running_mean, layer.running_var) for layer in layers]

    def move(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].float()
        assert isinstance(layer, nn.BatchNorm2d)
        layer.running_mean = torch.lerp(layer.running_mean, values.mean((0, 2, 3)), share)  # type: ignore[arg-type]
        layer.running_var = torch.lerp(layer.running_var, values.var((0, 2, 3), correction=0), share)  # type: ignore[arg-type]

    hooks = [layer.register_forward_pre_hook(move) for layer in layers]
    try:
        yield
    finally:
        for hook, layer, (mean, variance) in zip(hooks, layers, before, strict=True):
            hook.remove()
            layer.running_mean, layer.running_var = mean, variance


@dataclass(frozen=True, eq=False)
class Judge:
    """A model, and what its training photographs look like."""

    bundle: ModelBundle
    dataset: ImageDataset
    target: Look

    @classmethod
    def of(cls, bundle: ModelBundle, dataset: ImageDataset, trained: NDArray[np.intp]) -> Judge:
        """Look at photographs that a model was trained on, of as many patients as can be."""
        order = np.random.default_rng(0).permutation(trained)
        turn = {index: np.sum(dataset.patients[order[:place]] == dataset.patients[index])
                for place, index in enumerate(order)}  # fmt: skip
        some = np.array(sorted(order, key=lambda index: turn[index])[:TARGET_PHOTOGRAPHS])
        return cls(bundle, dataset, Look.of(tiles_of(bundle, dataset, some)[0]))

    @torch.inference_mode()
    def logits(self, tiles: Tiles, own: Look, way: str) -> Floats:
        """Return the logits of a slide's tiles, all of them one batch."""
        card, device = self.bundle.card, choose_device("auto")
        network = self.bundle.network.eval().to(device).to(memory_format=torch.channels_last)
        pixels = torch.from_numpy(recolour(way, own, self.target)(tiles)).permute(0, 3, 1, 2).to(device)
        squares = Squares(card.tile_px, card.mean, card.std, card.mpp)
        fast = choose_precision("auto", device) == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            if way != BATCH_NORM:
                return network(squares.normalize(pixels)).double().cpu().numpy()  # type: ignore[no-any-return]
            with adapted(network, len(pixels)):
                return network(squares.normalize(pixels)).double().cpu().numpy()  # type: ignore[no-any-return]


def tiles_of(bundle: ModelBundle, dataset: ImageDataset, indices: NDArray[np.intp]) -> tuple[Tiles, NDArray[np.intp]]:
    """Return all tiles of some photographs at a model's scale, and how many each has."""
    card = bundle.card
    photographs = FixedSquares(dataset, indices, Squares(card.tile_px, card.mean, card.std, card.mpp))
    tiles, counts, _ = joined([photographs[place] for place in range(len(indices))])
    return tiles.permute(0, 2, 3, 1).numpy(), counts.numpy().astype(np.intp)


def slides_of(dataset: ImageDataset, indices: NDArray[np.intp], most: int) -> dict[str, NDArray[np.intp]]:
    """Return the photographs of each slide by its name, of each patient at most so many."""
    slides: dict[str, list[int]] = {}
    taken: Counter[str] = Counter()
    for index in np.random.default_rng(0).permutation(indices).tolist():
        image = dataset.images[index]
        taken[image.patient] += 1
        if taken[image.patient] <= most:
            name = image.patient if image.magnification else "_".join(image.path.stem.split("_")[:2])
            slides.setdefault(name, []).append(index)
    return {name: np.array(one) for name, one in sorted(slides.items())}


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model makes of photographs in one way: their places in the data set, and the logits of their tiles."""

    photographs: NDArray[np.intp]
    found: TileLogits

    @classmethod
    def joined(cls, parts: list[Seen]) -> Seen:
        """Return several as one."""
        logits, counts = (np.concatenate([getattr(one.found, name) for one in parts]) for name in ("logits", "counts"))
        return cls(np.concatenate([one.photographs for one in parts]), TileLogits(logits, counts))

    @property
    def whose(self) -> NDArray[np.intp]:
        """(tiles,) place of each tile's photograph in the data set."""
        return np.repeat(self.photographs, self.found.counts)


def look_at(judge: Judge, indices: NDArray[np.intp], most: int, *, stained_otherwise: bool = False) -> dict[str, Seen]:
    """Return what a model makes of some photographs by each way, slide by slide."""
    parts: dict[str, list[Seen]] = {way: [] for way in WAYS}
    for number, chosen in enumerate(slides_of(judge.dataset, indices, most).values()):
        tiles, counts = tiles_of(judge.bundle, judge.dataset, chosen)
        if stained_otherwise:
            tiles = _otherwise(tiles, number)
        own = Look.of(tiles)
        for way in WAYS:
            parts[way].append(Seen(chosen, TileLogits(judge.logits(tiles, own, way), counts)))
    return {way: Seen.joined(found) for way, found in parts.items()}


def _otherwise(tiles: Tiles, seed: int) -> Tiles:
    """Stain a slide's tiles otherwise, all of them alike."""
    torch.manual_seed(seed)
    long = torch.from_numpy(tiles).flatten(0, 1).permute(2, 0, 1)  # as one high picture
    return np.asarray(OTHERWISE(long).permute(1, 2, 0).reshape(tiles.shape).numpy())


def calibrated(dataset: ImageDataset, seen: Seen) -> tuple[float, float]:
    """Return temperature and operating threshold from patients that were left out, as `scripts/train_default.py`."""
    temperature = fit_temperature(seen.found.logits, dataset.labels[seen.whose])
    probability = seen.found.of_photographs(temperature)[:, 1]
    return temperature, best_gmean(operating_points(dataset.labels[seen.photographs] == 1, probability)).threshold


def called(seen: Seen, temperature: float, threshold: float) -> Floats:
    """Return probabilities (n, 2) of photographs, shifted in logit so that the threshold lies at one half."""
    malignant = np.clip(seen.found.of_photographs(temperature)[:, 1], 1e-9, 1 - 1e-9)
    odds = malignant / (1 - malignant) * (1 - threshold) / threshold
    return np.stack([1 / (1 + odds), odds / (1 + odds)], 1)


def by_folds(dataset: ImageDataset, seen: list[dict[str, Seen]], known: list[dict[str, Seen]]) -> dict[str, Floats]:
    """Return each way's probabilities of all left-out photographs, each fold called as the others' tell (`known`)."""
    return {
        way: np.concatenate([
            called(one[way], *calibrated(dataset, Seen.joined([known[k][way] for k in range(FOLDS) if k != fold])))
            for fold, one in enumerate(seen)
        ])
        for way in WAYS
    }  # fmt: skip


def table_of(title: str, dataset: ImageDataset, photographs: NDArray[np.intp], probability: dict[str, Floats]) -> Table:
    """Return the figures of each way with intervals by patient, and its differences from reading a slide as it is."""
    rows = []
    labels, patients = dataset.labels[photographs], dataset.patients[photographs]
    for way in WAYS:
        scores = scored(dataset, photographs, probability[way]).scores
        apart = paired_differences(
            labels, probability[way], probability[PLAIN], groups=patients, figures=("gmean", "auroc")
        )
        own = [str(getattr(scores, name)) for name in ("gmean", "accuracy", "auroc")]
        rows.append((way, *own, *("–" if way == PLAIN else signed(apart[name]) for name in ("gmean", "auroc"))))
    head = ("adapted by", "GMean", "accuracy", "AUROC", "GMean, difference", "AUROC, difference")
    return Table(f"{title}: {len(photographs)} photographs of {len(set(patients))} patients", head, tuple(rows))


def main() -> None:
    """Judge every model by every way, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="OUT of train_default.py")
    parser.add_argument("--breakhis", type=Path, help="a bundle trained on BreakHis alone")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=3, help="photographs of a patient")
    asked = parser.parse_args()
    start = time.perf_counter()
    dataset = data_of(asked.data)
    is_ucsb = np.array([image.magnification is None for image in dataset.images])
    tables = []
    if asked.breakhis is not None:
        judge = Judge.of(load_bundle(asked.breakhis), dataset, np.flatnonzero(~is_ucsb))
        seen = look_at(judge, np.flatnonzero(is_ucsb), asked.most)
        probability = {way: called(one, 1.0, 0.5) for way, one in seen.items()}
        tables.append(table_of("Trained on BreakHis, UCSB at 0.5", dataset, seen[PLAIN].photographs, probability))
        print(tables[-1].as_markdown(), f"{time.perf_counter() - start:.0f} s", flush=True)
    as_it_is, otherwise = [], []
    for fold, split in enumerate(folds_of(dataset), start=1):
        bundle = load_bundle(asked.runs / f"fold-{fold}" / "bundle.safetensors").as_stored(BITS)
        judge = Judge.of(bundle, dataset, split.train)
        as_it_is.append(look_at(judge, split.test, asked.most))
        otherwise.append(look_at(judge, split.test, asked.most, stained_otherwise=True))
        print(f"fold {fold}: {time.perf_counter() - start:.0f} s", flush=True)
    photographs = np.concatenate([one[PLAIN].photographs for one in as_it_is])
    for title, seen_by_fold in (("Left-out patients", as_it_is), ("The same, stained otherwise", otherwise)):
        probability = by_folds(dataset, seen_by_fold, as_it_is)
        tables.append(table_of(title, dataset, photographs, probability))
    figures = {table.title: [list(table.head), *map(list, table.rows)] for table in tables}
    write_json(asked.out / "stain.json", {"seconds": round(time.perf_counter() - start), "tables": figures})
    text = "\n".join(table.as_markdown() for table in tables)
    write_text(asked.out / "stain.md", text)
    print(text)


if __name__ == "__main__":
    main()
