"""Pictures of results: probability and DT Grad-CAM over the tissue, with a legend that says what the colours mean."""

from __future__ import annotations

from math import floor, log10
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.measure import block_reduce

from napari_dala.model.threshold import FAINTEST, DynamicThreshold, ThresholdedMap
from napari_dala.results.report.ramps import EOSIN, GRAD_CAM, PROBABILITY, Ramp
from napari_dala.results.tile_results import TileStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_dala.results.analysis import Analysis
    from napari_dala.slide.base import Slide

    Frame = tuple[tuple[float, float], tuple[float, float]]

DT_DEFAULT = DynamicThreshold()
INK, FAINT, ALARM = (30, 30, 30), (110, 110, 110), (170, 0, 0)
_WASH = np.array([[[120, 120, 120, 90]]], np.uint8)  # over tissue that was not analysed
_WASHED = (207, 207, 207)  # white under it
_LEGEND_WIDTH = 760


def probability_rgba(analysis: Analysis, class_index: int) -> NDArray[np.uint8]:
    """Return a class' probability in colours, one pixel per tile, (rows, columns, 4) uint8.

    Transparent where it is low and where no tile was analysed. `grid.tile_frame` says where it lies.
    """
    return PROBABILITY.rgba(analysis.probability[class_index])


def thresholded_cam(analysis: Analysis, rule: DynamicThreshold = DT_DEFAULT) -> ThresholdedMap:
    """Return the target class' DT Grad-CAM over the whole grid, of `grid.cam_shape`."""
    cam = analysis.cam(analysis.card.target_class)
    return rule(cam, cell_um=analysis.cell_um, tile_cells=analysis.grid.cells, valid=np.isfinite(cam))


def overview(slide: Slide, analysis: Analysis, max_side: int = 1600, threshold: float | None = None) -> Image.Image:
    """Return the slide with the target class' probability over it, and a legend below.

    The slide fills the top left corner, its longer side `max_side` px at most. Tissue tiles that are still to do
    are grey, unreadable ones crossed out, unfamiliar ones hatched.

    Parameters
    ----------
    threshold
        The operating threshold marked in the legend; by default the analysis' own.
    """
    card = analysis.card
    tissue = Image.fromarray(slide.thumbnail(max_side))
    laid = _laid(probability_rgba(analysis, card.target_class), analysis, tissue.size)
    mark = analysis.threshold if threshold is None else threshold
    title = f"Probability of {card.class_names[card.target_class]}"
    return _with_legend(_over(tissue, laid), analysis, PROBABILITY, title, ("0", "1"), mark)


def cam_overview(slide: Slide, analysis: Analysis, thresholded: ThresholdedMap, max_side: int = 1600) -> Image.Image:
    """Return the slide with the target class' DT Grad-CAM (see `thresholded_cam`) over it, and a legend below."""
    card, (side, first) = analysis.card, analysis.grid.cell_frame
    tissue = Image.fromarray(slide.thumbnail(max_side))
    coarser = max(1, int(slide.dimensions[0] / tissue.size[0] / side[1]))  # cells per pixel: show the strongest
    values = block_reduce(thresholded.map, (coarser, coarser), np.max)
    frame = (side[0] * coarser, side[1] * coarser), (first[0] * coarser, first[1] * coarser)
    y, x = _positions(frame, slide.dimensions, tissue.size)
    laid = ndimage.map_coordinates(values, np.meshgrid(y, x, indexing="ij"), order=1, mode="grid-constant")
    title = f"DT Grad-CAM of {card.class_names[card.target_class]}: {cut_of(thresholded)}"
    rgba = GRAD_CAM.rgba(laid)
    kept = laid > 0
    rgba[kept & ~ndimage.binary_erosion(kept)] = (*INK, 255)
    return _with_legend(_over(tissue, rgba), analysis, GRAD_CAM, title, ("just kept", "strongest"), lowest=FAINTEST)


def cut_of(thresholded: ThresholdedMap, strength: float = 1.0) -> str:
    """Return the threshold, its factor where that is not 1, and the kept fraction in words."""
    at = np.atleast_1d(thresholded.threshold).ravel()
    at = at[np.isfinite(at)]
    if not at.size:
        return "nothing stands out"
    mean, kept = float(at.mean()), thresholded.kept_fraction
    said = f"threshold T = {mean:.2f}" + ("" if strength == 1 else f" x {strength:.2f} = {mean * strength:.2f}")
    return f"{said}, {f'kept {kept:.0%}' if kept >= 0.005 else 'kept under 1%' if kept else 'nothing kept'}"


def heat(
    image: Image.Image, values: NDArray[np.float32], contours: Sequence[NDArray[Any]] = (), *, thin: bool = False
) -> Image.Image:
    """Return an image with a Grad-CAM of 0 to 1 over it, smoothly enlarged to the image's size.

    Parameters
    ----------
    values
        (h, w), covering the image from edge to edge.
    contours
        Lines of (row, column) in cells of `values`, as `ThresholdedMap.contours` gives them.
    thin
        True for lines of one px, on an image of few.
    """
    enlarged = Image.fromarray(values.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    result = _over(image, GRAD_CAM.rgba(np.asarray(enlarged)))
    draw = ImageDraw.Draw(result)
    per_cell = (image.width / values.shape[1], image.height / values.shape[0])
    for line in contours:
        points = [((x + 0.5) * per_cell[0], (y + 0.5) * per_cell[1]) for y, x in line]
        draw.line(points, "white", 1 if thin else 5, "curve")  # seen on dark tissue too
        if not thin:
            draw.line(points, INK, 2, "curve")
    return result


def explain_figure(
    image: NDArray[np.uint8],
    thresholded: ThresholdedMap,
    *,
    class_name: str,
    probability: float,
    warnings: Sequence[str] = (),
    side: int = 448,
) -> Image.Image:
    """Return one patch three times, side by side with captions: as it is, with Grad-CAM, with DT Grad-CAM.

    Parameters
    ----------
    image
        (h, w, 3) uint8.
    thresholded
        The map of `class_name` over the patch, covering it from edge to edge.
    probability
        Of the class.
    warnings
        Lines below the pictures.
    side
        Longer side of each picture, px.
    """
    patch = Image.fromarray(image)
    enlarge = side / max(patch.size)
    patch = patch.resize((round(patch.width * enlarge), round(patch.height * enlarge)), Image.Resampling.LANCZOS)
    panels = (
        (patch, "Patch", f"{class_name}: probability {probability:.3f}"),
        (heat(patch, thresholded.scaled), "Grad-CAM", f"of {class_name}, over its maximum"),
        (heat(patch, thresholded.map, thresholded.contours()), "DT Grad-CAM", cut_of(thresholded)),
    )
    gap, font = 16, ImageFont.load_default(17)
    notes = wrapped(warnings, 17, 3 * patch.width + 2 * gap)
    figure = Image.new(
        "RGB", (3 * patch.width + 4 * gap, patch.height + 84 + 24 * len(notes) + (8 if notes else 0)), "white"
    )
    draw = ImageDraw.Draw(figure)
    for number, (panel, title, caption) in enumerate(panels):
        left = gap + number * (patch.width + gap)
        figure.paste(panel, (left, gap))
        draw.text((left, patch.height + 26), title, INK, ImageFont.load_default(19))
        draw.text((left, patch.height + 52), caption, FAINT, font)
    for number, note in enumerate(notes):
        draw.text((gap, patch.height + 82 + 24 * number), note, ALARM, font)
    return figure


def _positions(
    frame: Frame, slide_size: tuple[int, int], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where rows and columns of a picture of the whole slide lie, in pixels of the picture in `frame`."""
    (step_y, step_x), (first_y, first_x) = frame
    y = (np.arange(size[1]) + 0.5) * slide_size[1] / size[1]
    x = (np.arange(size[0]) + 0.5) * slide_size[0] / size[0]
    return (y - first_y) / step_y, (x - first_x) / step_x


def _over(image: Image.Image, rgba: NDArray[np.uint8]) -> Image.Image:
    return Image.alpha_composite(image.convert("RGBA"), Image.fromarray(rgba)).convert("RGB")


def _laid(tiles: NDArray[np.uint8], analysis: Analysis, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Lay a picture of one pixel per tile (rows, columns, 4) over one of the whole slide, of `size`."""
    margin = np.pad(tiles, ((1, 1), (1, 1), (0, 0)))  # transparent, for what lies beyond the grid
    columns, rows = (
        np.searchsorted(edges, np.arange(count) + 0.5, "right")
        for edges, count in zip(_edges(analysis, size), size, strict=True)
    )
    return np.asarray(margin[rows[:, None], columns])


def _with_legend(
    picture: Image.Image,
    analysis: Analysis,
    ramp: Ramp,
    title: str,
    ends: tuple[str, str],
    mark: float | None = None,
    lowest: float = 0.0,
) -> Image.Image:
    """Mark the tiles without a result and add a strip with colour bar, scale bar and warnings below the picture."""
    width = max(picture.width, _LEGEND_WIDTH)
    unit = max(1.0, width / 1000)  # letters grow with the picture, for a page shrinks it to its width
    font, small = ImageFont.load_default(19 * unit), ImageFont.load_default(16 * unit)
    notes = wrapped(analysis.warnings, 16 * unit, width - 32 * unit)
    figure = Image.new("RGB", (width, picture.height + round((92 + 24 * len(notes)) * unit)), "white")
    picture, todo, unreadable = _with_gaps(_hatched(picture, analysis), analysis)
    figure.paste(picture)
    draw = ImageDraw.Draw(figure)

    def at(x: float, y: float) -> tuple[float, float]:
        return x * unit, picture.height + y * unit

    draw.text(at(16, 14), title, INK, font)
    values = np.tile(np.linspace(lowest, 1, round(300 * unit)), (round(18 * unit), 1))
    bar = Image.fromarray(np.round(ramp.over(values, EOSIN) * 255).astype(np.uint8))
    left, top = (round(side) for side in at(16, 42))
    figure.paste(bar, (left, top))
    draw.rectangle((left, top, left + bar.width, top + bar.height), outline=FAINT)
    draw.text(at(16, 64), ends[0], INK, small)
    draw.text(at(316, 64), ends[1], INK, small, anchor="ra")
    if mark is not None:
        draw.line((*at(16 + 300 * mark, 38), *at(16 + 300 * mark, 65)), INK, round(3 * unit))
        doubt = f" ± {analysis.doubt:.2f}" if analysis.doubt else ""
        draw.text(at(16 + min(max(300 * mark, 80), 220), 64), f"threshold {mark:.2f}{doubt}", INK, small, anchor="ma")
    if unreadable:
        _cross(draw, (*at(340, 40), *at(358, 58)))
        draw.text(at(368, 40), f"unreadable ({unreadable})", INK, small)
    if todo:
        draw.rectangle((*at(340, 65), *at(358, 83)), _WASHED)
        draw.text(at(368, 65), f"not analysed ({todo})", INK, small)
    if unfamiliar := int(analysis.unfamiliar.sum()):
        hatch(draw, (*at(520, 40), *at(538, 58)))
        draw.text(at(548, 40), f"unfamiliar ({unfamiliar})", INK, small)
    mm_per_px = analysis.grid.slide_size[0] / picture.width * analysis.mpp[0] / 1000
    length = round_length(0.22 * picture.width * mm_per_px)
    right = picture.width - 16 * unit
    draw.rectangle((right - length / mm_per_px, at(0, 42)[1], right, at(0, 48)[1]), fill=INK)
    draw.text((right, at(0, 54)[1]), f"{length:g} mm", INK, small, anchor="ra")
    for number, note in enumerate(notes):
        draw.text(at(16, 90 + 24 * number), note, ALARM, small)
    return figure


def _hatched(picture: Image.Image, analysis: Analysis) -> Image.Image:
    """Hatch the tiles that are unlike what the model was trained on."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    x, y = _edges(analysis, picture.size)
    for row, column in np.argwhere(analysis.unfamiliar):
        hatch(draw, (x[column], y[row], x[column + 1], y[row + 1]))
    return picture


def _edges(analysis: Analysis, size: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Return the tiles' edges along x and y in pixels of a picture of the whole slide."""
    lengths = zip(analysis.grid.edges(), size, analysis.grid.slide_size, strict=True)
    return [edges * count / length for edges, count, length in lengths]


def hatch(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    """Draw three diagonals from the lower left to the upper right."""
    left, top, right, bottom = box
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    for line in ((left, middle_y, middle_x, top), (left, bottom, right, top), (middle_x, bottom, right, middle_y)):
        draw.line(line, FAINT, 2)


def _with_gaps(picture: Image.Image, analysis: Analysis) -> tuple[Image.Image, int, int]:
    """Lay grey over tissue that is still to do, cross out unreadable tiles, and count both."""
    unreadable = np.argwhere(analysis.status == TileStatus.UNREADABLE)
    todo = ~analysis.analysed & np.isin(analysis.status, (TileStatus.TODO, TileStatus.DONE))
    picture = _over(picture, _laid(np.where(todo[..., None], _WASH, 0).astype(np.uint8), analysis, picture.size))
    draw = ImageDraw.Draw(picture)
    x, y = _edges(analysis, picture.size)
    for row, column in unreadable:
        _cross(draw, (x[column], y[row], x[column + 1], y[row + 1]))
    return picture, int(todo.sum()), len(unreadable)


def _cross(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = box
    for color, width in (("white", 5), (FAINT, 2)):
        draw.rectangle(box, outline=color, width=width)
        draw.line((left, top, right, bottom), color, width)
        draw.line((left, bottom, right, top), color, width)


def round_length(most: float) -> float:
    """Return the largest of 1, 2, 5, 10, ... that is not above `most`."""
    power = 10.0 ** floor(log10(most))
    return float(max(part * power for part in (1, 2, 5) if part * power <= most * 1.000001))


def wrapped(lines: Sequence[str], letter: float, width: float) -> list[str]:
    """Break lines between words so that each fits `width` px, for letters of the default font `letter` px high."""
    return [part for line in lines for part in wrap(line, max(20, int(width / (0.55 * letter))))]
