"""Between napari's layers and slides and results."""
