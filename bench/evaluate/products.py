"""Sums of products, exact, by floating-point matrix products where every partial sum is small enough."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from bench.evaluate.dtypes import is_integer, wrap

# A float32 holds every integer up to here; so does a sum whose partial sums stay within it, in any order.
_FLOAT32_EXACT = 2**24
_FLOAT64_EXACT = 2**53


def product(left: np.ndarray, right: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Multiply matrices (leading axes broadcast), with integer sums exact and wrapped to `dtype`."""
    if not is_integer(left.dtype):
        return np.matmul(left, right).astype(dtype)
    sums = WeightedSums(np.swapaxes(right, -1, -2), largest(left))
    result = sums.of(np.swapaxes(left, -1, -2).astype(sums.working))
    return wrap(np.swapaxes(result, -1, -2), dtype)


def largest(values: np.ndarray) -> int:
    """The largest magnitude of integers, 0 of none."""
    if not values.size:
        return 0
    if values.dtype.name in ("int4", "uint4"):
        values = values.astype(np.int8)
    return max(abs(int(values.min())), abs(int(values.max())))


class WeightedSums:
    """Products of an integer weight (..., O, K) with terms (..., K, P), exact, mod 2^32.

    Every partial sum, in whatever order a matrix product takes its terms and fused or not, is at most
    `largest` times the sum of the magnitudes of one row of the weight. Where that is beyond 2^24 for a
    row, the sum over K is cut into slices for which it is not, each a float32 product, and their int32
    results are added. Operands of more than 16 bits, of which not even a short slice would fit, are
    multiplied in float64 (2^53) or, beyond, in int64.
    """

    def __init__(self, weight: np.ndarray, largest: int) -> None:
        magnitudes = np.abs(weight.astype(np.int64))
        self.slices = _slices(magnitudes, largest)
        self.working: type = np.float32
        if self.slices is None:
            self.slices = [slice(0, weight.shape[-1])]
            total = int(magnitudes.sum(axis=-1).max(initial=0)) * largest
            self.working = np.float64 if total <= _FLOAT64_EXACT else np.int64
        self._parts = [np.ascontiguousarray(weight[..., part], dtype=self.working) for part in self.slices]

    def of(self, terms: np.ndarray) -> np.ndarray:
        """The sums (..., O, P): int32, or int64 where the terms are wide. `terms` are of type `working`."""
        if self.working is not np.float32:
            assert len(self._parts) == 1
            return np.matmul(self._parts[0], terms).astype(np.int64)
        result: np.ndarray | None = None
        for part, weight in zip(self.slices or (), self._parts, strict=True):
            sums = np.matmul(weight, terms[..., part, :]).astype(np.int32)
            # Array additions of int32 wrap, which is what is meant.
            result = sums if result is None else np.add(result, sums, out=result)
        assert result is not None
        return result


def _slices(magnitudes: np.ndarray, largest: int, *, most: int = 64) -> list[slice] | None:
    """Equal slices of the last axis whose sums of magnitudes, times `largest`, are within 2^24 each."""
    depth = magnitudes.shape[-1]
    total = int(magnitudes.sum(axis=-1).max(initial=0)) * largest
    for count in range(max(1, -(-total // _FLOAT32_EXACT)), min(most, max(depth, 1)) + 1):
        edges = [depth * index // count for index in range(count + 1)]
        slices = [slice(*pair) for pair in pairwise(edges)]
        worst = max(int(magnitudes[..., part].sum(axis=-1).max(initial=0)) for part in slices)
        if worst * largest <= _FLOAT32_EXACT:
            return slices
    return None
