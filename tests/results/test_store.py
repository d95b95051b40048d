"""How a store lies on disk: few chunks for what is read of a whole slide, and older layouts go on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from napari_dala.errors import DalaError
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.analysis import Analysis
from napari_dala.results.chunk_writer import ChunkWriter
from napari_dala.results.opening import create_store, for_bundle
from napari_dala.results.store import CHUNK, AnalysisStore, Setting
from napari_dala.results.tile_results import TileResults, TileStatus
from napari_dala.slide.tiles import BLOCK, TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from zarr.core.array import CompressorsLike


def opened(path: Path, tiles: int, **more: int) -> AnalysisStore:
    return create_store(
        path / "analysis.zarr",
        Setting("f", TileGrid((224 * tiles, 224 * tiles), 224, (1.0, 1.0), 7), "trunk", "fp32"),
        slide={},
        bundle_hash="0" * 16,
        card=UNTRAINED_CARD.model_dump(mode="json"),
        knows_unfamiliar=True,
        **more,
    )


def results(row: np.ndarray, column: np.ndarray) -> TileResults:
    rng = np.random.default_rng(0)
    probability = rng.random((len(row), 2)).astype(np.float32)
    return TileResults(
        row, column, probability, rng.random((len(row), 2, 7, 7)), rng.random((len(row), 2048)), None, np.ones(len(row))
    )


def test_the_cells_of_another_trunk_are_told_and_those_of_before_are_not() -> None:
    usual, small = (
        Setting("f", TileGrid((900, 900), 224, (1.0, 1.0), 7, cell_px=cell_px), "trunk", "fp32") for cell_px in (32, 16)
    )
    assert "cell_px" not in usual.attributes["grid"], "keys of before hold"
    assert small.attributes["grid"]["cell_px"] == 16
    assert usual.key != small.key
    for setting in (usual, small):
        assert Setting.from_attributes(setting.attributes) == setting


def test_what_is_read_of_a_whole_slide_lies_in_few_chunks(tmp_path: Path) -> None:
    store = opened(tmp_path, 316)  # 100,000 tiles
    store.mark_background(np.ones(store.grid.shape, bool))
    chunks = {name: array.nchunks for name, array in store._arrays.items() if name not in ("features", "layer4")}
    assert set(chunks) == {"status", "scored", "exact", "probability", "cam", "unfamiliarity"}
    assert max(chunks.values()) <= 400
    assert store._arrays["features"].chunks[:2] == (BLOCK, BLOCK), "a block of tiles is written at once"


def test_marks_tell_tissue_from_glass_and_leave_what_is_done(tmp_path: Path) -> None:
    store = opened(tmp_path, 40)
    assert not store.status.any()
    assert np.isnan(store.read("cam")).all()
    store.write(results(np.array([1]), np.array([2])), [(3, 3)])
    tissue = np.arange(1600).reshape(40, 40) % 2 == 0
    expected = np.where(tissue, TileStatus.TODO, TileStatus.BACKGROUND)
    expected[1, 2], expected[3, 3] = TileStatus.DONE, TileStatus.UNREADABLE
    np.testing.assert_array_equal(store.mark_background(tissue), expected)
    np.testing.assert_array_equal(Analysis(store).status, expected)


def test_neighbouring_blocks_of_a_chunk_keep_what_the_other_wrote(tmp_path: Path) -> None:
    store = opened(tmp_path, 10)
    blocks = [(0, 0), (0, 1), (1, 0), (2, 2)]
    written = {}
    for block in blocks:
        corner = np.multiply(block, BLOCK)
        tile = corner[:1] + 1, corner[1:] + 1
        written[int(tile[0][0]), int(tile[1][0])] = results(*tile)
        store.write(results(*tile), [])
    found = Analysis(store)
    assert {tuple(tile) for tile in np.argwhere(found.analysed).tolist()} == set(written)
    for (row, column), one in written.items():
        np.testing.assert_array_equal(found.probability[:, row, column], one.probability[0])
        here = slice(row * 7, row * 7 + 7), slice(column * 7, column * 7 + 7)
        np.testing.assert_allclose(found.cam(1)[here], one.cam[0, 1], rtol=1e-3)
    assert (found.status == TileStatus.DONE).sum() == len(blocks)


def test_a_store_of_small_chunks_is_gone_on_with(tmp_path: Path) -> None:
    store = opened(tmp_path, 10, chunk=BLOCK)  # as earlier versions laid it out
    tile = np.array([1]), np.array([2])
    store.write(results(*tile), [])
    again = opened(tmp_path, 10)
    assert again.chunk == store.chunk == BLOCK
    again.write(results(tile[0], np.array([5])), [])
    assert np.argwhere(Analysis(again).analysed).tolist() == [[1, 2], [1, 5]]
    assert for_bundle(again, "1" * 16, again.card).chunk == CHUNK, "its marks are laid out anew"


def test_chunks_at_the_far_edge_are_read_by_zarr_as_they_were_written(tmp_path: Path) -> None:
    store = opened(tmp_path, 18)  # the last chunk holds 2 of 16 tiles a side
    row, column = np.array([16, 17, 17]), np.array([17, 16, 17])
    written = results(row, column)
    store.write(written, [])
    members = zarr.open_group(tmp_path / "analysis.zarr", mode="r").members(None)
    by_name = {name.rsplit("/", 1)[-1]: np.asarray(one[:]) for name, one in members if isinstance(one, zarr.Array)}
    assert by_name["status"].shape == (18, 18)
    assert by_name["status"].sum() == 3 * TileStatus.DONE
    np.testing.assert_array_equal(by_name["probability"][:, row, column].T, written.probability)
    np.testing.assert_array_equal(by_name["cam"][:, -7:, -7:], written.cam[2].astype(np.float16))
    np.testing.assert_array_equal(by_name["features"][row, column], written.features.astype(np.float16))


@pytest.mark.parametrize("codecs", [None, BloscCodec(), (ZstdCodec(level=1),)])
def test_a_store_that_is_compressed_otherwise_is_gone_on_with(tmp_path: Path, codecs: CompressorsLike) -> None:
    array = zarr.create_array(
        tmp_path / "other.zarr", name="status", shape=(8, 8), chunks=(4, 4), dtype="uint8", compressors=codecs
    )
    array[:] = 7
    ChunkWriter({"status": array}, 7).put(np.array([1]), np.array([2]), {"status": np.ones(1, np.uint8)})
    assert array[1, 2] == 1
    assert (array[:] == 7).sum() == 63


def test_a_folder_that_cannot_be_written_to_for_its_name_is_told(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("names are UTF-8 here")
    with pytest.raises(DalaError, match=r"caf\\udce9.*cannot be written to .*choose another folder"):
        opened(folder, 4).mark_background(np.zeros((4, 4), bool))


def test_tiles_of_many_chunks_added_together_are_each_where_they_belong(tmp_path: Path) -> None:
    store = opened(tmp_path, 40)
    row, column = (part.ravel() for part in np.meshgrid(np.arange(13, 35, 3), np.arange(2, 38, 5), indexing="ij"))
    written = results(row, column)
    store.write(written, [(0, 39), (39, 0)])
    found = Analysis(store)
    assert np.argwhere(found.analysed).tolist() == sorted(np.stack([row, column], axis=1).tolist())
    np.testing.assert_array_equal(found.probability[:, row, column].T, written.probability)
    np.testing.assert_array_equal(store.read("features")[row, column], written.features.astype(np.float16))
    maps = store.read("cam").reshape(2, 40, 7, 40, 7)[:, row, :, column]
    np.testing.assert_array_equal(maps, written.cam.astype(np.float16))
    assert np.argwhere(found.status == TileStatus.UNREADABLE).tolist() == [[0, 39], [39, 0]]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_chunk_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    opened(tmp_path, 10)
    told = tmp_path / "told"
    script = (
        "import sys; from pathlib import Path; from napari_dala.results.opening import open_store;"
        "open_store(Path(sys.argv[1]), mode='r+').write(None, [(1, 2), (1, 3)])"
    )
    traced = ["strace", "-f", "-y", "-e", "trace=fsync,rename", "-o", str(told)]
    subprocess.run([*traced, sys.executable, "-c", script, str(tmp_path / "analysis.zarr")], check=True)
    lines = [line for line in told.read_text().splitlines() if "/status/c/" in line]
    synced, renamed, folder = lines
    assert re.search(r"fsync\(\d+<.*/status/c/0/0_\w+\.__lock>", synced)
    assert re.search(r'rename\(".*/status/c/0/0_\w+\.__lock", ".*/status/c/0/0"', renamed)
    assert re.search(r"fsync\(\d+<.*/status/c/0>", folder), "the name is on the disk too"


def test_of_tiles_left_out_nothing_counts_whatever_was_found_in_them(tmp_path: Path) -> None:
    store = opened(tmp_path, 4)
    everywhere = np.ones(store.grid.shape, bool)
    store.mark_background(everywhere)
    store.write(results(np.array([1, 1]), np.array([1, 2])), [])
    artefacts = np.zeros(store.grid.shape, np.uint8)
    artefacts[1, 2], artefacts[3, 3] = TileStatus.BLUR, TileStatus.INK
    store.mark_background(everywhere, artefacts)
    analysis = Analysis(store)
    assert analysis.summary().analysed == 1
    assert analysis.summary().todo == 13
    assert np.isnan(analysis.cam(0)[7:14, 14:21]).all()
    assert "2 tiles left out: ink or out of focus." in analysis.warnings
    store.mark_background(everywhere)  # they are kept after all: to be done again
    assert store.status[1, 2] == store.status[3, 3] == TileStatus.TODO
    assert not [line for line in Analysis(store).warnings if "left out" in line]
