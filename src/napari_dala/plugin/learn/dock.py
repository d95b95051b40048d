"""The dock "Annotate & learn": what the user draws above, the model that learns from it below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_dala.plugin.annotate.counts_panel import CountsPanel
from napari_dala.plugin.annotate.drawing import drawing_of
from napari_dala.plugin.annotate.panel import AnnotationPanel
from napari_dala.plugin.annotate.suggest_panel import SuggestPanel
from napari_dala.plugin.learn.panel import LearnPanel
from napari_dala.plugin.parts.dock import Dock
from napari_dala.plugin.parts.keys import bind_digits
from napari_dala.plugin.parts.scrolling import scrolling_layout
from napari_dala.plugin.warm_child import warm_child

if TYPE_CHECKING:
    import napari


class AnnotateWidget(Dock):
    """Draws regions on the current slide and lets a model learn from them.

    Parameters
    ----------
    viewer
        Where the slide is.
    """

    title = "Annotate & learn"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        session = self._session
        warm_child().hold(self)
        self.drawing = drawing_of(session)
        bind_digits(self, self.drawing.choose_digit)
        self.panel = AnnotationPanel(session, self.drawing)
        self.counts = CountsPanel(session, self.drawing)
        self.learn = LearnPanel(session, self.drawing)
        self.suggest = SuggestPanel(session, self.drawing)
        self.learn.choice_changed.connect(self._count)
        self._count()
        self.panel.counts_place.addWidget(self.suggest)  # above: a button that is pressed again and again
        self.panel.counts_place.addWidget(self.counts)
        layout = scrolling_layout(self)
        layout.addWidget(self.panel)
        layout.addWidget(self.learn)
        layout.addStretch()
        self.destroyed.connect(self.drawing.flush)

    def _count(self) -> None:
        """Count what the chosen model would learn from the chosen slides."""
        self.counts.set_slides(self.learn.chosen)
        self.counts.set_card(self.learn.entry.card if self.learn.entry else None)
