"""What the docks of one viewer share: the slide in hand, its results, hovering, and the key that hides overlays."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakMethod, ref

from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]

from napari_dala.errors import DalaError, SlideError
from napari_dala.plugin.preferences import load_preferences
from napari_dala.plugin.viewer.asked import (
    COMPARE_KEY,
    NEXT_KEY,
    NEXT_SLIDE_KEY,
    PREVIOUS_KEY,
    PREVIOUS_SLIDE_KEY,
    SUGGEST_KEY,
    TILE_KEY,
    TOGGLE_KEY,
    Asked,
)
from napari_dala.plugin.viewer.inside_napari import list_all_but
from napari_dala.plugin.viewer.scale_bar import show_scale_bar
from napari_dala.plugin.viewer.side_by_side import SideBySide
from napari_dala.plugin.viewer.slide_layers import (
    bring_into_view,
    is_in_um,
    set_mpp,
    show_box,
    show_tile,
    shows_slide,
    slide_of,
    view_of,
    why_no_slide,
)
from napari_dala.plugin.viewer.status_bar import WithProbability
from napari_dala.plugin.viewer.ticks import Ticks
from napari_dala.results.thresholds import KeptThreshold, keep_threshold, stored_point
from napari_dala.slide.resolution import is_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from numpy.typing import ArrayLike, NDArray

    from napari_dala.plugin.analyze.run import AnalysisRun
    from napari_dala.plugin.viewer.cam_picture import CamView
    from napari_dala.plugin.viewer.overlays import Overlays
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.results.loaded import LoadedAnalysis, StoredBlock
    from napari_dala.slide import Slide

OUTDATED = " (outdated)"
"""Ends the names of layers whose results were made at another resolution than the slide has now."""
_KEEP_MS = 300  # after which a threshold that rests is written


class Session(Asked):
    """The slide that a viewer's docks are about: that of the layer selected last.

    Use `session_of`; the viewer is held weakly, so that closing it frees everything.

    Attributes
    ----------
    layer
        The current slide's layer, or None.
    problem
        Why the picture that is selected, or the layer's slide, cannot be analysed, one line, or None.
    runs
        The analyses that are under way.
    slides
        How several slides lie in one window.
    ticks
        The slides to learn from.
    """

    slides_changed = Signal()
    """Slide layers came or went, or another one is current."""
    results_changed = Signal()
    """The current slide's results are others, hold more tiles, or are shown in another way."""
    model_installed = Signal(str)
    """A model of this name is in the workspace now, and is the one to go on with."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._overlays: dict[Image, Overlays] = {}
        self._hidden: list[Layer] = []
        self._claims: WeakKeyDictionary[Layer, Image] = WeakKeyDictionary()
        self.layer: Image | None = None
        self.problem: str | None = None
        self.runs: list[AnalysisRun] = []
        self._keep_later = QTimer(self)
        self._keep_later.setSingleShot(True)
        self._keep_later.setInterval(_KEEP_MS)
        self._keep_later.timeout.connect(self.keep_threshold)
        self._unkept: ResultLayers | None = None
        self.slides = SideBySide(viewer, WeakMethod(self.owner_of))
        self.ticks = Ticks(self)
        layers = viewer.layers
        for layer in [layer for layer in layers if shows_slide(layer)]:
            self.slides.welcome(layer)
        layers.events.inserted.connect(lambda event: self.slides.welcome(event.value))
        layers.events.inserted.connect(self._on_layers)
        layers.events.removed.connect(self._on_layers)
        layers.selection.events.active.connect(self._on_layers)
        for key, call in KEYS.items():
            viewer.bind_key(key, _of_viewer(call), overwrite=True)
        self.results_changed.connect(self._tidy_list)
        self.slides_changed.connect(self._tidy_list)
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

    def open_slide(self) -> Slide | None:
        """Return the current slide, opening it where it is not; None where there is none or `problem` says why not."""
        if self.layer is None:
            active = self.viewer.layers.selection.active
            self.problem = None if active is None else why_no_slide(active)
            return None
        self.problem = None
        try:
            return slide_of(self.layer)
        except SlideError as error:
            self.problem = str(error)
            return None

    @property
    def results(self) -> ResultLayers | None:
        """What is shown of the current slide's results: a preview while there is one; None where there are none."""
        return None if self.layer is None else self.results_of(self.layer)

    def results_of(self, layer: Image) -> ResultLayers | None:
        """Return what is shown of the results of a slide layer, or None."""
        return self._overlays[layer].shown if layer in self._overlays else None

    def overlays_of(self, layer: Image) -> Overlays | None:
        """Return all that lies over a slide layer: results and a preview."""
        return self._overlays.get(layer)

    def add(self, results: ResultLayers, blocks: Iterable[StoredBlock]) -> None:
        """Show tiles that are new in a store, if its results are still there; panels follow with the Grad-CAM."""
        if any(results in (one.standing, one.preview) for one in self._overlays.values()):
            results.add(blocks)

    def mark(self, results: ResultLayers, status: NDArray[np.uint8]) -> None:
        """Note what has become of every tile of results, (rows, columns); see `Analysis.status`."""
        results.mark(status)
        if results is self.results:
            self.results_changed.emit()

    def set_threshold(self, threshold: float, doubt: float | None = None) -> None:
        """Give the current results another operating threshold, or band of doubt; kept for this slide and model."""
        if self.results is not None:
            self.results.set_threshold(threshold, doubt)
            if self._unkept is not self.results:
                self.keep_threshold()
            self._unkept = self.results
            self._keep_later.start()
            self.results_changed.emit()

    def keep_threshold(self) -> None:
        """Write the threshold that was set last, at once."""
        self._keep_later.stop()
        results, self._unkept = self._unkept, None
        if results is not None:
            with suppress(DalaError):  # it holds as long as the window is open
                keep_threshold(results.analysis.store, results.threshold, results.analysis.doubt)

    def set_resolution(self, layer: Image, mpp: float) -> None:
        """Give a slide its um per pixel; what lies on it follows, other slides stay as they are."""
        set_mpp(self.viewer, layer, mpp, self.slides.apart(layer))
        standing = self._overlays[layer].standing if layer in self._overlays else None
        if standing is not None:
            standing.end_names("" if is_at(standing.analysis.mpp, (mpp, mpp)) else OUTDATED)
        self.slides.place(layer)
        self._show_scale_bar()
        self.results_changed.emit()

    def put_away(self, layer: Image) -> None:
        """Show no results of a slide layer any more; they stay on disk."""
        self.keep_threshold()
        self._change(layer, lambda overlays: overlays.put_away())

    def name_models(self, name_of: Callable[[ResultLayers], str | None]) -> None:
        """Call the models of all results as they are called now; None where that is not known."""
        for overlays in self._overlays.values():
            name = None if overlays.standing is None else name_of(overlays.standing)
            if overlays.standing is not None and name not in (None, overlays.standing.analysis.card.name):
                overlays.standing.name_model(str(name))
        self.results_changed.emit()

    def explain(self, explanation: CamView) -> None:
        """Show another Grad-CAM of the current results, over the slide too."""
        if self.results is not None:
            assert self.layer is not None
            self.results.explain(explanation, view_of(self.viewer, self.layer))
            self.results.cam.visible = True

    def choose(self, layer: Image) -> None:
        """Make another slide layer the current one, and bring it into view."""
        if layer is not self.layer:
            self.viewer.layers.selection.active = layer
            bring_into_view(self.viewer, layer)

    def show(self, layer: Image, loaded: LoadedAnalysis, preview: bool = False) -> ResultLayers:
        """Lay results over a slide layer in place of those it had, or beside them as a preview that hides them.

        How results are shown stays as it was. A preview ends when it is kept or dropped, or other results are shown.
        """
        from napari_dala.plugin.viewer.overlays import Overlays  # not before: it takes longer than opening a slide

        self.keep_threshold()
        overlays = self._overlays.setdefault(layer, Overlays(self.viewer.layers, layer))
        before = overlays.standing
        results = overlays.show_preview(loaded) if preview else overlays.show(loaded)
        results.enter(self.viewer)
        results.explained.connect(self._on_explained)
        store = results.analysis.store
        kept = stored_point(store)
        is_other = before is None or before.analysis.store.bundle_hash != store.bundle_hash
        if kept is None and is_other and not preview:
            kept = KeptThreshold(threshold=results.analysis.card.operating_threshold)  # each model has its own
        if kept is not None:
            results.set_threshold(kept.threshold, kept.doubt)
        self._watch_status()
        self.results_changed.emit()
        return results

    def keep_preview(self, layer: Image) -> None:
        """Let a preview replace the results beside it."""
        self._change(layer, lambda overlays: overlays.keep())

    def drop_preview(self, layer: Image) -> None:
        """Remove a preview; what it hid is visible again, as it was."""
        self._change(layer, lambda overlays: overlays.drop())

    def show_before(self, layer: Image, before: bool) -> None:
        """Look at what a preview hides, or at the preview again."""
        self._change(layer, lambda overlays: overlays.show_before(before))

    def _on_explained(self) -> None:
        if self.results is not None:
            self.results_changed.emit()

    def _change(self, layer: Image, change: Callable[[Overlays], object]) -> None:
        if layer in self._overlays:
            change(self._overlays[layer])
            self.results_changed.emit()

    def go_to(self, x: float, y: float, tile: tuple[float, float]) -> None:
        """Move the camera to (x, y) of the current slide, close enough to see a tile of this size (level-0 px)."""
        if self.layer is not None:
            show_tile(self.viewer, self.layer, (x, y), tile)

    def show_box(self, bounds: tuple[float, float, float, float], least: tuple[float, float]) -> None:
        """Move the camera to a box on the current slide, and away from it as far as it needs; see `show_box`."""
        if self.layer is not None:
            show_box(self.viewer, self.layer, bounds, least)

    def follow_slide(self, layer: Layer, slide_layer: Image) -> None:
        """Let a layer that shows no results stand for a slide's when it is selected."""
        self._claims[layer] = slide_layer

    def toggle_overlays(self) -> None:
        """Hide what is visible of the current results, or show it again."""
        if self.results is None:
            return
        visible = [layer for layer in self.results.present if layer.visible]
        shown = [layer for layer in self._hidden if layer in self.results.present] or [
            layer for layer in self.results.present if layer.metadata["dala_role"] in ("probability", "unfamiliar")
        ]
        for layer in visible or shown:
            layer.visible = not visible
        self._hidden = visible

    def owner_of(self, layer: Layer | None) -> Layer | None:
        """Return the slide layer that a layer of ours belongs to; other layers are their own."""
        if layer is None:
            return None
        shown = (one for one, overlays in self._overlays.items() if layer in overlays.all)
        return next(shown, self._claims.get(layer, layer))

    def _on_layers(self) -> None:
        """Follow the selection, and drop results whose layers are gone."""
        layers = self.viewer.layers
        for layer, overlays in list(self._overlays.items()):
            if layer not in layers:
                del self._overlays[layer]
                overlays.remove()
            else:
                overlays.tidy()
        active = layers.selection.active
        owner = self.owner_of(active)
        current = self.layer if self.layer in layers else next(iter(self.slide_layers), None)
        if owner is not None and shows_slide(owner):
            current = owner
        elif active is not None and why_no_slide(active):
            current = None
        if current is not self.layer and current is not None:
            self.slides.show_alone(current if load_preferences().one_slide else None)
        self.layer = current
        self._show_scale_bar()
        self._watch_status()
        self.slides_changed.emit()

    def _tidy_list(self) -> None:
        aside = {layer for overlays in self._overlays.values() for layer in overlays.aside}
        if (viewer := self._viewer()) is not None:  # a map may come after the window has gone
            list_all_but(viewer, aside)

    def _show_scale_bar(self) -> None:
        if self.layer is not None and (slide := self.open_slide()) is not None:
            show_scale_bar(self.viewer, in_um=slide.mpp is not None and is_in_um(self.layer))

    def _watch_status(self) -> None:
        """Let the status bar say class and probability under the cursor, whichever layer is selected."""
        active = self.viewer.layers.selection.active
        if self._overlays and active is not None and not hasattr(active.get_status, "dala"):
            active.get_status = WithProbability(active, WeakMethod(self._describe))

    def _describe(self, world: ArrayLike) -> str:
        return "" if self.results is None else self.results.describe(world)


_sessions: WeakKeyDictionary[ViewerModel, Session] = WeakKeyDictionary()


def session_of(viewer: ViewerModel) -> Session:
    """Return a viewer's session; napari may hand out the viewer in a proxy."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _sessions:
        _sessions[viewer] = Session(viewer)
    return _sessions[viewer]


KEYS: dict[str, Callable[[Session], None]] = {
    TOGGLE_KEY: Session.toggle_overlays,
    NEXT_KEY: Session.next_spot,
    PREVIOUS_KEY: Session.previous_spot,
    SUGGEST_KEY: Session.suggest,
    COMPARE_KEY: Session.next_difference,
    NEXT_SLIDE_KEY: Session.next_slide,
    PREVIOUS_SLIDE_KEY: Session.previous_slide,
    TILE_KEY: Session.label_tile,
}
"""What the keys do that belong to no dock."""


def _of_viewer(call: Callable[[Session], None]) -> Callable[[ViewerModel], None]:
    def act(viewer: ViewerModel) -> None:
        call(session_of(viewer))

    act.__doc__ = call.__doc__  # napari lists it among its shortcuts
    return act
