"""Pixels of a slide: backends, pyramid, tissue, tiles and the teaching slide. Knows no torch, no Qt."""

from napari_dala.errors import SlideError
from napari_dala.slide.base import Level, Slide
from napari_dala.slide.open import open_slide

__all__ = ["Level", "Slide", "SlideError", "open_slide"]
