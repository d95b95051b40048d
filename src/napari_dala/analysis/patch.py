"""One patch, explained: its probabilities, Grad-CAM and DT Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_dala.errors import SlideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_dala.inference.predictor import Predictor
    from napari_dala.model.threshold import DynamicThreshold, ThresholdedMap
    from napari_dala.slide import Slide

_LARGEST_PX = 2048  # model pixels; beyond that a picture is a slide


@dataclass(frozen=True)
class ExplainedPatch:
    """A patch as the network saw it and what it made of it.

    Attributes
    ----------
    image
        (h, w, 3) uint8, at the model's resolution.
    probability
        (classes,) float32.
    maps
        The thresholded Grad-CAM of each class, one value per cell of the trunk's map.
    """

    image: NDArray[np.uint8]
    probability: NDArray[np.float32]
    maps: tuple[ThresholdedMap, ...]

    def as_json(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Return probability, threshold and kept fraction by class name."""
        return {
            name: {
                "probability": round(float(probability), 6),
                "threshold": None if np.isnan(part.threshold).any() else np.asarray(part.threshold).round(6).tolist(),
                "kept_fraction": round(part.kept_fraction, 6),
            }
            for name, probability, part in zip(class_names, self.probability, self.maps, strict=True)
        }


def explain_patch(
    slide: Slide, predictor: Predictor, threshold: DynamicThreshold, *, whole: bool = False
) -> ExplainedPatch:
    """Run the network on a whole picture as one patch.

    Parameters
    ----------
    slide
        A photograph, or any small slide.
    whole
        Fit the picture's shorter side to the model's tile instead of using its resolution.

    Raises
    ------
    SlideError
        When the picture has no mpp and `whole` is not set, or is too large for one patch.
    """
    card = predictor.bundle.card
    width, height = slide.dimensions
    if whole:
        scale = (card.tile_px / min(width, height),) * 2
    elif slide.mpp is None:
        raise SlideError(
            f"{slide.name}: the file does not say its resolution; give --mpp, or --whole to fit it to the model's tile"
        )
    else:
        scale = (slide.mpp[0] / card.mpp, slide.mpp[1] / card.mpp)
    cell = card.cell_px
    size = [max(cell, round(side * by / cell) * cell) for side, by in zip((width, height), scale, strict=True)]
    if max(size) > _LARGEST_PX:
        raise SlideError(f"{slide.name}: {size[0]} x {size[1]} px at the model's resolution; use `dala analyze`")
    pixels = Image.fromarray(slide.read(0, 0, width, height))
    image = np.array(pixels.resize((size[0], size[1]), Image.Resampling.BILINEAR))
    prediction = predictor(image[None])
    maps = [
        threshold(cam, cell_um=None if whole else card.mpp * cell, tile_cells=card.tile_px // cell)
        for cam in prediction.cam[0]
    ]
    return ExplainedPatch(image, prediction.probability[0], tuple(maps))
