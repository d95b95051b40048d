"""Save the results of an analysis from its layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_dala.errors import DalaError
from napari_dala.results.report.export import write_regions

if TYPE_CHECKING:
    from napari_dala.plugin.reader import LayerData


def write_geojson(path: str, layers: list[LayerData]) -> list[str]:
    """Write the regions found by an analysis as GeoJSON in level-0 pixels, as QuPath reads it.

    Parameters
    ----------
    path
        The file to write.
    layers
        Any of an analysis' probability, class and Grad-CAM layers; others are passed over. The regions are those
        at the threshold, and with the band of doubt, that they show.

    Returns
    -------
    The path written.

    Raises
    ------
    DalaError
        When the layers hold no analysis, or more than one.
    """
    held = {
        id(metadata["dala_analysis"]): metadata
        for metadata in (attributes["metadata"] for _, attributes, _ in layers)
        if "dala_analysis" in metadata
    }
    if len(held) != 1:
        problem = "layers of several analyses" if held else "no layer of an analysis"
        raise DalaError(f"{Path(path).name}: {problem} selected; select the probability layer and save again")
    _, metadata = held.popitem()
    write_regions(metadata["dala_analysis"], Path(path))
    return [path]
