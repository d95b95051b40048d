"""What a fine-tuned model says of itself: its card, and its figures before and after."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dala.metrics.anonymous import patient_key, without_names
from napari_dala.metrics.scores import score
from napari_dala.model.card import ModelCard
from napari_dala.results.model_check import too_few
from napari_dala.training.provenance import circumstances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.annotations.held_out import HeldOut
    from napari_dala.training.finetune.gather import LabelledTiles
    from napari_dala.training.finetune.job import FinetuneConfig, FinetuneSettings

TRAINED = "patients_trained"


def counts_of(tiles: LabelledTiles, indices: NDArray[np.intp]) -> dict[str, int]:
    """Return how many of some tiles each class has."""
    numbers = np.bincount(tiles.examples.label[indices], minlength=len(tiles.classes)).tolist()
    return dict(zip(tiles.examples.class_names, numbers, strict=True))


def figures(
    tiles: LabelledTiles,
    held_out: HeldOut,
    probabilities: NDArray[np.float64],
    card: ModelCard,
    settings: FinetuneSettings,
) -> dict[str, Any] | None:
    """Return the scores of the held-out tiles as JSON (`ScoreTable.as_json`); None where none are held out.

    Parameters
    ----------
    tiles, held_out
        See there. Intervals are by the unit that the split keeps together, and the split's notes come first.
    probabilities
        (held-out tiles, C); where C is smaller than the classes, the further ones have none.
    card
        For the operating threshold, which a fine-tuned model has of its parent.
    settings
        For `n_boot` and `seed`. There are no intervals where too few tiles or units are held out, and a note says so.
    """
    at = held_out.split.test
    if not len(at):
        return None
    lacking = len(tiles.classes) - probabilities.shape[1]
    labels, groups, names, unit = (
        tiles.examples.label[at],
        held_out.groups[at],
        tiles.examples.class_names,
        held_out.unit,
    )
    few = too_few(labels, groups, names, "tiles", unit)
    table = score(
        labels,
        np.pad(probabilities, ((0, 0), (0, lacking))),
        threshold=card.operating_threshold,
        target=card.target_class,
        groups=groups,
        classes=names,
        n_boot=0 if few else settings.n_boot,
        seed=settings.seed,
    )
    further = [few] if few else [note.replace("patient", unit) for note in table.notes]
    notes = (*held_out.split.notes, *further)
    return {**without_names(replace(table, notes=notes)), "resampled": f"{unit}s"}


def held_out_seen_before(parent: ModelCard, tiles: LabelledTiles, held_out: HeldOut) -> str | None:
    """Say of how many held-out patients the parent has learned already, by its card."""
    there = _keys(tiles, held_out.split.test)
    seen = len(there & _trained(parent))
    if not seen:
        return None
    return f"the model before was trained on {seen} of the {len(there)} held-out patients: its figures are too good"


def child_card(
    parent: ModelCard,
    parent_hash: str,
    config: FinetuneConfig,
    tiles: LabelledTiles,
    held_out: HeldOut,
    settings: FinetuneSettings,
    notes: list[str],
) -> ModelCard:
    """Return the card of a fine-tuned model, without its figures.

    Parameters
    ----------
    parent, parent_hash
        What it was trained from.
    config, settings
        As asked for, and with every value set.
    tiles, held_out
        What it learned from and what it was measured on.
    notes
        What a reader must be told.
    """
    examples, split = tiles.examples, held_out.split
    patients = _keys(tiles, split.train)
    slides = len(np.unique(examples.slide))
    of_slides = f"{slides} slide{'s'[: slides > 1]}"
    training: dict[str, Any] = {
        "method": f"fine-tuning, {settings.mode}",
        "initial_weights": f"weights of {parent.name}",
        "tiles_trained": counts_of(tiles, split.train),
        "tiles_held_out": counts_of(tiles, split.test),
        "tiles_dropped": len(split.dropped),
        "slides": slides,
        "slides_per_class": examples.units_per_class("slide"),
        TRAINED: sorted(patients | _trained(parent)),
        "patients_fine_tuned": sorted(patients),
        "patients_held_out": sorted(_keys(tiles, split.test)),
        "patients_are": "the first 16 hex digits of the SHA-256 of a patient's name, or of the slide's fingerprint",
        "patients_known": bool((examples.patient != examples.slide).all()),
        "split": held_out.unit,
        "split_notes": list(split.notes),
        "optimistic": split.optimistic,
        "notes": notes,
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "command": _command(config),
        **circumstances(),
    }
    limits = (*parent.limits, f"Fine-tuned on {of_slides}; others were not tested.", *split.notes)
    values = parent.model_dump() | {
        "name": config.name,
        "summary": f"{parent.name}, fine-tuned ({settings.mode}) on {len(split.train)} labelled tiles of {of_slides}.",
        "classes": tiles.classes,
        "trained": parent.trained or parent.trunk_only or settings.mode == "full",
        "trunk_only": False,
        "training": training,
        "metrics": {},
        "parent": parent_hash,
        "limits": tuple(dict.fromkeys(limits)),
    }
    return ModelCard.model_validate(values)


def with_figures(card: ModelCard, before: dict[str, Any] | None, after: dict[str, Any] | None) -> ModelCard:
    """Return the card with the figures of the held-out tiles, of the parent and of the model itself."""
    metrics = {} if after is None else {"before": before, "after": after}
    return card.model_copy(update={"metrics": json.loads(json.dumps(metrics))})


def _keys(tiles: LabelledTiles, indices: NDArray[np.intp]) -> set[str]:
    return {patient_key(patient) for patient in np.unique(tiles.examples.patient[indices]).tolist()}


def _trained(card: ModelCard) -> set[str]:
    known = card.training.get(TRAINED)
    return {str(key) for key in known} if isinstance(known, list) else set()


def _command(config: FinetuneConfig) -> str:
    """Return a command line that asks for the same, without the names of slides, which may be patients'."""
    asked = config.settings.model_dump(exclude_defaults=True)
    options = [part for name, value in asked.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    slides = ["SLIDE" if len(config.slides) == 1 else f"{len(config.slides)} SLIDES"]
    return shlex.join(["dala", "finetune", *slides, "--name", config.name, *options])
