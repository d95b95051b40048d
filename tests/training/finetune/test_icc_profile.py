"""A slide with an ICC profile is learned from in the colours that are asked for, and so are its stored features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
import tifffile

from napari_dala.annotations.document import Annotation, AnnotationDocument
from napari_dala.annotations.files import write_annotations
from napari_dala.slide import open_slide
from napari_dala.training.finetune.gather import gather
from napari_dala.training.finetune.job import FinetuneSettings, SlideExamples
from tests.icc import SWAPPED, by_littlecms

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.card import ModelCard


@pytest.mark.parametrize("analysed_with", [True, False])
@pytest.mark.parametrize("learned_with", [True, False])
def test_features_of_other_colours_are_not_learned_from(
    drawn_slide: Path,
    tmp_path: Path,
    paint_analysis: Any,
    small_tiles: ModelCard,
    analysed_with: bool,
    learned_with: bool,
) -> None:
    with open_slide(drawn_slide) as slide:
        pixels = slide.read(300, 300, 256, 256)
    path = tmp_path / "swapped.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", compression="zlib", iccprofile=SWAPPED)
    with open_slide(path, mpp=0.5, icc_profile=analysed_with) as slide:
        paint_analysis(slide, 0.5)
    drawn = [Annotation.drawn(shapely.box(x, 0, x + 128, 256), name) for x, name in ((0, "benign"), (128, "malignant"))]
    write_annotations(AnnotationDocument("", (), tuple(drawn)), tmp_path / "drawn.geojson")
    one = SlideExamples(
        slide=path, annotations=tmp_path / "drawn.geojson", analysis=tmp_path, mpp=0.5, icc_profile=learned_with
    )
    with gather([one], small_tiles, "0" * 12, FinetuneSettings(precision="fp32")) as tiles:
        assert (tiles.sources[0].stored is not None) == (analysed_with == learned_with)
        row, column = tiles.examples.row[0] * 64, tiles.examples.column[0] * 64
        stored = pixels[row : row + 64, column : column + 64]
        expected = by_littlecms(stored, SWAPPED) if learned_with else stored
        np.testing.assert_array_equal(tiles.read(0), expected)
