"""An evaluation as one HTML page that needs nothing else: words, tables, plots of numbers."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from napari_dala.results.report.html import NOTICE, html_page
from napari_dala.words import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from napari_dala.evaluation.tables import Table

_STYLE = "body { max-width: 84rem; } tbody th { white-space: normal; }"


def evaluation_page(
    title: str,
    made: str,
    words: Sequence[str],
    tables: Sequence[Table],
    notes: Sequence[str],
    plots: Mapping[str, Figure],
) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Its heading.
    made
        From what and by which command, in a line.
    words
        What was asked and what came out, a paragraph each.
    tables
        One after the other.
    notes
        What must be read beside them.
    plots
        Figures by their captions.
    """
    sections = [
        f"<header><h1>{escape(title)}</h1><p class='sub'>{escape(made)}</p></header>",
        *(f"<p>{escape(text)}</p>" for text in words),
        *(table.as_html() for table in tables),
        "<h2>To be read beside it</h2>" if notes else "",
        *(f"<p class='note'>{escape(sentence(note))}.</p>" for note in notes),
        *(_plot(caption, figure) for caption, figure in plots.items()),
        f"<p class='notice'>{NOTICE}</p>",
    ]
    return html_page(title, sections, _STYLE)


def _plot(caption: str, figure: Figure) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    source = base64.b64encode(data.getvalue()).decode()
    return (
        f"<figure><img alt='{escape(caption)}' src='data:image/png;base64,{source}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
