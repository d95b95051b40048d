"""Measure the product on colon and lung: what was trained, a slide with its truth, and learning on it.

    python -m benchmarks.organs --data FOLDER --runs RUNS --out OUT [--cells 12]

RUNS holds what these commands leave, as `RUNS/colon-breast` and so on (`docs/paper.md` has them whole):

    dala compare --dataset folder --root glas-colon --group prefix ... --init BREAST --out RUNS/colon-breast
    dala compare --dataset folder --root lung-lc25000 --group likeness ... --out RUNS/lung-scratch

OUT gets organs.md and organs.json: the figures of each, from the breast model and from scratch; what the breast model
itself says of colon, with and without the tiles that it calls unfamiliar; and for each organ a mosaic slide of held-out
tissue, analysed, explained and learned on by the ordinary commands. Photographs of one patient (or of one original) lie
in one half of a mosaic: regions are drawn in the left half, and the right half says what was learned. A run that is not
there yet is left out. The data sets lie beside the project, never in it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import tifffile
from skimage.filters import gaussian
from skimage.io import imread
from skimage.transform import downscale_local_mean

from benchmarks.quick import dala, rescored
from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.files import write_annotations
from napari_dala.datasets.folders import load_dataset
from napari_dala.datasets.splits import Split
from napari_dala.evaluation.tables import Table, signed
from napari_dala.files import write_json, write_text
from napari_dala.metrics.paired import paired_differences
from napari_dala.metrics.scores import score
from napari_dala.model.bundle import load_model
from napari_dala.results.analysis import Analysis
from napari_dala.results.report.outputs import output_folder
from napari_dala.slide import open_slide
from napari_dala.training.photographs.run_folder import read_predictions, read_result, read_run_json
from scripts.mosaic_truth import per_cell
from scripts.train_default import seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.metrics.scores import Scores

STARTS = ("breast", "scratch")
FIGURES = ("accuracy", "gmean", "auroc")


@dataclass(frozen=True)
class Organ:
    """A data set of another organ, and how it is read."""

    name: str
    folder: str
    group: Any
    mpp: float
    cell_px: int  # of a mosaic at the same scale

    def images(self, data: Path) -> ImageDataset:
        """Return the photographs, grouped as a split keeps them together."""
        return load_dataset("folder", data / self.folder, group=self.group).with_mpp(self.mpp)


ORGANS = (Organ("colon", "glas-colon", "prefix", 0.62, 424), Organ("lung", "lung-lc25000", "likeness", 0.65, 224))


def main() -> None:
    """Measure, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=12, help="of a mosaic, along an axis")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    sets = {organ: organ.images(asked.data) for organ in ORGANS}
    tables = [
        Table("The photographs", ("Organ", "What a split keeps together"), tuple(_kept(*one) for one in sets.items())),
        _trained(asked.runs, sets),
        _breast_on_colon(sets[ORGANS[0]]),
        *(
            _slide(asked, organ, images)
            for organ, images in sets.items()
            if (asked.runs / f"{organ.name}-breast" / "dalaresnet50" / "fold-1" / "result.json").exists()
        ),
    ]
    write_json(asked.out / "organs.json", {table.title: [table.head, *table.rows] for table in tables})
    text = "\n".join(table.as_markdown() for table in tables)
    write_text(asked.out / "organs.md", text)
    print(text)


def _kept(organ: Organ, images: ImageDataset) -> tuple[str, ...]:
    groups = (
        f"{name}: {np.sum(images.labels == label)} images in {len(set(images.patients[images.labels == label]))} groups"
        for label, name in enumerate(images.classes)
    )
    return organ.name, f"{'; '.join(groups)} (by {organ.group})"


def _trained(runs: Path, sets: dict[Organ, ImageDataset]) -> Table:
    """Score the held-out photographs of all finished folds, with intervals by patient or original."""
    rows: list[tuple[str, ...]] = []
    for organ, images in sets.items():
        found = {start: _held_out(runs / f"{organ.name}-{start}" / "dalaresnet50", images) for start in STARTS}
        for places, probabilities, began in found.values():
            if not len(places):
                continue
            truth, groups = images.labels[places], images.patients[places]
            scores = score(truth, probabilities, groups=groups, classes=images.classes).scores
            recalls = ", ".join(f"{name} {one}" for name, one in zip(images.classes, scores.recall, strict=True))
            rows.append((organ.name, began, str(len(places)), *_shown(scores), recalls))
        (places, breast, _), (others, scratch, _) = (found[start] for start in STARTS)
        if len(places) and np.array_equal(places, others):
            gaps = paired_differences(
                images.labels[places], breast, scratch, groups=images.patients[places], figures=FIGURES
            )
            gained = [signed(gaps[figure]) for figure in FIGURES]
            rows.append((organ.name, "gained by the breast model", str(len(places)), *gained, ""))
    return Table("Trained", ("Organ", "Begun with", "Held out", "Accuracy", "GMean", "AUROC", "Recall"), tuple(rows))


def _held_out(runs: Path, images: ImageDataset) -> tuple[NDArray[np.intp], NDArray[np.float64], str]:
    """Return places and probabilities of the photographs that the finished folds held out, and what they began with."""
    places, probabilities, began = [], [], ""
    for folder in takewhile(Path.exists, (runs / f"fold-{number}" for number in count(1))):
        if not (folder / "result.json").exists():
            return np.zeros(0, np.intp), np.zeros((0, len(images.classes))), ""
        config = read_run_json(folder / "config.json")
        split = Split(np.array(config["train"], np.intp), np.array(config["held_out"], np.intp))
        places.append(split.test)
        probabilities.append(read_predictions(folder, images, split))
        began = read_result(folder)["initial_weights"]
    if not places:
        return np.zeros(0, np.intp), np.zeros((0, len(images.classes))), ""
    return np.concatenate(places), np.concatenate(probabilities), began


def _breast_on_colon(images: ImageDataset) -> Table:
    """Score the built-in model on colon: all tiles, and those alone that it calls familiar."""
    bundle = load_model("default")
    assert bundle.known is not None, "the built-in model knows what is unfamiliar"
    found = seen(bundle, images, np.arange(len(images)))
    assert found.means is not None
    familiar = (bundle.known.ratio(found.means) <= 1).numpy()
    tiles = np.exp(found.found.logits / bundle.card.temperature)
    tiles /= tiles.sum(1, keepdims=True)
    rows: list[tuple[str, ...]] = []
    for name, kept in (("all", np.ones_like(familiar)), ("familiar alone", familiar)):
        there = np.unique(found.whose[kept])
        mean = np.array([tiles[kept & (found.whose == place)].mean(0) for place in there]).reshape(len(there), 2)
        if len(set(images.labels[there].tolist())) < len(images.classes):
            rows.append((name, str(kept.sum()), str(len(there)), "–", "–", "–"))
            continue
        scores = score(
            images.labels[there],
            mean,
            groups=images.patients[there],
            classes=images.classes,
            threshold=bundle.card.operating_threshold,
        ).scores
        rows.append((name, str(kept.sum()), str(len(there)), *_shown(scores)))
    head = ("Tiles judged", "Tiles", "Fields with such tiles", "Accuracy", "GMean", "AUROC")
    return Table(f"What {bundle.card.name} (breast) says of colon", head, tuple(rows))


def _slide(asked: argparse.Namespace, organ: Organ, images: ImageDataset) -> Table:
    """Analyse a mosaic of held-out tissue, explain a photograph, learn on the left half, score the right half."""
    run = asked.runs / f"{organ.name}-breast" / "dalaresnet50" / "fold-1"
    bundle, out = run / "bundle.safetensors", asked.out / organ.name
    held_out = np.array(read_run_json(run / "config.json")["held_out"])
    path, truth = out / "mosaic.tiff", _mosaic(out / "mosaic.tiff", organ, images, held_out, asked.cells)
    dala("analyze", path, "--model", bundle, "--out", out)
    shown = images.images[held_out[0]]
    dala(
        "explain",
        shown.path,
        "--mpp",
        organ.mpp,
        "--model",
        bundle,
        "--class",
        images.classes[shown.label],
        "--out",
        out,
    )
    with open_slide(path) as slide:
        folder, fingerprint = output_folder(out, slide), slide.fingerprint
    before = Analysis.open(folder)
    write_annotations(_drawn(truth, organ.cell_px, before, fingerprint), out / "drawn.geojson")
    learn = ("finetune", path, "--annotations", out / "drawn.geojson", "--analysis", folder, "--model", bundle)
    dala(*learn, "--mode", "quick", "--seed", 0, "--out", out / "job")
    seconds, after = rescored(folder, out / "job" / "result" / "bundle.safetensors")
    rows = []
    for name, analysis in (("before", before), ("after learning", after)):
        order = [analysis.card.class_names.index(one) for one in images.classes]
        chances = per_cell(len(truth), organ.cell_px, analysis.grid, analysis.probability[order])
        told = (truth >= 0) & np.isfinite(chances[0]) & (np.arange(len(truth)) >= len(truth) // 2)
        values = chances[:, told].T / chances[:, told].sum(0)[:, None]
        scores = score(truth[told], values, classes=images.classes, n_boot=0).scores
        rows.append((name, str(told.sum()), *_shown(scores)))
    head = ("Model", "Cells", "Accuracy", "GMean", "AUROC")
    title = f"A slide of {organ.name}, {int(before.analysed.sum())} tiles; scored anew in {seconds:.1f} s"
    return Table(f"{title}: the half that nothing was drawn in", head, tuple(rows))


def _mosaic(path: Path, organ: Organ, images: ImageDataset, held_out: NDArray[np.intp], cells: int) -> NDArray[np.intp]:
    """Write a slide of photographs in islands of their classes; return the class of each cell, -1 for none.

    The groups of the left half are not those of the right half; a frame of one cell is background.
    """
    rng = np.random.default_rng(0)
    truth = np.full((cells, cells), -1)
    islands = [gaussian(rng.standard_normal((cells, cells)), 1.2) for _ in images.classes]
    truth[1:-1, 1:-1] = np.argmax(islands, 0)[1:-1, 1:-1]
    side = organ.cell_px
    pixels = np.full((cells * side, cells * side, 3), 243, np.uint8)
    for label in range(len(images.classes)):
        mine = held_out[images.labels[held_out] == label]
        groups = np.unique(images.patients[mine])
        left = np.isin(images.patients[mine], groups[: len(groups) // 2])
        for half, pool in enumerate((mine[left], mine[~left])):
            inside = (np.arange(cells) >= cells // 2) == bool(half)
            for row, column in np.argwhere((truth == label) & inside):
                photograph = imread(images.images[rng.choice(pool)].path)[..., :3]
                top, start = ((length - side) // 2 for length in photograph.shape[:2])
                cell = photograph[top : top + side, start : start + side]
                pixels[row * side : (row + 1) * side, column * side : (column + 1) * side] = cell
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for level in range(4):
            per_cm = 1e4 / (organ.mpp * 2**level)
            file.write(
                pixels, tile=(256, 256), photometric="rgb", compression="jpeg", compressionargs={"level": 90},
                subfiletype=int(level > 0), resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None,
            )  # fmt: skip
            pixels = np.round(downscale_local_mean(pixels, (2, 2, 1))).astype(np.uint8)
    return truth


def _drawn(truth: NDArray[np.intp], cell_px: int, analysis: Analysis, fingerprint: str) -> AnnotationDocument:
    """Outline every cell of the left half as a user would, a little within it."""
    classes = tuple(AnnotationClass(info.name, info.color) for info in analysis.card.classes)
    document = AnnotationDocument(fingerprint, classes)
    names: Sequence[str] = analysis.card.class_names
    outlines = []
    for row, column in np.argwhere((truth >= 0) & (np.arange(len(truth)) < len(truth) // 2)):
        cell = shapely.box(column * cell_px, row * cell_px, (column + 1) * cell_px, (row + 1) * cell_px)
        outlines.append(Annotation.drawn(cell.buffer(-0.04 * cell_px), names[truth[row, column]]))
    return replace(document, annotations=tuple(outlines))


def _shown(scores: Scores) -> list[str]:
    return [str(getattr(scores, figure)) for figure in FIGURES]


if __name__ == "__main__":
    main()
