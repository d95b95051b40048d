"""The napari side: reader, writer, sample data and docks. Never imports torch."""
