"""Which slides a model is to learn from: one choice, whichever dock shows it."""

from __future__ import annotations

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]


class Ticks(QObject):
    """The ticked slides of a session, by fingerprint; the slide in hand is ticked until the user says otherwise."""

    changed = Signal()
    """Other slides are ticked than before."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._said: dict[str, bool] = {}
        self._in_hand: str | None = None

    def __contains__(self, fingerprint: str) -> bool:
        """Return whether a slide is ticked."""
        return self._said.get(fingerprint, fingerprint == self._in_hand)

    def tick(self, fingerprint: str, wanted: bool) -> None:
        """Take what the user says of a slide."""
        if (fingerprint in self) != wanted:
            self._said[fingerprint] = wanted
            self.changed.emit()

    def take_in_hand(self, fingerprint: str | None) -> None:
        """Note which slide is in hand."""
        if fingerprint != self._in_hand:
            self._in_hand = fingerprint
            self.changed.emit()
