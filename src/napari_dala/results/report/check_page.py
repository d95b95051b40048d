"""How good a model is, as one HTML page that needs nothing else: see `model_check.ModelCheck`."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from napari_dala.files import write_text
from napari_dala.metrics.operating import at_sensitivity, best_gmean
from napari_dala.results.model_check import PAGE_FILE
from napari_dala.results.report.html import NOTICE, data_uri, html_page
from napari_dala.words import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from PIL import Image

    from napari_dala.results.model_check import ModelCheck

_MOST_OF_A_CELL = 24
_PICTURE_PX = 150
_WISHED = (0.80, 0.90, 0.95, 0.99)
_OWN_STYLE = """
.cells td, .cells th { text-align: center; border: 1px solid #ccc; padding: .5rem 1.2rem; }
.cells a { font-weight: 600; font-size: 1.2rem; }
.cells .right { background: #eaf4ea; } .cells .wrong { background: #fdeeee; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; }
.tiles figure { margin: 0; width: 160px; overflow-wrap: anywhere; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; } .plots svg { width: 300px; font-size: 11px; }
.plots .frame { fill: none; stroke: #ccc; } .plots .diagonal { stroke: #bbb; stroke-dasharray: 4; }
.plots .curve { fill: none; stroke: #0072b2; stroke-width: 2; } .plots .bin { fill: #0072b2; }
.plots .mark { fill: #e69f00; } .plots .title { font-weight: 600; }
.tiles img { width: 150px; height: 150px; object-fit: cover; }
"""


def write_check_page(check: ModelCheck, folder: Path, picture: Callable[[int], Image.Image | None]) -> Path:
    """Write check.html into a folder.

    Parameters
    ----------
    check
        What to show.
    folder
        Where to write the page.
    picture
        Gives the pixels of a sample, or None where they cannot be had.
    """
    shown: dict[int, str] = {}

    def figure(index: int) -> str:
        if index not in shown:
            shown[index] = _sample(check, index, picture(index))
        return shown[index]

    path = folder / PAGE_FILE
    few = check.too_few
    sections = [
        f"<header><h1>How good is {escape(check.model)}?</h1><p class='sub'>{_what(check)}</p></header>",
        f"<div class='warnings' role='alert'><p>{escape(few)}</p></div>" if few else "",
        "".join(f"<p class='note'>{escape(sentence(note))}.</p>" for note in check.notes),
        _confusion(check),
        _operating(check),
        f"<h2>Curves</h2>{_curves(check)}",
        f"<h2>The hardest {check.of}</h2><p class='note'>Those whose own class the model gives the least probability. "
        "Look at them first: is the label right?</p>"
        f"<div class='tiles'>{''.join(map(figure, check.hardest()))}</div>",
        *_cells(check, figure),
        f"<p class='notice'>{NOTICE}</p>",
    ]
    write_text(path, html_page(check.model, sections, _OWN_STYLE))
    return path


def _what(check: ModelCheck) -> str:
    units = len({sample.group for sample in check.samples})
    parts = (
        f"On {len(check.samples)} held-out {check.of} of {units} {check.unit}{'s'[: units != 1]}",
        f"operating threshold {check.threshold:.2f}",
        f"temperature {check.temperature:.2f}{' (fitted on these)' if check.refitted else ''}",
        NOTICE,
    )
    return " · ".join(parts)


def _confusion(check: ModelCheck) -> str:
    head = "".join(f"<th>called {escape(name)}</th>" for name in check.classes)
    rows = ""
    for truth, row in enumerate(check.confusion()):
        cells = "".join(
            f"<td class='{'right' if truth == called else 'wrong'}'>"
            + (f"<a href='#cell-{truth}-{called}'>{len(found)}</a>" if found else "0")
            + "</td>"
            for called, found in enumerate(row)
        )
        rows += f"<tr><th>is {escape(check.classes[truth])}</th>{cells}</tr>"
    return (
        f"<h2>What is called what</h2><p class='note'>A number leads to its {check.of}.</p>"
        f"<table class='cells'><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _operating(check: ModelCheck) -> str:
    if not check.has_curves:
        return "<p>One class only is held out: there is no threshold to choose and there are no curves.</p>"
    points = check.points()
    rows = [("the model's", check.point()), ("best GMean here", best_gmean(points))]
    rows += [(f"sensitivity at least {wished:.2f}", at_sensitivity(points, wished)) for wished in _WISHED]
    body = ""
    for name, point in rows:
        values = (point.threshold, point.sensitivity, point.specificity, point.gmean)
        cells = "".join(f"<td class='number'>{value:.3f}</td>" for value in values)
        body += f"<tr><th>{name}</th>{cells}</tr>"
    return (
        f"<h2>Thresholds for {escape(check.classes[check.target])}</h2><table><thead><tr><th></th>"
        "<th class='number'>Threshold</th><th class='number'>Sensitivity</th><th class='number'>Specificity</th>"
        f"<th class='number'>GMean</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _curves(check: ModelCheck) -> str:
    plots = []
    if check.has_curves:
        own, called = check.point(), check.predicted() == check.target
        roc = [(1 - point.specificity, point.sensitivity) for point in check.points()]
        at = (1 - own.specificity, own.sensitivity)
        plots.append(_plot("ROC", "1 - specificity", "sensitivity", roc, at, diagonal=True))
        precision = (own.sensitivity, float(check.positive[called].mean())) if called.any() else None
        points = check.precision_recall()
        plots.append(_plot("Precision and recall", "recall (sensitivity)", "precision", points, precision))
    bins = check.reliability()
    counts = [str(count) for _, _, count in bins]
    points = [(confidence, right) for confidence, right, _ in bins]
    plots.append(
        _plot("Reliability, with counts", "confidence", "part that is right", points, None, counts, diagonal=True)
    )
    mark = "<p class='note'>The dot is the operating threshold.</p>" if check.has_curves else ""
    return f"<div class='plots'>{''.join(plots)}</div>{mark}"


def _plot(
    title: str,
    below: str,
    beside: str,
    points: Sequence[tuple[float, float]],
    mark: tuple[float, float] | None = None,
    labels: Sequence[str] = (),
    *,
    diagonal: bool = False,
) -> str:
    """Return a curve in the unit square as SVG. Not by matplotlib: mode quick would wait a second for it."""

    def place(point: tuple[float, float]) -> tuple[str, str]:
        return f"{50 + 200 * point[0]:.1f}", f"{230 - 200 * point[1]:.1f}"

    drawn = ["<rect x='50' y='30' width='200' height='200' class='frame'/>"]
    for share in (0.0, 0.5, 1.0):
        (x, _), (_, y) = place((share, 0)), place((0, share))
        drawn.append(f"<text x='{x}' y='246' text-anchor='middle'>{share:g}</text>")
        drawn.append(f"<text x='44' y='{y}' text-anchor='end' dy='4'>{share:g}</text>")
    if diagonal:
        drawn.append("<line x1='50' y1='230' x2='250' y2='30' class='diagonal'/>")
    drawn.append(f"<polyline class='curve' points='{' '.join(','.join(place(point)) for point in points)}'/>")
    for point, label in zip(points, labels, strict=False):
        x, y = place(point)
        drawn.append(
            f"<circle cx='{x}' cy='{y}' r='3' class='bin'/><text x='{x}' y='{y}' dx='5' dy='14'>{label}</text>"
        )
    if mark is not None:
        x, y = place(mark)
        drawn.append(f"<circle cx='{x}' cy='{y}' r='5' class='mark'/>")
    drawn.append(f"<text x='150' y='264' text-anchor='middle'>{escape(below)}</text>")
    drawn.append(f"<text x='14' y='130' text-anchor='middle' transform='rotate(-90 14 130)'>{escape(beside)}</text>")
    drawn.append(f"<text x='150' y='20' text-anchor='middle' class='title'>{escape(title)}</text>")
    return f"<svg viewBox='0 0 260 272' role='img' aria-label='{escape(title)}'>{''.join(drawn)}</svg>"


def _cells(check: ModelCheck, figure: Callable[[int], str]) -> list[str]:
    sections = []
    for truth, row in enumerate(check.confusion()):
        for called, found in enumerate(row):
            if not found:
                continue
            more = f" (the first {_MOST_OF_A_CELL})" if len(found) > _MOST_OF_A_CELL else ""
            names = escape(check.classes[truth]), escape(check.classes[called])
            sections.append(
                f"<h2 id='cell-{truth}-{called}'>{len(found)} {check.of}: {names[0]}, called {names[1]}{more}</h2>"
                f"<div class='tiles'>{''.join(map(figure, found[:_MOST_OF_A_CELL]))}</div>"
            )
    return sections


def _sample(check: ModelCheck, index: int, picture: Image.Image | None) -> str:
    sample = check.samples[index]
    where = escape(sample.name) or f"slide {sample.slide[:8]}, x {sample.x:.0f}, y {sample.y:.0f}"
    own = sample.probability[sample.label]
    caption = f"{escape(check.classes[sample.label])}: probability {own:.2f}<br>{where}"
    if picture is None:
        return f"<figure><figcaption>{caption}<br>its pixels cannot be read</figcaption></figure>"
    small = picture.copy()
    small.thumbnail((_PICTURE_PX, _PICTURE_PX))
    return f"<figure><img alt='' src='{data_uri(small)}'><figcaption>{caption}</figcaption></figure>"
