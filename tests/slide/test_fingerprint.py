"""Different pixels, different fingerprint; soon known however large the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_dala.slide import open_slide
from napari_dala.slide.fingerprint import fingerprint_of
from tests.cost import cost_ratio

if TYPE_CHECKING:
    from pathlib import Path


def _bitmap(path: Path, spot: int) -> None:
    """Write a picture with wide margins and something in the middle."""
    pixels = np.full((380, 256, 3), 244, np.uint8)
    pixels[180:200, 100:160] = spot
    Image.fromarray(pixels).save(path)


def test_pictures_of_one_size_and_margin_are_told_apart(tmp_path: Path) -> None:
    for name, spot in (("a.bmp", 90), ("b.bmp", 120)):
        _bitmap(tmp_path / name, spot)
    with open_slide(tmp_path / "a.bmp") as first, open_slide(tmp_path / "b.bmp") as second:
        assert first.old_fingerprint == second.old_fingerprint
        assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("row_bytes", [12_000, 1 << 16, 65_537, 150_000])
@pytest.mark.parametrize("place", [0.06, 0.4, 0.94])
def test_large_files_that_differ_in_one_part_are_told_apart(tmp_path: Path, row_bytes: int, place: float) -> None:
    rows, other = (64 << 20) // row_bytes, tmp_path / "other.bin"
    pixels = np.zeros((rows, row_bytes), np.uint8)
    one = tmp_path / "one.bin"
    one.write_bytes(pixels.data)
    top, left = int(place * rows), int(place * row_bytes)
    pixels[top - rows // 20 : top + rows // 20, left - row_bytes // 20 : left + row_bytes // 20] = 1  # 1/100 of it
    other.write_bytes(pixels.data)
    assert fingerprint_of(one) != fingerprint_of(other)


def test_of_a_large_file_little_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(1 << 28)
    assert cost_ratio(lambda: fingerprint_of(path), path.read_bytes) < 0.5  # 0.1 measured
