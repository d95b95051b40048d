"""From slide to slide of the list: the next takes the place of the one in hand, and each comes back as it was left."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import create_worker

from napari_dala.annotations.slide_table import results_on
from napari_dala.annotations.slides import annotated_slide, open_known, remember_slide
from napari_dala.errors import DalaError
from napari_dala.plugin.annotate.drawing import drawing_of
from napari_dala.plugin.reader import slide_layer
from napari_dala.plugin.viewer.slide_layers import bring_into_view, slide_of
from napari_dala.results.loaded import LoadedAnalysis, load

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_dala.annotations.slides import AnnotatedSlide
    from napari_dala.model.catalog import ModelEntry
    from napari_dala.plugin.viewer.cam_picture import CamView
    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.slide import Slide


@dataclass(frozen=True)
class Look:
    """How a slide was looked at.

    Attributes
    ----------
    center, zoom
        The camera's.
    layers
        By the role of a result's layer: whether it was visible, and its opacity.
    explanation
        Which Grad-CAM was shown.
    """

    center: tuple[float, ...]
    zoom: float
    layers: tuple[tuple[str, bool, float], ...]
    explanation: CamView | None


class Walk(QObject):
    """Opens slides of the list in a session's viewer.

    Parameters
    ----------
    session
        Of the viewer.
    """

    opened = Signal()
    """A slide is there, with what is known of it."""
    failed = Signal(str)
    """Why a slide could not be opened, one line; the one in hand stays."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session, self.drawing = session, drawing_of(session)
        self._looks: dict[str, Look] = {}
        self._asked: str | None = None

    @property
    def in_hand(self) -> str | None:
        """The fingerprint of the slide that is open, or about to be; None where there is none."""
        if self._asked is not None:
            return self._asked
        slide = self._session.open_slide()
        return slide.fingerprint if slide else None

    def layer_of(self, fingerprint: str) -> Image | None:
        """Return the layer that shows a slide in the window, or None."""
        for layer in self._session.slide_layers:
            slide = layer.metadata.get("dala_slide")
            if slide is not None and slide.fingerprint == fingerprint:
                return layer
        return None

    def open(self, slide: AnnotatedSlide, entry: ModelEntry | None) -> None:
        """Open a slide, with a model's results, in place of the one in hand; one that is open comes into view."""
        layer = self.layer_of(slide.fingerprint)
        if layer is not None:
            self._asked = None
            self._session.choose(layer)
            return
        self._asked = slide.fingerprint
        ends: dict[str, Any] = {"returned": self._on_read, "errored": partial(self._on_failed, slide.fingerprint)}
        create_worker(_read, slide, entry, _connect=ends)

    def show_results(self, slide: AnnotatedSlide, entry: ModelEntry) -> None:
        """Show what a model has found on a slide, where that is open, and neither runs nor shows a preview."""
        layer = self.layer_of(slide.fingerprint)
        overlays = None if layer is None else self._session.overlays_of(layer)
        is_taken = any(run.layer is layer for run in self._session.runs) or (overlays and overlays.preview)
        if layer is not None and not is_taken:
            shown = annotated_slide(slide_of(layer), folder=slide.workspace)
            create_worker(_results, shown, entry, _connect={"returned": lambda found: self._lay(layer, found)})

    def give_mpp(self, fingerprint: str, mpp: float) -> None:
        """Give a slide that is open its um per pixel in the window, too."""
        if (layer := self.layer_of(fingerprint)) is not None:
            self._session.set_resolution(layer, mpp)

    def _lay(self, layer: Image, loaded: LoadedAnalysis | None) -> None:
        if loaded is not None and layer in self._session.viewer.layers:
            self._session.show(layer, loaded)

    def _on_read(self, read: tuple[Slide, LoadedAnalysis | None]) -> None:
        slide, loaded = read
        if slide.fingerprint != self._asked:  # another was asked for meanwhile
            slide.close()
            return
        self._asked = None
        self.drawing.flush()
        if not self.drawing.is_saved:
            slide.close()
            self.failed.emit("What is drawn cannot be saved, so this slide stays open.")
            return
        session, camera = self._session, self._session.viewer.scene.camera
        with session.viewer.layers.batched_update():  # napari collects all garbage after each layer that goes
            last = self._leave()
            layer = session.viewer.add_layer(Layer.create(*slide_layer(slide)))
            before = self._looks.get(slide.fingerprint)
            if loaded is not None:
                _look_at(session.show(layer, loaded), before or last)
        if before is None:
            bring_into_view(session.viewer, layer)
        else:
            camera.center, camera.zoom = before.center, before.zoom
        self.opened.emit()

    def _leave(self) -> Look | None:
        """Take the slide in hand out of the window, with all that lies on it; return how it was looked at."""
        session, layer = self._session, self._session.layer
        slide = session.open_slide()
        if layer is None or slide is None:
            return None
        look = self._looks[slide.fingerprint] = _look_of(session, session.results_of(layer))
        session.keep_threshold()
        session.viewer.layers.remove(layer)
        return look

    def _on_failed(self, fingerprint: str, error: Exception) -> None:
        if fingerprint == self._asked:
            self._asked = None
            self.failed.emit(str(error))


def _look_of(session: Session, results: ResultLayers | None) -> Look:
    camera = session.viewer.scene.camera
    layers = () if results is None else tuple((_role(one), one.visible, one.opacity) for one in results.all)
    return Look(tuple(camera.center), camera.zoom, layers, None if results is None else results.explanation)


def _look_at(results: ResultLayers, look: Look | None) -> None:
    """Show results as these or others were shown before."""
    if look is None:
        return
    layers = {_role(layer): layer for layer in results.all}
    for role, visible, _ in look.layers:
        if role in layers:
            layers[role].visible = visible
    for role, _, opacity in look.layers:  # then, for showing a Grad-CAM dims the probability
        if role in layers:
            layers[role].opacity = opacity
    explanation = look.explanation
    classes = len(results.analysis.card.classes)
    if explanation not in (None, results.explanation) and explanation.class_index < classes:
        results.explain(explanation)


def _role(layer: Layer) -> str:
    return str(layer.metadata["dala_role"])


def _read(known: AnnotatedSlide, entry: ModelEntry | None) -> tuple[Slide, LoadedAnalysis | None]:
    """Open a slide's file with the resolution that the user gave, and read what a model found on it."""
    slide = open_known(known)
    with suppress(DalaError):  # where the workspace cannot be written, the slide can be looked at all the same
        remember_slide(slide, known.workspace)
    known = annotated_slide(slide, folder=known.workspace)  # whose colours are those of the window
    return slide, _results(known, entry)


def _results(known: AnnotatedSlide, entry: ModelEntry | None) -> LoadedAnalysis | None:
    found = None if entry is None else results_on(known, entry)
    if found is None or entry is None:
        return None
    with suppress(DalaError):  # damaged: the table says so
        return load(known.analyses, found.bundle_hash, found.setting, name=entry.name)
    return None
