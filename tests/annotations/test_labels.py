from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.labels import Examples, concatenate, imbalance_warning, tiles_of
from napari_dala.errors import AnnotationError
from napari_dala.slide.tiles import TileGrid
from tests.cost import cost_ratio

GRID = TileGrid((1000, 600), 64, (1.5625, 1.5625), 2)  # tiles of 100 px: 6 rows, 10 columns
NAMES = ("Benign", "Tumor")
CLASSES = (
    AnnotationClass("Benign", (0, 0, 200)),
    AnnotationClass("Tumor", (200, 0, 0)),
    AnnotationClass("Fold", (90, 90, 90), ignore=True),
    AnnotationClass("Fat", (250, 250, 0)),
    AnnotationClass("Region*", (9, 9, 9), ignore=True),  # as versions before wrote it
)
Drawn = tuple[tuple[float, float, float, float], str | None]


def document(*drawn: Drawn, patient: str | None = None, fingerprint: str = "f00d") -> AnnotationDocument:
    annotations = tuple(Annotation(f"region {n}", name, shapely.box(*at)) for n, (at, name) in enumerate(drawn))
    return AnnotationDocument(fingerprint, CLASSES, annotations, patient)


def labels(examples: Examples) -> dict[tuple[int, int], str]:
    places = zip(examples.row.tolist(), examples.column.tolist(), strict=True)
    return {place: examples.class_names[label] for place, label in zip(places, examples.label, strict=True)}


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ([((0, 0, 200, 100), "Tumor")], {(0, 0): "Tumor", (0, 1): "Tumor"}),
        ([((0, 0, 149, 100), "Tumor")], {(0, 0): "Tumor"}),
        ([((0, 0, 150, 100), "Tumor")], {(0, 0): "Tumor", (0, 1): "Tumor"}),
        ([((0, 0, 30, 100), "Tumor"), ((30, 0, 60, 100), "Tumor")], {(0, 0): "Tumor"}),
        ([((0, 0, 45, 100), "Tumor"), ((45, 0, 100, 100), "Benign")], {(0, 0): "Benign"}),
        ([((0, 0, 100, 100), "Tumor"), ((0, 0, 60, 100), "Benign")], {(0, 0): "Benign"}),
        ([((0, 0, 60, 100), "Benign"), ((0, 0, 100, 100), "Tumor")], {(0, 0): "Tumor"}),
        ([((0, 0, 200, 100), "Tumor"), ((190, 50, 195, 55), "Fold")], {(0, 0): "Tumor"}),
        ([((0, 0, 200, 100), "Tumor"), ((100, 0, 200, 100), "Fold")], {(0, 0): "Tumor"}),
        ([((190, 50, 195, 55), "Fold"), ((0, 0, 200, 100), "Tumor")], {(0, 0): "Tumor"}),
        ([((0, 0, 100, 100), "Tumor"), ((0, 0, 60, 100), "Fat")], {}),
        ([((0, 0, 100, 100), None)], {}),
        ([((310, 210, 320, 220), "Tumor")], {(2, 3): "Tumor"}),
        ([((310, 210, 320, 220), "Tumor"), ((300, 200, 400, 300), "Benign")], {(2, 3): "Benign"}),
        ([((300, 200, 400, 300), "Benign"), ((310, 210, 320, 220), "Tumor")], {(2, 3): "Tumor"}),
        ([((-500, -500, 50, 50), "Tumor")], {(0, 0): "Tumor"}),
        ([((-500, -500, -50, -50), "Tumor")], {}),
        ([((0, 0, 400, 400), "Region*"), ((0, 0, 100, 100), "Tumor")], {(0, 0): "Tumor"}),
        ([((0, 0, 100, 100), "Tumor"), ((0, 0, 400, 400), "Region*")], {(0, 0): "Tumor"}),
        ([], {}),
    ],
    ids=[
        "two", "less than half", "half", "two regions of a class", "larger class", "later on top", "later hides",
        "ignored corner", "ignored tile", "ignored below", "class of another model", "no class", "small", "small below",
        "small on top", "over the edge", "outside", "inside a frame", "framed later", "none",
    ],
)  # fmt: skip
def test_a_tile_has_the_class_that_covers_most_of_it(drawn: list[Drawn], expected: dict[tuple[int, int], str]) -> None:
    assert labels(tiles_of(document(*drawn), GRID, NAMES)) == expected


def test_holes_are_not_covered_and_min_cover_counts() -> None:
    frame = shapely.Polygon(shapely.box(0, 0, 300, 300).exterior, [shapely.box(110, 110, 190, 190).exterior])
    drawn = AnnotationDocument("f", CLASSES, (Annotation("a", "Tumor", frame),))
    assert len(tiles_of(drawn, GRID, NAMES)) == 8
    assert len(tiles_of(drawn, GRID, NAMES, min_cover=0.36)) == 9
    assert len(tiles_of(drawn, GRID, NAMES, min_cover=1)) == 8
    with pytest.raises(ValueError, match="min_cover"):
        tiles_of(drawn, GRID, NAMES, min_cover=0)


def test_of_a_padded_tile_what_lies_on_the_slide_counts() -> None:
    grid = TileGrid((150, 100), 64, (1.5625, 1.5625), 2)
    assert labels(tiles_of(document(((100, 0, 150, 100), "Tumor")), grid, NAMES)) == {(0, 1): "Tumor"}


def test_overlapping_tiles_are_each_labelled() -> None:
    grid = TileGrid((1000, 600), 64, (1.5625, 1.5625), 1)
    assert len(tiles_of(document(((0, 0, 200, 100), "Tumor")), grid, NAMES, min_cover=0.99)) == 3


def test_patient_and_region_travel_with_the_tile() -> None:
    first = tiles_of(document(((0, 0, 200, 100), "Tumor"), ((0, 100, 100, 200), "Benign"), patient="p7"), GRID, NAMES)
    second = tiles_of(document(((0, 0, 100, 100), "Tumor"), fingerprint="beef"), GRID, NAMES)
    both = concatenate([first, second])
    assert both.region.tolist() == ["region 0", "region 0", "region 1", "region 0"]
    assert both.patient.tolist() == ["p7", "p7", "p7", "beef"]
    assert both.counts == {"Benign": 1, "Tumor": 3}
    assert both.counts_by("slide") == {"beef": {"Benign": 0, "Tumor": 1}, "f00d": {"Benign": 1, "Tumor": 2}}
    assert both.units_per_class("patient") == {"Benign": 1, "Tumor": 2}
    with pytest.raises(ValueError, match="classes"):
        concatenate([first, tiles_of(document(), GRID, ("Other",))])
    with pytest.raises(ValueError, match="classes"):
        concatenate([])


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"Benign": 10, "Tumor": 100}, None),
        ({"Benign": 10, "Tumor": 101}, "Tumor has 10 times as many tiles as Benign"),
        ({"Benign": 0, "Tumor": 100}, "No tile is labelled Benign: draw"),
        ({"Benign": 0, "Tumor": 0}, "draw regions of each class"),
    ],
)
def test_warns_of_missing_and_rare_classes(counts: dict[str, int], words: str | None) -> None:
    warning = imbalance_warning(counts)
    assert warning is None if words is None else words in str(warning)


def test_every_tile_agrees_with_a_plain_count() -> None:
    rng = np.random.default_rng(3)
    drawn = [
        ((x, y, x + w, y + h), NAMES[n % 2])
        for n, (x, y, w, h) in enumerate(rng.uniform(230, 500, (12, 4)) - [230, 230, 0, 0])
    ]
    found = labels(tiles_of(document(*drawn), GRID, NAMES))
    picture = np.zeros((600, 1000), int)  # one pixel each; rounding may decide a tile that is nearly half covered
    for (x0, y0, x1, y1), name in drawn:
        picture[round(y0) : round(y1), round(x0) : round(x1)] = NAMES.index(name) + 1
    for row in range(6):
        for column in range(10):
            tile = picture[row * 100 : row * 100 + 100, column * 100 : column * 100 + 100]
            cover = [(tile == label).mean() for label in (1, 2)]
            if max(cover) > 0.52 and abs(cover[0] - cover[1]) > 0.02:
                assert found[row, column] == NAMES[int(np.argmax(cover))]


def test_many_tiles_and_regions_cost_less_than_cutting_each_with_each() -> None:
    grid = TileGrid((10_000, 10_000), 64, (1.5625, 1.5625), 2)  # 100 x 100 tiles
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    regions = []
    for number, (x, y) in enumerate(rng.uniform(0, 10_000, (100, 2))):
        radius = rng.uniform(300, 900) * rng.uniform(0.9, 1, 200)
        outline = shapely.Polygon(np.column_stack((x + radius * np.cos(angle), y + radius * np.sin(angle))))
        regions.append(Annotation(f"{number}", NAMES[number % 2], outline))
    drawn = AnnotationDocument("f", CLASSES, tuple(regions))
    assert len(tiles_of(drawn, grid, NAMES)) > 4000
    left, top = np.meshgrid(np.arange(0, 10_000, 100), np.arange(0, 10_000, 100))
    tiles = shapely.box(left, top, left + 100, top + 100)

    def cut_a_tenth() -> None:
        for region in regions[:10]:
            shapely.intersection(tiles, region.geometry)

    assert cost_ratio(lambda: tiles_of(drawn, grid, NAMES), cut_a_tenth) < 10  # 2.7 measured


def comb(teeth: int) -> np.ndarray:
    start = 10 * np.arange(teeth)
    corners = np.stack([start, 0 * start, start, 0 * start + 10 * teeth, start + 5, 0 * start + 10 * teeth], axis=1)
    corners = np.concatenate([corners, (start + 5)[:, None], 0 * start[:, None]], axis=1).reshape(-1, 2)
    return np.concatenate([corners, [[10 * teeth, 0], [10 * teeth, -5], [0, -5]]])


def test_regions_that_cross_each_other_millions_of_times_are_refused() -> None:
    teeth = comb(1000)
    annotations = (
        Annotation("0", "Tumor", shapely.Polygon(teeth)),
        Annotation("1", "Benign", shapely.Polygon(teeth[:, ::-1])),
    )
    with pytest.raises(AnnotationError, match="cross each other more than 200,000 times"):
        tiles_of(AnnotationDocument("f00d", CLASSES, annotations), GRID, NAMES)
