from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_dala.evaluation.cases.beneath import (
    NUCLEI,
    OTHER,
    PALE,
    RING,
    Share,
    in_words,
    parts_of,
    place_in_words,
    shares,
)

if TYPE_CHECKING:
    from pathlib import Path

WHITE, PINK, BLUE = (248, 247, 249), (225, 150, 190), (80, 60, 140)


@pytest.fixture
def painted() -> np.ndarray:
    """A tile of 224 px: glass on the left, stroma in the middle, nuclei on the right two of seven columns."""
    tile = np.empty((224, 224, 3), np.uint8)
    tile[:, :64], tile[:, 64:160], tile[:, 160:] = WHITE, PINK, BLUE
    return tile


def test_glass_stroma_and_nuclei_are_told_apart(painted: np.ndarray) -> None:
    parts = parts_of(painted, (7, 7))
    assert parts[PALE].mean(0) == pytest.approx([1, 1, 0, 0, 0, 0, 0], abs=0.05)  # blurred by 3 px at the border
    assert parts[OTHER].mean(0) == pytest.approx([0, 0, 1, 1, 1, 0, 0], abs=0.05)
    assert parts[NUCLEI].mean(0) == pytest.approx([0, 0, 0, 0, 0, 1, 1], abs=0.05)
    assert parts[RING].sum() == 24
    assert sum(parts[name] for name in (PALE, OTHER, NUCLEI)) == pytest.approx(np.ones((7, 7)))


@pytest.mark.parametrize("colour", [WHITE, PINK, (0, 0, 0)])
def test_a_tile_of_one_colour_has_no_nuclei(colour: tuple[int, int, int]) -> None:
    parts = parts_of(np.full((224, 224, 3), colour, np.uint8), (7, 7))
    assert not parts[NUCLEI].any()


def test_what_lies_beneath_a_map_is_weighed_by_its_heat(painted: np.ndarray) -> None:
    values = np.zeros((7, 7), np.float32)
    values[3, 5:] = (3, 1)
    found = shares(values, parts_of(painted, (7, 7)))
    assert found is not None
    assert found[NUCLEI].of_map == pytest.approx(1, abs=0.05)
    assert found[NUCLEI].of_tile == pytest.approx(2 / 7, abs=0.02)
    assert found[RING].of_map == pytest.approx(0.25)
    said = in_words(found)
    assert said.startswith(f"Against a map spread evenly it lies more on {NUCLEI} (")
    assert f"less on {PALE} (0 % of its heat, 2" in said
    assert shares(values * 0, parts_of(painted, (7, 7))) is None


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("SOB_B_A-14-22549CD-100-022", 0.5, 0.8),  # islands of tissue on greenish glass
        ("SOB_B_F-14-25197-100-001", 0.4, 0.7),  # glands on pinkish glass
        ("SOB_B_F-14-29960AB-100-014", 0.05, 0.3),  # pale stroma with clefts
        ("SOB_M_MC-14-18842-100-003", 0.0, 0.1),  # dense carcinoma
    ],
)
def test_pale_areas_of_real_tissue_whatever_the_colour_of_its_glass(
    shared_data: Path, name: str, least: float, most: float
) -> None:
    with Image.open(next(shared_data.glob(f"breakhis-*/**/{name}.*"))) as photograph:
        left, top = (photograph.width - 345) // 2, (photograph.height - 345) // 2
        square = photograph.convert("RGB").crop((left, top, left + 345, top + 345))  # 224 um at 0.65 um/px
    parts = parts_of(np.asarray(square.resize((224, 224), Image.Resampling.BOX)), (7, 7))
    assert least <= parts[PALE].mean() <= most


@pytest.mark.parametrize(
    ("of_map", "of_tile", "expected"),
    [(0.5, 0.3, "more"), (0.3, 0.29, "about as much"), (0.1, 0.3, "less"), (0.0, 0.0, "about as much")],
)
def test_a_share_is_said(of_map: float, of_tile: float, expected: str) -> None:
    assert Share(of_map, of_tile).said() == expected


@pytest.mark.parametrize(
    ("at", "expected"), [((0, 0), "upper left"), ((3, 3), "middle"), ((6, 3), "lower middle"), ((3, 6), "right")]
)
def test_a_place_is_said(at: tuple[int, int], expected: str) -> None:
    values = np.zeros((7, 7), np.float32)
    values[at] = 1
    assert place_in_words(values) == expected
