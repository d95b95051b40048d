from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.slide.found import slide_files

if TYPE_CHECKING:
    from pathlib import Path


def test_slides_below_a_folder_by_name_and_files_as_they_are(tmp_path: Path) -> None:
    names = ["b/two.SVS", "b/one.ome.tiff", "a.ndpi", "b/label.png", ".hidden/three.svs", "b/._four.svs", "notes.txt"]
    for name in (*names, "dicom/1.dcm", "dicom/2.DCM", "dicom/.3.dcm"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in slide_files([tmp_path])]
    assert found == ["a.ndpi", "b/one.ome.tiff", "b/two.SVS", "dicom"]
    for name in ("c.ome.zarr/0/c", "analysis.zarr/1", "b/D.ZARR"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "c.ome.zarr/0/x.svs").touch()
    found = [path.relative_to(tmp_path).as_posix() for path in slide_files([tmp_path])]
    assert found == ["c.ome.zarr", "a.ndpi", "b/D.ZARR", "b/one.ome.tiff", "b/two.SVS", "dicom"]
    assert [*slide_files([tmp_path / "c.ome.zarr"])] == [tmp_path / "c.ome.zarr"]
    photograph, nothing = tmp_path / "b/label.png", tmp_path / "gone.svs"
    assert [*slide_files([photograph, nothing])] == [photograph, nothing]
