"""Measurements that take too long for a test: `python -m benchmarks.NAME` from the repository's root."""
