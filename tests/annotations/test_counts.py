from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely

from napari_dala.annotations import counts as counts_module
from napari_dala.annotations.counts import KnownLabels, label_counts, plan_of
from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.annotations.held_out import hold_out
from napari_dala.annotations.labels import tiles_of
from napari_dala.annotations.slides import AnnotatedSlide, SlideNote
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.slide.tiles import TileGrid
from napari_dala.workspace import slide_folder

CARD = UNTRAINED_CARD.model_copy(update={"tile_px": 64, "mpp": 0.5})  # tiles of 64 px on a slide of 0.5 um/px
CLASSES = (
    AnnotationClass("Malignant", (200, 0, 0)),  # not written as in the card
    AnnotationClass("benign", (0, 0, 200)),
    AnnotationClass("Fat", (250, 250, 0)),
    AnnotationClass("Ignore", (90, 90, 90), ignore=True),
)
Drawn = tuple[str, int, int]  # class; columns and rows, from the corner of its own band


def slide(name: str, *drawn: Drawn, patient: str | None = None, mpp: float | None = 0.5) -> AnnotatedSlide:
    """A slide of 20 x 20 tiles with one band of regions below the other."""
    note = SlideNote(path=None, dimensions=(1280, 1280), mpp=mpp and (mpp, mpp), mpp_source="given" if mpp else None)
    top, regions = 0, []
    for class_name, columns, rows in drawn:
        regions.append(Annotation.drawn(shapely.box(0, top, columns * 64, top + rows * 64), class_name))
        top += rows * 64
    return AnnotatedSlide(
        name, slide_folder("x").parent, note, AnnotationDocument(name, CLASSES, tuple(regions), patient)
    )


def table(slides: list[AnnotatedSlide], known: KnownLabels | None = None) -> dict[str, tuple[int, int, int]]:
    return {c.name: (c.tiles, c.slides, c.patients) for c in label_counts(slides, CARD, known).classes}


def test_tiles_slides_and_patients_of_each_class() -> None:
    slides = [
        slide("a", ("Malignant", 3, 2), ("benign", 5, 1), patient="p"),
        slide("b", ("Malignant", 1, 1), ("Ignore", 4, 4), patient="p"),
        slide("c", ("benign", 2, 2)),
    ]
    assert table(slides) == {"benign": (9, 2, 2), "malignant": (7, 2, 1)}
    assert label_counts(slides, CARD).warning is None


def test_a_drawn_class_that_the_model_lacks_counts_once_it_labels_a_tile() -> None:
    assert table([slide("a", ("Fat", 2, 2))]) == {"benign": (0, 0, 0), "malignant": (0, 0, 0), "Fat": (4, 1, 1)}
    found = label_counts([slide("a", ("Fat", 2, 2))], CARD)
    assert found.classes[2].color == (250, 250, 0)
    assert "No tile is labelled benign or malignant" in str(found.warning)
    assert list(table([slide("a", ("benign", 2, 2))])) == ["benign", "malignant"]


def test_nothing_and_too_much_of_one_are_warned_of() -> None:
    assert "draw regions of each class" in str(label_counts([], CARD).warning)
    assert table([]) == {"benign": (0, 0, 0), "malignant": (0, 0, 0)}
    assert table([slide("a")]) == {"benign": (0, 0, 0), "malignant": (0, 0, 0)}
    uneven = label_counts([slide("a", ("benign", 1, 1), ("Malignant", 4, 4))], CARD)
    assert "malignant has 16 times as many tiles as benign" in str(uneven.warning)


def test_slides_that_cannot_count_say_why() -> None:
    good = slide("a", ("benign", 1, 1))
    found = label_counts([slide("b", ("benign", 1, 1), mpp=None), replace(good, note=None), good], CARD)
    assert [entry.tiles for entry in found.classes] == [1, 0]
    assert len(found.problems) == 2
    assert "does not say its resolution" in found.problems[0]
    assert "open the slide once" in found.problems[1]


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_what_an_analysis_knows_to_be_background_does_not_count(overlap: float) -> None:
    one = slide("a" * 32, ("Malignant", 4, 2), ("benign", 3, 1))
    assert one.note is not None
    grid = TileGrid.over(one.note, 64, 0.5, overlap)
    out = slide_folder("a" * 32) / "analyses"
    store = create_store(
        out / "analysis.zarr",
        Setting("a" * 32, grid, "trunk", "fp32"),
        slide={},
        bundle_hash="0" * 16,
        card=CARD.model_dump(mode="json"),
    )
    before = table([one])
    assert before == {"benign": (3, 1, 1), "malignant": (8, 1, 1)} if not overlap else before["malignant"][0] > 20
    tissue = np.ones(grid.shape, bool)
    tissue[0] = False
    store.mark_background(tissue)
    store.write(None, [(1, 0)])
    row = 4 if not overlap else 8
    after = table([one])
    assert after["malignant"][0] == before["malignant"][0] - row - 1
    assert after["benign"] == before["benign"]
    store.mark_background(np.zeros(grid.shape, bool))  # then its class would have no other
    assert table([one])["benign"] == before["benign"]


def test_only_what_changed_is_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = counts_module.tiles_of

    def counted(document: AnnotationDocument, *rest: object) -> object:
        asked.append(document.fingerprint)
        return original(document, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(counts_module, "tiles_of", counted)
    known: KnownLabels = {}
    first, second = slide("a", ("benign", 2, 2)), slide("b", ("Malignant", 1, 1))
    assert table([first, second], known) == table([first, second], known)
    assert asked == ["a", "b"]
    assert table([slide("a", ("benign", 3, 3)), second], known)["benign"] == (9, 1, 1)
    assert asked == ["a", "b", "a"]


def test_what_teaches_and_what_checks_is_said_before_learning() -> None:
    assert label_counts([], CARD).plan == ""
    alone = label_counts([slide("a", ("benign", 3, 2), ("Malignant", 3, 2))], CARD)
    assert alone.plan == (
        "Of 12 labelled tiles 12 teach the model, none checks it. To check it, draw two regions of each class, apart "
        "from each other, or label another slide."
    )
    names = ("benign", "benign", "Malignant", "Malignant")
    patients = [slide(f"s{n}", (name, 3, 2), patient=f"p{n}") for n, name in enumerate(names)]
    assert (
        label_counts(patients, CARD).plan == "Of 24 labelled tiles 12 teach the model, 12 of other patients check it."
    )


def test_the_plan_is_what_a_fine_tuning_does() -> None:
    """One slide, two regions a class, the first two next to each other: the gap is left out, and background too."""
    boxes = {"benign": [(0, 0, 4, 2), (12, 0, 16, 2)], "malignant": [(0, 2, 4, 4), (12, 12, 16, 14)]}
    regions = [
        Annotation.drawn(shapely.box(*(64 * side for side in box)), name) for name, two in boxes.items() for box in two
    ]
    grids = {"x": TileGrid((1280, 1280), 64, (1.0, 1.0), 2)}
    examples = tiles_of(AnnotationDocument("x", CLASSES, tuple(regions)), grids["x"], ("benign", "malignant"))
    split = hold_out(examples, grids).split
    said = plan_of(examples, grids, background=3, unreadable=1)
    parts = (len(split.train), len(split.test), len(split.dropped) + 4)
    assert said.startswith(
        "Of 36 labelled tiles {} teach the model, {} of other regions check it, {} left".format(*parts)
    )
    assert "3 on background, 1 not readable)." in said
