"""How late napari's window is."""
