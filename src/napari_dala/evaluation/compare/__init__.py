"""Several networks under one split."""
