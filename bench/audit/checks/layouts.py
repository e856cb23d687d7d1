"""Checks of layouts and of packed 4-bit values, element by element."""

from __future__ import annotations

from itertools import product

import numpy as np

from bench.audit.checks.check import Check

CASES = [
    ("NCHW", "NCHW1n16c", (3, 18, 2, 3)),
    ("OIHW", "OIHW8i32o4i", (33, 35, 1, 2)),
    ("OIHW", "HWOI8o32i", (9, 33, 2, 1)),
    ("NC", "NC32n4c", (5, 6)),
]
WORD = 8


def _positions() -> str | None:
    """Every element of a packed array is where `locate` says, padding is zero, and there is a way back."""
    from bench.layout import locate, logical, pack, unpack

    for source, layout, shape in CASES:
        array = np.arange(1, 1 + np.prod(shape)).reshape(shape)
        packed = pack(array, layout, source=source)
        expected = np.zeros_like(packed)
        for coordinate in product(*map(range, shape)):
            place = locate(layout, coordinate, source=source)
            try:
                named = logical(layout, place)
            except ValueError as error:
                return f"{layout}: {coordinate} is at {place}, and {error}"
            if tuple(named[axis] for axis in source) != coordinate:
                return f"{layout}: {coordinate} is at {place}, and there is {named}"
            expected[place] = array[coordinate]
        if not np.array_equal(packed, expected):
            return f"{layout}: {np.count_nonzero(packed != expected)} elements are elsewhere"
        if not np.array_equal(unpack(packed, layout, shape, target=source), array):
            return f"{layout}: unpacked it is another array"
    return None


def _words() -> str | None:
    """Nibble n of a word is bits 4n to 4n + 3, two's complement."""
    from bench.int4 import pack_int4, unpack_int4

    for dtype, low in (("int4", -8), ("uint4", 0)):
        values = np.random.default_rng(0).integers(low, low + 16, (3, 21))
        words = pack_int4(values)
        back = unpack_int4(words, dtype, length=values.shape[1]).astype(int)
        for row, column in product(*map(range, values.shape)):
            word = int(words[row, column // WORD]) & 0xFFFFFFFF
            nibble = word >> 4 * (column % WORD) & 15
            if nibble != values[row, column] % 16:
                return f"{dtype}: element {column} is nibble {nibble} instead of {values[row, column] % 16}"
        if not np.array_equal(back, values):
            return f"{dtype}: {np.count_nonzero(back != values)} values are others when they are unpacked"
    return None


LAYOUT_CHECKS = [
    Check("layout-positions", "each element of packed arrays, counted out", _positions),
    Check("int4-words", "each nibble of packed words, shifted out", _words),
]
