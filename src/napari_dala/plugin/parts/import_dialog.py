"""What is asked before a model's file is imported; the warm child imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_dala.errors import BundleError, DalaError
from napari_dala.model.card import TILE_PX_LIMITS
from napari_dala.model.catalog import check_new_name, free_name
from napari_dala.model.importing.file_kind import is_bundle
from napari_dala.model.importing.presets import PRESETS, USUAL_MPP, preset_of
from napari_dala.model.importing.request import ImportRequest
from napari_dala.model.trunks.names import NAMED
from napari_dala.plugin.parts.notes import Note
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.plain_text import PlainLabel
from napari_dala.plugin.warm_child import warm_child
from napari_dala.validation import MPP_LIMITS, checked

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH = 520  # px
_USUAL_PX = 224
_BUNDLE = "A model of this program, with a card of its own."
_WEIGHTS = (
    "Weights without a card. If they are a trunk alone, the model must learn first; it does so on tiles of these "
    "classes at this resolution."
)


class ImportDialog(QDialog):
    """Name, classes, resolution and normalisation of a file's weights; of a bundle only the name. Gone when closed.

    Parameters
    ----------
    parent
        The widget it belongs to.
    file
        What to import.
    name
        Of the new model, at first.

    Raises
    ------
    BundleError
        If the file is neither a bundle nor a file of weights; one line that says what it is.
    """

    imported = Signal(str)
    """The model is installed under this name."""

    def __init__(self, parent: QWidget, file: Path, name: str) -> None:
        self._is_bundle = is_bundle(file)  # first: no half a window where it is neither
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Import {file.name}")
        self._file, self._request = file, -1
        self._workspace = load_preferences().workspace
        self.name = QLineEdit(free_name(name, self._workspace))
        self.classes, self.mpp, self.preset, self.prefix, self.trunk = (
            QLineEdit("benign, malignant"),
            _mpp_box(),
            QComboBox(),
            QLineEdit(),
            QComboBox(),
        )
        self.tile_px = QSpinBox()
        self.tile_px.setRange(*TILE_PX_LIMITS)
        self.tile_px.setValue(_USUAL_PX)
        self.tile_px.setSuffix(" px")
        self.trunk.addItems([*NAMED])
        self.trunk.setEditable(True)
        self.trunk.setToolTip("What the weights are of; any network of timm's is written timm/NAME")
        self.trunk.currentTextChanged.connect(self._propose_preset)
        self.preset.addItems([*PRESETS])
        self.preset.setToolTip("How pixels are normalised: as for ImageNet, or as the makers of the weights say")
        self.prefix.setPlaceholderText("only where the file holds several networks")
        self._propose_preset()
        self.about, self.doing, self.error = (
            PlainLabel(_BUNDLE if self._is_bundle else _WEIGHTS),
            Note("offer"),
            Note("error"),
        )
        self.about.setWordWrap(True)
        self.import_button, self.cancel_button = QPushButton("Import"), QPushButton("Cancel")
        form, layout, buttons = QFormLayout(), QVBoxLayout(self), QHBoxLayout()
        buttons.addStretch()
        for button in (self.import_button, self.cancel_button):
            buttons.addWidget(button)
        form.addRow("Name", self.name)
        if not self._is_bundle:
            form.addRow("Network", self.trunk)
            form.addRow("Classes", self.classes)
            form.addRow("Tiles at", self.mpp)
            form.addRow("Tile side", self.tile_px)
            form.addRow("Normalised for", self.preset)
            form.addRow("Prefix", self.prefix)
        layout.addWidget(self.about)
        layout.addLayout(form)
        for widget in (self.doing, self.error):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        self.import_button.clicked.connect(self._import)
        self.cancel_button.clicked.connect(self.reject)
        self._child = warm_child()
        self._child.hold(self)
        self._child.told.connect(self._on_told)
        self.setMinimumWidth(_WIDTH)

    def _propose_preset(self) -> None:
        self.preset.setCurrentText(preset_of(self._file.name, self.trunk.currentText().strip()))

    def _import(self) -> None:
        name = self.name.text().strip()
        try:
            check_new_name(name, self._workspace)
            asked = {"bundle": str(self._file)} if self._is_bundle else {"weights": self._asked(name).as_json()}
        except DalaError as error:
            self.error.say(str(error))
            return
        self.error.say("")
        self.doing.say("Reading the file… It waits for an analysis that is running.")
        self.import_button.setEnabled(False)
        self._request = self._child.request("import_model", name=name, workspace=str(self._workspace), **asked)

    def reject(self) -> None:
        """Close; what is being imported comes into the lists all the same."""
        if self._request >= 0:
            self.hide()
        else:
            super().reject()

    def _asked(self, name: str) -> ImportRequest:
        return checked(
            ImportRequest,
            BundleError,
            file=self._file,
            name=name,
            classes=tuple(part.strip() for part in self.classes.text().split(",")),
            mpp=self.mpp.value(),
            tile_px=self.tile_px.value(),
            preset=self.preset.currentText(),
            prefix=self.prefix.text().strip() or None,
            trunk=self.trunk.currentText().strip(),
        )

    def _on_told(self, number: int, event: str, payload: dict[str, Any]) -> None:
        if number == self._request and event == "result":
            self.imported.emit(payload["name"])
            self.accept()
        elif self._request >= 0 and ((number == self._request and event == "error") or event == "died"):
            self._request = -1
            self.doing.say("")
            self.show()
            self.import_button.setEnabled(True)
            self.error.say(str(payload.get("message") or payload.get("reason")))


def _mpp_box() -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(*MPP_LIMITS)
    box.setDecimals(4)
    box.setSingleStep(0.05)
    box.setSuffix(" µm/px")
    box.setValue(USUAL_MPP)
    return box
