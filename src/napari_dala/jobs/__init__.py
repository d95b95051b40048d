"""A child process that works while napari stays free. Knows no torch, no Qt."""
