"""Which list of tiles is looked through, and which other model it compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget
from superqt.utils import signals_blocked

from napari_dala.model.catalog import list_models
from napari_dala.plugin.preferences import load_preferences
from napari_dala.results.by_model import results_in
from napari_dala.results.tile_lists import ListKind, TileList, lists_of

if TYPE_CHECKING:
    from napari_dala.results.analysis import Analysis
    from napari_dala.results.by_model import ModelResults


class ListChoice(QWidget):
    """Two boxes; that of the other model is there only where it is asked about."""

    chosen = Signal()
    """Another list, or another model to compare with."""

    def __init__(self) -> None:
        super().__init__()
        self.list_box, self.other_box = QComboBox(), QComboBox()
        self._lists: list[TileList] = []
        self._others: list[ModelResults] = []
        self._analysis: Analysis | None = None
        for box in (self.list_box, self.other_box):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.addRow("List", self.list_box)
        self._form.addRow("Other model", self.other_box)
        self._form.setRowVisible(self.other_box, False)
        self.list_box.currentIndexChanged.connect(self._on_list)
        self.other_box.currentIndexChanged.connect(self.chosen)

    @property
    def wanted(self) -> TileList | None:
        """The list that is chosen; None while there are no results."""
        at = self.list_box.currentIndex()
        return self._lists[at] if at >= 0 else None

    @property
    def other(self) -> ModelResults | None:
        """The other model's results where the list compares with one that has some."""
        at = self.other_box.currentIndex()
        return self._others[at] if self.compares and at >= 0 else None

    @property
    def compares(self) -> bool:
        """True where the list compares with another model."""
        return self.wanted is not None and self.wanted.kind is ListKind.DISAGREED

    def offer(self, analysis: Analysis) -> None:
        """Offer the lists that results have; the one that was chosen stays."""
        before, self._analysis = self.wanted, analysis
        self._lists = lists_of(analysis)
        with signals_blocked(self.list_box):
            self.list_box.clear()
            self.list_box.addItems([one.title for one in self._lists])
            self.list_box.setCurrentIndex(self._lists.index(before) if before in self._lists else 0)
        self._on_list()

    def _on_list(self) -> None:
        """Offer the other models where they are asked about."""
        self._form.setRowVisible(self.other_box, self.compares)
        if self._analysis is not None and self.compares:
            store = self._analysis.store
            mine = (store.bundle_hash, store.setting.key)
            models = list_models(load_preferences().workspace)
            found = results_in(store.path, store.setting.profile_id, models)
            self._others = [one for one in found if (one.bundle_hash, one.setting) != mine]
            with signals_blocked(self.other_box):
                self.other_box.clear()
                self.other_box.addItems([one.card.name for one in self._others])
        self.chosen.emit()
