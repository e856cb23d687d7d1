"""Implementations by others, as witnesses that the NumPy models compute what everyone means."""
