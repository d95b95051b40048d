"""The results of one analysis as layers over its slide: probability, class, Grad-CAM, the unfamiliar, ink and blur."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap
from psygnal import Signal

from napari_dala.model.threshold import FAINTEST
from napari_dala.plugin.viewer.cam_picture import CamPainter, CamView, tiles_in_view
from napari_dala.plugin.viewer.looks import look_of_kinds
from napari_dala.plugin.viewer.plain_text import without_tags
from napari_dala.plugin.viewer.shading import DrawnPart, Hatching, Outlines
from napari_dala.plugin.viewer.slide_layers import PLACEMENT, place_over, to_slide
from napari_dala.plugin.viewer.turns import in_turns
from napari_dala.results.report.ramps import GRAD_CAM, PROBABILITY
from napari_dala.results.tile_results import LEFT_OUT, NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.components import LayerList, ViewerModel
    from napari.layers import Layer
    from numpy.typing import ArrayLike, NDArray

    from napari_dala.model.threshold import ThresholdedMap
    from napari_dala.results.loaded import LoadedAnalysis, StoredBlock

DIMMED = 0.12
"""Opacity of the probability while a Grad-CAM lies over it: one map at a time."""
_LINES = (0.1, 0.1, 0.1, 1.0)
_LEFT_OUT, _INK, _BLUR = "Ink and blur", (0.1, 0.3, 0.9, 1.0), (0.9, 0.7, 0.1, 1.0)


class ResultLayers:
    """Creates layers above a slide layer and keeps them up to date.

    Probability, hidden at first predicted class and Grad-CAM, which dims the probability; where the bundle knows what
    it was trained on, hatching over tissue unlike that; hidden, what was left out for ink or blur.

    Parameters
    ----------
    layers
        The viewer's.
    slide_layer
        Where the slide lies in the world; the results follow it.
    loaded
        May still be growing: `add` shows what is new.
    ending
        Of the layers' names.
    at_once
        All layers are laid now; else the probability alone, and the others by `enter`.
    instead_of
        Results whose layers these take over: napari takes 0.2 s for each layer that goes. They are done with then.

    Attributes
    ----------
    explanation
        What the Grad-CAM layer shows; the probability is of the same class.
    thresholded
        The map in that layer, with its T and the kept fraction; it follows the explanation within a moment.
    most_strength
        Above this strength of the threshold nothing is left.
    explained
        A psygnal: `thresholded` is another one.
    """

    explained = Signal()

    def __init__(
        self,
        layers: LayerList,
        slide_layer: Image,
        loaded: LoadedAnalysis,
        ending: str = "",
        *,
        at_once: bool = True,
        instead_of: ResultLayers | None = None,
    ) -> None:
        self._taken_over = {} if instead_of is None else instead_of.give_up()
        self.analysis = loaded.analysis
        self.slide_layer, self._ending = slide_layer, ending
        self.explanation = CamView(self.analysis.card.target_class)
        self._layers, self._loaded = layers, loaded
        self.thresholded, self.most_strength = loaded.take_first()
        self._explainer = CamPainter(loaded, self.explanation)
        self._explainer.part_made.connect(self._show_part)
        self._explainer.made.connect(self._show_cam)
        self._outlines, self._hatching = Outlines(), Hatching()
        self._viewer: ViewerModel | None = None
        self._parts: list[DrawnPart] = []
        self.left_out = self._left_out() if self._is_left_out.any() else None
        self.probability, self.classes, self.cam = self._create()
        self._outline()
        self.cam.events.visible.connect(self._on_cam_visible)
        self.unfamiliar = self._hatched() if self.analysis.knows_unfamiliar else None
        self._named = self._names
        self._place()
        for name in PLACEMENT:
            getattr(slide_layer.events, name).connect(self._place)
        slide_layer.events.name.connect(self._rename)
        for layer in self._taken_over.values():
            layers.remove(layer)
        self._insert(self.probability)
        self._waiting = [self.probability, *self.all[:-1]]
        while at_once and self._waiting:
            self._enter_next()

    def enter(self, viewer: ViewerModel) -> None:
        """Lay the layers that wait, in a window now and then one: napari takes 0.1 s for each."""
        self._viewer = viewer
        self._enter_next()
        in_turns(viewer, [self._enter_next] * len(self._waiting), rest_ms=150)

    def _enter_next(self) -> None:
        if self._waiting:
            self._insert(layer := self._waiting.pop(0))
            if self._viewer is not None:
                self._draw(self._viewer, layer)

    def _draw(self, viewer: ViewerModel, layer: Layer) -> None:
        """Let what is seen of a layer be drawn alone, and its lines."""
        corner = self.slide_layer.data_to_world(np.subtract(self.analysis.grid.slide_size[::-1], 0.5))
        end = np.add(layer.world_to_data(corner), 0.5)  # the last pixels, as large as others, may reach beyond it
        self._parts.append(DrawnPart(viewer, layer, end))
        if layer is self.cam:
            self._outlines.draw_in(viewer, layer)
        elif layer is self.unfamiliar:
            self._hatching.draw_in(viewer, layer)

    def _insert(self, layer: Layer) -> None:
        """Lay a layer over the probability, or where that is not there over the slide; what is selected stays so."""
        if layer in self._layers:
            return
        selection = set(self._layers.selection) or {self.slide_layer}
        below = self.probability if self.probability in self._layers else self.slide_layer
        self._layers.insert(self._layers.index(below) + 1, layer)
        self._layers.selection = selection  # inserting selects what was inserted

    @property
    def all(self) -> tuple[Layer, ...]:
        """The layers, the topmost first."""
        found = self.left_out, self.unfamiliar, self.cam, self.classes, self.probability
        return tuple(layer for layer in found if layer is not None)

    @property
    def present(self) -> list[Layer]:
        """Those that the user has not removed."""
        return [layer for layer in self.all if layer in self._layers]

    def give_up(self) -> dict[str, Layer]:
        """Care for the layers no more; return those that are there by their role."""
        self._waiting.clear()
        self.cam.events.visible.disconnect(self._on_cam_visible)
        self._outlines.end()
        self._hatching.end()
        for part in self._parts:
            part.end()
        for name in PLACEMENT:
            getattr(self.slide_layer.events, name).disconnect(self._place)
        self.slide_layer.events.name.disconnect(self._rename)
        return {layer.metadata["dala_role"]: layer for layer in self.present}

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        for layer in self.give_up().values():
            self._layers.remove(layer)

    def add(self, blocks: Iterable[StoredBlock]) -> None:
        """Show blocks of tiles that are new in the store."""
        blocks = list(blocks)
        self._loaded.grow(blocks)
        self.probability.refresh(extent=False)
        self._show_classes()
        self._rename()
        self._explainer.grow()
        if self.unfamiliar is not None and any(block.tiles.unfamiliar.any() for block in blocks):
            np.asarray(self.unfamiliar.data)[...] = self.analysis.unfamiliar
            self.unfamiliar.refresh(extent=False)

    def mark(self, status: NDArray[np.uint8]) -> None:
        """Note what has become of every tile, (rows, columns)."""
        self._loaded.mark(status)
        if not self._is_left_out.any():
            return
        if self.left_out is None:
            self.left_out = self._left_out()
            self._named = self._names
            self._place()
            self._waiting.append(self.left_out)
            self._enter_next()
        np.asarray(self.left_out.data)[...] = self._is_left_out
        self.left_out.refresh(extent=False)

    def end_names(self, ending: str) -> None:
        """Give the layers' names another ending."""
        self._ending = ending
        self._rename()

    def name_model(self, name: str) -> None:
        """Call the model by another name."""
        self.analysis.card = self.analysis.card.model_copy(update={"name": name})
        self._rename()

    @property
    def threshold(self) -> float:
        """Operating threshold of the class map."""
        return self.analysis.threshold

    def set_threshold(self, threshold: float, doubt: float | None = None) -> None:
        """Draw the class map for another operating threshold; the band of doubt stays where none is given."""
        self.analysis.threshold = threshold
        self.analysis.doubt = self.analysis.doubt if doubt is None else doubt
        self._show_classes()

    def explain(self, explanation: CamView, view: Sequence[float] | None = None) -> None:
        """Show another class' map, or the same one thresholded in another way, without running the model.

        It is computed in a thread, first what lies in `view` (left, top, right, bottom; level-0 px).
        """
        before, self.explanation = self.explanation, explanation
        if explanation.class_index != before.class_index:
            self.probability.data = self.analysis.probability[explanation.class_index]
        self._rename()
        self._explainer.ask(explanation, None if view is None else tiles_in_view(self.analysis.grid, view))

    @property
    def is_explaining(self) -> bool:
        """True until the Grad-CAM layer shows the explanation."""
        return self._explainer.is_busy

    def raw_cam(self, class_index: int) -> NDArray[np.float32]:
        """Return a class' raw Grad-CAM over the whole grid, as `Analysis.cam` does, from memory."""
        return self._loaded.raw_cam(class_index)

    def tile_cam(self, row: int, column: int) -> NDArray[np.float32]:
        """Return what the Grad-CAM layer shows of one tile, (cells, cells), 0 to 1."""
        grid = self.analysis.grid
        rows, columns = (slice(at, at + grid.cells) for at in (grid.starts[0][row], grid.starts[1][column]))
        shown: NDArray[np.float32] = self.cam.data[rows, columns]
        return shown

    def tile_at(self, world: ArrayLike) -> tuple[int, int] | None:
        """Return (row, column) of the analysed tile around a world position, the one best centred, or None."""
        tile = self.analysis.grid.at(*to_slide(self.slide_layer, world))
        return tile if tile is not None and self.analysis.analysed[tile] else None

    def describe(self, world: ArrayLike) -> str:
        """Return class and probabilities at a world position as a few words; empty where there are none."""
        tile = self.tile_at(world)
        if tile is None:
            return ""
        card, values, called = self.analysis.card, self.analysis.probability[:, *tile], self.class_at(*tile)
        name = NOT_JUDGED if called is None else card.class_names[called]
        shares = ", ".join(f"{other} {value:.0%}" for other, value in zip(card.class_names, values, strict=True))
        return without_tags(f"{name}{'' if card.trained else ' (untrained)'}: {shares}")

    def class_at(self, row: int, column: int) -> int | None:
        """Return the class index of an analysed tile at the operating threshold; None where it is not judged."""
        called = int(np.asarray(self.classes.data)[row, column])
        return called - 1 if called else None

    def _create(self) -> tuple[Image, Image, Image]:
        card = self.analysis.card
        cam_name, classes_name, probability_name = self._names[-3:]
        probability = self._image(
            self.analysis.probability[card.target_class],
            probability_name,
            "probability",
            colormap=Colormap(PROBABILITY.colors, name=PROBABILITY.name),
            opacity=PROBABILITY.opacity,
        )
        classes = self._image(
            self.analysis.class_map().astype(np.float32),
            classes_name,
            "class",
            visible=False,
            **look_of_kinds(*(np.array([*entry.color, 255]) / 255 for entry in card.classes)),
        )
        cam = self._image(
            self.thresholded.map.copy(),
            cam_name,
            "cam",
            colormap=Colormap(GRAD_CAM.colors, name=GRAD_CAM.name),
            interpolation2d="linear",
            opacity=GRAD_CAM.opacity,
            visible=False,
        )
        return probability, classes, cam

    def _hatched(self) -> Image:
        return self._image(
            self.analysis.unfamiliar.astype(np.float32),
            self._names[-4],
            "unfamiliar",
            colormap=Colormap(((0, 0, 0, 0), _LINES), name="dala-unfamiliar"),
            opacity=0.5,
        )

    def _left_out(self) -> Image:
        return self._image(
            self._is_left_out.astype(np.float32),
            without_tags(f"{_LEFT_OUT}{self._whose}"),
            "left out",
            visible=False,
            **look_of_kinds(_INK, _BLUR),
        )

    def _image(self, data: NDArray[Any], name: str, role: str, **look: Any) -> Image:
        """Return a layer of values; an image even of classes, for nobody paints into it, and napari makes it sooner."""
        fixed: dict[str, Any] = {"blending": "translucent", "rgb": False, "multiscale": False}
        look = {"contrast_limits": (0, 1), "opacity": 0.5} | fixed | look
        metadata = {"dala_analysis": self.analysis, "dala_role": role}
        layer = self._taken_over.pop(role, None)
        if layer is None:
            return Image(data, name=name, metadata=metadata, **look)
        layer.data, layer.name, layer.metadata = data, name, metadata
        layer.colormap, layer.contrast_limits = look["colormap"], look["contrast_limits"]
        return layer

    @property
    def _is_left_out(self) -> NDArray[np.uint8]:
        """1 on tiles of ink, 2 on tiles out of focus, else 0, (rows, columns)."""
        return sum(
            ((self.analysis.status == kind) * np.uint8(value) for value, kind in enumerate(LEFT_OUT, 1)),
            np.zeros(self.analysis.grid.shape, np.uint8),
        )

    @property
    def _names(self) -> tuple[str, ...]:
        """What the layers are called, in the order of `all`."""
        card, shown = self.analysis.card, self.explanation
        kind = "DT Grad-CAM" if shown.thresholded else "Grad-CAM"
        ending = f"{'' if card.trained else ' (untrained)'}{self._whose}"
        approximate = " (approximate)" if self.analysis.approximate.any() else ""
        unfamiliar = (f"Unfamiliar tissue{ending}",) if self.analysis.knows_unfamiliar else ()
        left_out = () if self.left_out is None else (f"{_LEFT_OUT}{self._whose}",)
        names = (
            *left_out,
            *unfamiliar,
            f"{kind}: {card.class_names[shown.class_index]}{approximate}{ending}",
            f"Predicted class{ending}",
            f"{card.class_names[shown.class_index].capitalize()} probability{ending}",
        )
        return tuple(map(without_tags, names))

    @property
    def _whose(self) -> str:
        """The end of every name: slide and model."""
        return f" · {self.slide_layer.name} · {self.analysis.card.name}{self._ending}"

    def _rename(self) -> None:
        """Rename layers that are to be called otherwise than before; a name that the user gave stays as long."""
        before, self._named = self._named, self._names
        for layer, old, name in zip(self.all, before, self._named, strict=True):
            if name != old:
                layer.name = name

    def _place(self) -> None:
        """Lay every layer where its grid lies on the slide layer, however that is scaled, moved or turned."""
        grid = self.analysis.grid
        for layer, frame in (
            (self.probability, grid.tile_frame),
            (self.classes, grid.tile_frame),
            (self.left_out, grid.tile_frame),
            (self.unfamiliar, grid.tile_frame),
            (self.cam, grid.cell_frame),
        ):
            if layer is not None:
                place_over(layer, frame, self.slide_layer)

    def _show_classes(self) -> None:
        np.asarray(self.classes.data)[...] = self.analysis.class_map()
        self.classes.refresh(extent=False)

    def _show_part(self, explanation: CamView, part: tuple[slice, slice], picture: NDArray[np.float32]) -> None:
        np.asarray(self.cam.data)[part] = picture
        self._outline(explanation)

    def _show_cam(self, explanation: CamView, thresholded: ThresholdedMap, most_strength: float) -> None:
        self.thresholded, self.most_strength = thresholded, most_strength
        np.asarray(self.cam.data)[...] = explanation.picture(thresholded)
        self._outline(explanation)
        self.explained.emit()

    def _outline(self, explanation: CamView | None = None) -> None:
        """Draw the map anew, with outlines of what is kept of it; the whole map has none."""
        self._outlines.level = FAINTEST / 2 if (explanation or self.explanation).thresholded else 2.0
        self.cam.refresh(extent=False)

    def _on_cam_visible(self) -> None:
        """Dim the probability under a Grad-CAM, unless the user has chosen an opacity."""
        before, after = PROBABILITY.opacity, DIMMED
        if not self.cam.visible:
            before, after = after, before
        if self.probability.opacity == before:
            self.probability.opacity = after
