"""How good the explanations are."""
