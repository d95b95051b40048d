"""Slide x model -> result: plan, read, run the network, store."""
