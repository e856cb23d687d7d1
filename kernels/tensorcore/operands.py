"""How the operands of a tensor instruction lie in memory: one element a byte, or eight to a 32-bit word.

A 4-bit operand is held in int32 words from end to end: no buffer of a host or of global or shared memory
has a 4-bit type. Element 0 of a word is its least significant nibble, two's complement, as the PTX ISA
reads it ("Matrix Fragments for wmma", sub-byte types). Only a fragment in registers is of type int4 or
uint4.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

# Types of operands: bits of one element, and the 8-bit type that holds any value of it.
BITS = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4}
HELD = {"int8": "int8", "uint8": "uint8", "int4": "int8", "uint4": "uint8"}
PTX_NAME = {"int8": "s8", "uint8": "u8", "int4": "s4", "uint4": "u4"}

PER_WORD = 8


def is_packed(dtype: str) -> bool:
    """Whether operands of this type travel as words of eight."""
    return dtype in BITS and BITS[dtype] < 8


def storage_dtype(dtype: str) -> str:
    """Type of the buffers in global and shared memory: int32 words for a 4-bit type."""
    return "int32" if is_packed(dtype) else dtype


def per_item(dtype: str) -> int:
    """Elements in one item of such a buffer (int32 has one, too)."""
    return PER_WORD if is_packed(dtype) else 1


def row_bytes(elements: int, dtype: str) -> int:
    """Bytes that so many elements of one row take."""
    return elements * BITS[dtype] // 8


def check_dtype(dtype: str) -> None:
    """Raise ValueError, listing what is known, for a type that is no operand of a tensor instruction."""
    if dtype not in BITS:
        raise ValueError(f"{dtype} is no operand of a tensor instruction: known are {', '.join(BITS)}")


def unpacked(word: Any, element: Any, dtype: str) -> tirx.PrimExpr:
    """Take the element of a word with this index modulo eight, as the 8-bit type that holds it."""
    lane = element % PER_WORD
    value = (word << (28 - lane * 4)) >> 28 if dtype == "int4" else (word >> (lane * 4)) & 15
    return value.astype(HELD[dtype])


def packed_word(values: list[tirx.PrimExpr]) -> tirx.PrimExpr:
    """Pack eight int32 values, the first in the lowest nibble; of each the low four bits remain."""
    word = values[0] & 15
    for lane, value in enumerate(values[1:], start=1):
        word |= (value & 15) << (4 * lane)
    return word
