"""Regions or folders -> a better model: data sets, splits, metrics, fitting. The last alone imports torch."""
