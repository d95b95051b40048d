"""Save the results of an analysis from its layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_dala.analysis.export import write_regions
from napari_dala.errors import DalaError

if TYPE_CHECKING:
    from napari_dala.plugin.reader import LayerData


def write_geojson(path: str, layers: list[LayerData]) -> list[str]:
    """Write the regions found by an analysis as GeoJSON in level-0 pixels, as QuPath reads it.

    Parameters
    ----------
    path
        The file to write.
    layers
        Any of an analysis' probability, class and Grad-CAM layers; others are passed over.

    Returns
    -------
    The path written.

    Raises
    ------
    DalaError
        When the layers hold no analysis, or more than one.
    """
    held = [attributes["metadata"].get("dala_analysis") for _, attributes, _ in layers]
    analyses = {id(analysis): analysis for analysis in held if analysis is not None}
    if len(analyses) != 1:
        problem = "layers of several analyses" if analyses else "no layer of an analysis"
        raise DalaError(f"{Path(path).name}: {problem} selected; select the probability layer and save again")
    write_regions(analyses.popitem()[1], Path(path))
    return [path]
