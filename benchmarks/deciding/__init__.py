"""Rows of `python -m benchmarks.decisions`."""
