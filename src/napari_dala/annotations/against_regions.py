"""How good results are on the tiles that drawn regions label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_dala.annotations.labels import tiles_of
from napari_dala.metrics.scores import ScoreTable, score

if TYPE_CHECKING:
    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.results.analysis import Analysis

_DRAWS = 1000


def against_regions(document: AnnotationDocument, analysis: Analysis) -> ScoreTable | None:
    """Return the figures of a result on the labelled tiles that it judges, with intervals by region.

    Tiles of one region are alike, so that draws take whole regions. None where no judged tile is labelled.

    Parameters
    ----------
    document
        What is drawn on the slide.
    """
    names = analysis.card.class_names
    examples = tiles_of(document, analysis.grid, names)
    judged = analysis.judged[examples.row, examples.column]
    if not judged.any():
        return None
    row, column = examples.row[judged], examples.column[judged]
    return score(
        examples.label[judged],
        np.asarray(analysis.probability[:, row, column].T, np.float64),
        threshold=analysis.threshold,
        target=analysis.card.target_class,
        groups=examples.region[judged],
        classes=names,
        n_boot=_DRAWS,
    )
