"""4-bit integers in memory: eight to a 32-bit word, as the PTX ISA reads them.

Element 0 of a group of eight is the least significant nibble, two's complement. An array of 4-bit values is
of an `ml_dtypes` type, or is *held*: int8 for int4, uint8 for uint4, one value an element.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

PER_WORD = 8
HELD = {"int4": "int8", "uint4": "uint8"}
"""The type that holds single values of a 4-bit type where there is no such type."""
_SHIFTS = 4 * np.arange(PER_WORD, dtype=np.uint32)


def limits(dtype: str) -> tuple[int, int]:
    """Smallest and largest value of "int4" or "uint4"."""
    info = ml_dtypes.iinfo(dtype)
    return int(info.min), int(info.max)


def pack_int4(values: np.ndarray) -> np.ndarray:
    """Pack integers (..., n) into int32 words (..., ceil(n / 8)); what the last word has over is zero.

    Of each value the low four bits are kept, so that int4, uint4 and both held forms are packed alike.
    """
    nibbles = values.astype(np.int8).astype(np.uint32) & 15
    missing = -values.shape[-1] % PER_WORD
    if missing:
        nibbles = np.pad(nibbles, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    groups = nibbles.reshape(*values.shape[:-1], -1, PER_WORD)
    return np.bitwise_or.reduce(groups << _SHIFTS, axis=-1, dtype=np.uint32).view(np.int32)


def unpack_int4(words: np.ndarray, dtype: str = "int4", *, length: int | None = None) -> np.ndarray:
    """Unpack int32 words (..., w) to the first `length` (8·w where not given) values of each row.

    The result is of `ml_dtypes.int4`, sign-extended, or of `ml_dtypes.uint4`. ValueError for another dtype,
    for words that are not int32, and where there are not so many values.
    """
    if dtype not in HELD:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(HELD)}")
    if words.dtype != np.int32:
        raise ValueError(f"words must be int32, not {words.dtype}")
    available = words.shape[-1] * PER_WORD
    if length is not None and not 0 <= length <= available:
        raise ValueError(f"length {length} is not in 0..{available}, what {words.shape[-1]} words hold")
    nibbles = (words.view(np.uint32)[..., None] >> _SHIFTS).astype(np.uint8) & 15
    if dtype == "int4":
        nibbles = (nibbles ^ 8) - np.uint8(8)
    flat = nibbles.view(HELD[dtype]).reshape(*words.shape[:-1], available)
    return flat[..., :length].astype(getattr(ml_dtypes, dtype))


def held(values: np.ndarray) -> np.ndarray:
    """Widen an array of a 4-bit type to the type that holds it; any other array is returned as it is."""
    return values.astype(HELD[values.dtype.name]) if values.dtype.name in HELD else values
