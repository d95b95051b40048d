"""What is asked of an analysis and what came of it: request, progress, store, report. Knows no torch."""
