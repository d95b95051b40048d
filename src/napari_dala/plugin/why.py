"""*Why*, in the dock Explain: the few channels that speak most for or against a class in the tile that is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image as Picture
from qtpy.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from napari_dala.plugin.parts.fold import Fold
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.parts.pixmaps import pixmap_row
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.plugin.warm_child import warm_child
from napari_dala.results.reasons import TileReasons
from napari_dala.results.report.pictures import heat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qtpy.QtGui import QPixmap

    from napari_dala.results.analysis import Analysis
    from napari_dala.results.reasons import ChannelReason

_SIDE = 72  # px, a channel's small map
_TITLE = "Why: the strongest channels"
_ASKING = "Asking the model … An analysis that runs is finished first."
_ABOUT = (
    "A channel is one of the patterns that the network looks for; it has no name, and what it answers to is for you to "
    "judge. The map shows about where it answers in this tile, as far as that is stored; its brightest place is its "
    "own strongest. The gate is one number for the whole tile: by how much the attention raises the channel here, not "
    "where the model looks. The contribution is what the channel adds to the score (logit) of the class, or takes from "
    "it, to first order; the few shown are a part of it, and none is a cause by itself."
)


class WhyPanel(Fold):
    """Folded at first; once open, it asks the warm child about the tile that it was given last."""

    def __init__(self) -> None:
        self.said, self.problem, about = PlainLabel(), Note("error"), PlainLabel(_ABOUT)
        for label in (self.said, about):
            label.setWordWrap(True)
        self.rows = QGridLayout()
        self.rows.setColumnStretch(1, 1)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.said, self.problem):
            layout.addWidget(part)
        layout.addLayout(self.rows)
        layout.addWidget(about)
        super().__init__(_TITLE, content)
        self._asked: dict[str, Any] | None = None
        self._class_name = ""
        self._pixels: NDArray[np.uint8] | None = None
        self._sent: dict[str, Any] | None = None  # what was asked last, answered or not
        self._request: int | None = None
        self.reasons: TileReasons | None = None
        """What is shown."""
        warm_child().told.connect(self._on_told)
        self.button.toggled.connect(self._open_anew)

    def look_at(
        self, analysis: Analysis, tile: tuple[int, int] | None, class_index: int, pixels: NDArray[np.uint8] | None
    ) -> None:
        """Take a tile, row and column, and the class to explain; None for none. Its pixels lie below the maps."""
        store = analysis.store
        self._class_name, self._pixels = analysis.card.class_names[class_index], pixels
        self._asked = (
            None
            if tile is None
            else {
                "store": str(store.path),
                "bundle_hash": store.bundle_hash,
                "setting": store.setting.key,
                "tile": list(tile),
                "class_index": class_index,
            }
        )
        self.setVisible(tile is not None)
        self._ask()

    def _open_anew(self, is_open: bool) -> None:
        self._sent = None
        self._ask()

    def _ask(self) -> None:
        if self._asked is None or not self.button.isChecked() or self._asked == self._sent:
            return
        self._list(None)
        self.problem.say("")
        self.said.setText(_ASKING)
        self._sent = self._asked
        self._request = warm_child().request("why", **self._asked)

    def _on_told(self, request: int, event: str, payload: dict[str, Any]) -> None:
        if self._request is None:
            return
        if request == self._request and event == "result":
            self._request = None
            self._list(TileReasons.from_json(payload))
        elif request == self._request and event == "error":
            self._fail(payload["message"])
        elif (request, event) == (0, "died"):
            self._fail(f"The process that answers has ended: {payload['reason']}")

    def _fail(self, problem: str) -> None:
        self._request = None
        self.said.setText("")
        self.problem.say(problem)

    def _list(self, reasons: TileReasons | None) -> None:
        self.reasons = reasons
        while self.rows.count():
            self.rows.takeAt(0).widget().deleteLater()  # type: ignore[union-attr]
        if reasons is None:
            return
        share = sum(one.share for one in reasons.channels)
        self.said.setText(
            f"{self._class_name}: logit {reasons.logit:+.2f}. These {len(reasons.channels)} of {reasons.of} channels "
            f"are {share:.0%} of all that channels add or take."
        )
        for row, one in enumerate(reasons.channels):
            picture = PlainLabel()
            text = PlainLabel(_words(one, self._class_name))
            text.setWordWrap(True)
            if one.activity and self._pixels is not None:
                picture.setPixmap(_small_map(one, self._pixels))
            self.rows.addWidget(picture, row, 0)
            self.rows.addWidget(text, row, 1)


def _words(one: ChannelReason, class_name: str) -> str:
    side = "for" if one.contribution >= 0 else "against"
    return (
        f"Channel {one.channel}: {one.contribution:+.3f}, speaks {side} {class_name}, {one.share:.1%} of all; "
        f"gate × {one.gain:.2f}"
    )


def _small_map(one: ChannelReason, pixels: NDArray[np.uint8]) -> QPixmap:
    tile = Picture.fromarray(pixels).resize((_SIDE, _SIDE), Picture.Resampling.LANCZOS)
    return pixmap_row(heat(tile, one.shown))
