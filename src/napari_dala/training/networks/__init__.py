"""The networks that can be trained, and weights to begin with."""
