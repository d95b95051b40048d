"""What is asked of an analysis, whoever asks: Python, the command line, the dock, a cluster or the warm child."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import shapely.geometry
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from napari_dala.errors import DalaError
from napari_dala.validation import Mpp, checked

Area: TypeAlias = shapely.Polygon | shapely.MultiPolygon


def _area(value: Any) -> Area:
    found = value if isinstance(value, Area) else shapely.geometry.shape(value)
    if not isinstance(found, Area):
        raise ValueError(f"a polygon is needed, found {found.geom_type}")
    return found


class AnalysisRequest(BaseModel):
    """How a slide is to be analysed.

    `dala analyze` makes its options of most fields, with the fields' docstrings as help; `as_json` is what the warm
    child is sent. Nothing of it is printed, since a file's name may be a patient's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)

    slide: Path | None = None
    """The slide's file or DICOM folder; None where the slide is open already."""
    model: str = "default"
    """Name or file of a bundle (`dala models list`)."""
    out: Path | None = None
    """Folder for `analysis.zarr`; by default the slide's folder in the workspace."""
    mpp: Mpp | tuple[Mpp, Mpp] | None = None
    """Micrometres per pixel of the slides, where the file is silent or wrong."""
    region: tuple[Annotated[Area, PlainValidator(_area), PlainSerializer(shapely.geometry.mapping)], ...] | None = None
    """Polygons in level-0 px; only tiles whose centre lies in one are done. None for the whole slide."""
    overlap: float = Field(default=0.0, ge=0, lt=1)
    """Part of a tile's side shared with its neighbour."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: str = "auto"
    """auto, fp32 or bf16."""
    workers: int = Field(default=0, ge=0)
    """Readers of tiles; 0: as the device needs."""
    threads: int = Field(default=0, ge=0)
    """Of the processor for the network; 0 for all."""
    decode_on_device: bool = False
    """Decode JPEG tiles on the GPU where it is faster; damage within a tile may go unnoticed."""
    local_copy: bool = False
    """Copy slides to this machine's cache first, for drives that are slow or come and go."""
    annotations: Path | None = None
    """GeoJSON whose regions Ink* and Blur* stand for the ink and blur that are found; by default the slide's own."""
    keep_artefacts: bool = False
    """Analyse tiles that are mostly ink or out of focus too."""
    restart: bool = False
    """Compute everything again."""
    icc_profile: bool = True
    """Bring the slide's colours to sRGB by its ICC profile, where it has one."""
    doubt: float = Field(default=0.0, ge=0, le=0.5)
    """Tiles whose probability lies this close to the threshold are not judged; 0 judges all."""
    maps: bool = False
    """Write the probability and DT Grad-CAM maps too, as OME-TIFF (QuPath) and OME-Zarr (napari)."""
    anonymous: bool = False
    """Leave file names out of everything written."""

    @classmethod
    def of(cls, **values: Any) -> AnalysisRequest:
        """Return a request of what a user gave.

        Raises
        ------
        DalaError
            In one line that names the first value that cannot be used.
        """
        return checked(cls, DalaError, **values)

    def as_json(self) -> dict[str, Any]:
        """Return what `of` takes, as JSON knows it."""
        return self.model_dump(mode="json")

    def record(self, device: str, precision: str, *, tiles: int, tiles_per_s: float, seconds: float) -> dict[str, Any]:
        """Return what a run's record keeps: nothing that names a file. `tiles` is how many were asked for."""
        return {
            "device": device,
            "precision": precision,
            "overlap": self.overlap,
            "region": self.region is not None,
            "tiles": tiles,
            "tiles_per_s": round(tiles_per_s, 2),
            "seconds": round(seconds, 2),
        }

    def __repr__(self) -> str:
        return "AnalysisRequest(...)"

    __str__ = __repr__
