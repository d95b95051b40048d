"""A picture of what is in view: its scale bar, its legend, its size on paper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from napari_dala.results.report.html import NOTICE
from napari_dala.results.report.view_picture import ColorBar, save_picture, with_legend

if TYPE_CHECKING:
    from pathlib import Path

VIEW = np.full((300, 500, 3), (200, 120, 160), np.uint8)
INK = 30
RAMP = np.stack([np.arange(256), 255 - np.arange(256), np.zeros(256)], 1).astype(np.uint8)
BAR = ColorBar("Probability of malignant", ("0", "1"), RAMP, 0.5, 0.1)


def longest_dark_run(picture: Any) -> int:
    """Pixels along the longest dark horizontal line."""
    dark = (np.asarray(picture) <= INK).all(axis=-1)
    runs = (re.findall("1+", "".join(map(str, row.astype(int)))) for row in dark)
    return max(len(run) for row in runs for run in [*row, ""])


@pytest.mark.parametrize("times", [1, 2, 4])
def test_the_view_stays_as_it_is_and_the_strip_grows_along(times: int) -> None:
    view = np.kron(VIEW, np.ones((times, times, 1), np.uint8))
    figure = np.asarray(with_legend(view, title="slide.svs", times=times))
    assert figure.shape[1] == view.shape[1]
    np.testing.assert_array_equal(figure[: len(view)], view)
    strip = figure[len(view) :]
    assert (strip < 100).any(), "letters"
    assert len(strip) == pytest.approx(times * len(np.asarray(with_legend(VIEW, title="slide.svs"))[300:]), rel=0.1)


@pytest.mark.parametrize("times", [1, 3])
def test_the_scale_bar_is_as_long_as_it_says(times: int) -> None:
    """500 px of 2 um are 1 mm; a fifth of it is 200 um."""
    view = np.kron(VIEW, np.ones((times, times, 1), np.uint8))
    bare = np.asarray(with_legend(view, title="x", times=times))[: len(view)]
    figure = np.asarray(with_legend(view, title="x", times=times, um_per_px=2 / times))[: len(view)]
    assert (bare == view).all(), "where the resolution is not known there is none"
    assert longest_dark_run(figure) == pytest.approx(100 * times, abs=2)


def test_a_legend_has_the_maps_colours_and_the_classes(tmp_path: Path) -> None:
    figure = np.asarray(with_legend(VIEW, title="x", bars=[BAR], swatches=[("benign", (0, 0, 255)), ("b", (9, 99, 9))]))
    strip = figure[300:].reshape(-1, 3).tolist()
    assert [0, 0, 255] in strip
    assert [9, 99, 9] in strip
    assert any(red > 240 and green < 15 and blue == 0 for red, green, blue in strip)
    assert any(green > 240 and red < 15 and blue == 0 for red, green, blue in strip)


def test_in_a_narrow_view_nothing_of_the_legend_is_cut_off() -> None:
    narrow = VIEW[:, :200]
    swatches = [(f"class {number}", (number, 0, 255)) for number in range(8)]
    title, notes = "a very long name of a slide " * 5, ["a note that is longer than the picture is wide"]
    figure = np.asarray(with_legend(narrow, title=title, bars=[BAR, BAR], swatches=swatches, notes=notes))
    assert figure.shape[1] == 200
    strip = figure[300:]
    for _, color in swatches:
        assert (strip == color).all(axis=-1).sum() > 100
    assert (strip[:, -2:] > 200).all(), "no letter reaches the edge"
    assert (strip[-4:] > 200).all()


def test_png_and_pdf_are_of_one_size_on_paper(tmp_path: Path) -> None:
    for times in (1, 4):
        view = np.kron(VIEW, np.ones((times, times, 1), np.uint8))
        figure = with_legend(view, title="slide", times=times)
        png, pdf = save_picture(figure, tmp_path / f"view {times}.x", title="slide", times=times)
        assert (png.name, pdf.name) == (f"view {times}.x.png", f"view {times}.x.pdf")
        with Image.open(png) as opened:
            np.testing.assert_array_equal(np.asarray(opened), np.asarray(figure))
            assert opened.info["dpi"][0] == pytest.approx(96 * times, rel=1e-3)
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf.read_bytes())
        assert box is not None
        assert float(box[1]) == pytest.approx(500 / 96 * 72, rel=1e-3)


def test_a_pdf_s_title_is_what_was_said_and_not_the_name_of_a_file(tmp_path: Path) -> None:
    figure = with_legend(VIEW, title="f00dcafe")
    _, pdf = save_picture(figure, tmp_path / "jane-doe", title="f00dcafe")
    content = pdf.read_bytes()
    assert "f00dcafe".encode("utf-16-be") in content or b"f00dcafe" in content
    for name in ("jane", "napari_dala"):
        assert name.encode() not in content
        assert name.encode("utf-16-be") not in content


def test_every_picture_says_that_it_is_for_research(monkeypatch: pytest.MonkeyPatch) -> None:
    said, draw = [], ImageDraw.ImageDraw.text

    def noting(self: Any, at: Any, text: str, *more: Any, **options: Any) -> None:
        said.append(text)
        draw(self, at, text, *more, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noting)
    with_legend(VIEW, title="slide")
    assert NOTICE in said
