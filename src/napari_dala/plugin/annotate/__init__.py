"""Drawing on a slide, and what it counts for."""
