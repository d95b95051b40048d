"""Training on labelled photographs."""
