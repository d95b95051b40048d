"""Train a network on photographs: a folder with everything that came of it, and a bundle.

config.json      what was asked for; a resumed run must ask for the same
metrics.csv      a row per epoch
checkpoints/     until the run is done: last.ckpt, from which it goes on, and best.safetensors with early stopping
predictions.csv  probabilities of the held-out photographs
result.json      figures of the held-out photographs with intervals, notes, times
check.json/.html how good the network is on them, to look at
bundle.safetensors, or weights.safetensors of a network that has no bundle's form, or of photographs without a scale
"""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader

from napari_dala.datasets.splits import Split, holdout
from napari_dala.errors import BundleError, DatasetError, JobError
from napari_dala.files import replacing, write_json, write_text
from napari_dala.inference.devices import choose_device
from napari_dala.metrics.anonymous import patient_key
from napari_dala.metrics.operating import best_gmean, operating_points
from napari_dala.metrics.temperature import fit_temperature
from napari_dala.model.bundle import ModelBundle
from napari_dala.model.card import IMAGENET_MEAN, IMAGENET_STD, within_threshold
from napari_dala.results.model_check import ModelCheck, Sample, too_few
from napari_dala.results.report.check_page import write_check_page
from napari_dala.training.finetune.quick import MOST_REPLAYED
from napari_dala.training.learner import Learner
from napari_dala.training.networks.catalogue import begin, build, bundled
from napari_dala.training.photographs.augment import read_photograph
from napari_dala.training.photographs.examples import Photographs
from napari_dala.training.photographs.run_folder import disagreements, read_run_json, run_config
from napari_dala.training.photographs.squares import (
    FixedSquares,
    Squares,
    predict_photographs,
    scored,
    scored_by_set,
    squares_at,
)
from napari_dala.training.provenance import circumstances, model_card, target_of
from napari_dala.training.run_epochs import (
    Record,
    best_weights,
    check_logger,
    drop_checkpoints,
    last_checkpoint,
    run_epochs,
)
from napari_dala.training.settings import BUNDLED, TrainSettings
from napari_dala.training.statistics import balanced, statistics_of
from napari_dala.training.views import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.datasets.images import ImageDataset, LabelledImage
    from napari_dala.metrics.scores import ScoreTable
    from napari_dala.model.trunks.network import TrunkNetwork
    from napari_dala.results.model_check import Unit
    from napari_dala.training.epochs import Epoch
    from napari_dala.training.photographs.squares import TileLogits

__all__ = ["TrainResult", "TrainSettings", "train"]

AS_TRAINED = (
    "these figures are of the likeliest class at temperature 1, before anything was fitted to the held-out ones"
)
_MONITORED = 0.2  # of the training patients, with early stopping


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What came of a run.

    Attributes
    ----------
    folder
        With all files.
    weights
        The bundle, or the plain weights of a network that has no bundle's form (`notes` say why).
    epochs
        A row for each.
    table
        Figures of the held-out photographs; None where none is held out.
    by_set
        Where several data sets are held out, the figures of each by its name.
    notes
        What the reader must be told, a sentence each.
    """

    folder: Path
    weights: Path
    epochs: tuple[Epoch, ...]
    table: ScoreTable | None
    by_set: Mapping[str, ScoreTable]
    notes: tuple[str, ...]


def train(
    dataset: ImageDataset,
    split: Split,
    settings: TrainSettings,
    out: Path,
    *,
    model: str = BUNDLED,
    init: ModelBundle | None = None,
    resume: bool = False,
    command: str = "",
    n_boot: int = 2000,
    on_epoch: Callable[[Epoch], object] | None = None,
    on_note: Callable[[str], object] | None = None,
) -> TrainResult:
    """Train on one side of a split and measure on the other.

    Photographs are brought to `settings.mpp` and cut into tiles. The last epoch's weights are kept (see
    `TrainSettings.early_stopping` for the other way), the held-out photographs are looked at only to be reported. A
    bundle's figures are those of its stored weights, in float32.

    Parameters
    ----------
    dataset
        Photographs; without their resolution there is no bundle.
    split
        Which of them to train on, and which to hold out.
    settings
        The recipe.
    out
        Folder of the run; new, unless `resume`.
    model
        A `settings.Network`.
    init
        Bundle to begin from, for ``dalaresnet50`` only; its last layer is kept where the classes are the same.
    resume
        Go on with an interrupted run at the beginning of the epoch that was interrupted; on the processor, with as
        many threads, to the same result. Without anything to go on with, begin.
    command
        The command line, for the card.
    n_boot
        Draws of patients for the intervals.
    on_epoch
        Told each epoch's figures.
    on_note
        Told, before training, what must be known of it.

    Raises
    ------
    DalaError
        `JobError` if the folder holds another or a finished run, `BundleError` if network or `init` do not fit,
        `DatasetError` if a photograph cannot be read or the resolution is needed and unknown.
    """
    start = time.perf_counter()
    check_logger(settings)
    if dataset.mpp is None and settings.mpp:
        raise DatasetError(f"{dataset.name}: a scale of tiles needs the images' resolution; give it with --mpp")
    mean, std = (init.card.mean, init.card.std) if init else (IMAGENET_MEAN, IMAGENET_STD)
    squares, remarks = squares_at(settings.mpp or dataset.mpp or 0, dataset, settings.tile_px, mean, std)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it was
        torch.manual_seed(settings.seed)
        sides = settings.tile_px, settings.train_px
        network = build(model, len(dataset.classes), dropout=settings.dropout, tile_px=sides[0], train_px=sides[1])
        origin = begin(network, model, dataset.classes, init=init, imagenet=settings.imagenet)
        checkpoint = _prepared(out, run_config(dataset, split, settings, model, init), resume)
        notes = (*split.notes, *remarks, origin)
        for note in notes:
            if on_note and _is_first():
                on_note(note)
        fitted, monitored = _sides(dataset, split, settings)
        learner = Learner(network, Photographs(dataset, fitted, monitored, squares, settings), settings)
        record = Record(out, settings.early_stopping if len(monitored) else None, on_epoch)
        trainer = run_epochs(learner, record, settings, choose_device(settings.accelerator), checkpoint)
    if not trainer.is_global_zero:
        raise SystemExit(0)  # a helper process of Lightning's; the first one writes the result
    if record.patience is not None:
        load_model(network, best_weights(out), device="cpu")
    else:
        network = learner.judged
    network = network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]

    run = {
        **circumstances(),
        "command": command,
        "initial_weights": origin,
        "epochs_done": len(record.rows),
        "epoch_kept": (record.best if record.patience is not None else len(record.rows) - 1) + 1,
        "device": str(trainer.strategy.root_device),
        "precision": str(trainer.precision),
        "seconds": round(sum(row.seconds for row in record.rows), 1),
    }
    form, no_form = _bundled(network, model, settings.tile_px, squares)
    notes = (*notes, no_form) if no_form else notes
    if form is not None:
        weights = out / "bundle.safetensors"
        name, parent = f"{dataset.name}-{model}", init.hash if init else None
        described = partial(
            model_card, dataset, split, settings, squares, name=name, run=run, trunk=form[1], parent=parent
        )
        bundle = ModelBundle(form[0], described(table=None)).as_stored()
        tiles_each = len(FixedSquares(dataset, split.train[:1], squares)[0][0])
        shown = balanced(dataset.labels[split.train], max(1, MOST_REPLAYED // tiles_each), settings.seed)
        batches = _maps(bundle.network, dataset, split.train[shown], squares)
        basis, replay = statistics_of(batches, settings.seed)
        bundle = replace(bundle, basis=basis, replay=replay).as_stored()
        table, by_set, check = _measured(out, bundle.network, dataset, split, squares, n_boot, name)
        card = described(table=table)
        if check is not None:
            found = {"temperature": check.temperature, "operating_threshold": within_threshold(check.threshold)}
            limits = tuple(dict.fromkeys((*card.limits, *check.notes)))
            card = card.model_copy(update={**found, "limits": limits})
        replace(bundle, card=card).save(weights)
    else:
        weights = out / "weights.safetensors"
        table, by_set, _ = _measured(out, network, dataset, split, squares, n_boot, model)
        with replacing(weights) as temporary:
            save_model(network, str(temporary), {"architecture": model, "classes": json.dumps(dataset.classes)})
    result = {
        "model": model,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        **run,
        "total_seconds": round(time.perf_counter() - start, 1),
        "notes": list(notes),
        "held_out": table.as_json() if table else None,
        "held_out_by_set": {name: one.as_json() for name, one in by_set.items()},
        "weights": weights.name,
    }
    write_json(out / "result.json", result)
    drop_checkpoints(out)
    return TrainResult(out, weights, tuple(record.rows), table, by_set, notes)


def _sides(dataset: ImageDataset, split: Split, settings: TrainSettings) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which photographs to learn from and which to watch while learning."""
    if settings.early_stopping is None:
        return split.train, split.test
    inner = holdout(
        dataset.labels[split.train],
        dataset.patients[split.train],
        _MONITORED,
        settings.seed,
        class_names=dataset.classes,
    )
    if not len(inner.test):
        raise DatasetError(f"{dataset.name}: early stopping needs two training patients of a class")
    return split.train[inner.train], split.train[inner.test]


def _prepared(out: Path, config: dict[str, Any], resume: bool) -> Path | None:
    """Make the run's folder, or check that it is the one to go on in; return the checkpoint, if there is one."""
    last = last_checkpoint(out)
    if _is_first():
        stored = out / "config.json"
        if stored.exists():
            if not resume:
                raise JobError(f"{out}: a run is there already; go on with it (--resume) or choose another folder")
            if (out / "result.json").exists():
                raise JobError(f"{out}: this run is finished; choose another folder for a new one")
            before = read_run_json(stored)
            if different := disagreements(before, config):
                raise JobError(f"{out}: the interrupted run had other {', '.join(different)}; ask for the same")
        else:
            write_json(stored, config)
    return last if resume and last.exists() else None


def _bundled(
    network: nn.Module, model: str, tile_px: int, squares: Squares
) -> tuple[tuple[TrunkNetwork, dict[str, Any]] | None, str]:
    """Return a network in a bundle's form and its card's word on the trunk; or None, and why there is no bundle."""
    if squares.mpp is None:
        return None, "no bundle, only plain weights: the photographs' resolution is unknown"
    try:
        return bundled(network, model, tile_px), ""
    except BundleError as error:
        return None, f"no bundle, only plain weights: {error}"


@torch.no_grad()
def _maps(
    network: TrunkNetwork, dataset: ImageDataset, indices: NDArray[np.intp], squares: Squares
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the trunk's maps of all squares of some photographs, and their labels."""
    device = choose_device("auto")
    network.to(device)
    for tiles, counts, labels in DataLoader(FixedSquares(dataset, indices, squares), 8, collate_fn=joined):
        yield network.features(squares.normalize(tiles.to(device))), labels.repeat_interleave(counts)
    network.cpu()


def _measured(
    out: Path, network: nn.Module, dataset: ImageDataset, split: Split, squares: Squares, n_boot: int, name: str
) -> tuple[ScoreTable | None, dict[str, ScoreTable], ModelCheck | None]:
    """Predict and score what is held out; write predictions.csv, check.json and its page."""
    if not len(split.test):
        return None, {}, None
    found = predict_photographs(network, dataset, split.test, squares)
    network.cpu()
    probabilities = found.of_photographs()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "patient", "label", *(f"prob_{name}" for name in dataset.classes)])
    for index, row in zip(split.test, probabilities.tolist(), strict=True):
        image = dataset.images[index]
        writer.writerow([image.path.name, image.patient, dataset.classes[image.label], *(f"{p:.6f}" for p in row)])
    write_text(out / "predictions.csv", text.getvalue())
    notes = (*split.notes, AS_TRAINED)
    table = scored(dataset, split.test, probabilities, notes, n_boot=n_boot)
    check = _checked(dataset, split, found, name)
    check.save(out)
    write_check_page(check, out, lambda place: _picture(dataset.images[split.test[place]]))
    return table, scored_by_set(dataset, split.test, probabilities, n_boot=n_boot), check


def _checked(dataset: ImageDataset, split: Split, found: TileLogits, name: str) -> ModelCheck:
    """Return what can be looked at, with temperature and threshold from held-out photographs where they are enough."""
    labels, patients = dataset.labels[split.test], dataset.patients[split.test]
    unit: Unit = "patient" if dataset.patients_known else "image"
    target = target_of(dataset.classes)
    positive = labels == target
    temperature, threshold, notes = 1.0, 0.5, []
    both = bool(positive.any() and not positive.all())
    enough = both and not too_few(labels, patients, dataset.classes, "photographs", unit)
    if enough:
        temperature = fit_temperature(found.logits, np.repeat(labels, found.counts))
        notes.append(
            "temperature and operating threshold come from the held-out photographs, on which they fit too well"
        )
    probabilities = found.of_photographs(temperature)
    if enough:
        threshold = best_gmean(operating_points(positive, probabilities[:, target])).threshold
    return ModelCheck(
        model=name,
        classes=dataset.classes,
        target=target,
        of="photographs",
        unit=unit,
        threshold=threshold,
        temperature=temperature,
        refitted=enough,
        samples=tuple(
            Sample(
                label=int(labels[place]),
                probability=tuple(probabilities[place].tolist()),
                group=patient_key(str(patients[place])),
                name=dataset.images[index].path.name,
            )
            for place, index in enumerate(split.test.tolist())
        ),
        notes=(*split.notes, *notes),
    )


def _picture(image: LabelledImage) -> Image.Image:
    pixels = read_photograph(image.path, icc_profile=image.icc_profile)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _is_first() -> bool:
    """Tell whether this is the first process of those that Lightning trains with."""
    return getattr(rank_zero_only, "rank", 0) == 0
