"""What an exported model is called and what is said of it, for whoever has no napari-dala. No torch."""
