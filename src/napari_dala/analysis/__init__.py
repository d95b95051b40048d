"""Slide x model -> result: engine, store, export, report. The engine alone imports torch."""
