"""The files of one analysed slide: tables, regions, pictures, report and the record of the run."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from napari_dala.errors import DalaError
from napari_dala.files import replacing, write_json
from napari_dala.results.report.export import write_regions, write_tiles
from napari_dala.results.report.maps import write_maps
from napari_dala.results.report.page import write_report
from napari_dala.results.report.pictures import DT_DEFAULT, overview, thresholded_cam

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.model.threshold import DynamicThreshold
    from napari_dala.results.analysis import Analysis
    from napari_dala.slide import Slide

_LIBRARIES = ("napari-dala", "torch", "torchvision", "numpy", "openslide-python", "openslide-bin", "tifffile", "zarr")


def output_folder(out: Path, slide: Slide, *, anonymous: bool = False) -> Path:
    """Return `out/<stem>-<first 8 of the fingerprint>`; without the stem where a name may be a patient's."""
    stem = re.sub(r"[^\w.-]+", "_", slide.path.stem if slide.path else slide.name)
    short = slide.fingerprint[:8]
    return out / (short if anonymous else f"{stem}-{short}")


def write_outputs(
    analysis: Analysis,
    slide: Slide,
    folder: Path,
    settings: dict[str, Any],
    *,
    anonymous: bool = False,
    maps: bool = False,
    rule: DynamicThreshold = DT_DEFAULT,
) -> dict[str, Any]:
    """Write tiles.csv, regions.geojson, overview.png, report.html and run.json, at the analysis' threshold and doubt.

    Parameters
    ----------
    settings
        How the run was asked for and how long it took; goes into run.json and the report as it is.
    anonymous
        Leave the file's name out.
    maps
        Write the files of `write_maps` too.
    rule
        How the DT Grad-CAM is found.

    Returns
    -------
    The content of run.json.
    """
    properties = dict(slide.properties)
    if anonymous:
        properties["name"] = slide.fingerprint[:8]
    run: dict[str, Any] = {
        "slide": properties,
        "model": {"name": analysis.card.name, "hash": analysis.store.bundle_hash, "trained": analysis.card.trained},
        "threshold": analysis.threshold,
        "doubt": analysis.doubt,
        "settings": settings,
        "warnings": analysis.warnings,
        "versions": {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_tiles(analysis, folder / "tiles.csv")
    write_regions(analysis, folder / "regions.geojson")
    picture = overview(slide, analysis)
    with replacing(folder / "overview.png") as temporary:
        picture.save(temporary, "PNG")
    if maps:
        write_maps(analysis, thresholded_cam(analysis, rule), folder)
    write_report(analysis, slide, folder / "report.html", run, rule=rule)
    write_json(folder / "run.json", run)
    return run


def save_results(
    analysis: Analysis, slide: Slide, out: Path, *, anonymous: bool = False, maps: bool = False, rule: DynamicThreshold
) -> Path:
    """Write what `write_outputs` writes of results that are shown into a folder in `out`, and return that.

    Parameters
    ----------
    analysis
        Read again from its store: a copy, where others show it.

    Raises
    ------
    DalaError
        When the folder cannot be written to.
    """
    analysis.refresh()
    folder, setting = output_folder(out, slide, anonymous=anonymous), analysis.store.setting
    settings = {
        "precision": setting.precision,
        "overlap": round(1 - setting.grid.stride_cells / setting.grid.cells, 3),
        "saved_from": "napari",
    }
    try:
        write_outputs(analysis, slide, folder, settings, anonymous=anonymous, maps=maps, rule=rule)
    except OSError as error:
        raise DalaError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error
    return folder
