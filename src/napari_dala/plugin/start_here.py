"""The dock "Start here": one page, in words and small pictures, from opening a slide to a better model."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel

from napari_dala.plugin.parts.dock import TITLES, Dock
from napari_dala.plugin.parts.scrolling import scrolling_layout
from napari_dala.plugin.parts.step_pictures import step_picture
from napari_dala.plugin.preferences import PLUGIN, load_preferences, set_start_page

if TYPE_CHECKING:
    import napari

_LINK = '<a href="{title}" style="color: #3584c4"><b>{shown}</b></a>'  # to be read in a dark and a light theme
_STEPS = {
    "open": ("Open a slide", "Drop a slide on this window, or choose <i>File &gt; IO Utilities &gt; Open slide</i>. "
             "Many slides? Drop their folder on {Slides}."),
    "run": ("Run", "In {Analyze slide} press <b>Run</b>. Colours show where the model sees what it looks for. <b>N</b> "
            "goes to the next spot, <b>H</b> hides the colours."),
    "explain": ("Explain", "In {Explain} see what the model looked at. Click the tissue to ask about that place."),
    "draw": ("Draw", "In {Annotate & learn} choose a class and a tool. Draw where the model is wrong, or where you are "
             "sure. It is saved by itself."),
    "learn": ("Learn", "There press <b>Learn</b>. Look at the map before and after, then accept the new model or "
              "discard it."),
}  # fmt: skip


class StartHereWidget(Dock):
    """Says what to do, step by step; a name of a dock opens it.

    Parameters
    ----------
    viewer
        Whose docks are opened.
    """

    title = "Start here"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._viewer = viewer
        self.again = QCheckBox("Show this page whenever the demo starts")
        self.again.setChecked(load_preferences().start_page)
        self.again.toggled.connect(set_start_page)
        self.steps = {step: QLabel() for step in _STEPS}
        layout = scrolling_layout(self)
        for number, (step, text) in enumerate(self.steps.items(), 1):
            text.setWordWrap(True)
            text.setText(_words(number, *_STEPS[step]))
            text.linkActivated.connect(self.open_dock)
            picture, line = QLabel(), QHBoxLayout()
            picture.setPixmap(step_picture(step))
            line.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
            line.addWidget(text, 1)
            layout.addLayout(line)
        layout.addWidget(self.again)
        back = QLabel(f"Find this page again under <i>Plugins &gt; {PLUGIN}</i>.")
        back.setWordWrap(True)
        layout.addWidget(back)
        layout.addStretch()

    def open_dock(self, title: str) -> None:
        """Open a dock, or bring it forward."""
        _, dock = self._viewer.window.add_plugin_dock_widget(PLUGIN, title)
        dock.come_forward()


def _words(number: int, heading: str, text: str) -> str:
    for title in TITLES[1:]:
        text = text.replace(f"{{{title}}}", _LINK.format(title=escape(title), shown=escape(title)))
    return f"<b>{number}. {heading}</b><br>{text}"
