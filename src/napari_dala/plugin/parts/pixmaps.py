"""Pictures as Qt shows them."""

from __future__ import annotations

from PIL import Image as Picture
from qtpy.QtGui import QImage, QPixmap

_GAP = 4  # px


def pixmap_row(*pictures: Picture.Image) -> QPixmap:
    """Return pictures of one size side by side."""
    width, height = pictures[0].size
    row = Picture.new("RGBA", ((width + _GAP) * len(pictures) - _GAP, height))
    for number, picture in enumerate(pictures):
        row.paste(picture, ((width + _GAP) * number, 0))
    image = QImage(row.tobytes(), row.width, row.height, 4 * row.width, QImage.Format.Format_RGBA8888)
    return QPixmap.fromImage(image.copy())
