"""An analysis' maps as pictures with a physical size: pyramidal OME-TIFF, as QuPath reads it, and OME-Zarr 0.5."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr

from napari_dala.errors import DalaError
from napari_dala.files import replacing, replacing_folder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_dala.model.threshold import ThresholdedMap
    from napari_dala.results.analysis import Analysis

_TOP_PX = 256  # longest side of the coarsest level
_TILE_PX = 256


@dataclass(frozen=True, eq=False)
class SlideMap:
    """Values over a slide, in a regular grid.

    Attributes
    ----------
    name
        Of the map, and of its files.
    channels
        Their names.
    values
        (channels, rows, columns) float32; NaN where no tile was analysed.
    side, slide_side
        Of a pixel, and of one of the slide's level 0 (y, x), um.
    corner
        Upper left corner of the first pixel (y, x), um from the slide's.
    """

    name: str
    channels: tuple[str, ...]
    values: NDArray[np.float32]
    side: tuple[float, float]
    slide_side: tuple[float, float]
    corner: tuple[float, float]


def maps_of(analysis: Analysis, thresholded: ThresholdedMap) -> tuple[SlideMap, SlideMap]:
    """Return the probability of every class, a pixel a tile, and the target class' DT Grad-CAM, a pixel a CAM cell.

    Parameters
    ----------
    thresholded
        See `thresholded_cam`. What it did not keep is 0.
    """
    card, um = analysis.card, analysis.mpp[::-1]
    shown = np.where(np.isfinite(thresholded.raw), thresholded.map, np.float32(np.nan))[None]
    maps = (
        ("probability", card.class_names, analysis.probability, analysis.grid.tile_frame),
        ("dt-grad-cam", (card.class_names[card.target_class],), shown, analysis.grid.cell_frame),
    )
    probability, cam = (
        SlideMap(
            name,
            channels,
            values,
            side=(side[0] * um[0], side[1] * um[1]),
            slide_side=um,
            corner=((first[0] - side[0] / 2) * um[0], (first[1] - side[1] / 2) * um[1]),
        )
        for name, channels, values, (side, first) in maps
    )
    return probability, cam


def write_maps(analysis: Analysis, thresholded: ThresholdedMap, folder: Path) -> list[Path]:
    """Write the maps of `maps_of`, each as `<name>.ome.tif` and `<name>.ome.zarr`; return these paths.

    Raises
    ------
    DalaError
        When something else has the name of one.
    """
    written = []
    for one in maps_of(analysis, thresholded):
        for ending, write in ((".ome.tif", write_ome_tiff), (".ome.zarr", write_ome_zarr)):
            written.append(folder / f"{one.name}{ending}")
            write(one, written[-1])
    return written


def write_ome_tiff(slide_map: SlideMap, path: Path) -> None:
    """Write a map as a pyramidal OME-TIFF with its pixel size.

    QuPath knows a pixel size only where both sides are given, in a unit of length; the position is that of the upper
    left corner.
    """
    levels, (down, across), (top, left) = _levels(slide_map.values), slide_map.side, slide_map.corner
    count = len(slide_map.channels)
    about = {
        "axes": "CYX",
        "UUID": uuid.uuid4().urn,  # tifffile's own would name the computer
        "Name": slide_map.name,
        "Channel": {"Name": list(slide_map.channels)},
        **_size("PhysicalSize", across, down),
        "Plane": {name: [value] * count for name, value in _size("Position", left, top).items()},
    }
    options: dict[str, Any] = {
        "photometric": "minisblack",
        "compression": "zlib",
        "tile": (_TILE_PX, _TILE_PX),
        "resolutionunit": "CENTIMETER",
    }
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, ome=True) as file:
        for step, values in enumerate(levels):
            mine = {"subifds": len(levels) - 1, "metadata": about} if step == 0 else {"subfiletype": 1}
            dots = (1e4 / across / 2**step, 1e4 / down / 2**step)
            file.write(values, resolution=dots, **mine, **options)


def write_ome_zarr(slide_map: SlideMap, path: Path) -> None:
    """Write a map as an OME-Zarr 0.5; its translation fits a slide whose first pixel's centre is at 0.

    Raises
    ------
    DalaError
        When something else has this name.
    """
    if path.exists() and not (path / "zarr.json").is_file():
        raise DalaError(f"{path}: is there and is no OME-Zarr; move it away or choose another folder")
    levels, datasets = _levels(slide_map.values), list[dict[str, Any]]()
    with replacing_folder(path) as temporary:
        root = zarr.open_group(temporary, mode="w", zarr_format=3)
        for step, values in enumerate(levels):
            array = root.create_array(
                str(step),
                shape=values.shape,
                chunks=(1, *(min(_TILE_PX, length) for length in values.shape[1:])),
                dtype=values.dtype,
                fill_value=np.nan,
                dimension_names=("c", "y", "x"),
            )
            array[...] = values
            side = np.multiply(slide_map.side, 2**step)
            middle = slide_map.corner + (side - slide_map.slide_side) / 2
            moves = [{"type": "scale", "scale": [1.0, *side.tolist()]}]
            moves.append({"type": "translation", "translation": [0.0, *middle.tolist()]})
            datasets.append({"path": str(step), "coordinateTransformations": moves})
        axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
        axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
        window = {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
        shown: dict[str, Any] = {"color": "FFFFFF", "coefficient": 1, "active": True, "window": window}
        ome: dict[str, Any] = {
            "version": "0.5",
            "multiscales": [{"name": slide_map.name, "axes": axes, "datasets": datasets, "type": "mean"}],
            "omero": {"channels": [{"label": name, **shown} for name in slide_map.channels]},
        }
        root.attrs["ome"] = ome


def _size(name: str, x: float, y: float) -> dict[str, Any]:
    return {f"{name}X": x, f"{name}XUnit": "µm", f"{name}Y": y, f"{name}YUnit": "µm"}


def _levels(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the values and ever coarser ones, each pixel the mean of up to 2 x 2 that are known."""
    levels = [values]
    while max(levels[-1].shape[1:]) > _TOP_PX:
        finer = levels[-1]
        even = np.pad(finer, ((0, 0), *((0, length % 2) for length in finer.shape[1:])), constant_values=np.nan)
        count, rows, columns = even.shape
        fours = even.reshape(count, rows // 2, 2, columns // 2, 2)
        known = np.isfinite(fours).sum(axis=(2, 4), dtype=np.float32)
        total = np.nansum(fours, axis=(2, 4), dtype=np.float32)
        levels.append(np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0))
    return levels
