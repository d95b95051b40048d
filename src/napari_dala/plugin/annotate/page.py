"""What is drawn on one slide: its document with undo and redo, read from the workspace, and the layer that shows it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.annotations.adoption import adopt_old_folder
from napari_dala.annotations.document import AnnotationDocument
from napari_dala.annotations.files import annotations_path, load_for
from napari_dala.annotations.slides import remember_slide
from napari_dala.errors import DalaError
from napari_dala.plugin.annotate.history import History
from napari_dala.plugin.annotate.layer import AnnotationLayer, make_shapes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Image, Shapes

    from napari_dala.annotations.document import AnnotationClass
    from napari_dala.slide import Slide


class Page(QObject):
    """The annotations of one slide.

    Parameters
    ----------
    slide
        Whose they are.
    slide_layer
        Shows the slide.

    Attributes
    ----------
    slide, slide_layer
        As given; another layer of the slide may take the place of one that goes.
    view
        The layer to draw on, or None.
    problem
        Why what was drawn before cannot be read, one line, or None.
    is_new
        True until something is drawn on a slide on which nothing was.
    """

    changed = Signal()
    """There is another document."""
    edited = Signal()
    """The user made it, so that it wants saving."""
    ignored = Signal()
    """What the mouse drew was too small to be meant, and is gone."""
    shown = Signal()
    """There is a layer where there was none."""

    def __init__(self, slide: Slide, slide_layer: Image) -> None:
        super().__init__()
        self.slide, self.slide_layer = slide, slide_layer
        self.view: AnnotationLayer | None = None
        self.problem: str | None = None
        self.is_new = False
        self._history: History | None = None
        self._classes: tuple[AnnotationClass, ...] = ()
        self._show_timer = QTimer(self)
        self._show_timer.setSingleShot(True)
        self._show_timer.timeout.connect(self._show)

    @property
    def document(self) -> AnnotationDocument | None:
        """What is drawn; None while it is being read, or where it cannot be."""
        return self._history.now if self._history else None

    @property
    def can_undo(self) -> bool:
        """True where there is a step to take back."""
        return self._history is not None and self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """True where a step was taken back."""
        return self._history is not None and self._history.can_redo

    def read(self, folder: Path, classes: tuple[AnnotationClass, ...]) -> None:
        """Begin with what the workspace `folder` has, read in a thread, or with nothing drawn and these classes."""
        self._classes = classes
        if annotations_path(self.slide.fingerprint, folder).exists():
            create_worker(_read, self.slide, folder, _connect={"returned": self._on_read, "errored": self._on_not_read})
        else:
            self.begin_new(classes)

    def begin_new(self, classes: tuple[AnnotationClass, ...]) -> None:
        """Begin with nothing drawn."""
        self.is_new = True
        self._begin(AnnotationDocument(self.slide.fingerprint, classes))

    def edit(self, document: AnnotationDocument) -> None:
        """Put a changed document in place of the present one, as a step that can be undone."""
        if self._history is not None and document is not self._history.now:
            self._add(document)
            self._show()

    def undo(self) -> None:
        """Take the last step back; the shape that is being drawn is dropped instead."""
        self._travel(History.undo)

    def redo(self) -> None:
        """Take the last step that was taken back again."""
        self._travel(History.redo)

    def draw_on(self, shapes: Shapes | None = None) -> AnnotationLayer:
        """Return the layer to draw on; where there is none yet it is made, of `shapes` if they are made already."""
        assert self._history is not None
        if self.view is None:
            shapes = make_shapes(self._history.now) if shapes is None else shapes
            self.view = AnnotationLayer(shapes, self.slide_layer, self._history.now)
            self.view.edited.connect(self._on_edited)
            self.view.ignored.connect(self.ignored)
            self.shown.emit()
        return self.view

    def lay_on(self, slide_layer: Image) -> None:
        """Follow another layer of the slide."""
        self.slide_layer = slide_layer
        if self.view is not None:
            self.view.lay_on(slide_layer)

    def _begin(self, document: AnnotationDocument) -> None:
        self._history, self.problem = History(document), None
        self.changed.emit()

    def _on_read(self, found: tuple[AnnotationDocument, Shapes]) -> None:
        document, shapes = found
        self._begin(document if document.classes else replace(document, classes=self._classes))
        if document.annotations:
            self.draw_on(shapes)

    def _on_not_read(self, error: Exception) -> None:
        self.problem = str(error)
        self.changed.emit()

    def _add(self, document: AnnotationDocument) -> None:
        assert self._history is not None
        self._history.add(document)
        self._tell()

    def _tell(self) -> None:
        self.is_new = False
        self.edited.emit()
        self.changed.emit()

    def _travel(self, step: Callable[[History], None]) -> None:
        if self._history is None:
            return
        before = self._history.now
        if self.view is not None and self.view.finish() and self._history.now is before:
            return
        step(self._history)
        if self._history.now is not before:
            self._tell()
            self._show()

    def _on_edited(self) -> None:
        if self._history is None or self.view is None:
            return
        document = self.view.merged_into(self._history.now)
        if document is not self._history.now:
            self._add(document)
        self._show_timer.start(0)  # napari is in the midst of its own change

    def _show(self) -> None:
        if self._history is None:
            return
        if self.view is not None:
            self.view.show(self._history.now)
        elif self._history.now.annotations:  # imported before anything was drawn
            self.draw_on()


def _read(slide: Slide, folder: Path) -> tuple[AnnotationDocument, Shapes]:
    """Read what was drawn on a slide before, and remember where the slide lies now."""
    adopt_old_folder(slide, folder)
    document = load_for(slide.fingerprint, folder) or AnnotationDocument(slide.fingerprint)
    with suppress(DalaError):  # where the workspace cannot be written, what is in it can be looked at all the same
        remember_slide(slide, folder)
    return document, make_shapes(document)
