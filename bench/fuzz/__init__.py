"""Fuzzing: random small graphs and schedules, compared on a target's machine, the host and in NumPy."""
