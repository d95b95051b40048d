"""Two results on one slide: agreement, kappa and the order of differences, against the definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings, strategies as st
from sklearn.metrics import cohen_kappa_score

from napari_dala.annotations.against_regions import against_regions
from napari_dala.annotations.document import Annotation, AnnotationClass, AnnotationDocument
from napari_dala.errors import DalaError
from napari_dala.model.card import UNTRAINED_CARD
from napari_dala.results.analysis import Analysis
from napari_dala.results.comparison import ResultPair, compare
from napari_dala.results.opening import create_store
from napari_dala.results.store import Setting
from napari_dala.results.tile_results import TileStatus
from napari_dala.slide.tiles import TileGrid

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (224 * 6, 224 * 5)


def result(folder: Path, malignant: Any, *, bundle: str = "a", grid: TileGrid | None = None, **card: Any) -> Analysis:
    """Write a result in which each tile has the probability given, NaN where it was not analysed."""
    grid = grid or TileGrid(SIZE, 224, (1.0, 1.0), 7)
    held = UNTRAINED_CARD.model_copy(update={"name": bundle, "mpp": 1.0, **card})
    store = create_store(
        folder / "analysis.zarr",
        Setting("f" * 32, grid, "trunk", "fp32"),
        slide={},
        bundle_hash=bundle * 64,
        card=held.model_dump(mode="json"),
    )
    values = np.broadcast_to(np.asarray(malignant, np.float32), grid.shape)
    done = np.isfinite(values)
    store._arrays["probability"][:] = np.stack((1 - values, values))
    for name in ("scored", "exact"):
        store._arrays[name][:] = done
    store._arrays["status"][:] = np.where(done, TileStatus.DONE, TileStatus.TODO)
    return Analysis(store)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_kappa_is_sklearns(pairs: list[tuple[bool, bool]]) -> None:
    called = np.array(pairs, bool).T[:, None]
    probability = np.where(called, 0.9, 0.1).astype(np.float32)
    grid = TileGrid((224 * called.shape[2], 224), 224, (1.0, 1.0), 7)
    found = ResultPair(grid, "malignant", probability, called, grid.areas())
    assert found.agreement == pytest.approx((called[0] == called[1]).mean())
    if len(np.unique(called)) > 1:
        assert found.kappa == pytest.approx(cohen_kappa_score(called[0].ravel(), called[1].ravel()))
    else:
        assert np.isnan(found.kappa)


def test_only_what_both_judge_counts_and_the_farthest_apart_comes_first(tmp_path: Path) -> None:
    one, other = np.full((5, 6), 0.1), np.full((5, 6), 0.1)
    one[0, 0], one[2, 3], one[4, 5], one[1, 5] = 0.9, 0.6, 0.99, np.nan
    other[1, 5], other[4, 0] = 0.9, np.nan
    found = compare(result(tmp_path, one), result(tmp_path, other, bundle="b"))
    assert int(found.both.sum()) == 28
    assert np.argwhere(found.differs).tolist() == [[0, 0], [2, 3], [4, 5]]
    assert found.agreement == pytest.approx(25 / 28)
    assert [(spot.row, spot.column) for spot in found.disagreements()] == [(4, 5), (0, 0), (2, 3)]
    assert found.disagreements()[0].probability == pytest.approx(0.99)


def test_each_has_its_own_threshold(tmp_path: Path) -> None:
    one, other = result(tmp_path, 0.4), result(tmp_path, 0.4, bundle="b", operating_threshold=0.3)
    assert compare(one, other).differs.all()
    one.threshold = 0.3
    assert not compare(one, other).differs.any()
    one.doubt = 0.2
    assert not compare(one, other).both.any(), "what is in doubt is not judged"


def test_tiles_of_another_size_are_met_by_their_places(tmp_path: Path) -> None:
    coarse = TileGrid(SIZE, 224, (2.0, 2.0), 7)
    other = np.full(coarse.shape, 0.1)
    other[0, 0] = 0.9  # the first four tiles of the fine grid
    one = result(tmp_path, 0.1)
    found = compare(one, result(tmp_path, other, bundle="b", grid=coarse, mpp=2.0))
    assert np.argwhere(found.differs).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_what_cannot_be_compared_says_so(tmp_path: Path) -> None:
    one = result(tmp_path, 0.1)
    with pytest.raises(DalaError, match="different classes"):
        compare(one, result(tmp_path, 0.1, bundle="b", target_class=0))


def test_figures_against_drawn_regions(tmp_path: Path) -> None:
    classes = tuple(AnnotationClass(name, (9, 9, 9)) for name in ("benign", "malignant"))
    regions = [
        Annotation.drawn(shapely.box(224 * column, 0, 224 * column + 224, 448), name)
        for column, name in enumerate(("malignant", "malignant", "malignant", "benign", "benign", "benign"))
    ]
    document = AnnotationDocument("f" * 32, classes, tuple(regions))
    malignant = np.full((5, 6), 0.1)
    malignant[:2, :2] = 0.9
    malignant[0, 3] = np.nan
    table = against_regions(document, result(tmp_path, malignant))
    assert table is not None
    assert table.confusion == ((5, 0), (2, 4))
    assert table.scores.recall[1].value == pytest.approx(4 / 6)
    assert table.scores.recall[1].low is not None, "three regions of each class"
    assert against_regions(AnnotationDocument("f" * 32, classes), result(tmp_path, malignant)) is None
