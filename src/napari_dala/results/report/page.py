"""The report of one analysed slide: a single HTML page that needs nothing else and prints well."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

from PIL import Image

from napari_dala.errors import SlideError
from napari_dala.files import write_text
from napari_dala.model.card_page import card_page, card_table, table
from napari_dala.results.report.html import NOTICE, data_uri, html_page
from napari_dala.results.report.pictures import DT_DEFAULT, cam_overview, cut_of, heat, overview, thresholded_cam
from napari_dala.slide.tiles import read_tiles
from napari_dala.words import counted, percent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_dala.model.threshold import DynamicThreshold, ThresholdedMap
    from napari_dala.results.analysis import Analysis, Spot, Summary
    from napari_dala.slide.base import Slide

_MOST_SPOTS = 12
_CROP_SIDE = 224


def write_report(
    analysis: Analysis,
    slide: Slide,
    path: Path,
    run: Mapping[str, Any],
    *,
    threshold: float | None = None,
    rule: DynamicThreshold = DT_DEFAULT,
) -> None:
    """Write the report as one HTML file without any outside resource.

    Parameters
    ----------
    analysis, slide
        What was found, and its pixels for the pictures.
    path
        The `.html` file.
    run
        What run.json holds. Its "slide" stands in for `slide.properties` (an anonymous run has another name there),
        its "warnings" come with the analysis' own, the rest is printed as tables.
    threshold
        Operating threshold; by default the analysis' own.
    rule
        How the DT Grad-CAM is found.
    """
    summary = analysis.summary(threshold)
    thresholded = thresholded_cam(analysis, rule)
    properties = run.get("slide") or slide.properties
    target = analysis.card.class_names[analysis.card.target_class]
    maps = (
        _figure(
            overview(slide, analysis, threshold=threshold),
            f"Probability of {target} over the slide",
            f"Probability of {target}, one value per tile of {_tile_um(analysis)}. Clear: low. "
            "Green to yellow: higher. Grey wash: tissue that was not analysed. Crossed out: could not be read.",
        ),
        _figure(
            cam_overview(slide, analysis, thresholded),
            f"DT Grad-CAM of {target} over the slide",
            f"DT Grad-CAM ({rule.method}, scope {rule.scope}; {cut_of(thresholded, rule.strength)}): the cells of "
            f"{analysis.cell_um:.0f} µm that argue most for {target}. It shows what the model looked at; its strength "
            "is not a probability, and without malignant tissue it still marks the strongest cells.",
        ),
    )
    sections = [
        _head(analysis, properties, run),
        _warnings(analysis, summary, run),
        _summary(analysis, summary),
        "<h2>Where it lies</h2>" + "".join(maps),
        _gallery(analysis, slide, thresholded, analysis.spots(threshold, most=_MOST_SPOTS), summary.threshold),
        f"<section class='card'>{card_page(analysis.card)}<details><summary>The whole card</summary>"
        f"{card_table(analysis.card, analysis.store.bundle_hash)}</details></section>",
        f"<div class='columns'><div><h2>Slide</h2>{table(_slide(analysis, properties))}</div>"
        f"<div><h2>This run</h2>{table({k: v for k, v in run.items() if k not in ('slide', 'model', 'warnings')})}"
        "</div></div>",
        f"<p class='notice'>{NOTICE}</p>",
    ]
    write_text(path, html_page(f"{properties.get('name', 'Slide')} · {analysis.card.name}", sections))


def _head(analysis: Analysis, properties: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    made = [f"Model “{analysis.card.name}”", str(run.get("finished", "")).replace("T", " "), NOTICE]
    return (
        f"<header><h1>{escape(str(properties.get('name', 'Slide')))}</h1>"
        f"<p class='sub'>{escape(' · '.join(filter(None, made)))}</p></header>"
    )


def _warnings(analysis: Analysis, summary: Summary, run: Mapping[str, Any]) -> str:
    lines = dict.fromkeys([*analysis.warnings, *run.get("warnings", ())])
    if summary.todo:
        lines[
            f"So far, {percent(summary.done_share)} of the tissue: {counted(summary.todo, 'tile')} to do. All figures "
            "are of the others."
        ] = None
    if not lines:
        return ""
    return f"<div class='warnings' role='alert'>{''.join(f'<p>{escape(line)}</p>' for line in lines)}</div>"


def _summary(analysis: Analysis, summary: Summary) -> str:
    target = analysis.card.class_names[analysis.card.target_class]
    rows = "".join(
        f"<tr><td><span class='swatch' style='background:rgb{info.color}'></span>{escape(info.name)}</td>"
        f"<td class='number'>{summary.area_mm2[info.name]:.3f}</td>"
        f"<td class='number'>{summary.share[info.name]:.1%}</td>"
        f"<td class='number'>{summary.tiles[info.name]}</td></tr>"
        for info in analysis.card.classes
    )
    if summary.not_judged:
        rows += (
            f"<tr><td>Not judged ({summary.why_not_judged})</td>"
            f"<td class='number'>{summary.not_judged_mm2:.3f}</td><td class='number'>–</td>"
            f"<td class='number'>{summary.not_judged}</td></tr>"
        )
    so_far = f" so far, {percent(summary.done_share)} of the tissue" if summary.todo else ""
    left_out = "Unfamiliar and unreadable tiles"
    if summary.doubt:
        left_out = f"Tiles within {summary.doubt:.2f} of it (in doubt), unfamiliar and unreadable tiles"
    return (
        "<h2>What was found</h2><div class='headline'>"
        f"<div><b>{summary.area_mm2[target]:.2f} mm²</b>{escape(target)}</div>"
        f"<div><b>{summary.share[target]:.1%}</b>of the judged tissue{so_far}</div>"
        f"<div><b>{summary.judged_mm2:.2f} mm²</b>tissue judged</div></div>"
        "<table><thead><tr><th>Class</th><th class='number'>Area, mm²</th><th class='number'>Share</th>"
        f"<th class='number'>Tiles</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p class='note'>A tile counts as {escape(target)} where its probability is at least "
        f"{summary.threshold:.2f}, the operating threshold. {counted(summary.analysed, 'tile')} analysed, "
        f"{summary.unreadable} unreadable, {summary.todo} to do. {left_out} are not judged: they are in "
        f"no area, share or spot. Areas are of whole tiles of {_tile_um(analysis)}.</p>"
    )


def _gallery(analysis: Analysis, slide: Slide, thresholded: ThresholdedMap, spots: list[Spot], threshold: float) -> str:
    target = escape(analysis.card.class_names[analysis.card.target_class])
    if not spots:
        return f"<h2>Strongest spots</h2><p>No judged tile reaches a probability of {target} of {threshold:.2f}.</p>"
    crops = "".join(_spot(analysis, slide, thresholded, number, spot) for number, spot in enumerate(spots, 1))
    return (
        f"<h2>Strongest spots</h2><p class='note'>The tiles with the highest probability of {target}: as scanned, and "
        "with DT Grad-CAM (outlined). Positions are the tile's centre in level-0 pixels.</p>"
        f"<div class='gallery'>{crops}</div>"
    )


def _spot(analysis: Analysis, slide: Slide, thresholded: ThresholdedMap, number: int, spot: Spot) -> str:
    caption = f"{number}. Probability {spot.probability:.3f} at x {spot.x:.0f}, y {spot.y:.0f}"
    grid = analysis.grid
    try:
        tile = Image.fromarray(read_tiles(slide, grid, spot.row, spot.column, 1, 1))
    except SlideError:
        return f"<figure><figcaption>{caption}: its pixels cannot be decoded</figcaption></figure>"
    top, left = grid.starts[0][spot.row], grid.starts[1][spot.column]
    part = (slice(top, top + grid.cells), slice(left, left + grid.cells))
    shown = replace(thresholded, mask=thresholded.mask[part], map=thresholded.map[part])
    tile = tile.resize((_CROP_SIDE, _CROP_SIDE), Image.Resampling.LANCZOS)
    pair = Image.new("RGB", (2 * _CROP_SIDE + 4, _CROP_SIDE), "white")
    pair.paste(tile)
    pair.paste(heat(tile, shown.map, shown.contours()), (_CROP_SIDE + 4, 0))
    return _figure(pair, caption, caption)


def _slide(analysis: Analysis, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Choose what is printed of a slide: these entries and no others, whatever the file holds."""
    mpp_x, mpp_y = analysis.mpp
    return {
        "Name": properties.get("name"),
        "Size": f"{analysis.grid.slide_size[0]} × {analysis.grid.slide_size[1]} px, "
        f"{analysis.grid.slide_size[0] * mpp_x / 1000:.2f} × {analysis.grid.slide_size[1] * mpp_y / 1000:.2f} mm",
        "Resolution": f"{mpp_x:.4g} × {mpp_y:.4g} µm/px ({properties.get('mpp_source')})",
        "Colour profile (ICC)": properties.get("icc_profile"),
        "Objective": properties.get("objective_power"),
        "Levels": len(properties.get("levels") or ()),
        "Vendor": properties.get("vendor"),
        "Fingerprint": properties.get("fingerprint"),
    }


def _tile_um(analysis: Analysis) -> str:
    side = analysis.grid.stride_px * analysis.card.mpp
    return f"{side:.0f} × {side:.0f} µm"


def _figure(picture: Image.Image, alt: str, caption: str) -> str:
    image = f"<img alt='{escape(alt)}' src='{data_uri(picture)}'>"
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
