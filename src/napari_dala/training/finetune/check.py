"""What a fine-tuning's held-out tiles tell of the new model: its temperature, whether it is better, what to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError
from napari_dala.metrics.anonymous import patient_key
from napari_dala.metrics.temperature import fit_temperature
from napari_dala.results.model_check import FEWEST_SAMPLES, ModelCheck, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_dala.annotations.held_out import HeldOut
    from napari_dala.model.card import ModelCard
    from napari_dala.training.finetune.gather import LabelledTiles

Verdict: TypeAlias = Literal["better", "worse", "same"]

REFITTED = "how sure it is was adjusted on the held-out tiles themselves: the calibration error comes out too good"
NOT_REFITTED = f"how sure it is was not adjusted: that needs {FEWEST_SAMPLES} held-out tiles, of two classes"


def refitted_temperature(labels: NDArray[np.intp], probabilities: NDArray[np.float64]) -> float | None:
    """Return the temperature that makes held-out probabilities (n, C) at temperature 1 mean what they say.

    None where fewer than 20 tiles are held out, or of one class only.
    """
    if len(labels) < FEWEST_SAMPLES or len(np.unique(labels)) < 2:
        return None
    return fit_temperature(np.log(np.maximum(probabilities, 1e-12)), labels)


def kept_threshold(threshold: float, before: float, after: float) -> float:
    """Return the threshold of two classes at which a tile's logits decide as before, at another temperature."""
    if not 0 < threshold < 1:
        return threshold
    return float(1 / (1 + np.exp(-np.log(threshold / (1 - threshold)) * before / after)))


def tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return probabilities (n, C) at temperature 1 as they are at another."""
    powers = np.maximum(probabilities, 1e-12) ** (1 / temperature)
    return np.asarray(powers / powers.sum(1, keepdims=True))


def verdict(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Verdict | None:
    """Tell whether the new model is better on the held-out tiles: by GMean, by accuracy where that does not tell.

    Parameters
    ----------
    before, after
        Figures as `finetune_card.figures` returns them; None where nothing is held out, and then so is the verdict.
    """
    if before is None or after is None:
        return None
    for name in ("gmean", "accuracy"):
        old, new = (table["scores"][name]["value"] for table in (before, after))
        if old is not None and new is not None and abs(new - old) > 1e-9:
            return "better" if new > old else "worse"
    return "same"


def check_of(
    tiles: LabelledTiles, held_out: HeldOut, card: ModelCard, probabilities: NDArray[np.float64], refitted: bool
) -> ModelCheck | None:
    """Return the held-out tiles as the new model sees them, (n, C); None where there are none."""
    examples, at = tiles.examples, held_out.split.test
    if not len(at) or held_out.unit == "none":
        return None
    grids = {source.fingerprint: source.grid for source in tiles.sources}
    samples = []
    for place, index in enumerate(at.tolist()):
        slide, row, column = str(examples.slide[index]), int(examples.row[index]), int(examples.column[index])
        x, y = grids[slide].middle(row, column)
        samples.append(
            Sample(
                label=int(examples.label[index]),
                probability=tuple(probabilities[place].tolist()),
                group=patient_key(str(held_out.groups[index])),
                slide=slide,
                row=row,
                column=column,
                x=x,
                y=y,
            )
        )
    return ModelCheck(
        model=card.name,
        classes=card.class_names,
        target=card.target_class,
        unit=held_out.unit,
        threshold=card.operating_threshold,
        temperature=card.temperature,
        refitted=refitted,
        samples=tuple(samples),
        notes=held_out.split.notes,
    )


def picture_of(tiles: LabelledTiles, index: int) -> Image.Image | None:
    """Return the pixels of a labelled tile; None where they cannot be read."""
    try:
        return Image.fromarray(tiles.read(index))
    except SlideError:
        return None
