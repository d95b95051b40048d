"""What is in view, and what its colours mean, for a picture of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Shapes

from napari_dala.model.threshold import FAINTEST
from napari_dala.plugin.parts.legend import colors_over_tissue
from napari_dala.plugin.viewer.slide_layers import is_in_um
from napari_dala.results.report.pictures import cut_of
from napari_dala.results.report.view_picture import ColorBar

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from napari_dala.plugin.viewer.result_layers import ResultLayers
    from napari_dala.plugin.viewer.session import Session
    from napari_dala.results.analysis import Analysis

    Color = tuple[int, int, int]

_HATCHED = (120, 120, 120)


def take_view(viewer: Viewer, times: int) -> NDArray[np.uint8]:
    """Return what the canvas shows, (h, w, 3), `times` as fine along a side, without napari's own scale bar."""
    bar, camera = viewer.canvas.overlays.scale_bar, viewer.scene.camera
    was_visible, zoom = bar.visible, camera.zoom
    try:
        bar.visible, camera.zoom = False, zoom * times  # napari makes the canvas larger, and would show more of it
        return np.ascontiguousarray(viewer.screenshot(canvas_only=True, scale=times, flash=False)[..., :3])
    finally:
        bar.visible, camera.zoom = was_visible, zoom


def um_per_px_of(session: Session, width: int) -> float | None:
    """Return um per pixel of a picture of the view, `width` px wide; None where the slide's resolution is not known."""
    viewer, slide = session.viewer, session.open_slide()
    if session.layer is None or slide is None or slide.mpp is None or not is_in_um(session.layer):
        return None
    return float(viewer.canvas.size[1] / viewer.scene.camera.zoom / width)


def color_bars(results: ResultLayers) -> list[ColorBar]:
    """Return the colours of the maps that are visible."""
    analysis, shown = results.analysis, results.explanation
    name, bars = analysis.card.class_names[shown.class_index], []
    if results.probability in results.present and results.probability.visible:
        is_target = shown.class_index == analysis.card.target_class
        bars.append(
            ColorBar(
                f"Probability of {name}",
                ("0", "1"),
                colors_over_tissue(results.probability),
                analysis.threshold if is_target else None,
                analysis.doubt,
            )
        )
    if results.cam in results.present and results.cam.visible:
        low, lowest = ("just kept", FAINTEST) if shown.thresholded else ("none", 0.0)
        kind = "DT Grad-CAM" if shown.thresholded else "Grad-CAM"
        bars.append(ColorBar(f"{kind} of {name}", (low, "strongest"), colors_over_tissue(results.cam, lowest)))
    return bars


def swatches_of(session: Session, results: ResultLayers) -> list[tuple[str, Color]]:
    """Return names and colours of the classes, hatching and drawn regions that are visible."""
    card, present = results.analysis.card, results.present
    found: dict[str, Color] = {}
    if results.classes in present and results.classes.visible:
        found |= {f"{entry.name} (predicted)": entry.color for entry in card.classes}
    if results.unfamiliar in present and results.unfamiliar is not None and results.unfamiliar.visible:
        found |= {"unfamiliar (hatched)": _HATCHED} if results.analysis.unfamiliar.any() else {}
    for layer in session.viewer.layers:
        if isinstance(layer, Shapes) and layer.visible and "annotation" in layer.features:
            for name, color in zip(layer.features["class"], layer.edge_color, strict=False):
                red, green, blue = (round(255 * float(value)) for value in color[:3])
                found[f"{name or 'no class'} (drawn)"] = (red, green, blue)
    return list(found.items())


def notes_of(analysis: Analysis, results: ResultLayers) -> list[str]:
    """Return what must be read beside a picture of results: model, threshold and warnings."""
    doubt = f" ± {analysis.doubt:.2f} (in doubt)" if analysis.doubt else ""
    notes = [f"Model {analysis.card.name} · operating threshold {analysis.threshold:.2f}{doubt}"]
    if results.cam in results.present and results.cam.visible and results.explanation.thresholded:
        notes.append(f"DT Grad-CAM: {cut_of(results.thresholded, results.explanation.rule.strength)}")
    if analysis.card.warning:
        notes.append(f"The model is {analysis.card.warning}.")
    return notes
