"""Weights that others made: what a file is, which networks are in it, and what of them becomes a model of ours."""
