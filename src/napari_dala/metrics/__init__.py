"""Figures with their intervals. Knows no torch."""
