"""Comparison: where two evaluations of a graph differ, and what the bench says of it."""
