"""The dock "Explain": which tissue the model looked at, and what it says of one tile."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, get_args
from weakref import WeakMethod

from PIL import Image as Picture
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_dala.errors import SlideError
from napari_dala.model.islands import outlines
from napari_dala.model.threshold import FAINTEST, DynamicThreshold, Method, Scope
from napari_dala.plugin.parts.dock import Dock
from napari_dala.plugin.parts.legend import Legend
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.parts.pixmaps import pixmap_row
from napari_dala.plugin.parts.scrolling import scrolling_layout
from napari_dala.plugin.viewer.cam_picture import CamView
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.plugin.viewer.tile_mark import TileMark
from napari_dala.plugin.warm_child import warm_child
from napari_dala.plugin.why import WhyPanel
from napari_dala.results.report.pictures import cut_of, heat
from napari_dala.slide.tiles import read_tiles
from napari_dala.words import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import napari
    import numpy as np
    from napari.utils.events import Event
    from numpy.typing import NDArray

    from napari_dala.plugin.viewer.result_layers import ResultLayers

_SIDE = 150  # px, each of the two small pictures
_METHODS = {
    "otsu": "Otsu (from the histogram)",
    "mean_std": "Mean + standard deviation",
    "percentile": "Percentile 80",
    "max_fraction": "Half of the maximum",
}
_SHOWN = ("Only the probability", "What stands out (DT)", "The whole map (raw)")
_ONLY_PROBABILITY, _DT, _RAW = range(3)
_STILL = 4  # px that a hand may move in a click
_SCOPES = {"slide": "Whole slide together", "tile": "Each tile by itself"}
_CLICK_HINT = "Click the tissue to see what the model says of that tile."
_NOTHING_KEPT = "Nothing in this tile stands out, so there is no map of it."
_NOTHING = "Nothing to explain yet: analyse the slide first (Analyze slide)."


class ExplainWidget(Dock):
    """Chooses what the Grad-CAM layer shows, without running the model, and explains the tile that is clicked.

    Parameters
    ----------
    viewer
        Where the slide is.
    """

    title = "Explain"

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        warm_child().hold(self)
        self._tile: tuple[int, int] | None = None
        self._pixels: NDArray[np.uint8] | None = None
        self._results: ResultLayers | None = None
        self.class_box, self.show_box, self.method_box, self.scope_box = (QComboBox() for _ in range(4))
        self.show_box.addItems(_SHOWN)
        for method in get_args(Method):
            self.method_box.addItem(_METHODS[method], method)
        for scope in get_args(Scope):
            self.scope_box.addItem(_SCOPES[scope], scope)
        self.strength = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.strength.setDecimals(2)
        self.strength.setToolTip("Factor on the threshold T: more keeps less. At the right end the last is left.")
        self.min_area = QDoubleSpinBox()
        self.min_area.setRange(0, 1e6)
        self.min_area.setDecimals(0)
        self.min_area.setSingleStep(256)
        self.min_area.setSuffix(" µm²")
        self.min_area.setToolTip("Smaller islands are dropped")
        self.nothing = Note("offer")
        self.cut, self.picture, self.probabilities = PlainLabel(), QLabel(), QLabel()
        self.problem = Note("error")
        self.legend = Legend()
        self.why = WhyPanel()
        self._mark = TileMark(self._session, "Explained tile", "cyan")
        self._arrange()
        self.show_box.currentIndexChanged.connect(self._show_map)
        for box in (self.class_box, self.method_box, self.scope_box):
            box.currentIndexChanged.connect(self._explain)
        for slider in (self.strength, self.min_area):
            slider.valueChanged.connect(self._explain)
        self._session.results_changed.connect(self.refresh)
        self._session.slides_changed.connect(self.refresh)
        self._session.viewer.mouse_drag_callbacks.append(_on_click(WeakMethod(self.explain_at)))
        self.refresh()

    def _arrange(self) -> None:
        for box in (self.class_box, self.show_box, self.method_box, self.scope_box):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.cut.setWordWrap(True)
        self.probabilities.setWordWrap(True)
        self.probabilities.setTextFormat(Qt.TextFormat.RichText)
        self.controls, form = QWidget(), QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Class", self.class_box)
        form.addRow("Show", self.show_box)
        form.addRow("Threshold", self.method_box)
        form.addRow("Scale", self.scope_box)
        form.addRow("Strength", self.strength)
        form.addRow("Least area", self.min_area)
        column = QVBoxLayout(self.controls)  # a form squeezes what comes below a line that wraps
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        for one in (self.cut, self.legend, self.picture, self.probabilities):
            column.addWidget(one)
        layout = scrolling_layout(self)
        layout.addWidget(self.nothing)
        layout.addWidget(self.controls)
        layout.addWidget(self.why)
        layout.addWidget(self.problem)
        layout.addStretch()

    @property
    def explanation(self) -> CamView:
        """What the controls say."""
        rule = DynamicThreshold(
            self.method_box.currentData(), self.scope_box.currentData(), self.strength.value(), self.min_area.value()
        )
        return CamView(self.class_box.currentIndex(), self.show_box.currentIndex() != _RAW, rule)

    def refresh(self, event: object = None) -> None:
        """Show the current slide's results."""
        results = self._session.results
        if results is not self._results:
            for old, act in ((self._results, "disconnect"), (results, "connect")):
                if old is not None:
                    getattr(old.cam.events.visible, act)(self.refresh)
            self._results, self._tile = results, None
            self._mark.hide()
            self.problem.say("")
            self._show_controls()
        self.nothing.say(_NOTHING if results is None else "")
        self.controls.setVisible(results is not None)
        if results is None:
            self.why.hide()
            return
        shown, name = results.explanation, results.analysis.card.class_names[results.explanation.class_index]
        with signals_blocked(self.show_box):
            self.show_box.setCurrentIndex(_shown_of(results))
        self._limit_strength(results)
        if not results.cam.visible:
            self.cut.setText(f"The slide shows how probable {name} is. Choose a map to see which tissue speaks for it.")
            self.legend.show_layer(results.probability, f"Probability of {name}", ("0", "1"))
        else:
            cut = f"DT Grad-CAM: {cut_of(results.thresholded, shown.rule.strength)} of the analysed tissue"
            self.cut.setText(cut if shown.thresholded else "Grad-CAM: the whole map")
            low, lowest = ("just kept", FAINTEST) if shown.thresholded else ("none", 0.0)
            self.legend.show_layer(results.cam, f"Evidence for {name}", (low, "strongest"), lowest=lowest)
        self._show_tile()

    def explain_at(self, world: tuple[float, ...]) -> None:
        """Explain the analysed tile at a world position, if there is one."""
        tile = None if self._results is None else self._results.tile_at(world)
        slide = self._session.open_slide()
        if tile is None or slide is None or self._results is None:
            return
        self._tile, self._pixels = tile, None
        grid = self._results.analysis.grid
        self._mark.show(self._results.slide_layer, grid.middle(*tile), grid.tile_size)
        self.problem.say("")
        try:
            self._pixels = read_tiles(slide, grid, *tile, 1, 1)
        except SlideError as error:
            self.problem.say(str(error))
        self._show_tile()

    def _explain(self) -> None:
        if self.show_box.currentIndex() == _ONLY_PROBABILITY:
            with signals_blocked(self.show_box):
                self.show_box.setCurrentIndex(_DT)
        self._session.explain(self.explanation)

    def _show_map(self, chosen: int) -> None:
        if chosen != _ONLY_PROBABILITY:
            self._session.explain(self.explanation)
        elif self._results is not None:
            self._results.cam.visible = False

    def _limit_strength(self, results: ResultLayers) -> None:
        """Let the slider end where the last is left."""
        with signals_blocked(self.strength):
            self.strength.setEnabled(results.most_strength > 0)
            self.strength.setRange(0, results.most_strength or 1)
        if results.cam.visible and self.strength.value() < results.explanation.rule.strength:
            self._session.explain(self.explanation)

    def _show_controls(self) -> None:
        """Set the controls to what the results show."""
        if self._results is None:
            return
        shown, card = self._results.explanation, self._results.analysis.card
        boxes = (self.class_box, self.show_box, self.method_box, self.scope_box, self.strength, self.min_area)
        for box in boxes:
            box.blockSignals(True)
        self.class_box.clear()
        self.class_box.addItems([f"{name}{'' if card.trained else ' (untrained)'}" for name in card.class_names])
        self.class_box.setCurrentIndex(shown.class_index)
        self.show_box.setCurrentIndex(_shown_of(self._results))
        self.method_box.setCurrentIndex(self.method_box.findData(shown.rule.method))
        self.scope_box.setCurrentIndex(self.scope_box.findData(shown.rule.scope))
        self.strength.setRange(0, self._results.most_strength or 1)
        self.strength.setValue(shown.rule.strength)
        self.min_area.setValue(shown.rule.min_area_um2)
        for box in boxes:
            box.blockSignals(False)

    def _show_tile(self) -> None:
        """Show the clicked tile beside its map, and its probabilities."""
        results = self._results
        self.picture.setVisible(self._tile is not None and self._pixels is not None)
        if results is not None:
            self.why.look_at(results.analysis, self._tile, results.explanation.class_index, self._pixels)
        if results is None or self._tile is None:
            self.probabilities.setText(_CLICK_HINT)
            return
        analysis, (row, column) = results.analysis, self._tile
        card = analysis.card
        cam = results.tile_cam(row, column)
        lines = [] if cam.any() else [_NOTHING_KEPT]
        if self._pixels is not None:
            tile = Picture.fromarray(self._pixels).resize((_SIDE, _SIDE), Picture.Resampling.LANCZOS)
            kept = outlines(cam > 0) if results.explanation.thresholded else ()
            self.picture.setPixmap(pixmap_row(tile, *([heat(tile, cam, kept)] if cam.any() else [])))
        x, y = analysis.grid.middle(row, column)
        lines += [
            f"<b>{escape(entry.name)} {value:.1%}</b>"
            if index == results.class_at(row, column)
            else f"{escape(entry.name)} {value:.1%}"
            for index, (entry, value) in enumerate(zip(card.classes, analysis.probability[:, row, column], strict=True))
        ]
        lines.append(
            f"Tile in row {row + 1}, column {column + 1}; centre {x * analysis.mpp[0] / 1000:.2f}, "
            f"{y * analysis.mpp[1] / 1000:.2f} mm ({x:.0f}, {y:.0f} px)"
        )
        if analysis.unfamiliar[row, column]:
            lines.append("Not judged: it is unlike what the model was trained on")
        if analysis.approximate[row, column]:
            lines.append("Its Grad-CAM is approximate until the model has run on it again")
        if card.warning:
            lines.append(sentence(card.warning))
        self.probabilities.setText("<br>".join(lines))


def _shown_of(results: ResultLayers) -> int:
    """Return which of `_SHOWN` lies over the slide."""
    if not results.cam.visible:
        return _ONLY_PROBABILITY
    return _DT if results.explanation.thresholded else _RAW


def _on_click(explain: WeakMethod[Callable[[tuple[float, ...]], None]]) -> Callable[..., Iterator[None]]:
    """Return a mouse callback that tells a click from a drag, and leaves clicks that draw to their layer."""

    def callback(viewer: napari.components.ViewerModel, event: Event) -> Iterator[None]:
        active = viewer.layers.selection.active
        drawing = active is not None and active.mode != "pan_zoom"
        pressed = event.pos
        yield
        while event.type == "mouse_move":
            yield
        method = explain()
        if method is not None and event.button == 1 and not drawing and math.dist(event.pos, pressed) <= _STILL:
            method(tuple(event.position))

    return callback
