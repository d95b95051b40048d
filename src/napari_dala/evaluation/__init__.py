"""How good a model is on photographs."""
