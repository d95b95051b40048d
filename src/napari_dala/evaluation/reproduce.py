"""The paper's recipe on a data set of the paper's, split by image and by patient, beside what the paper published."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.datasets.splits import folds_of
from napari_dala.evaluation.compare.compare import compare
from napari_dala.evaluation.compare.report import write_report as write_comparison
from napari_dala.evaluation.tables import PAPER_FIGURES, Table, signed
from napari_dala.files import csv_text, write_json, write_text
from napari_dala.metrics.paired import paired_differences
from napari_dala.training.photographs.squares import image_sizes
from napari_dala.training.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_dala.datasets.images import ImageDataset
    from napari_dala.evaluation.compare.compare import Comparison
    from napari_dala.metrics.scores import Estimate
    from napari_dala.model.bundle import ModelBundle
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.photographs.run_folder import State

PUBLISHED = {"breakhis-40x": 0.985, "breakhis-100x": 0.987, "breakhis-200x": 0.979, "breakhis-400x": 0.943}
"""Accuracy of DALAResNet50 by data set, from the abstracts of arXiv 2308.13150v4, v5 and v9; version 16 has none."""
WHOLE_SETS = {"breakhis-40x": 1995, "breakhis-100x": 2081, "breakhis-200x": 2013, "breakhis-400x": 1820}
"""Photographs of the whole data set (Spanhol et al. 2016, table 1): 7909 together, as the paper says."""
_RECIPE = {"epochs": "epochs", "batch_size": "batch size", "lr": "learning rate", "dropout": "dropout"}
_NOT_AT_HAND = (
    "Published is the accuracy in the paper's abstract. Its tables (F1, IBA, GMean, BACH, Mini-DDSM, the networks it "
    "compares) and how it split the photographs were not at hand here."
)


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What came of a data set.

    Attributes
    ----------
    dataset
        The photographs.
    splits
        The networks' figures by what a split kept together, "image" and "patient"; the latter only where patients are
        known.
    gaps
        By network: accuracy and GMean of the split by image less those of the split by patient, on the same
        photographs, with 95 % intervals by patient; empty where patients are unknown.
    """

    dataset: ImageDataset
    splits: Mapping[str, Comparison]
    gaps: Mapping[str, Mapping[str, Estimate]]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader must be told, a sentence each."""
        unknown = () if self.gaps else (f"{self.dataset.name} names no patients: it cannot be split by them",)
        every = (note for one in self.splits.values() for note in (*one.notes, *one.results[0].table.notes))
        return tuple(dict.fromkeys((*unknown, *every)))


def train_under_both_splits(
    dataset: ImageDataset,
    models: Sequence[str],
    settings: TrainSettings,
    folds: int,
    out: Path,
    *,
    init: ModelBundle | None = None,
    command: str = "",
    n_boot: int = 2000,
    on_split: Callable[[str], object] | None = None,
    on_run: Callable[[str, int, State], object] | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> Reproduction:
    """Train networks on a data set under both splits, where that was not done yet.

    Parameters
    ----------
    dataset
        Photographs.
    models
        Each a `settings.Network`.
    settings
        The recipe; without its `mpp` a photograph is seen whole, see `whole_photographs`.
    folds
        Of the cross-validation.
    out
        Folder of the runs, <data set>/<split>/<model>/fold-<number>, with a report of each split.
    init, command, n_boot, on_run, on_epoch
        As in `compare`.
    on_split
        Told what the next split keeps together.

    Raises
    ------
    DalaError
        As `compare` and `folds_of`.
    """
    settings = whole_photographs(dataset, settings)
    protocols = ("image", "patient") if dataset.patients_known else ("image",)
    dealt = {protocol: folds_of(dataset, protocol, folds, settings.seed) for protocol in protocols}
    splits: dict[str, Comparison] = {}
    for protocol, of_folds in dealt.items():
        if on_split:
            on_split(protocol)
        folder = out / dataset.name / protocol
        splits[protocol] = compare(
            dataset,
            of_folds,
            models,
            settings,
            folder,
            init=init,
            command=command,
            n_boot=n_boot,
            on_run=on_run,
            on_epoch=on_epoch,
        )
        write_comparison(splits[protocol], folder)
    return Reproduction(dataset, splits, _gaps(dataset, splits, n_boot) if dataset.patients_known else {})


def whole_photographs(dataset: ImageDataset, settings: TrainSettings) -> TrainSettings:
    """Return settings at whose scale a tile is as large a square as the photographs allow.

    Papers scale a photograph to the network's input. Settings that have a scale, and photographs that have none (which
    are read like this anyway), stay as they are.
    """
    if settings.mpp is not None or dataset.mpp is None:
        return settings
    sizes = zip(dataset.images, image_sizes(dataset), strict=True)
    seen = [min(size) * (image.mpp_at(*size) or 0) for image, size in sizes]  # um
    return settings.model_copy(update={"mpp": round(float(np.median(seen)) / settings.tile_px, 4)})


def _gaps(dataset: ImageDataset, splits: Mapping[str, Comparison], n_boot: int) -> dict[str, Mapping[str, Estimate]]:
    """Compare the splits' predictions; every photograph is held out once in each."""
    gaps: dict[str, Mapping[str, Estimate]] = {}
    for by_image, by_patient in zip(*(splits[protocol].results for protocol in ("image", "patient")), strict=True):
        image, patient = (
            result.probabilities[np.argsort(splits[protocol].indices)]
            for protocol, result in (("image", by_image), ("patient", by_patient))
        )
        gaps[by_image.model] = paired_differences(
            dataset.labels, image, patient, groups=dataset.patients, n_boot=n_boot
        )
    return gaps


def tables(reproductions: Sequence[Reproduction]) -> list[Table]:
    """Return the figures beside the published ones, the gaps between the splits, and the recipe beside the paper's."""
    rows: list[tuple[str, ...]] = []
    for one in reproductions:
        name = one.dataset.name
        published = f"{PUBLISHED[name]:.3f}" if name in PUBLISHED else "–"
        rows.append((name, "dalaresnet50", "published", published, *["–"] * (len(PAPER_FIGURES) - 1)))
        for protocol, comparison in one.splits.items():
            for result in comparison.results:
                figures = [str(getattr(result.table.scores, figure)) for figure in PAPER_FIGURES]
                rows.append((name, result.model, f"by {protocol}", *figures))
    head = ("Data set", "Model", "Split", *PAPER_FIGURES.values())
    found = [Table("Held-out figures (95 % interval)", head, tuple(rows))]
    gaps = tuple(
        (one.dataset.name, model, signed(gap["accuracy"]), signed(gap["gmean"]))
        for one in reproductions
        for model, gap in one.gaps.items()
    )
    if gaps:
        title = "Split by image less split by patient, the same photographs (95 % interval by patient)"
        found.append(Table(title, ("Data set", "Model", "Accuracy", "GMean"), gaps))
    return [*found, _recipe(reproductions)]


def _recipe(reproductions: Sequence[Reproduction]) -> Table:
    settings = next(iter(reproductions[0].splits.values())).settings
    paper = TrainSettings.model_validate({})
    rows = [(text, f"{getattr(paper, name):g}", f"{getattr(settings, name):g}") for name, text in _RECIPE.items()]
    rows += [
        (name.replace("_", " "), "–", str(value))
        for name, value in settings.model_dump().items()
        if name not in _RECIPE and value != getattr(paper, name)
    ]
    for one in reproductions:
        name, comparisons = one.dataset.name, one.splits.values()
        results = [result for comparison in comparisons for result in comparison.results]
        begun = dict.fromkeys(text for result in results for text in result.initial_weights)
        folds = len(next(iter(comparisons)).folds)
        rows += [
            (f"{name}: photographs", str(WHOLE_SETS.get(name, "–")), str(len(one.dataset))),
            (f"{name}: begun with", "ImageNet weights", "; ".join(begun)),
            (f"{name}: held out", "–", f"every photograph once, in {folds} folds"),
        ]
    return Table("The recipe", ("", "The paper", "Here"), tuple(rows))


def write_report(reproductions: Sequence[Reproduction], out: Path) -> list[Path]:
    """Write reproduce.md, reproduce.csv and reproduce.json into a folder; return their paths."""
    comparison = next(iter(reproductions[0].splits.values()))
    page = [
        "# The paper's recipe, split by image and by patient",
        "",
        *(f"{one.dataset.summary}.\n" for one in reproductions),
        f"    {comparison.command}",
        "",
        *(table.as_markdown() for table in tables(reproductions)),
        f"- {_NOT_AT_HAND}",
        "- What the paper does not say (varied stains, patients drawn alike, averaged weights) is as in `dala train`: "
        "see reproduce.json.",
        *(f"- {note}" for note in dict.fromkeys(note for one in reproductions for note in one.notes)),
        "",
    ]
    write_text(out / "reproduce.md", "\n".join(page))
    write_text(out / "reproduce.csv", csv_text(_rows(reproductions)))
    write_json(out / "reproduce.json", {"data_sets": [_as_json(one) for one in reproductions]})
    return [out / f"reproduce.{kind}" for kind in ("md", "csv", "json")]


def _rows(reproductions: Sequence[Reproduction]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for one in reproductions:
        for protocol, comparison in one.splits.items():
            for result in comparison.results:
                row: dict[str, object] = {"data set": one.dataset.name, "model": result.model, "split": protocol}
                for figure in PAPER_FIGURES:
                    row |= getattr(result.table.scores, figure).as_columns(figure)
                rows.append(row)
    return rows


def _as_json(one: Reproduction) -> dict[str, Any]:
    return {
        "data_set": one.dataset.name,
        "published_accuracy": PUBLISHED.get(one.dataset.name),
        "splits": {protocol: comparison.as_json() for protocol, comparison in one.splits.items()},
        "image_less_patient": {
            model: {figure: asdict(estimate) for figure, estimate in gap.items()} for model, gap in one.gaps.items()
        },
        "notes": list(one.notes),
    }
