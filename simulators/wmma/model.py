"""Integer and single-bit `wmma.mma` and `mma.sync`: what one tensor-core instruction does to its matrices.

Source: PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions". Shapes and types are the manual's
tables; `SUPPORTED` is that table, and it is all that decides what `mma` accepts.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class Variant:
    """One row of the manual's tables: an instruction, its shape and the types of its multiplicands."""

    instruction: str
    shape: tuple[int, int, int]
    a: str
    b: str

    def __str__(self) -> str:
        m, n, k = self.shape
        return f"{self.instruction} m{m}n{n}k{k} {self.a}·{self.b}"


# Whole bytes and sub-bytes: for each instruction its shapes (m, n, k). wmma wants A and B of one type ("the
# values for .atype and .btype must be the same"), mma.sync takes any pairing of signed and unsigned.
_BYTES = ("int8", "uint8")
_NIBBLES = ("int4", "uint4")
_TABLE = (
    ("wmma", ((16, 16, 16), (8, 32, 16), (32, 8, 16)), tuple((t, t) for t in _BYTES)),
    ("wmma", ((8, 8, 32),), tuple((t, t) for t in _NIBBLES)),
    ("mma", ((8, 8, 16), (16, 8, 16), (16, 8, 32)), tuple((a, b) for a in _BYTES for b in _BYTES)),
    ("mma", ((8, 8, 32), (16, 8, 32), (16, 8, 64)), tuple((a, b) for a in _NIBBLES for b in _NIBBLES)),
)

SUPPORTED: tuple[Variant, ...] = tuple(
    Variant(instruction, shape, a, b)
    for instruction, shapes, types in _TABLE
    for shape in shapes
    for a, b in types
)

_DTYPES = {
    np.dtype(np.int8): "int8",
    np.dtype(np.uint8): "uint8",
    np.dtype(ml_dtypes.int4): "int4",
    np.dtype(ml_dtypes.uint4): "uint4",
}
_INT32 = np.iinfo(np.int32)
_MAGNITUDES = {"int8": 128, "uint8": 255, "int4": 8, "uint4": 15}
# A float32 holds every integer up to here.
_FLOAT32_EXACT = 2**24


def mma(a: np.ndarray, b: np.ndarray, c: np.ndarray, satfinite: bool = False) -> np.ndarray:
    """D = A·B + C of one integer tensor-core instruction, or of many at once.

    `a` is (..., m, k), `b` (..., k, n) and `c` (..., m, n) int32; leading dimensions broadcast. `a` and `b`
    are int8 or uint8 (numpy), int4 or uint4 (ml_dtypes). The result is int32 (..., m, n): it wraps modulo
    2^32, or with `satfinite` is clamped to the ends of int32, once, after the whole sum.

    Raises ValueError, with the list of what is supported, for any other dtype or (m, n, k).
    """
    _legal_variant(a, b, c)
    # k is at most 64 and a product at most 255 * 255: a sum of products is below 2^23.
    products = _integer_product(a, b)
    if satfinite:
        return np.clip(products.astype(np.int64) + c, _INT32.min, _INT32.max).astype(np.int32)
    # An addition of int32 arrays wraps.
    return products + c


def mma_chain(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The accumulator after instructions one behind the other, each of which takes the last one's D as its C.

    `a` is (..., s, m, k), `b` (..., s, k, n) for s instructions, `c` (..., m, n) int32; the dimensions before
    these broadcast. As `mma` s times without satfinite: sums mod 2^32 are the same in any order.

    Raises ValueError as `mma` does, and where `a` and `b` are not of one number of instructions.
    """
    if a.ndim < 3 or b.ndim < 3 or a.shape[-3] != b.shape[-3]:
        raise ValueError(f"a {a.shape} and b {b.shape} must be (..., s, m, k) and (..., s, k, n) of one s")
    (_, n, k), a_type, b_type = _legal_variant(a, b, c)
    longest = max(1, _FLOAT32_EXACT // (k * _MAGNITUDES[a_type] * _MAGNITUDES[b_type]))
    accumulator = c
    for start in range(0, a.shape[-3], longest):
        # The steps lie along the sum: (..., m, s k) by (..., s k, n).
        part = np.moveaxis(a[..., start : start + longest, :, :], -3, -2)
        left = part.reshape(*part.shape[:-2], -1)
        right = b[..., start : start + longest, :, :]
        right = right.reshape(*right.shape[:-3], -1, n)
        accumulator = _integer_product(left, right) + accumulator
    return accumulator


def _integer_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix products of two stacks, int32, where all partial sums are within 2^24.

    A float32 holds such sums exactly, in whatever order they are added. Where only one of the stacks has a
    dimension, its matrices are put side by side: a few large products instead of many small ones.
    """
    rank = max(a.ndim, b.ndim) - 2
    (m, k), n = a.shape[-2:], b.shape[-1]
    left = (1,) * (rank + 2 - a.ndim) + a.shape[:-2]
    right = (1,) * (rank + 2 - b.ndim) + b.shape[:-2]
    stack = np.broadcast_shapes(left, right)
    shared = [axis for axis in range(rank) if left[axis] == right[axis] != 1]
    rows = [axis for axis in range(rank) if right[axis] == 1]
    columns = [axis for axis in range(rank) if left[axis] == 1 != right[axis]]
    order = [*shared, *rows, rank, *columns, rank + 1]

    def extents(axes: list[int]) -> list[int]:
        return [stack[axis] for axis in axes]

    tall = a.reshape(*left, m, k).transpose([*shared, *rows, *columns, rank, rank + 1])
    wide = b.reshape(*right, k, n).transpose([*shared, *rows, rank, *columns, rank + 1])
    products = np.matmul(
        tall.astype(np.float32).reshape(*extents(shared), -1, k),
        wide.astype(np.float32).reshape(*extents(shared), k, -1),
    )
    arranged = products.astype(np.int32).reshape(*extents([*shared, *rows]), m, *extents(columns), n)
    return arranged.transpose(np.argsort(order))


BINARY_SHAPES = ((8, 8, 128), (16, 8, 128), (16, 8, 256))
"""Shapes (m, n, k) of single-bit `mma.sync`; `wmma` has the first."""


def binary_mma(a: np.ndarray, b: np.ndarray, c: np.ndarray, operation: str) -> np.ndarray:
    """D = C + number of ones in (row of A `operation` column of B), of one single-bit instruction or many.

    `a` is bool (..., m, k), `b` bool (..., k, n), `c` int32 (..., m, n); `operation` is "xor" or "and". The
    result is int32 and wraps modulo 2^32.

    Raises ValueError for another operation, dtype or (m, n, k).
    """
    if operation not in ("xor", "and"):
        raise ValueError(f"operation {operation!r}; single-bit instructions have 'xor' and 'and'")
    shape, a_type, b_type = _variant(a, b, c)
    if shape not in BINARY_SHAPES or (a.dtype, b.dtype) != (np.bool_, np.bool_):
        m, n, k = shape
        supported = ", ".join(f"m{m}n{n}k{k}" for m, n, k in BINARY_SHAPES)
        raise ValueError(
            f"no single-bit instruction m{m}n{n}k{k} {a_type}·{b_type}; supported: {supported} bool·bool"
        )
    combined = np.logical_xor if operation == "xor" else np.logical_and
    ones = combined(a[..., :, :, None], b[..., None, :, :]).sum(axis=-2)
    return (ones + c.astype(np.int64)).astype(np.int32)


_LEGAL = {(v.shape, v.a, v.b) for v in SUPPORTED}


def _legal_variant(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[tuple[int, int, int], str, str]:
    """Read what the arguments ask for; ValueError where no integer instruction does it."""
    variant = _variant(a, b, c)
    if variant not in _LEGAL:
        (m, n, k), a_type, b_type = variant
        raise ValueError(
            f"no integer tensor-core instruction m{m}n{n}k{k} {a_type}·{b_type}; "
            f"supported: {_supported_text()}"
        )
    return variant


def _variant(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[tuple[int, int, int], str, str]:
    """Read what the arguments ask for: (shape, a type, b type); ValueError where they ask for nothing."""
    for name, array in (("a", a), ("b", b), ("c", c)):
        if array.ndim < 2:
            raise ValueError(f"{name} must be a matrix or a stack of them, not of shape {array.shape}")
    if c.dtype != np.int32:
        raise ValueError(f"c must be int32, not {c.dtype}")
    m, k = a.shape[-2:]
    n = b.shape[-1]
    if b.shape[-2] != k or c.shape[-2:] != (m, n):
        raise ValueError(
            f"the matrices do not fit: a (m, k) = {a.shape[-2:]}, b (k, n) = {b.shape[-2:]}, "
            f"c (m, n) = {c.shape[-2:]}"
        )
    return (m, n, k), _DTYPES.get(a.dtype, str(a.dtype)), _DTYPES.get(b.dtype, str(b.dtype))


def _supported_text() -> str:
    return ", ".join(str(v) for v in SUPPORTED)
