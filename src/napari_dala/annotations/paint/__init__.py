"""What brush, eraser and wand make of a document: polygons."""
