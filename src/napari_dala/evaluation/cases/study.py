"""A case: a tile, its maps as pictures, the numbers, and words that say what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_dala.evaluation.cases.beneath import Share, in_words, parts_of, place_in_words, shares
from napari_dala.evaluation.explanations.faithfulness import faithfulness
from napari_dala.results.report.pictures import heat
from napari_dala.words import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_dala.evaluation.cases.left_out import LeftOut
    from napari_dala.model.threshold import ThresholdedMap

PLAIN, DT = "Grad-CAM", "DT Grad-CAM"
SIDE = 448
"""Of a picture, px."""


@dataclass(frozen=True)
class MapFigures:
    """What was measured of a map: see `faithfulness` for insertion and deletion, `beneath` for what lies under it."""

    insertion: float
    deletion: float
    kept: float
    beneath: Mapping[str, Share] | None


@dataclass(frozen=True, eq=False)
class CaseStudy:
    """A tile of a left-out patient, explained.

    Attributes
    ----------
    kind
        One of `KINDS`.
    label, called
        Class names.
    probability
        By class name.
    name, patient, model
        The photograph's file, a key of its patient, and the number of the model that left it out, from 1.
    tile_um
        Side of the tile, um.
    tile, thresholded
        Pixels, and the map of the class that it is called.
    figures
        By `PLAIN` and `DT`.
    """

    kind: str
    label: str
    called: str
    probability: Mapping[str, float]
    name: str
    patient: str
    model: int
    tile_um: float
    tile: NDArray[np.uint8]
    thresholded: ThresholdedMap
    figures: Mapping[str, MapFigures]

    def as_json(self) -> dict[str, Any]:
        """Return the numbers and the words."""
        own = ("kind", "label", "called", "probability", "name", "patient", "model", "tile_um")
        threshold = float(np.mean(self.thresholded.threshold))
        return {
            **{key: getattr(self, key) for key in own},
            "threshold": threshold if np.isfinite(threshold) else None,
            "peak_logit": float(self.thresholded.raw.max()),
            "maps": {name: asdict(figures) for name, figures in self.figures.items()},
            "words": self.words(),
        }

    def words(self) -> list[str]:
        """Return what was measured, in sentences."""
        found, peak = self.thresholded, float(self.thresholded.raw.max())
        said = [
            f"It is {self.label}; the model that never saw this patient calls it {self.called}, with a probability of "
            f"{self.probability[self.called]:.2f}."
        ]
        if peak <= 0:
            return [*said, f"Nothing in this tile argues for {self.called}: Grad-CAM is empty."]
        said.append(
            f"What argues for {self.called} peaks at {peak:.2f} (of the logit), in the {place_in_words(found.raw)} of "
            f"the tile, which is {percent(float(found.scaled.max()))} of the strongest of its slide."
        )
        if found.kept_fraction == 0:
            said.append("DT keeps nothing: no island of this tile reaches its slide's threshold.")
        else:
            said.append(
                f"At the threshold of its slide, T = {float(np.mean(found.threshold)):.2f} of the strongest, DT keeps "
                f"{percent(found.kept_fraction)} of the tile."
            )
        name = DT if self.figures[DT].beneath else PLAIN
        beneath = self.figures[name].beneath
        if beneath:
            said.append(f"{name}: {in_words(beneath)[0].lower()}{in_words(beneath)[1:]}")
        if self.label != self.called:
            said.append(
                f"The model is wrong here. The maps show what argued for {self.called}; why that was wrong they cannot "
                "say."
            )
        return said


def pictures_of(tile: NDArray[np.uint8], found: ThresholdedMap, *, outlined: bool) -> dict[str, Image.Image]:
    """Return a tile under each map, `SIDE` px, by `PLAIN` and `DT`.

    Grad-CAM is drawn over its own maximum, as it usually is, DT as on a slide.

    Parameters
    ----------
    tile
        (px, px, 3).
    found
        The map.
    outlined
        Whether what DT keeps is outlined.
    """
    patch = enlarged_tile(tile)
    plain = np.maximum(found.raw, 0).astype(np.float32)
    return {
        PLAIN: heat(patch, plain / (plain.max() or 1)),
        DT: heat(patch, found.map, found.contours() if outlined else ()),
    }


def enlarged_tile(tile: NDArray[np.uint8]) -> Image.Image:
    """Return a tile as a picture of `SIDE` px."""
    return Image.fromarray(tile).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def study_case(found: LeftOut, place: int, kind: str) -> CaseStudy:
    """Measure a tile's maps and put the case together."""
    classes, image = found.dataset.classes, found.image(place)
    tile, thresholded = found.tile(place), found.map_of(place)
    plain = np.maximum(thresholded.raw, 0).astype(np.float32)
    maps = {PLAIN: plain, DT: np.where(thresholded.mask, plain, 0)}
    measured = faithfulness(tile, list(maps.values()), found.probability_of(place), seed=place)
    rows, columns = plain.shape
    parts = parts_of(tile, (rows, columns))
    return CaseStudy(
        kind=kind,
        label=classes[image.label],
        called=classes[found.called[place]],
        probability=dict(zip(classes, found.probability[place].tolist(), strict=True)),
        name=image.path.name,
        patient=found.patient_key(place),
        model=int(found.judge[place]) + 1,
        tile_um=found.tile_um(place),
        tile=tile,
        thresholded=thresholded,
        figures={
            name: MapFigures(one.insertion, one.deletion, one.kept, shares(maps[name], parts))
            for name, one in zip(maps, measured, strict=True)
        },
    )
