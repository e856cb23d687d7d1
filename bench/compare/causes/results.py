"""Signatures that the result alone shows: another element, another tile, fewer bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.compare.causes.cause import Candidate

SUM_BITS = (8, 16, 24)


def result_candidates(got: np.ndarray, expected: np.ndarray) -> Iterator[Candidate]:
    """Results in which values stand elsewhere, or lost their high bits."""
    for axis in range(expected.ndim - 1, -1, -1):
        yield from _stale(expected, axis)
    if expected.ndim and expected.shape[-1] > 1:
        yield from _lanes(got, expected)
    if expected.dtype.itemsize >= 4:
        yield from _width(expected.astype(np.int64), expected.dtype)


def _stale(expected: np.ndarray, axis: int) -> Iterator[Candidate]:
    """A tile that holds what belongs to the one before it, or behind it."""
    if expected.shape[axis] < 2:
        return
    for step, where in ((1, "before"), (-1, "behind")):
        yield Candidate(
            "stale tile",
            f"elements hold what belongs one position {where} them in dimension {axis}",
            lambda step=step: np.roll(expected, step, axis),  # type: ignore[misc]
        )


def _lanes(got: np.ndarray, expected: np.ndarray) -> Iterator[Candidate]:
    """Positions of the innermost dimension in another order."""
    lanes = expected.shape[-1]
    orders = [("the result's lanes stand in reverse order", np.arange(lanes)[::-1])]
    distance = 1
    while lanes % (2 * distance) == 0:
        order = np.arange(lanes) ^ distance
        orders.append((f"lanes of the result that are {distance} apart have changed places", order))
        distance *= 2
    touched = np.flatnonzero((got != expected).reshape(-1, lanes).any(axis=0))
    if len(touched) == 2:
        order = np.arange(lanes)
        order[touched] = touched[::-1]
        orders.append((f"lanes {touched[0]} and {touched[1]} of the result have changed places", order))
    for what, order in orders:
        yield Candidate("lanes swapped", what, lambda order=order: expected[..., order])  # type: ignore[misc]


def _width(expected: np.ndarray, dtype: np.dtype) -> Iterator[Candidate]:
    """A result that went through a narrower number."""
    for bits in SUM_BITS:
        half, whole = 1 << (bits - 1), 1 << bits
        wrapped = (expected + half) % whole - half
        limited = np.clip(expected, -half, half - 1)
        for how, value in (("wrap", wrapped), ("saturate", limited)):
            yield Candidate(
                "accumulator width",
                f"sums {how} at {bits} bits",
                lambda value=value: value.astype(dtype),  # type: ignore[misc]
            )
