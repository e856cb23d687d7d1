"""A function for faults to be planted in."""

from collections.abc import Iterable


def total(values: Iterable[int]) -> int:
    total = 0
    for value in values:
        total += value
    return total
