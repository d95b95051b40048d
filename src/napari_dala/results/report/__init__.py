"""Pictures, tables and pages of an analysis."""
