"""The network, its file format, Grad-CAM and the dynamic threshold.

This file imports nothing: `card`, `catalog` and `threshold` are used in napari's process, which must not load torch.
"""
