"""Operands for a kernel: over the whole range of their type, corners included."""

from __future__ import annotations

import numpy as np

from bench.artifact import TensorSpec

CORNER_SHARE = 0.2


def draw(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Random values of an integer type over its whole range; a fifth are its ends, -1, 0 and 1.

    Raises ValueError for a type that is no integer: equality of bits is asked for, and the bench compares
    integers.
    """
    dtype = np.dtype(spec.dtype)
    if dtype.kind not in "iu":
        raise ValueError(f"tensor {spec.name} is {spec.dtype}; operands of integer types can be drawn")
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, spec.shape, dtype=dtype, endpoint=True)
    corners = np.array([limits.min, limits.max, 0, 1, -1 if dtype.kind == "i" else limits.max - 1], dtype)
    chosen = rng.random(spec.shape) < CORNER_SHARE
    return np.where(chosen, rng.choice(corners, spec.shape), values).astype(dtype)
