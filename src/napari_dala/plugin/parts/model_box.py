"""The list of models to choose from, in every dock that needs one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QDialog, QHBoxLayout, QPushButton, QTextBrowser, QToolButton, QVBoxLayout
from superqt.utils import signals_blocked

from napari_dala.model.card_page import card_page, card_table
from napari_dala.model.catalog import list_models
from napari_dala.plugin.parts.fold import Fold
from napari_dala.plugin.parts.models_dialog import ModelsDialog
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.plain_text import plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QWidget

    from napari_dala.model.card import ModelCard
    from napari_dala.model.catalog import ModelEntry

_CARD_SIZE = 720, 640  # px


class ModelBox(QComboBox):
    """The built-in models and those of the workspace; a long name does not widen the dock."""

    models_changed = Signal(str)
    """A model was imported, renamed or removed: the name of the one to go on with, or empty."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.entries: list[ModelEntry] = []
        self._in_use: Sequence[str] = ()
        self.read()

    @property
    def entry(self) -> ModelEntry | None:
        """The chosen model."""
        row = self.currentIndex()
        return self.entries[row] if 0 <= row < len(self.entries) else None

    def read(self, choose: str = "", in_use: Sequence[str] = ()) -> None:
        """List the models anew, silently; the choice stays, unless another is to be chosen.

        `in_use`: names or files of the models that an analysis in this window works with.
        """
        self._in_use = in_use
        chosen = choose or self.currentText()
        self.entries = list_models(load_preferences().workspace)
        with signals_blocked(self):
            self.clear()
            self.addItems([entry.name for entry in self.entries])
            for row, entry in enumerate(self.entries):
                warning = (entry.card.warning if entry.card else entry.problem) or ""
                self.setItemData(row, plain_tip(warning), Qt.ItemDataRole.ToolTipRole)
            self.setCurrentIndex(max(0, self.findText(chosen)))

    def choose_card(self, name: str | None) -> None:
        """Choose the model that has this name, or whose card has it, where there is one."""
        rows = [row for row, entry in enumerate(self.entries) if entry.name == name]
        rows += [row for row, entry in enumerate(self.entries) if entry.card and entry.card.name == name]
        self.setCurrentIndex(rows[0] if rows else self.currentIndex())

    def maker_of(self, bundle_hash: str, card: ModelCard) -> ModelEntry | None:
        """Return the model that made results, the chosen one before others; None where it is not in the list."""
        chosen = [] if self.entry is None else [self.entry]
        return next((entry for entry in (*chosen, *self.entries) if entry.made(bundle_hash, card)), None)

    def choose(self, entry: ModelEntry) -> None:
        """Choose one of the models silently."""
        with signals_blocked(self):
            self.setCurrentIndex(self.entries.index(entry))

    def with_card(self, models: bool = True) -> QHBoxLayout:
        """Return a row of this list, a button that shows the chosen model's card and, if so, one for all models."""
        button = QToolButton()
        button.setText("Card…")
        button.setToolTip("What the model was trained on, how well it does on patients it never saw, its limits")
        button.clicked.connect(self._show_card)
        row = QHBoxLayout()
        row.addWidget(self, stretch=1)
        row.addWidget(button)
        if models:
            all_models = QToolButton()
            all_models.setText("Models…")
            all_models.setToolTip("Import and export models, rename and remove your own, and see how good they are")
            all_models.clicked.connect(self._show_models)
            row.addWidget(all_models)
        return row

    def _show_models(self) -> None:
        dialog = ModelsDialog(self, self.currentText(), self._in_use)
        dialog.changed.connect(self.models_changed)
        dialog.show()

    def _show_card(self) -> None:
        if self.entry and self.entry.card:
            CardDialog(self.entry.card, self).show()


class CardDialog(QDialog):
    """A window with a model's card as a page to read, and all of it behind a fold; gone when it is closed.

    Parameters
    ----------
    card
        What it shows.
    parent
        The widget it belongs to.
    """

    def __init__(self, card: ModelCard, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Model card: {card.name}")
        self.text, raw = QTextBrowser(), QTextBrowser()
        for browser, html in ((self.text, card_page(card)), (raw, card_table(card))):
            browser.setOpenLinks(False)
            browser.setHtml(html)
        self.raw = Fold("The whole card, as it is stored", raw)
        self.close_button = QPushButton("Close")
        self.close_button.clicked.connect(self.close)
        buttons = QHBoxLayout()
        buttons.addStretch()
        buttons.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text, 1)
        layout.addWidget(self.raw)
        layout.addLayout(buttons)
        self.resize(*_CARD_SIZE)
