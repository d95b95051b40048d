"""What is drawn on the current slide, and with what: the one door for docks to annotations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dala.annotations.document import AnnotationClass, class_of_digit
from napari_dala.annotations.files import set_aside
from napari_dala.errors import DalaError
from napari_dala.model.catalog import list_models
from napari_dala.plugin.annotate.autosave import Autosave
from napari_dala.plugin.annotate.brush import MODE, PAINTING
from napari_dala.plugin.annotate.keys import bind_keys
from napari_dala.plugin.annotate.page import Page
from napari_dala.plugin.annotate.painter import Painter
from napari_dala.plugin.preferences import load_preferences

if TYPE_CHECKING:
    from napari.layers import Image, Shapes

    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.slide import Slide

MOVE, SELECT, CORNERS = "pan_zoom", "select", "direct"
POLYGON, RECTANGLE, ELLIPSE, LASSO = "add_polygon", "add_rectangle", "add_ellipse", "add_polygon_lasso"
IGNORE = AnnotationClass("Ignore", (70, 70, 70), ignore=True)
_ZOOM_MS = 150


class Drawing(QObject):
    """The annotations of a viewer's current slide; get it from `drawing_of`.

    Parameters
    ----------
    session
        Of the viewer; held weakly.

    Attributes
    ----------
    painter
        What brush, wand and the tile key do to the document.
    """

    changed = Signal(object)
    """The document is another one: drawn on, undone, read, or of another slide. None while there is none."""
    saved = Signal()
    """Everything that was drawn is on disk."""
    failed = Signal(str)
    """What could not be saved, one line."""
    ignored = Signal()
    """What the mouse drew was too small to be meant, and is gone."""
    tool_changed = Signal(str)
    """The mouse does something else; see `tool`."""
    class_changed = Signal(object)
    """The name of the class to draw with now, or None."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = ref(session)
        self._pages: dict[str, Page] = {}
        self._page: Page | None = None
        self._class_name: str | None = None
        self._autosave = Autosave()
        self._autosave.saved.connect(self.saved)
        self._autosave.failed.connect(self.failed)
        self.painter = Painter(self)
        self._fit_timer = QTimer(self)
        self._fit_timer.setSingleShot(True)
        self._fit_timer.setInterval(_ZOOM_MS)
        self._fit_timer.timeout.connect(self._fit_lines)
        session.slides_changed.connect(self._follow)
        session.results_changed.connect(self._take_classes)
        session.viewer.scene.camera.events.zoom.connect(self._on_zoom)
        self._follow()

    @property
    def session(self) -> Session:
        """The viewer's session."""
        session = self._session()
        if session is None:
            raise RuntimeError("the viewer is closed")
        return session

    @property
    def document(self) -> AnnotationDocument | None:
        """What is drawn on the current slide; None without a slide, while it is read, or where it cannot be read."""
        return self._page.document if self._page else None

    @property
    def layer(self) -> Shapes | None:
        """The layer to draw on, or None where none was needed yet; its data are level-0 edge coordinates (y, x)."""
        return self._page.view.layer if self._page and self._page.view else None

    @property
    def problem(self) -> str | None:
        """Why the current slide's annotations cannot be read, one line, or None."""
        return self._page.problem if self._page else None

    @property
    def is_saved(self) -> bool:
        """False while something that was drawn is not on disk yet."""
        return not self._autosave.is_dirty

    @property
    def can_undo(self) -> bool:
        """True where there is a step to take back."""
        return self._page is not None and self._page.can_undo

    @property
    def can_redo(self) -> bool:
        """True where a step was taken back."""
        return self._page is not None and self._page.can_redo

    @property
    def class_name(self) -> str | None:
        """The class to draw with."""
        document = self.document
        if document is None or not document.classes:
            return None
        return self._class_name if document.class_named(self._class_name) else document.classes[0].name

    @property
    def tool(self) -> str:
        """What the mouse does: one of `PAINTING`, or as napari calls the layer's mode.

        `pan_zoom` while another layer is selected.
        """
        layer = self.layer
        if layer is None or self.session.viewer.layers.selection.active is not layer:
            return MOVE
        return self.painter.brush.tool if layer.mode == MODE else layer.mode

    @property
    def selected(self) -> set[str]:
        """Ids of the annotations that are selected."""
        return self._page.view.selected if self._page and self._page.view else set()

    # What the user does

    def edit(self, document: AnnotationDocument) -> None:
        """Put a changed document in place of the current one, as one step that can be undone."""
        if self._page is not None:
            self._page.edit(document)

    def undo(self) -> None:
        """Take the last step back; the shape that is being drawn is dropped instead."""
        if self._page is not None:
            self._page.undo()

    def redo(self) -> None:
        """Take the last step that was taken back again."""
        if self._page is not None:
            self._page.redo()

    def delete_selected(self) -> None:
        """Remove the selected shapes."""
        if self._page is not None and (view := self._page.view) is not None and not view.is_creating:
            view.layer.remove_selected()

    def choose_class(self, name: str) -> None:
        """Draw with this class from now on, and give it to what is selected."""
        document = self.document
        info = document.class_named(name) if document else None
        if document is None or info is None or self._page is None:
            return
        self._class_name = name
        if (view := self._page.view) is not None:
            view.draw_with(info, selected=True)
            self.edit(document.with_class(view.selected, name))
        self.class_changed.emit(name)

    def rename_class(self, old: str, new: str) -> None:
        """Rename a class in the list and on every annotation.

        Raises
        ------
        ValueError
            When there is a class of the new name.
        """
        document = self.document
        if document is not None and new != old:
            renamed = document.renamed(old, new)
            if self._class_name == old:
                self._class_name = new
            self.edit(renamed)

    def name_patient(self, fingerprint: str, patient: str) -> bool:
        """Say whom a slide is from; False where what is drawn on it is not in this window."""
        page = self._pages.get(fingerprint)
        if page is None or page.document is None:
            return False
        page.edit(replace(page.document, patient=patient or None))
        return True

    def choose_digit(self, digit: int) -> None:
        """Choose the class that a digit key stands for, if there is one."""
        document = self.document
        if document is not None and (info := class_of_digit(document.classes, digit)) is not None:
            self.choose_class(info.name)

    def choose_tool(self, tool: str) -> None:
        """Take a tool in hand: one of `PAINTING` or of the names above; the layer is made where there is none yet."""
        if self._page is None or self._page.document is None:
            return
        view = self._page.draw_on()
        view.finish()
        view.layer.visible = True
        self.session.viewer.layers.selection.active = view.layer
        if tool in PAINTING:
            self.painter.brush.tool, tool = tool, MODE
        view.layer.mode = tool
        self._on_mode()

    def take_back_point(self) -> None:
        """Take back the last corner of the polygon that is being drawn; where none is, remove what is selected."""
        if self._page is not None and (view := self._page.view) is not None and not view.take_back_point():
            self.delete_selected()

    def set_aside(self) -> None:
        """Rename an annotation file that cannot be read, and begin a new one."""
        page = self._page
        if page is None or page.problem is None:
            return
        try:
            set_aside(page.slide.fingerprint, load_preferences().workspace)
        except DalaError as error:
            self.failed.emit(str(error))
        else:
            page.begin_new(self._first_classes())

    def flush(self) -> None:
        """Save now what is not saved yet, and wait for it."""
        self._autosave.flush()

    # Slides that come and go

    def _follow(self) -> None:
        """Turn to the current slide's page, and drop those of slides that are gone."""
        session, before = self.session, self._page
        layers, slide, slide_layer = session.viewer.layers, session.open_slide(), session.layer
        self._page = None
        if slide is not None and slide_layer is not None:
            self._page = self._pages.get(slide.fingerprint) or self._open(slide, slide_layer)
            if self._page.slide_layer is not slide_layer:
                self._page.lay_on(slide_layer)
                self._claim(self._page)
            active = layers.selection.active
            if active is not None and session.owner_of(active) is slide_layer:
                bind_keys(active, self)
        for fingerprint, page in list(self._pages.items()):
            if page.view is not None and page.view.layer not in layers:
                page.view = None  # its document stays, and the layer comes again when it is needed
            if page.slide_layer not in layers:
                del self._pages[fingerprint]
                if page.view is not None:
                    layers.remove(page.view.layer)
        if self._page is not before:
            self._autosave.begin()
            self.changed.emit(self.document)
            self.class_changed.emit(self.class_name)
        self.tool_changed.emit(self.tool)
        self._on_zoom()

    def _open(self, slide: Slide, slide_layer: Image) -> Page:
        page = self._pages[slide.fingerprint] = Page(slide, slide_layer)
        page.changed.connect(partial(self._on_changed, page))
        page.edited.connect(partial(self._on_edited, page))
        page.shown.connect(partial(self._on_shown, page))
        page.ignored.connect(self.ignored)
        page.read(load_preferences().workspace, self._first_classes())
        return page

    def _on_changed(self, page: Page) -> None:
        if page is self._page:
            self.changed.emit(page.document)
            self.class_changed.emit(self.class_name)

    def _on_edited(self, page: Page) -> None:
        assert page.document is not None
        self._autosave.later(page.document, page.slide, load_preferences().workspace)

    def _on_shown(self, page: Page) -> None:
        """Put a page's layer above all others; what is selected stays."""
        layers = self.session.viewer.layers
        if page.slide_layer not in layers:
            return  # the slide went while it was read
        assert page.view is not None
        page.view.layer.events.mode.connect(self._on_mode)
        self.painter.brush.serve(page.view.layer)
        self._claim(page)
        selection = set(layers.selection)
        layers.append(page.view.layer)
        layers.selection = selection
        self._on_mode()
        self._fit_lines()

    def _claim(self, page: Page) -> None:
        if page.view is not None:
            self.session.follow_slide(page.view.layer, page.slide_layer)

    def _first_classes(self) -> tuple[AnnotationClass, ...]:
        """Return the classes of the current results, or of the model that is built in, and one to ignore."""
        results = self.session.results
        cards = [results.analysis.card] if results is not None else [entry.card for entry in list_models()]
        card = next(card for card in cards if card is not None)
        return (*(AnnotationClass(entry.name, entry.color) for entry in card.classes), IGNORE)

    def _take_classes(self) -> None:
        """Begin with the classes of results that came after the slide was opened, if nothing is drawn on it yet."""
        page, document = self._page, self.document
        if page is not None and document is not None and page.is_new:
            classes = self._first_classes()
            if classes != document.classes:
                page.begin_new(classes)

    # How the layer draws

    def _on_mode(self) -> None:
        """Draw in the class' colours: selecting a shape has lent napari's next one its own."""
        if self._page is not None and self._page.view is not None and self.document is not None:
            self._page.view.draw_with(self.document.class_named(self.class_name), selected=False)
            if self._page.view.layer.mode == MODE:
                self.painter.brush.take_up(self._page.view.layer)
        self.tool_changed.emit(self.tool)

    def _on_zoom(self) -> None:
        if not self._fit_timer.isActive():
            self._fit_timer.start()

    def _fit_lines(self) -> None:
        if self._page is not None and self._page.view is not None:
            self._page.view.fit_lines(self.session.viewer.scene.camera.zoom)


_drawings: WeakKeyDictionary[Session, Drawing] = WeakKeyDictionary()


def drawing_of(session: Session) -> Drawing:
    """Return a session's drawing; the first call makes it, which shows what was drawn before."""
    if session not in _drawings:
        _drawings[session] = Drawing(session)
    return _drawings[session]
