"""Brush, eraser and wand: round tools, of a constant size on the screen, that paint areas with the mouse.

They take the place of napari's mode for open lines, which are no regions: so napari itself changes between them and its
own tools, shows their cursor, and moves the view while the space bar is held.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, ref

from napari.layers.shapes._shapes_constants import Mode  # napari's modes have no public name
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_dala.plugin.annotate.stroke import StrokeInMaking
from napari_dala.plugin.annotate.wand import wand_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari.layers import Shapes

    from napari_dala.annotations.document import Area
    from napari_dala.plugin.viewer.session import Session

BRUSH, ERASER, WAND = PAINTING = "brush", "eraser", "wand"
MODE = str(Mode.ADD_PATH)
"""The layer's mode while one of them is in hand."""
_LEFT = 1  # the mouse button, as vispy counts
_STEP = 1.25
_SIZES = (8.0, 250.0)  # screen px; napari shows no smaller circle
_LOOK_MS = 10  # whether the wand has grown
_AHEAD = 2  # growths that may wait: the mouse can be faster


class Brush(QObject):
    """Paints on the annotation layers of a viewer.

    Parameters
    ----------
    session
        Of the viewer; held weakly.

    Attributes
    ----------
    tool
        The one of the three that is in hand, or was last.
    """

    stroked = Signal(object)
    """The mouse made a `Stroke` on the current slide."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = ref(session)
        self.tool = BRUSH
        self._sizes = {BRUSH: 40.0, ERASER: 40.0, WAND: 120.0}
        self._layer: Shapes | None = None
        self._stroke: StrokeInMaking | None = None
        self._growing: list[Future[Area]] = []
        self._pool = ThreadPoolExecutor(1, "dala-wand")
        self._look = QTimer(self)
        self._look.setInterval(_LOOK_MS)
        self._look.timeout.connect(self._take_grown)
        session.viewer.scene.camera.events.zoom.connect(self._fit_cursor)

    @property
    def size(self) -> float:
        """Diameter of the tool in hand, screen px; the wand grows no farther."""
        return self._sizes[self.tool]

    @property
    def is_busy(self) -> bool:
        """True from a press of the mouse until what it painted is whole."""
        return self._stroke is not None

    def serve(self, layer: Shapes) -> None:
        """Let a layer be painted on in the mode `MODE`."""
        for table, what in (
            ("_drag_modes", _weakly(self._drag)),
            ("_move_modes", layer._move_modes[Mode.PAN_ZOOM]),  # which does nothing
            ("_cursor_modes", "circle"),
        ):
            setattr(layer, table, {**getattr(layer, table), Mode.ADD_PATH: what})

    def take_up(self, layer: Shapes) -> None:
        """Show the size of the tool in hand over a layer."""
        self._layer = layer
        if (session := self._session()) is not None:
            session.viewer.canvas.overlays._brush_circle.box = False  # which napari 0.9 draws in the circle's middle
        self._fit_cursor()

    def resize(self, steps: int) -> None:
        """Make the tool in hand larger, or smaller where `steps` is negative."""
        least, most = _SIZES
        self._sizes[self.tool] = min(max(self.size * _STEP**steps, least), most)
        self._fit_cursor()

    def _fit_cursor(self) -> None:
        session = self._session()
        if session is not None and self._layer is not None:
            zoom = session.viewer.scene.camera.zoom
            self._layer.cursor_size = (self.size + 0.5) / zoom  # napari multiplies, and drops the fraction

    def _drag(self, layer: Shapes, event: Any) -> Iterator[None]:
        session = self._session()
        if event.button != _LEFT or session is None or session.layer is None:
            return
        self._drop()  # a stroke that still grows, or whose end went to another window
        erases = self.tool == ERASER or "Alt" in event.modifiers
        stroke = self._stroke = StrokeInMaking(session.viewer, layer, self.size, erases=erases)
        slide_layer = session.layer

        def go_to(position: Sequence[float]) -> None:
            if self.tool != WAND:
                stroke.sweep_to(position)
            elif len(self._growing) < _AHEAD or stroke.is_whole:
                find = wand_at(slide_layer, position, stroke.radius, stroke.pixel)
                self._growing.append(self._pool.submit(find))
                self._look.start()

        go_to(event.position)
        yield
        while event.type == "mouse_move":
            go_to(event.position)
            yield
        stroke.is_whole = True
        go_to(event.position)
        self._take_grown()

    def _take_grown(self) -> None:
        """Add what the wand has found, in its order, and end the stroke with the last of it."""
        stroke = self._stroke
        while self._growing and self._growing[0].done():
            area = self._growing.pop(0).result()
            if stroke is not None:
                stroke.add(area)
        if not self._growing:
            self._look.stop()
            if stroke is not None and stroke.is_whole:
                self._drop()
                self.stroked.emit(stroke.made)

    def _drop(self) -> None:
        if self._stroke is not None:
            self._stroke.hide()
        self._stroke = None
        self._growing.clear()


def _weakly(drag: Callable[[Shapes, Any], Iterator[None]]) -> Callable[[Shapes, Any], Iterator[None] | None]:
    """Return what napari may hold without keeping the window alive."""
    method = WeakMethod(drag)

    def call(layer: Shapes, event: Any) -> Iterator[None] | None:
        found = method()
        return None if found is None else found(layer, event)

    return call
