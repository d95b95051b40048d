"""Undo and redo: documents are immutable, so that every step is the document itself."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_dala.annotations.document import AnnotationDocument

STEPS = 200


class History:
    """A document and those that it was before.

    Parameters
    ----------
    document
        The first.

    Attributes
    ----------
    now
        The document as it is.
    """

    def __init__(self, document: AnnotationDocument) -> None:
        self.now = document
        self._past: deque[AnnotationDocument] = deque(maxlen=STEPS)
        self._future: list[AnnotationDocument] = []

    @property
    def can_undo(self) -> bool:
        """True where there is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """True where a step was taken back and nothing was changed since."""
        return bool(self._future)

    def add(self, document: AnnotationDocument) -> None:
        """Take a step; what was taken back before it is forgotten."""
        self._past.append(self.now)
        self._future.clear()
        self.now = document

    def undo(self) -> None:
        """Take the last step back, if there is one."""
        if self._past:
            self._future.append(self.now)
            self.now = self._past.pop()

    def redo(self) -> None:
        """Take the last step that was taken back again, if there is one."""
        if self._future:
            self._past.append(self.now)
            self.now = self._future.pop()
