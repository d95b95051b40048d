"""What people draw on slides: documents, files, regions, and the tiles they label. Knows no torch."""
