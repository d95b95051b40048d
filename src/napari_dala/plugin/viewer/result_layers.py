"""The results of one analysis as layers over its slide: probability, class, Grad-CAM, the unfamiliar, ink and blur."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap, DirectLabelColormap
from psygnal import Signal

from napari_dala.plugin.viewer.cam_picture import CamPainter, CamView
from napari_dala.plugin.viewer.plain_text import without_tags
from napari_dala.plugin.viewer.slide_layers import to_slide
from napari_dala.results.report.pictures import colormap
from napari_dala.results.tile_results import LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari.components import LayerList
    from napari.layers import Layer
    from numpy.typing import ArrayLike, NDArray

    from napari_dala.model.threshold import ThresholdedMap
    from napari_dala.results.analysis import Analysis
    from napari_dala.results.loaded import LoadedAnalysis, StoredBlock

    Frame = tuple[tuple[float, float], tuple[float, float]]

PROBABILITY_OPACITY, CAM_OPACITY = 0.5, 0.65  # both together leave the nuclei visible
_MOST = 0.5
_HATCH = (0.35, 0.35, 0.35, 1.0)
_LEFT_OUT, _INK, _BLUR = "Ink and blur", (0.1, 0.3, 0.9, 1.0), (0.9, 0.7, 0.1, 1.0)
PLACEMENT = ("scale", "translate", "rotate", "shear", "affine", "units")


class ResultLayers:
    """Creates layers above a slide layer and keeps them up to date.

    Probability, predicted class and Grad-CAM; where the bundle knows what it was trained on, also grey hatching over
    tissue unlike that. Where tiles were left out for ink or blur, a hidden layer of those.

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

    Attributes
    ----------
    threshold
        Operating threshold of the class map.
    explanation
        What the Grad-CAM layer shows.
    thresholded
        The map in that layer, with its T and the kept fraction; it follows the explanation within a moment.
    explained
        A psygnal: `thresholded` is another one.
    """

    explained = Signal()

    def __init__(self, layers: LayerList, slide_layer: Image, loaded: LoadedAnalysis, ending: str = "") -> None:
        self.analysis = loaded.analysis
        self._ending = ending
        self.slide_layer = slide_layer
        self.threshold = self.analysis.card.operating_threshold
        self.explanation = CamView(self.analysis.card.target_class)
        self._layers = layers
        self._loaded = loaded
        self.thresholded = loaded.take_first()
        self._explainer = CamPainter(loaded, self.explanation)
        self._explainer.part_made.connect(self._show_part)
        self._explainer.made.connect(self._show_cam)
        self.left_out: Labels | None = None
        self.probability, self.classes, self.cam = self._create()
        self.unfamiliar = self._hatched() if self.analysis.knows_unfamiliar else None
        if self._is_left_out.any():
            self.left_out = self._left_out()
        self._named = self._names
        self._place()
        for name in PLACEMENT:
            getattr(slide_layer.events, name).connect(self._place)
        slide_layer.events.name.connect(self._rename)
        selection = set(layers.selection)
        for layer in self.all:
            layers.insert(layers.index(slide_layer) + 1, layer)
        layers.selection = selection or {slide_layer}  # inserting selects what was inserted

    @property
    def all(self) -> tuple[Layer, ...]:
        """The layers, the topmost first."""
        found = self.left_out, self.unfamiliar, self.cam, self.classes, self.probability
        return tuple(layer for layer in found if layer is not None)

    @property
    def present(self) -> list[Layer]:
        """Those that the user has not removed."""
        return [layer for layer in self.all if layer in self._layers]

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        for name in PLACEMENT:
            getattr(self.slide_layer.events, name).disconnect(self._place)
        self.slide_layer.events.name.disconnect(self._rename)
        for layer in self.present:
            self._layers.remove(layer)

    def add(self, blocks: Iterable[StoredBlock]) -> None:
        """Show blocks of tiles that are new in the store."""
        blocks = list(blocks)
        self._loaded.grow(blocks)
        hatched = any(block.tiles.unfamiliar.any() for block in blocks)
        self.probability.refresh(extent=False)
        self._show_classes()
        self._rename()
        self._explainer.grow()
        if self.unfamiliar is not None and hatched:
            np.asarray(self.unfamiliar.data)[...] = self._hatching()
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
            selection = set(self._layers.selection)
            self._layers.insert(self._layers.index(self.slide_layer) + 1, self.left_out)
            self._layers.selection = selection
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

    def set_threshold(self, threshold: float) -> None:
        """Draw the class map for another operating threshold."""
        self.threshold = threshold
        for layer in self.all:
            layer.metadata["dala_threshold"] = threshold
        self._show_classes()

    def explain(self, explanation: CamView, view: Sequence[float] | None = None) -> None:
        """Show another class' map, or the same one thresholded in another way, without running the model.

        It is computed in a thread, first what lies in `view` (left, top, right, bottom; level-0 px).
        """
        self.explanation = explanation
        self._rename()
        self._explainer.ask(explanation, None if view is None else self._tiles_in(view))

    @property
    def is_explaining(self) -> bool:
        """True until the Grad-CAM layer shows the explanation."""
        return self._explainer.is_busy

    def raw_cam(self, class_index: int) -> NDArray[np.float32]:
        """Return a class' raw Grad-CAM over the whole grid, as `Analysis.cam` does, from memory."""
        return self._loaded.raw_cam(class_index)

    def tile_cam(self, row: int, column: int) -> NDArray[np.float32]:
        """Return what the Grad-CAM layer shows of one tile, (cells, cells), 0 to 1."""
        cells, stride = self.analysis.grid.cells, self.analysis.grid.stride_cells
        rows, columns = (slice(at * stride, at * stride + cells) for at in (row, column))
        shown: NDArray[np.float32] = self.cam.data[rows, columns]
        return shown

    def tile_at(self, world: ArrayLike) -> tuple[int, int] | None:
        """Return (row, column) of the analysed tile around a world position, the one best centred, or None."""
        grid = self.analysis.grid
        tile = []
        for at, step, first, count in zip(
            to_slide(self.slide_layer, world)[::-1], *grid.tile_frame, grid.shape, strict=True
        ):
            index = min(max(round((at - first) / step), 0), count - 1)
            if abs(at - first - index * step) > first:  # the first tile's centre is half a tile from the edge
                return None
            tile.append(index)
        row, column = tile
        return (row, column) if self.analysis.analysed[row, column] else None

    def describe(self, world: ArrayLike) -> str:
        """Return class and probabilities at a world position as a few words; empty where there are none."""
        tile = self.tile_at(world)
        if tile is None:
            return ""
        card, values = self.analysis.card, self.analysis.probability[:, tile[0], tile[1]]
        name = card.class_names[self.class_at(*tile)]
        shares = ", ".join(f"{other} {value:.0%}" for other, value in zip(card.class_names, values, strict=True))
        return without_tags(f"{name}{'' if card.trained else ' (untrained)'}: {shares}")

    def class_at(self, row: int, column: int) -> int:
        """Return the class index of an analysed tile at the operating threshold."""
        return int(np.asarray(self.classes.data)[row, column]) - 1

    def _create(self) -> tuple[Image, Labels, Image]:
        card = self.analysis.card
        cam_name, classes_name, probability_name = self._names[-3:]
        probability = Image(
            self.analysis.probability[card.target_class],
            name=probability_name,
            colormap=_colors(card.target_class, self.analysis),
            contrast_limits=(0, 1),
            opacity=PROBABILITY_OPACITY,
            blending="translucent",
            rgb=False,
            multiscale=False,
            metadata=self._metadata("probability"),
        )
        colors: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
        colors |= {index + 1: np.array([*entry.color, 255]) / 255 for index, entry in enumerate(card.classes)}
        classes = Labels(
            self.analysis.class_map(self.threshold),
            name=classes_name,
            colormap=DirectLabelColormap(color_dict=colors),
            opacity=0.5,
            blending="translucent",
            visible=False,
            multiscale=False,
            metadata=self._metadata("class"),
        )
        cam = Image(
            self.thresholded.map.copy(),
            name=cam_name,
            colormap=_colors(self.explanation.class_index, self.analysis),
            contrast_limits=(0, 1),
            interpolation2d="linear",
            opacity=CAM_OPACITY,
            blending="translucent",
            rgb=False,
            multiscale=False,
            metadata=self._metadata("cam"),
        )
        return probability, classes, cam

    def _hatched(self) -> Image:
        return Image(
            self._hatching(),
            name=self._names[-4],
            colormap=Colormap(((0, 0, 0, 0), _HATCH), name="dala unfamiliar"),
            contrast_limits=(0, 1),
            opacity=0.8,
            blending="translucent",
            rgb=False,
            multiscale=False,
            metadata=self._metadata("unfamiliar"),
        )

    @property
    def _is_left_out(self) -> NDArray[np.uint8]:
        """1 on tiles of ink, 2 on tiles out of focus, else 0, (rows, columns)."""
        return sum(
            ((self.analysis.status == kind) * np.uint8(value) for value, kind in enumerate(LEFT_OUT, 1)),
            np.zeros(self.analysis.grid.shape, np.uint8),
        )

    def _left_out(self) -> Labels:
        return Labels(
            self._is_left_out,
            name=without_tags(f"{_LEFT_OUT}{self._whose}"),
            colormap=DirectLabelColormap(color_dict={None: (0, 0, 0, 0), 0: (0, 0, 0, 0), 1: _INK, 2: _BLUR}),
            opacity=0.6,
            blending="translucent",
            visible=False,
            multiscale=False,
            metadata=self._metadata("left out"),
        )

    def _hatching(self) -> NDArray[np.uint8]:
        """Return 1 on diagonals of cells in unfamiliar tiles, else 0, (rows * cells, columns * cells)."""
        grid = self.analysis.grid
        hatched = np.zeros(grid.cam_shape, np.uint8)
        if self.analysis.unfamiliar.any():
            rows, columns = np.indices(grid.cam_shape, sparse=True)
            places = zip((rows, columns), grid.shape, strict=True)
            at_row, at_column = (np.minimum(cells // grid.stride_cells, count - 1) for cells, count in places)
            hatched[...] = self.analysis.unfamiliar[at_row, at_column] & ((rows + columns) % 3 == 0)
        return hatched

    def _metadata(self, role: str) -> dict[str, Any]:
        return {"dala_analysis": self.analysis, "dala_role": role, "dala_threshold": self.threshold}

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
            f"{card.class_names[card.target_class].capitalize()} probability{ending}",
        )
        return tuple(map(without_tags, names))

    @property
    def _whose(self) -> str:
        """The end of every name: slide and model."""
        return f" · {self.slide_layer.name} · {self.analysis.card.name}{self._ending}"

    def _rename(self) -> None:
        """Rename layers that are to be called otherwise than before; a name that the user gave stays as long."""
        names = self._names
        for layer, before, name in zip(self.all, self._named, names, strict=True):
            if name != before:
                layer.name = name
        self._named = names

    def _place(self) -> None:
        """Lay every layer where its grid lies on the slide layer, however that is scaled, moved or turned."""
        grid = self.analysis.grid
        for layer, frame in (
            (self.probability, grid.tile_frame),
            (self.classes, grid.tile_frame),
            (self.left_out, grid.tile_frame),
            (self.cam, grid.cell_frame),
            (self.unfamiliar, grid.cell_frame),
        ):
            if layer is not None:
                place_over(layer, frame, self.slide_layer)

    def _show_classes(self) -> None:
        np.asarray(self.classes.data)[...] = self.analysis.class_map(self.threshold)
        self.classes.refresh(extent=False)

    def _tiles_in(self, view: Sequence[float]) -> tuple[slice, slice] | None:
        """Return rows and columns of the tiles in a view and around it, so that its edge cuts no island in sight.

        None where that is most of the map: then the whole is there as soon.
        """
        grid = self.analysis.grid
        counts = tuple(-(-cells // grid.cells) for cells in grid.cam_shape)
        low, high = (np.divide(edge[::-1], grid.cell_frame[0]) // grid.cells for edge in (view[:2], view[2:]))
        rows, columns = (
            slice(max(0, int(first) - 1), max(1, min(count, int(last) + 2)))
            for first, last, count in zip(np.minimum(low, np.subtract(counts, 1)), high, counts, strict=True)
        )
        seen = (rows.stop - rows.start) * (columns.stop - columns.start)
        return (rows, columns) if seen < _MOST * math.prod(counts) else None

    def _show_part(self, explanation: CamView, part: tuple[slice, slice], picture: NDArray[np.float32]) -> None:
        np.asarray(self.cam.data)[part] = picture
        self._color_cam(explanation)

    def _show_cam(self, explanation: CamView, thresholded: ThresholdedMap) -> None:
        self.thresholded = thresholded
        np.asarray(self.cam.data)[...] = explanation.picture(thresholded)
        self._color_cam(explanation)
        self.explained.emit()

    def _color_cam(self, explanation: CamView) -> None:
        colors = _colors(explanation.class_index, self.analysis)
        if self.cam.colormap.name != colors.name:
            self.cam.colormap = colors
        self.cam.refresh(extent=False)


def _colors(class_index: int, analysis: Analysis) -> Colormap:
    entry = analysis.card.classes[class_index]
    return Colormap(colormap(entry.color), name=f"dala {entry.name}")


def place_over(layer: Layer, frame: Frame, slide_layer: Image) -> None:
    """Place a layer of one pixel per tile or cell; `frame` is its pixel side and first centre, level-0 px (y, x)."""
    side, first = frame
    # napari: world = affine(rotate(shear(scale * data)) + translate)
    corner = slide_layer.data_to_world(np.subtract(first, 0.5))
    layer.units = slide_layer.units
    layer.affine = slide_layer.affine
    layer.rotate, layer.shear = slide_layer.rotate, slide_layer.shear
    layer.scale = np.multiply(side, slide_layer.scale)
    layer.translate = slide_layer.affine.inverse(corner)
