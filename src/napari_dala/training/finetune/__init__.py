"""A model retrained on what was drawn on slides. Imports nothing: napari reads `job`, without torch."""
