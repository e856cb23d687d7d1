"""Random operands: over the whole range of their type, with corners, and arrays that are one corner."""

from __future__ import annotations

import numpy as np

from bench.int4 import HELD

CORNER_SHARE = 0.2


def limits(dtype: str) -> tuple[int, int]:
    """The ends of an integer type, those of 4 bits too."""
    if dtype in HELD:
        return (-8, 7) if dtype == "int4" else (0, 15)
    ends = np.iinfo(dtype)
    return int(ends.min), int(ends.max)


def operand(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Values of a type, one of 4 bits held in 8.

    Most arrays cover the whole range and a fifth of their elements are corners; some are a corner throughout,
    some nearly all zeros, some small.
    """
    low, high = limits(dtype)
    held = HELD.get(dtype, dtype)
    corners = np.array([low, high, 0, 1, -1 if low < 0 else high - 1], held)
    kind = rng.random()
    if kind < 0.06:
        values = np.full(shape, rng.choice(corners[:2]), held)
        values[rng.random(shape) < 0.1] = 1
        return values
    if kind < 0.12:
        values = rng.integers(low, high, shape, endpoint=True)
        return np.where(rng.random(shape) < 0.1, values, 0).astype(held)
    if kind < 0.2:
        return rng.integers(max(low, -2), 3, shape).astype(held)
    values = rng.integers(low, high, shape, endpoint=True)
    return np.where(rng.random(shape) < CORNER_SHARE, rng.choice(corners, shape), values).astype(held)


def biases(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values of int32 of which most are as large as sums of products, and now and then some are its ends."""
    values = rng.integers(-(2**16), 2**16, shape)
    if rng.random() < 0.1:
        ends = rng.choice(np.array([-(2**31), 2**31 - 1, -1, 0]), shape)
        values = np.where(rng.random(shape) < 0.3, ends, values)
    return values.astype(np.int32)
