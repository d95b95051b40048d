"""The dock that analyses a slide."""
