"""What brush, eraser and wand, the tile key and "Fill holes" make of the current slide's annotations."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_dala.annotations.paint.strokes import erased, filled, painted
from napari_dala.annotations.tile_regions import with_tile_regions
from napari_dala.errors import SlideError
from napari_dala.model.catalog import find_card
from napari_dala.plugin.annotate.brush import Brush
from napari_dala.plugin.viewer.slide_layers import to_slide
from napari_dala.slide.tiles import CELL_PX, TileGrid

if TYPE_CHECKING:
    from napari_dala.annotations.document import AnnotationDocument
    from napari_dala.annotations.paint.strokes import Stroke
    from napari_dala.model.card import ModelCard
    from napari_dala.plugin.annotate.drawing import Drawing

_NOTHING_ERASED = "No region there to take away from."
_NO_HOLE = "No hole to fill: select regions, or choose the class whose regions have holes."
_NO_TILE = "Point at a tile of the slide first."
_NO_TILES = "Tiles are not known yet: give the slide its resolution first."


class Painter(QObject):
    """Changes a drawing's document, each time as one step that can be undone.

    Parameters
    ----------
    drawing
        Which holds this.

    Attributes
    ----------
    brush
        The tools that paint.
    """

    told = Signal(str)
    """Why nothing came of what the user did, one line."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__(drawing)
        self._drawing = drawing
        self.brush = Brush(drawing.session)
        self.brush.stroked.connect(self._on_stroke)
        drawing.session.tile_asked.connect(self.label_tile)

    def fill_holes(self) -> None:
        """Fill the holes of the selected regions; where none is selected, of all regions of the class in hand."""
        drawing, document = self._drawing, self._drawing.document
        if document is not None:
            of_class = {item.id for item in document.annotations if item.class_name == drawing.class_name}
            self._edit_or_tell(filled(document, drawing.selected or of_class), _NO_HOLE)

    def label_tile(self) -> None:
        """Make the tile under the mouse a region of the class in hand."""
        session, document = self._drawing.session, self._drawing.document
        if document is None or session.layer is None:
            return
        grid = self._grid()
        tile = grid.at(*to_slide(session.layer, session.viewer.cursor.position)) if grid is not None else None
        info = document.class_named(self._drawing.class_name)
        if grid is not None and tile is not None and info is not None:
            self._drawing.edit(with_tile_regions(document, grid, [tile], info))
        else:
            self.told.emit(_NO_TILES if grid is None else _NO_TILE)

    def _on_stroke(self, stroke: Stroke) -> None:
        document, grid = self._drawing.document, self._grid()
        if document is not None and not stroke.area.is_empty:
            change = erased if stroke.erases else painted
            cell = grid.cell_px * min(grid.scale) if grid is not None else CELL_PX
            self._edit_or_tell(change(document, stroke.simplified(cell), self._drawing.class_name), _NOTHING_ERASED)

    def _edit_or_tell(self, document: AnnotationDocument, otherwise: str) -> None:
        if document is self._drawing.document:
            self.told.emit(otherwise)
        else:
            self._drawing.edit(document)

    @cached_property
    def _card(self) -> ModelCard:
        """Of the built-in model; read once, not for every stroke."""
        return find_card("default")

    def _grid(self) -> TileGrid | None:
        """Return the tiles of the results that are shown, or else of the model that is built in."""
        session = self._drawing.session
        if session.results is not None:
            return session.results.analysis.grid
        slide = session.open_slide()
        try:
            return None if slide is None else TileGrid.over(slide, self._card.tile_px, self._card.mpp)
        except SlideError:  # its resolution is not known, or too coarse for the model
            return None
