"""What is in view as a picture for a report or a talk: scale bar, legend and a line that says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from napari_dala.files import replacing
from napari_dala.results.report.html import NOTICE
from napari_dala.results.report.pictures import FAINT, INK, round_length, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Color = tuple[int, int, int]

_PLAIN_DPI = 96  # of a picture at 1x
_BAR = (260, 18)  # of a legend's colours, at 1x
_BAR_SHARE = 0.2  # of the picture's width, that the scale bar has at most


@dataclass(frozen=True, eq=False)
class ColorBar:
    """A map's colours in the legend.

    Attributes
    ----------
    title, ends
        Above it, and below its ends.
    colors
        (n, 3) uint8, from the lowest value to the highest.
    mark
        Where the threshold lies, 0 to 1, or None.
    doubt
        Half the width of the band of doubt around it.
    """

    title: str
    ends: tuple[str, str]
    colors: NDArray[np.uint8]
    mark: float | None = None
    doubt: float = 0.0


def with_legend(
    view: NDArray[np.uint8],
    *,
    title: str,
    times: int = 1,
    um_per_px: float | None = None,
    bars: Sequence[ColorBar] = (),
    swatches: Sequence[tuple[str, Color]] = (),
    notes: Sequence[str] = (),
) -> Image.Image:
    """Return what is in view with a scale bar in its corner and a strip below that says what is seen.

    Parameters
    ----------
    view
        (h, w, 3) uint8.
    title
        The slide's name, or what stands for it.
    times
        How many pixels a pixel of the screen has, along a side: letters grow along.
    um_per_px
        Of the view; None where that is not known: then there is no scale bar.
    bars, swatches
        The legend's colours: of maps, and of classes.
    notes
        Lines in small letters; that it is for research follows by itself.
    """
    picture = Image.fromarray(view)
    letters, small = (_font(size * times) for size in (16, 13))
    gap, width = 14 * times, picture.width
    room = width - 2 * gap
    bar_width = min(_BAR[0] * times, room)
    lines, titles = wrapped([*notes, NOTICE], 16 * times, room), wrapped([title], 19 * times, room)
    places = _flow([bar_width] * len(bars), room, gap)
    row_high = _BAR[1] * times + 50 * times
    names = _flow([round(small.getlength(name)) + 22 * times for name, _ in swatches], room, gap)
    bars_high = (places[-1][1] + 1) * row_high if places else 0
    names_high = (names[-1][1] + 1) * 22 * times + 6 * times if names else 0
    high = gap + 24 * times * len(titles) + bars_high + names_high + 19 * times * len(lines) + gap // 2
    figure = Image.new("RGB", (width, picture.height + high), "white")
    figure.paste(picture)
    draw = ImageDraw.Draw(figure)
    y = picture.height + gap // 2
    for number, line in enumerate(titles):
        draw.text((gap, y + 24 * times * number), line, INK, letters)
    y += 24 * times * len(titles) + gap // 2
    for bar, (x, row) in zip(bars, places, strict=True):
        _draw_bar(figure, bar, (gap + x, y + row * row_high), bar_width, small, times)
    y += bars_high
    for (name, color), (x, row) in zip(swatches, names, strict=True):
        left, top = gap + x, y + row * 22 * times
        draw.rectangle((left, top, left + 14 * times, top + 14 * times), color, FAINT)
        draw.text((left + 20 * times, top - 2 * times), name, INK, small)
    y += names_high
    for number, line in enumerate(lines):
        draw.text((gap, y + 19 * times * number), line, FAINT, small)
    if um_per_px is not None:
        _draw_scale(draw, picture.size, um_per_px, small, times)
    return figure


def save_picture(figure: Image.Image, base: Path, *, title: str, times: int = 1) -> list[Path]:
    """Write a picture as PNG and as PDF, of the same size on paper at every `times`; return both paths.

    Parameters
    ----------
    base
        Path and name without an ending.
    title
        Of the PDF, which would else carry the file's name.
    """
    dpi = _PLAIN_DPI * times
    paths = [base.with_name(f"{base.name}{ending}") for ending in (".png", ".pdf")]
    with replacing(paths[0]) as temporary:
        figure.save(temporary, "PNG", dpi=(dpi, dpi))
    with replacing(paths[1]) as temporary:
        figure.save(temporary, "PDF", resolution=dpi, title=title, quality=95, subsampling=0)
    return paths


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return a font with µ and most alphabets, which Pillow's own lacks."""
    import matplotlib  # 0.1 s that opening the dock need not wait for

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _flow(widths: Sequence[int], room: int, gap: int) -> list[tuple[int, int]]:
    """Return where things of these widths come, one beside the other: x and row, a new row where there is no room."""
    places, x, row = [], 0, 0
    for width in widths:
        if x and x + width > room:
            x, row = 0, row + 1
        places.append((x, row))
        x += width + 2 * gap
    return places


def _draw_bar(
    figure: Image.Image,
    bar: ColorBar,
    at: tuple[int, int],
    width: int,
    font: ImageFont.FreeTypeFont,
    times: int,
) -> None:
    draw, (x, y), high = ImageDraw.Draw(figure), at, _BAR[1] * times
    draw.text((x, y), bar.title, INK, font)
    top = y + 20 * times
    figure.paste(Image.fromarray(bar.colors[None]).resize((width, high), Image.Resampling.BILINEAR), (x, top))
    draw.rectangle((x, top, x + width, top + high), outline=FAINT)
    below = top + high + 2 * times
    draw.text((x, below), bar.ends[0], INK, font)
    draw.text((x + width, below), bar.ends[1], INK, font, anchor="ra")
    if bar.mark is None:
        return
    low, middle, high_end = (x + width * min(max(bar.mark + s * bar.doubt, 0.0), 1.0) for s in (-1, 0, 1))
    if bar.doubt:
        draw.rectangle((low, top + times, high_end, top + high - times), outline=INK, width=times)
    draw.line((middle, top - 3 * times, middle, top + high + 3 * times), INK, 2 * times)


def _draw_scale(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    um_per_px: float,
    font: ImageFont.FreeTypeFont,
    times: int,
) -> None:
    """Draw a scale bar on a white plate into the lower right corner."""
    um = round_length(_BAR_SHARE * size[0] * um_per_px)
    text = f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"
    length, pad = um / um_per_px, 8 * times
    plate = max(length, font.getlength(text)) + 2 * pad
    right, bottom = size[0] - pad, size[1] - pad
    draw.rectangle((right - plate, bottom - 38 * times, right, bottom), "white")
    middle = right - plate / 2
    draw.rectangle((middle - length / 2, bottom - 12 * times, middle + length / 2, bottom - 7 * times), INK)
    draw.text((middle, bottom - 34 * times), text, INK, font, anchor="ma")
