"""Labelled photographs or drawn regions -> a better model."""
