"""Drawing on the slide, in the dock: patient, classes, tools, undo and redo, import and export."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QButtonGroup,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import create_worker

from napari_dala.annotations.artefacts import BLUR, INK, artefact_regions
from napari_dala.annotations.files import read_annotations, write_annotations
from napari_dala.plugin.annotate.brush import BRUSH, ERASER, WAND
from napari_dala.plugin.annotate.class_list import ClassList
from napari_dala.plugin.annotate.drawing import CORNERS, ELLIPSE, LASSO, MOVE, POLYGON, RECTANGLE, SELECT
from napari_dala.plugin.annotate.keys import SIZE_KEYS, TOOL_KEYS
from napari_dala.plugin.annotate.tool_icons import tool_icon
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.viewer.asked import TILE_KEY
from napari_dala.plugin.viewer.plain_text import PlainLabel

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.plugin.annotate.drawing import Drawing
    from napari_dala.plugin.viewer.session import Session

_SIZE_HINT = "[ and ] make it smaller and larger."
_TOOLS = {
    MOVE: ("Move view", "Drag the slide. With any other tool hold the space bar to do so."),
    BRUSH: ("Brush", f"Drag to paint. What it touches of its class becomes one region. Alt takes away. {_SIZE_HINT}"),
    ERASER: ("Eraser", f"Drag to take away from regions of the class; where none is, from any. {_SIZE_HINT}"),
    WAND: ("Wand", f"Drag over tissue: it takes what looks alike within the circle. Alt takes away. {_SIZE_HINT}"),
    POLYGON: ("Polygon", "Click corner after corner. Backspace takes the last one back; a double click ends."),
    RECTANGLE: ("Rectangle", "Drag from corner to corner."),
    ELLIPSE: ("Ellipse", "Drag from corner to corner of its box."),
    LASSO: ("Lasso", "Drag around the region."),
    SELECT: ("Select", "Click a region to select it, drag to move it. A digit key gives it a class."),
    CORNERS: ("Corners", "Drag the corners of a region."),
}
_TOO_SMALL = "Too small to be a region, so nothing was drawn: drag farther, or zoom in."
_COLUMNS = 5
_TOOL_STYLE = """
QToolButton { border-radius: 4px; padding: 3px; }
QToolButton:hover { background: rgba(128, 128, 128, 90); }
QToolButton:checked { background: #2a6fb5; color: white; }
"""
_FILTER = "GeoJSON (*.geojson *.json)"


class AnnotationPanel(QWidget):
    """Everything that draws; hidden controls say why where nothing can be drawn.

    Parameters
    ----------
    session
        Of the viewer.
    drawing
        Of the session.
    """

    def __init__(self, session: Session, drawing: Drawing) -> None:
        super().__init__()
        self._session, self._drawing = session, drawing
        self.nothing, self.problem, self.told = Note("offer"), Note("error"), Note("offer")
        self.aside_button = QPushButton("Set it aside and begin anew")
        self.failure, self.left_out = Note("error"), Note("warning")
        self.patient = QLineEdit()
        self.patient.setToolTip("Slides of one patient are never split between training and held-out figures")
        self.class_list = ClassList(drawing)
        self.tools = {tool: QToolButton() for tool in _TOOLS}
        self.undo_button, self.redo_button, self.delete_button = map(QPushButton, ("Undo", "Redo", "Delete"))
        self.fill_button = QPushButton("Fill holes")
        self.import_button, self.export_button = QPushButton("Import…"), QPushButton("Export…")
        self.artefacts_button = QPushButton("Outline ink and blur")
        self.artefacts_button.setToolTip("Draws them as regions to ignore, to be changed with the tools")
        self.keys = PlainLabel(
            "Digit keys choose the class, and give it to regions that are selected. "
            f"{TILE_KEY.upper()} labels the tile under the mouse."
        )
        self.hint = PlainLabel()
        for text in (self.keys, self.hint):
            text.setWordWrap(True)
        self.state = PlainLabel()
        self.controls = QWidget()
        self.counts_place = QVBoxLayout()
        self._arrange()
        self._connect()
        self._draw_icons()
        self.refresh()

    def _arrange(self) -> None:
        group, tools = QButtonGroup(self), QGridLayout()
        tools.setSpacing(3)
        for index, (tool, (title, hint)) in enumerate(_TOOLS.items()):
            button = self.tools[tool]
            button.setText(title)
            key = next((f" ({key})" for key, of in TOOL_KEYS.items() if of == tool), "")
            button.setToolTip(title + key + "\n" + hint)
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            button.setCheckable(True)
            button.setStyleSheet(_TOOL_STYLE)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            group.addButton(button)
            tools.addWidget(button, *divmod(index, _COLUMNS))
        steps, files, patient = QHBoxLayout(), QHBoxLayout(), QFormLayout()
        for push in (self.undo_button, self.redo_button, self.delete_button):
            steps.addWidget(push)
        areas = QHBoxLayout()
        areas.addWidget(self.fill_button)
        areas.addWidget(self.artefacts_button, 1)
        files.addWidget(self.state, 1)
        for push in (self.import_button, self.export_button):
            files.addWidget(push)
        patient.addRow("Patient", self.patient)
        drawing = QVBoxLayout(self.controls)
        drawing.setContentsMargins(0, 0, 0, 0)
        for part in (
            patient, self.class_list, self.keys, tools, self.hint, steps, areas, files,
            self.counts_place,
        ):  # fmt: skip
            drawing.addWidget(part) if isinstance(part, QWidget) else drawing.addLayout(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.nothing,
            self.problem,
            self.aside_button,
            self.controls,
            self.left_out,
            self.failure,
            self.told,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        drawing = self._drawing
        for tool, button in self.tools.items():
            button.clicked.connect(partial(drawing.choose_tool, tool))
        self.undo_button.clicked.connect(drawing.undo)
        self.redo_button.clicked.connect(drawing.redo)
        self.delete_button.clicked.connect(drawing.delete_selected)
        self.delete_button.setToolTip("Delete the selected regions (Delete key)")
        self.fill_button.clicked.connect(drawing.painter.fill_holes)
        self.fill_button.setToolTip("Of the selected regions; with none selected, of all regions of the class")
        self.aside_button.clicked.connect(drawing.set_aside)
        self.patient.editingFinished.connect(self._set_patient)
        self.import_button.clicked.connect(self._choose_import)
        self.export_button.clicked.connect(self._choose_export)
        self.artefacts_button.clicked.connect(self.outline_artefacts)
        shortcuts: dict[Any, Callable[[], object]] = {
            QKeySequence.StandardKey.Undo: drawing.undo,
            QKeySequence.StandardKey.Redo: drawing.redo,
            **{key: partial(drawing.choose_tool, tool) for key, tool in TOOL_KEYS.items()},
            **{key: partial(drawing.painter.brush.resize, steps) for key, steps in SIZE_KEYS.items()},
        }
        for keys, call in shortcuts.items():
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(call)
        self._session.viewer.events.theme.connect(self._draw_icons)
        drawing.changed.connect(self._on_changed)
        drawing.ignored.connect(partial(self._tell, _TOO_SMALL))
        drawing.painter.told.connect(self._tell)
        self._session.slides_changed.connect(self.refresh)
        drawing.saved.connect(self._on_saved)
        drawing.failed.connect(self.failure.say)
        drawing.tool_changed.connect(self._show_tool)

    def refresh(self) -> None:
        """Show what is drawn on the current slide."""
        drawing, document = self._drawing, self._drawing.document
        self.problem.say(drawing.problem or "")
        self.aside_button.setVisible(drawing.problem is not None)
        self.controls.setVisible(document is not None)
        self.left_out.say("\n".join(document.notes) if document else "")
        self.nothing.say("" if document or drawing.problem else self._why_nothing())
        self._show_tool(drawing.tool)
        if document is None:
            return
        self.undo_button.setEnabled(drawing.can_undo)
        self.redo_button.setEnabled(drawing.can_redo)
        self.export_button.setEnabled(bool(document.annotations))
        if not self.patient.hasFocus():
            self.patient.setText(document.patient or "")
        self.patient.setPlaceholderText(f"this slide ({document.fingerprint[:8]})")
        self._show_state()

    def _on_changed(self) -> None:
        """Show what is drawn now; what was told was about what was drawn before."""
        self._tell("")
        self.refresh()

    def import_from(self, path: Path) -> None:
        """Add what is in a GeoJSON file to what is drawn."""

        def tell(found: AnnotationDocument, document: AnnotationDocument) -> str:
            other = found.fingerprint and found.fingerprint != document.fingerprint
            ending = ", which were drawn on another slide." if other else "."
            return f"{len(found.annotations)} regions from {path.name}{ending}"

        self._add(partial(read_annotations, path), tell)

    def outline_artefacts(self) -> None:
        """Add ink, and what is out of focus, as regions to ignore."""
        slide = self._session.open_slide()
        if slide is None:
            return

        def tell(found: AnnotationDocument, document: AnnotationDocument) -> str:
            count = len(found.annotations)
            return (
                f"{count} region{'s'[: count != 1]} of ink or blur, to ignore."
                if count
                else "No ink and no blur found."
            )

        self._add(partial(artefact_regions, slide), tell, instead_of=(INK.name, BLUR.name))

    def _add(
        self,
        find: Callable[[], AnnotationDocument],
        tell: Callable[[AnnotationDocument, AnnotationDocument], str],
        instead_of: tuple[str, ...] = (),
    ) -> None:
        """Add regions that are found in a thread to what is drawn, if the slide is still the same then.

        They come in place of those that are drawn of the classes `instead_of`.
        """
        self._tell("")
        layer = self._session.layer

        def add(found: AnnotationDocument) -> None:
            document = self._drawing.document
            if document is not None and self._session.layer is layer:
                others = tuple(one for one in document.annotations if one.class_name not in instead_of)
                joined = replace(document, annotations=others).joined(found)
                if joined != document:
                    self._drawing.edit(joined)
                self._tell(tell(found, document))

        create_worker(find, _connect={"returned": add, "errored": self._on_error})

    def export_to(self, path: Path) -> None:
        """Write what is drawn as GeoJSON, classes and colours with it."""
        self._tell("")
        document = self._drawing.document
        if document is not None:
            text = f"{len(document.annotations)} regions written to {path.name}."
            create_worker(
                write_annotations,
                document,
                path,
                _connect={"returned": lambda _: self._tell(text), "errored": self._on_error},
            )

    def _draw_icons(self) -> None:
        red, green, blue = get_theme(self._session.viewer.theme).icon.as_rgb_tuple()
        for tool, button in self.tools.items():
            button.setIcon(tool_icon(tool, QColor(red, green, blue)))

    def _why_nothing(self) -> str:
        if self._session.open_slide() is None:
            return self._session.problem or "Open a slide to draw on it."
        return "Reading what was drawn on this slide…"

    def _choose_import(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Import regions", "", _FILTER)
        if name:
            self.import_from(Path(name))

    def _choose_export(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Export regions", "annotations.geojson", _FILTER)
        if name:
            self.export_to(Path(name))

    def _tell(self, text: str) -> None:
        self.failure.say("")
        self.told.say(text)

    def _on_error(self, error: Exception) -> None:
        self.failure.say(str(error))

    def _on_saved(self) -> None:
        self.failure.say("")
        self._show_state()

    def _set_patient(self) -> None:
        document = self._drawing.document
        patient = self.patient.text().strip() or None
        if document is not None and patient != document.patient:
            self._drawing.edit(replace(document, patient=patient))

    def _show_tool(self, tool: str) -> None:
        for name, button in self.tools.items():
            button.setChecked(name == tool)
        self.hint.setText(_TOOLS[tool][1] if tool in _TOOLS else "")

    def _show_state(self) -> None:
        document = self._drawing.document
        if document is not None:
            count = len(document.annotations)
            saved = "saved" if self._drawing.is_saved else "saving…"
            self.state.setText(f"{count} region{'' if count == 1 else 's'}" + (f" · {saved}" if count else ""))
