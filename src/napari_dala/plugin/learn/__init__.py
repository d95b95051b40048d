"""The dock that learns from what was drawn."""
