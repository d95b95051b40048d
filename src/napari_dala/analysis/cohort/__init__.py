"""Many slides on a dask cluster."""
