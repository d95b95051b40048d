from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_dala.errors import SlideError
from napari_dala.results.report.html import NOTICE
from napari_dala.results.report.page import write_report
from napari_dala.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

    from napari_dala.slide import Slide

_VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects a page's text, pictures and links; fails on tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.text = ""
        self.pictures: list[Image.Image] = []
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "img":
            source = str(dict(attrs)["src"])
            assert dict(attrs)["alt"]
            assert source.startswith("data:image/jpeg;base64,")
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


@pytest.fixture
def slide() -> Slide:
    pixels = np.random.default_rng(0).integers(120, 240, (700, 1000, 3), dtype=np.uint8)
    return open_slide(pixels, mpp=0.25)


def islands(grid: Any) -> Any:
    malignant = np.full(grid.shape, 0.1)
    malignant[0, 0], malignant[-1, -1] = 0.93, 0.88
    return malignant


def test_report_tells_everything_in_one_file(
    slide: Slide, paint_analysis: Any, small_tiles: Any, tmp_path: Path
) -> None:
    card = small_tiles.model_copy(
        update={
            "trained": False,
            "name": "<b>bold</b>",
            "metrics": {"accuracy": {"value": 0.912, "interval": [0.87, 0.95]}},
            "limits": ("breast only & 20x",),
        }
    )
    analysis = paint_analysis(slide, islands, card=card, unreadable=((2, 2),), todo=((3, 3), (3, 4)))
    run = {"settings": {"device": "cpu", "tiles_per_s": 12.5}, "warnings": ["from <the> run"], "finished": "now"}
    write_report(analysis, slide, tmp_path / "report.html", run)
    page = Page(tmp_path / "report.html")

    for told in (
        NOTICE,
        "untrained",
        "1 tile of the slide could not be decoded",
        "the tissue: 2 tiles to do. All figures are of the others.",
        "from <the> run",
        "0.001\n3.5%\n2\n",  # malignant: mm2, share, tiles; of the corner's only what lies on the slide
        "Probability 0.930 at x 64, y 64",
        "Probability 0.880 at x 960, y 640",
        "0.912",
        "0.87, 0.95",
        "breast only & 20x",
        "tiles per s",
        "12.5",
        slide.fingerprint,
        analysis.store.bundle_hash,
    ):
        assert told in page.text, told
    assert page.text.index("is untrained") < page.text.index("What was found")
    assert "<b>bold" not in page.html
    assert "&lt;b&gt;bold" in page.html
    assert len(page.pictures) == 2 + 2  # two overviews, two spots
    assert page.pictures[2].size == (452, 224)
    assert not re.search(r"https?://", page.html)
    assert not re.search(r"<(script|link|iframe|object)\b|src='(?!data:)|url\(|@import", page.html)


def test_threshold_and_anonymous_name(slide: Slide, paint_analysis: Any, tmp_path: Path) -> None:
    analysis = paint_analysis(slide, islands)
    run = {"slide": {**slide.properties, "name": "1234abcd"}}
    write_report(analysis, slide, tmp_path / "report.html", run, threshold=0.95)
    page = Page(tmp_path / "report.html")
    assert "No judged tile reaches a probability of malignant of 0.95" in page.text
    assert "1234abcd" in page.text
    assert "Name\nimage" not in page.text
    assert "class='warnings'" not in page.html


def test_only_listed_properties_are_printed(slide: Slide, paint_analysis: Any, tmp_path: Path) -> None:
    analysis = paint_analysis(slide, islands)
    run = {"slide": {**slide.properties, "patient": "Jane Doe", "label": "Jane Doe"}}
    write_report(analysis, slide, tmp_path / "report.html", run)
    assert "Jane Doe" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_spot_that_cannot_be_read_does_not_end_the_report(
    slide: Slide, paint_analysis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise SlideError("a.svs: cannot be decoded")

    analysis = paint_analysis(slide, islands)
    monkeypatch.setattr("napari_dala.results.report.page.read_tiles", fail)
    write_report(analysis, slide, tmp_path / "report.html", {})
    page = Page(tmp_path / "report.html")
    assert len(page.pictures) == 2
    assert "cannot be decoded" in page.text
    assert "a.svs" not in page.text  # an anonymous report must not name the file


def test_nothing_analysed(slide: Slide, paint_analysis: Any, tmp_path: Path) -> None:
    analysis = paint_analysis(slide, 0.9, background=tuple(np.ndindex(6, 8)))
    write_report(analysis, slide, tmp_path / "report.html", {})
    assert "No judged tile reaches" in Page(tmp_path / "report.html").text


def test_real_slide(shared_data: Path, paint_analysis: Any, small_tiles: Any, tmp_path: Path) -> None:
    with open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        card = small_tiles.model_copy(update={"tile_px": 224})
        analysis = paint_analysis(slide, islands, card=card)
        write_report(analysis, slide, tmp_path / "report.html", {"slide": slide.properties})
    page = Page(tmp_path / "report.html")
    assert "2220 × 2967 px, 1.11 × 1.48 mm" in page.text
    assert page.pictures[0].size[0] == 1197
    assert len(page.html) < 8_000_000
