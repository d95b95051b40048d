"""OME-Zarr as a slide: what opens with which colours, levels and resolution, and what is refused in words."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from obstore.exceptions import GenericError
from skimage.data import immunohistochemistry
from zarr.storage import LocalStore

from napari_dala.errors import may_pass
from napari_dala.slide import SlideError, open_slide
from napari_dala.slide.backends.remote import url_of
from tests.ome_zarrs import RGB, BucketHandler, served, write_ome_zarr, zipped


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    return np.ascontiguousarray(immunohistochemistry()[:300, :400])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "yxc", "tczyx", "czyx", "xyc"])
@pytest.mark.parametrize("channels", [RGB, ()])
def test_rgb_planes_open_with_their_levels_and_resolution(
    tmp_path: Path, tissue: np.ndarray, version: str, axes: str, channels: Any
) -> None:
    path = write_ome_zarr(tmp_path / "slide.ome.zarr", tissue, axes=axes, version=version, channels=channels)
    with open_slide(path) as slide:
        assert slide.facts.vendor == "ome-zarr"
        assert slide.dimensions == (400, 300)
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        assert slide.levels[0].tile == (64, 64)
        assert (slide.mpp, slide.mpp_source) == (pytest.approx((0.4, 0.4)), "file")
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
        np.testing.assert_array_equal(slide.read(40, 80, 20, 10, 2), tissue[80:120:4, 40:120:4])
        assert (slide.read(-8, -8, 8, 8) == 255).all()


@pytest.mark.parametrize("more", [{"shards": (3, 128, 128)}, {"compressors": None}])
def test_shards_and_plain_chunks_open(tmp_path: Path, tissue: np.ndarray, more: dict[str, Any]) -> None:
    with open_slide(write_ome_zarr(tmp_path / "a.zarr", tissue, **more)) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
        assert slide.levels[0].tile == (64, 64)


def test_grey_opens_as_grey(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_ome_zarr(tmp_path / "grey.zarr", tissue[..., 0], axes="yx", channels=())
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(10, 20, 30, 40), np.repeat(tissue[20:60, 10:40, :1], 3, 2))


@pytest.mark.parametrize(
    ("unit", "size", "mpp"),
    [("nanometer", 400.0, 0.4), ("millimeter", 4e-4, 0.4), ("micrometer", 0.4, 0.4), ("second", 0.4, None)],
)
def test_the_resolution_is_in_the_axes_unit(
    tmp_path: Path, tissue: np.ndarray, unit: str, size: float, mpp: float | None
) -> None:
    with open_slide(write_ome_zarr(tmp_path / "a.zarr", tissue, unit=unit, um=size)) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx((mpp, mpp)))


def test_without_a_scale_the_resolution_is_not_guessed(tmp_path: Path, tissue: np.ndarray) -> None:
    with open_slide(write_ome_zarr(tmp_path / "a.zarr", tissue, um=None)) as slide:
        assert slide.mpp is None


def test_folder_zip_and_another_compression_are_one_slide(tmp_path: Path, tissue: np.ndarray) -> None:
    folder = write_ome_zarr(tmp_path / "a.zarr", tissue)
    paths = [
        folder,
        folder / "zarr.json",
        zipped(folder, tmp_path / "a.ozx"),
        zipped(folder, tmp_path / "b.zarr.zip", "b.zarr/"),
        write_ome_zarr(tmp_path / "c.zarr", tissue, version="0.4", axes="yxc"),
    ]
    prints = set()
    for path in paths:
        with open_slide(path) as slide:
            prints.add(slide.fingerprint)
            np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
    assert len(prints) == 1
    other = tissue.copy()
    other[0, 0] = 0
    with open_slide(write_ome_zarr(tmp_path / "d.zarr", other)) as slide:
        assert slide.fingerprint not in prints


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_of_several_pictures_the_largest_that_is_no_label_opens(
    tmp_path: Path, tissue: np.ndarray, version: str
) -> None:
    root = zarr.open_group(tmp_path / "raw.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    said = {"bioformats2raw.layout": 3}
    root.attrs.update(said if version == "0.4" else {"ome": {"version": version, **said}})
    label = np.full((500, 500, 3), 9, np.uint8)
    for number, (pixels, name) in enumerate(
        [(label, "label image"), (tissue, "slide"), (np.hstack([tissue[:20]] * 2), "")]
    ):
        write_ome_zarr(tmp_path / f"raw.zarr/{number}", pixels, axes="tczyx", version=version, name=name)
    with open_slide(tmp_path / "raw.zarr") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, *slide.dimensions), tissue)


STAINS = tuple({"label": name, "color": "0000FF"} for name in ("DAPI", "FITC", "Cy5"))


@pytest.mark.parametrize(
    ("shape", "dtype", "more", "why"),
    [
        ((64, 64, 3), np.uint8, {"channels": STAINS}, "shown as DAPI and FITC and Cy5"),
        ((64, 64, 3), np.uint8, {"channels": ({"color": "00FFFF"}, {"color": "FF00FF"}, {"color": "FFFF00"})}, "stain"),
        ((64, 64, 5), np.uint8, {"channels": ()}, "stains one by one"),
        ((64, 64, 2), np.uint8, {"channels": ()}, "stains one by one"),
        ((64, 64, 3), np.uint16, {}, "uint16"),
        ((64, 64, 3), np.float32, {}, "float32"),
        ((64, 64), np.uint8, {"axes": "cyx", "channels": ({"label": "DAPI", "color": "0000FF"},)}, "stains one by one"),
    ],
)
def test_fluorescence_and_deep_pixels_are_refused_in_one_line(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, more: dict[str, Any], why: str
) -> None:
    path = write_ome_zarr(tmp_path / "stains.zarr", np.zeros(shape, dtype), levels=1, **more)
    with pytest.raises(SlideError, match=why) as caught:
        open_slide(path)
    assert str(caught.value).startswith("stains.zarr: axes ")
    assert "8-bit RGB" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stack_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", tissue, axes="zyxc", levels=1)
    array = zarr.open_group(path)["0"]
    array.resize((2, 300, 400, 3))
    with pytest.raises(SlideError, match="a stack"):
        open_slide(path)


def _no_group(path: Path) -> None:
    shutil.rmtree(path)
    zarr.create_array(path, shape=(4, 4), dtype="uint8")


def _edit(path: Path, **changes: Any) -> None:
    group = zarr.open_group(path)
    ome = dict(group.attrs["ome"])
    ome["multiscales"][0].update(changes)
    group.attrs["ome"] = ome


BROKEN = {
    "no zarr": (lambda path: [one.unlink() for one in path.glob("zarr.json")], "holds a zarr.json"),
    "an array": (_no_group, "not an OME-Zarr"),
    "no picture": (lambda path: zarr.open_group(path).attrs.update(ome={}), "no picture of OME-Zarr"),
    "a plate": (lambda path: zarr.open_group(path).attrs.update(ome={"plate": {}}), "a plate"),
    "levels gone": (lambda path: shutil.rmtree(path / "1"), "not all levels"),
    "above": (lambda path: _edit(path, datasets=[{"path": "../../a.zarr/0"}]), "not an OME-Zarr"),
    "no levels": (lambda path: _edit(path, datasets=[]), "its multiscales: damaged"),
    "axes": (lambda path: _edit(path, axes=[{"name": "q"}] * 3), "a slide has y, x"),
    "few axes": (lambda path: _edit(path, axes=[{"name": "y"}, {"name": "x"}]), "not all levels"),
    "no json": (lambda path: (path / "zarr.json").write_text("{"), "not an OME-Zarr"),
    "odd json": (lambda path: (path / "0/zarr.json").write_text("[]"), "OME-Zarr|levels"),
    "labels": (lambda path: zarr.open_group(path).attrs.update(ome={"image-label": {}}), "no picture"),
}


@pytest.mark.parametrize(("damage", "why"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_ome_zarr_is_refused_in_one_line(tmp_path: Path, tissue: np.ndarray, damage: Any, why: str) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", tissue)
    damage(path)
    with pytest.raises(SlideError, match=why) as caught:
        open_slide(path)
    assert str(caught.value).startswith("a.zarr: ")
    assert "\n" not in str(caught.value)


def test_chunks_that_would_take_all_memory_are_refused_before_one_is_read(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", tissue, axes="tcyx", levels=1, version="0.4")
    about = path / "0/.zarray"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"chunks": [1_000_000, 3, 64, 64]}))
    with pytest.raises(SlideError, match="its chunks are too large"):
        open_slide(path)


def test_a_zip_that_is_cut_short_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    path = zipped(write_ome_zarr(tmp_path / "a.zarr", tissue), tmp_path / "a.zarr.zip")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SlideError, match=r"a\.zarr\.zip: not a zip file"):
        open_slide(path)


PICKLE = {"id": "pickle"}


@pytest.mark.parametrize("said", [{"filters": [PICKLE], "compressor": None}, {"compressor": PICKLE}])
def test_pixels_stored_as_a_pickle_are_never_read(tmp_path: Path, said: dict[str, Any]) -> None:
    """numcodecs' Pickle runs what it finds."""
    trap, path = tmp_path / "ran", tmp_path / "a.zarr"
    write_ome_zarr(path, np.zeros((64, 64, 3), np.uint8), version="0.4", levels=1, chunk=64)

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (trap,)

    about = path / "0/.zarray"
    about.write_text(json.dumps(json.loads(about.read_text()) | said))
    for chunk in (path / "0").glob("[0-9]*"):
        shutil.rmtree(chunk) if chunk.is_dir() else chunk.unlink()
    (path / "0/0.0.0").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(SlideError, match="pickle"):
        open_slide(path)
    assert not trap.exists()


def test_a_damaged_chunk_is_unreadable_and_the_rest_is_read(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", tissue)
    (path / "0/c/0/1/1").write_bytes(b"nonsense")
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match="cannot be decoded") as caught:
            slide.read(60, 60, 20, 20)
        assert not may_pass(caught.value)
        np.testing.assert_array_equal(slide.read(0, 0, 64, 64), tissue[:64, :64])


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, os.strerror(errno.EIO)), GenericError("503")], ids=["disk", "server"]
)
def test_a_chunk_that_is_lost_while_it_opens_makes_no_other_slide_of_it(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path, get = write_ome_zarr(tmp_path / "a.zarr", tissue), LocalStore.get

    async def lost(self: LocalStore, key: str, *asked: Any, **more: Any) -> Any:
        if key == "0/c/0/0/0":
            raise error
        return await get(self, key, *asked, **more)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "get", lost)
        with pytest.raises(SlideError, match=r"^a\.zarr: ") as caught:
            open_slide(path)
    assert may_pass(caught.value)
    (path / "0/c/0/0/0").write_bytes(b"nonsense")
    with open_slide(path) as slide, open_slide(path) as again:
        assert slide.fingerprint == again.fingerprint, "what is damaged is damaged each time"


def test_a_folder_that_is_gone_is_named_and_comes_back(tmp_path: Path, tissue: np.ndarray) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", tissue)
    with open_slide(path) as slide:
        path.rename(tmp_path / "away")
        with pytest.raises(SlideError, match=r"a\.zarr: it is no longer there") as caught:
            slide.read(0, 0, 64, 64)
        assert may_pass(caught.value), "no tile is called damaged for that"
        (tmp_path / "away").rename(path)
        np.testing.assert_array_equal(slide.read(0, 0, 64, 64), tissue[:64, :64])


def test_a_slide_at_an_address(tmp_path: Path, tissue: np.ndarray) -> None:
    folder = write_ome_zarr(tmp_path / "a.zarr", tissue)
    with open_slide(folder) as slide:
        fingerprint = slide.fingerprint
    with served(tmp_path) as address:
        with open_slide(f"{address}/a.zarr") as slide:
            assert (slide.name, slide.mpp) == ("a.zarr", pytest.approx((0.4, 0.4)))
            assert slide.fingerprint == fingerprint
            BucketHandler.heads.clear()
            np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
            assert not BucketHandler.heads, "it gave all that it was asked for, so that it is there"
            folder.rename(tmp_path / "away")
            with pytest.raises(SlideError, match="it is no longer there") as caught:
                slide.read(0, 0, 64, 64)
            assert may_pass(caught.value)
            (tmp_path / "away").rename(folder)
            np.testing.assert_array_equal(slide.read(0, 0, 64, 64), tissue[:64, :64])
        with pytest.raises(SlideError, match=r"b\.zarr: no OME-Zarr at this address"):
            open_slide(f"{address}/b.zarr")


def test_a_slide_in_a_bucket(tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3's GET and HEAD by path are a web server's."""
    write_ome_zarr(tmp_path / "bucket/a.zarr", tissue, version="0.4")
    with served(tmp_path) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        with open_slide("s3://bucket/a.zarr") as slide:
            np.testing.assert_array_equal(slide.read(0, 0, 400, 300), tissue)
        with pytest.raises(SlideError, match=r"^b\.zarr: no OME-Zarr at this address"):
            open_slide("s3://bucket/b.zarr")


def test_without_what_reads_from_servers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(SlideError, match=r"a\.zarr: needs .* pip install 'napari-dala\[remote\]'"):
        open_slide("s3://bucket/a.zarr")


def test_paths_and_addresses() -> None:
    assert url_of(Path("s3://bucket/a/b.zarr")) == "s3://bucket/a/b.zarr"
    assert url_of(Path("HTTP://host:80/b.zarr").absolute()) == "http://host:80/b.zarr"
    assert url_of(Path("/data/http/b.zarr")) is None
    for secret in ("https://me:secret@host/b.zarr", "https://host/b.zarr?token=1"):
        with pytest.raises(SlideError, match=r"^b\.zarr: give the address without") as caught:
            open_slide(secret)
        assert "secret" not in str(caught.value)
        assert "token" not in str(caught.value)
