"""Measure the folds' models of scripts/train_default.py on patients that each left out, for docs/results.md.

    python -m benchmarks.default_model --data FOLDER --runs RUNS --out OUT [--old OLD.safetensors] [--cells 16]

OUT gets figures.json and figures.md: mosaic slides at true scale, cell by cell; other magnifications; tissue that is
not breast; and, with `--old`, the model shipped before on the patients that neither saw. Photographs pooled, by set and
by patient are in the report.json that train_default.py writes. The data sets and the tool that makes mosaics lie beside
the project, never in it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from skimage.io import imread

from napari_dala.analysis.engine import analyze
from napari_dala.datasets.folders import load_dataset
from napari_dala.datasets.images import ImageDataset, LabelledImage, joined_datasets
from napari_dala.errors import DatasetError
from napari_dala.evaluation.photographs import evaluate
from napari_dala.evaluation.tables import Table
from napari_dala.files import write_json, write_text
from napari_dala.metrics.anonymous import patient_key
from napari_dala.metrics.scores import score
from napari_dala.model.bundle import ModelBundle, load_bundle
from napari_dala.slide import open_slide
from napari_dala.training.photographs.squares import Squares
from scripts.mosaic_truth import SHARED, per_cell
from scripts.train_default import (
    BITS,
    FOLDS,
    Calibration,
    Seen,
    calibrated,
    data_of,
    folds_of,
    left_out,
    seen,
    table_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_dala.metrics.scores import Scores

CELL_PX, SLIDE_MPP = 1024, 0.25
OLD_SCALE = 1.335  # um/px that the model of 348 photographs had really learned: it took them for 3.3 times finer
OTHER_TISSUE = (
    ("brain", "not-breast/brain", 0.25),
    ("colon", "not-breast/colon", 0.55),
    ("colon (GlaS)", "glas-colon", 0.62),
    ("colon (LC25000)", "colon-lc25000", 0.65),
    ("lung (LC25000)", "lung-lc25000", 0.65),
)
MOST = 60  # images of another tissue


def main() -> None:
    """Measure, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="OUT of train_default.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="the bundle that is shipped; the built-in one by default")
    parser.add_argument("--old", type=Path, help="the bundle shipped before")
    parser.add_argument("--cells", type=int, default=16, help="of a mosaic, along an axis")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    dataset = data_of(asked.data)
    found, ratios = left_out(dataset, asked.runs)
    from_others = []
    for fold in range(FOLDS):
        others = [one for one in range(FOLDS) if one != fold]
        from_others.append(calibrated(dataset, [found[k] for k in others], [ratios[k] for k in others]))
    folds = [
        replace(bundle, card=bundle.card.model_copy(update={
            "temperature": its.temperature, "operating_threshold": its.threshold,
        }))
        for bundle, its in zip((fold_model(asked.runs, fold) for fold in range(FOLDS)), from_others, strict=True)
    ]  # fmt: skip
    tables = [
        mosaics(asked, dataset, folds),
        magnifications(asked, dataset, folds),
        other_tissue(asked),
        *([old_and_new(asked, dataset, found, from_others)] if asked.old else []),
    ]
    write_json(asked.out / "figures.json", {table.title: [table.head, *table.rows] for table in tables})
    text = "\n".join(table.as_markdown() for table in tables)
    write_text(asked.out / "figures.md", text)
    print(text)


def fold_model(runs: Path, fold: int) -> ModelBundle:
    """Return the model that left a fold (from 0) out, as it would be shipped."""
    return load_bundle(runs / f"fold-{fold + 1}" / "bundle.safetensors").as_stored(BITS)


def mosaics(asked: argparse.Namespace, dataset: ImageDataset, folds: Sequence[ModelBundle]) -> Table:
    """Compare cells of mosaics at true scale with the photographs that they are made of, fold by fold."""
    rows, truths = [], []
    for fold, (split, bundle) in enumerate(zip(folds_of(dataset), folds, strict=True), start=1):
        patients = sorted(
            {dataset.images[index].patient for index in split.test if dataset.images[index].magnification}
        )
        path = asked.out / f"mosaic-{fold}.tiff"
        if not path.exists():
            data = [asked.data / "breakhis-100x", asked.data / "breakhis-more"]
            made = ["--mpp", SLIDE_MPP, "--cells", asked.cells, "--seed", fold, "--data", *data, "--only"]
            tool = [sys.executable, SHARED / "tools" / "make_mosaic_slide.py", path, *made]
            subprocess.run([*map(str, tool), *(f"-{patient}" for patient in patients)], check=True)
        with open_slide(path) as slide:
            analysis = analyze(slide, bundle, asked.out / f"mosaic-{fold}", overlap=4 / 7)
        truth = imread(path.with_suffix(".truth.png"))
        probability = per_cell(len(truth), CELL_PX, analysis.grid, analysis.probability)
        told = (truth > 0) & np.isfinite(probability[0])
        threshold = bundle.card.operating_threshold
        of_cells = score(truth[told].astype(np.intp) - 1, probability[:, told].T, threshold=threshold, n_boot=0).scores
        of_one = folds_photographs(dataset, split.test, bundle)
        both = [[getattr(one, name).value for name in ("gmean", "auroc")] for one in (of_cells, of_one)]
        rows.append((f"{fold}", *(f"{value:.3f}" for pair in zip(*both, strict=True) for value in pair)))
        truths.append(int(told.sum()))
    mean = np.mean([[float(value) for value in row[1:]] for row in rows], 0)
    rows.append(("mean", *(f"{value:.3f}" for value in mean)))
    head = ("Fold left out", "GMean of cells", "GMean of photographs", "AUROC of cells", "AUROC of photographs")
    return Table(f"Mosaics at {SLIDE_MPP} um/px, {sum(truths)} cells", head, tuple(rows))


def folds_photographs(dataset: ImageDataset, indices: Iterable[int], bundle: ModelBundle) -> Scores:
    """Return the scores of the photographs that a mosaic is made of."""
    chosen = [
        index for index in indices if dataset.images[index].magnification and not is_resized(dataset.images[index])
    ]
    part = replace(dataset, images=tuple(dataset.images[index] for index in chosen))
    return evaluate(bundle, part, n_boot=0).table.scores


def is_resized(image: LabelledImage) -> bool:
    """Return whether somebody resized a photograph of BreakHis; the mosaics are made of the others."""
    return "500x328" in str(image.path)


def magnifications(asked: argparse.Namespace, dataset: ImageDataset, folds: Sequence[ModelBundle]) -> Table:
    """Judge each photograph of another magnification by the model that left its patient out."""
    parts = [load_dataset("breakhis", asked.data / name) for name in ("breakhis-more", "breakhis-500x328")]
    every = joined_datasets([*parts, load_dataset("breakhis", asked.data / "breakhis-100x")])
    whose = {
        patient: fold for fold, split in enumerate(folds_of(dataset)) for patient in set(dataset.patients[split.test])
    }
    rows: list[tuple[str, ...]] = []
    for power in (40, 100, 200, 400):
        images = [image for image in every.images if image.magnification == power]
        labels, probabilities, called, refused = [], [], [], ""
        for fold, bundle in enumerate(folds):
            own, why = readable([image for image in images if whose.get(image.patient, 0) == fold], bundle)
            refused = refused or why
            if not own:
                continue
            evaluation = evaluate(bundle, replace(every, images=own), n_boot=0)
            labels += [image.label for image in own]
            probabilities += evaluation.probabilities.tolist()
            called += (evaluation.probabilities[:, 1] >= bundle.card.operating_threshold).tolist()
        name = f"{power}X, {65 / power:.3g} um/px"
        count = f"{len(labels)} of {len(images)}" + (f" (others: {refused})" if refused else "")
        if not labels:
            rows.append((name, count, "–", "–", "–", "–"))
            continue
        truth, named = np.array(labels), np.array(called)
        recall = [float((named[truth == label] == label).mean()) for label in (0, 1)]
        area = score(truth, np.array(probabilities), n_boot=0).scores.auroc.value
        figures = [np.sqrt(recall[0] * recall[1]), area, *recall]
        rows.append((name, count, *("–" if figure is None else f"{figure:.3f}" for figure in figures)))
    head = ("Magnification", "Photographs read", "GMean", "AUROC", "Recall benign", "Recall malignant")
    return Table("Other magnifications, patients left out", head, tuple(rows))


def readable(images: Sequence[LabelledImage], bundle: ModelBundle) -> tuple[tuple[LabelledImage, ...], str]:
    """Return those photographs that can be brought to a bundle's scale, and why others cannot; empty where all can."""
    card, kept, why = bundle.card, [], ""
    squares = Squares(card.tile_px, card.mean, card.std, card.mpp)
    for image in images:
        with Image.open(image.path) as opened:
            size = opened.size
        try:
            squares.side(image, *size)
        except DatasetError as error:
            why = str(error).split(": ", 1)[1].split(";")[0]
        else:
            kept.append(image)
    return tuple(kept), why


def other_tissue(asked: argparse.Namespace) -> Table:
    """Return how much of tissue that is not breast the shipped model calls unfamiliar."""
    from napari_dala.model.bundle import load_model

    bundle = load_model(asked.model or "default")
    assert bundle.known is not None
    rows = []
    for name, folder, mpp in OTHER_TISSUE:
        paths = sorted(path for path in (asked.data / folder).rglob("*") if path.is_file())
        paths = paths[:: max(1, len(paths) // MOST)]
        images = tuple(LabelledImage(path, 0, path.stem, path.stem, mpp=mpp) for path in paths)
        tiles = seen(bundle, ImageDataset(name, ("any", "other"), images), np.arange(len(images)))
        assert tiles.means is not None
        far = (bundle.known.ratio(tiles.means) > 1).double().mean()
        rows.append((f"{name}, {mpp} um/px", str(len(tiles.means)), f"{float(far):.0%}"))
    with open_slide(asked.data / "slides" / "CMU-1-Small-Region.svs") as slide:
        skin = analyze(slide, bundle, asked.out / "skin")
    rows.append(
        ("skin (CMU-1-Small-Region)", str(int(skin.analysed.sum())), f"{skin.unfamiliar[skin.analysed].mean():.0%}")
    )
    print("\n".join(skin.warnings))
    return Table("Tissue that is not breast", ("Tissue", "Tiles", "Unfamiliar"), tuple(rows))


def old_and_new(
    asked: argparse.Namespace, dataset: ImageDataset, found: Sequence[Seen], from_others: Sequence[Calibration]
) -> Table:
    """Compare with the model shipped before, on patients whom neither saw."""
    old = load_bundle(asked.old)
    known = set(old.card.training["patients_trained"])  # type: ignore[arg-type]
    new = np.array([patient_key(image.patient) not in known for image in dataset.images])
    unseen = [image for image, yes in zip(dataset.images, new, strict=True) if yes]
    part = replace(dataset, images=readable(unseen, old)[0])  # at 0.40 um/px it cannot read those of 0.91
    new &= np.isin([str(image.path) for image in dataset.images], [str(image.path) for image in part.images])
    rows = []
    for name, mpp in (("as it read slides", old.card.mpp), ("at the scale it had learned", OLD_SCALE)):
        bundle = replace(old, card=old.card.model_copy(update={"mpp": mpp}))
        rows.append((f"before, {name}: {mpp:.2f} um/px", *shown(evaluate(bundle, part).table.scores)))
    probability = np.zeros((len(dataset), 2))
    threshold = np.zeros(len(dataset))
    for tiles, its in zip(found, from_others, strict=True):
        probability[tiles.photographs] = tiles.found.of_photographs(its.temperature)
        threshold[tiles.photographs] = its.threshold
    table = table_of(dataset, np.flatnonzero(new), probability, probability[:, 1] - threshold)
    rows.append(("now, five models that left them out", *shown(table.scores)))
    head = ("Model", "GMean", "AUROC", "Recall benign", "Recall malignant")
    return Table(f"Before and now, {len(part)} photographs of {len(set(part.patients))} patients", head, tuple(rows))


def shown(scores: Scores) -> list[str]:
    """Return the figures of a row."""
    return [str(scores.gmean), str(scores.auroc), *map(str, scores.recall)]


if __name__ == "__main__":
    main()
