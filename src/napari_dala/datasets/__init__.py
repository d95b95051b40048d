"""Labelled photographs in folders, and how they are split. Knows no torch."""
