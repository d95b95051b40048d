"""What the docks of one viewer share: the slide in hand, its results, hovering, and the key that hides overlays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakMethod, ref

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_dala.errors import SlideError
from napari_dala.plugin.layers import ResultLayers
from napari_dala.plugin.slide_layers import shows_slide, slide_of, to_world

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from numpy.typing import ArrayLike

    from napari_dala.plugin.layers import Explanation, LoadedAnalysis
    from napari_dala.slide import Slide

TOGGLE_KEY = "h"
NEXT_KEY = "n"
PREVIOUS_KEY = "shift-n"
_SPOT_TILES = 6  # a spot's tile and its surroundings, in tiles across the view


class Session(QObject):
    """The slide that a viewer's docks are about: that of the layer selected last.

    Use `session_of`; the viewer is held weakly, so that closing it frees everything.

    Attributes
    ----------
    layer
        The current slide's layer, or None.
    problem
        Why the layer's slide cannot be analysed, one line, or None.
    """

    slides_changed = Signal()
    """Slide layers came or went, or another one is current."""
    results_changed = Signal()
    """The current slide's results are others, hold more tiles, or are shown in another way."""
    step_asked = Signal(int)
    """A key asks for the next (1) or previous (-1) spot."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._results: dict[Image, ResultLayers] = {}
        self._hidden: list[Layer] = []
        self.layer: Image | None = None
        self.problem: str | None = None
        layers = viewer.layers
        layers.events.inserted.connect(self._on_layers)
        layers.events.removed.connect(self._on_layers)
        layers.selection.events.active.connect(self._on_layers)
        viewer.bind_key(TOGGLE_KEY, _toggle, overwrite=True)
        viewer.bind_key(NEXT_KEY, _next, overwrite=True)
        viewer.bind_key(PREVIOUS_KEY, _previous, overwrite=True)
        self._on_layers()

    @property
    def viewer(self) -> ViewerModel:
        """The viewer."""
        viewer = self._viewer()
        if viewer is None:
            raise RuntimeError("the viewer is closed")
        return viewer

    @property
    def slide_layers(self) -> list[Image]:
        """The layers that can be analysed, the topmost first."""
        return [layer for layer in reversed(self.viewer.layers) if shows_slide(layer)]

    @property
    def slide(self) -> Slide | None:
        """The current slide, or None where there is none or it cannot be opened."""
        self.problem = None
        if self.layer is None:
            return None
        try:
            return slide_of(self.layer)
        except SlideError as error:
            self.problem = str(error)
            return None

    @property
    def results(self) -> ResultLayers | None:
        """The current slide's results, or None."""
        return None if self.layer is None else self._results.get(self.layer)

    def results_of(self, layer: Image) -> ResultLayers | None:
        """Return the results of a slide layer, or None."""
        return self._results.get(layer)

    def add(self, layer: Image, blocks: Iterable[tuple[int, int]]) -> None:
        """Read tiles of a slide layer that are new in its store."""
        self._results[layer].add(blocks)
        if layer is self.layer:
            self.results_changed.emit()

    def set_threshold(self, threshold: float) -> None:
        """Give the current results another operating threshold."""
        if self.results is not None:
            self.results.set_threshold(threshold)
            self.results_changed.emit()

    def explain(self, explanation: Explanation) -> None:
        """Show another Grad-CAM of the current results."""
        if self.results is not None:
            self.results.explain(explanation)
            self.results_changed.emit()

    def choose(self, layer: Image) -> None:
        """Make another slide layer the current one."""
        if layer is not self.layer:
            self.viewer.layers.selection.active = layer

    def show(self, layer: Image, loaded: LoadedAnalysis) -> ResultLayers:
        """Lay results over a slide layer, in place of those it had; how they are shown stays as it was."""
        before = self._results.pop(layer, None)
        results = ResultLayers(self.viewer.layers, layer, loaded)
        if before is not None:
            for old, new in zip(before.all, results.all, strict=True):
                new.visible = old.visible
            if before.analysis.store.bundle_hash == results.analysis.store.bundle_hash:
                results.set_threshold(before.threshold)
                results.explain(before.explanation)
            before.remove()
        self._results[layer] = results
        self._watch_status()
        self.results_changed.emit()
        return results

    def go_to(self, x: float, y: float, tile: tuple[float, float]) -> None:
        """Move the camera to (x, y) of the current slide, close enough to see a tile of this size (level-0 px)."""
        if self.layer is None:
            return
        camera, canvas = self.viewer.scene.camera, self.viewer.canvas
        (top, left), (bottom, right) = (to_world(self.layer, x + s * tile[0], y + s * tile[1]) for s in (-0.5, 0.5))
        side = max(abs(bottom - top), abs(right - left))
        camera.zoom = max(camera.zoom, min(canvas.size) / side / _SPOT_TILES)
        camera.center = (0.0, *to_world(self.layer, x, y))

    def toggle_overlays(self) -> None:
        """Hide what is visible of the current results, or show it again."""
        if self.results is None:
            return
        visible = [layer for layer in self.results.present if layer.visible]
        shown = [layer for layer in self._hidden if layer in self.results.present] or [
            layer for layer in self.results.present if layer.metadata["dala_role"] != "class"
        ]
        for layer in visible or shown:
            layer.visible = not visible
        self._hidden = visible

    def _on_layers(self) -> None:
        """Follow the selection, and drop results whose layers are gone."""
        layers = self.viewer.layers
        for layer, results in list(self._results.items()):
            if layer not in layers:
                del self._results[layer]
                results.remove()
        active = layers.selection.active
        owner = next((layer for layer, results in self._results.items() if active in results.all), active)
        current = self.layer if self.layer in layers else None
        if owner is not None and shows_slide(owner):
            current = owner
        if current is None:
            current = next(iter(self.slide_layers), None)
        self.layer = current
        self._watch_status()
        self.slides_changed.emit()

    def _watch_status(self) -> None:
        """Let the status bar say class and probability under the cursor, whichever layer is selected."""
        active = self.viewer.layers.selection.active
        if self._results and active is not None and not hasattr(active.get_status, "dala"):
            active.get_status = _WithProbability(active, WeakMethod(self._describe))

    def _describe(self, world: ArrayLike) -> str:
        return "" if self.results is None else self.results.describe(world)


class _WithProbability:
    """A layer's `get_status`, with class and probability under the cursor added in front."""

    dala = True

    def __init__(self, layer: Layer, describe: WeakMethod[Any]) -> None:
        self._layer = ref(layer)
        self._describe = describe

    def __call__(self, position: ArrayLike | None = None, **options: Any) -> dict[str, str]:
        layer, describe = self._layer(), self._describe()
        assert layer is not None
        status: dict[str, str] = type(layer).get_status(layer, position, **options)
        if position is not None and options.get("world") and describe is not None and (text := describe(position)):
            status["coordinates"] = f"{text}   {status['coordinates']}"
            status["value"] = f"{status['value']}   {text}"
        return status


_sessions: WeakKeyDictionary[ViewerModel, Session] = WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """Return a viewer's session; napari may hand out the viewer in a proxy."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _sessions:
        _sessions[viewer] = Session(viewer)
    return _sessions[viewer]


def _toggle(viewer: ViewerModel) -> None:
    """Show or hide the results of the analysis."""
    session_of(viewer).toggle_overlays()


def _next(viewer: ViewerModel) -> None:
    """Go to the next strongest spot."""
    session_of(viewer).step_asked.emit(1)


def _previous(viewer: ViewerModel) -> None:
    """Go to the previous spot."""
    session_of(viewer).step_asked.emit(-1)
