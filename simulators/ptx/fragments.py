"""Fragments: how the matrices of a warp lie in its registers.

PTX leaves the layout of wmma fragments open. Here a fragment is its matrix in one canonical order, cut into
32-bit words: A by rows (m rows of k elements), B by columns (n columns of k elements), C and D by rows (m
rows of n). Word w is in register w // 32 of lane w % 32. Within a word the element with the lower index is in
the lower bits; sub-byte elements lie eight to a word. Whether memory held the matrix by rows or by columns
makes no difference to it.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulators.ptx.group import Group

ELEMENT_BITS = {"s8": 8, "u8": 8, "s4": 4, "u4": 4, "s32": 32}


@dataclass(frozen=True)
class Tile:
    """One matrix of an instruction in canonical order (B's rows here are its columns), and its type."""

    rows: int
    columns: int
    type: str

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.columns * ELEMENT_BITS[self.type] // 8

    @property
    def registers(self) -> int:
        """Registers that hold the tile in each lane."""
        return self.rows * self.row_bytes // 128


@dataclass
class Fragment:
    """The words of a fragment for all warps, (blocks, warps, registers, 32), and their registers."""

    words: np.ndarray
    registers: tuple[np.ndarray, ...]
    _factors: dict[Tile, np.ndarray] = field(default_factory=dict)

    def factor(self, tile: Tile) -> np.ndarray:
        """Give the elements as float32, (blocks, warps, rows, columns); exact for every 8-bit integer."""
        if tile not in self._factors:
            words = np.ascontiguousarray(self.words)
            shape = (*words.shape[:2], tile.rows, tile.columns)
            if ELEMENT_BITS[tile.type] == 4:
                pairs = _nibble_pairs(tile.type).take(words.view(np.uint8))
                self._factors[tile] = pairs.view(np.float32).reshape(shape)
            else:
                dtype = np.int8 if tile.type == "s8" else np.uint8
                self._factors[tile] = words.view(dtype).astype(np.float32).reshape(shape)
        return self._factors[tile]

    def accumulator(self, tile: Tile) -> np.ndarray:
        """Give the elements as int32, (blocks, warps, rows, columns)."""
        return self.words.view(np.int32).reshape(*self.words.shape[:2], tile.rows, tile.columns)


@cache
def _nibble_pairs(type_: str) -> np.ndarray:
    """For each byte its two elements as float32, low nibble first, packed into one 64-bit item."""
    byte = np.arange(256)
    pairs = np.stack([byte & 15, byte >> 4], axis=-1)
    if type_ == "s4":
        pairs = (pairs ^ 8) - 8
    return pairs.astype(np.float32).view(np.uint64)[:, 0]


def read_fragment(group: "Group", slots: tuple[int, ...]) -> Fragment:
    """Give the fragment in some registers: the one they were written with, or gathered from them."""
    registers = tuple(group.registers[slot] for slot in slots)
    known = group.fragments.get(slots[0])
    if known is not None and len(known.registers) == len(registers):
        for ours, theirs in zip(registers, known.registers, strict=True):
            if ours is not theirs:
                break
        else:
            return known
    full = np.broadcast_arrays(*registers, np.empty((1, 1, 32), np.uint32))[:-1]
    fragment = Fragment(np.stack(full, axis=2), registers)
    for slot in slots:
        group.fragments[slot] = fragment
    return fragment


def write_fragment(group: "Group", slots: tuple[int, ...], matrix: np.ndarray) -> None:
    """Put contiguous matrices (blocks, warps, ...) into registers, for the active warps."""
    words = matrix.view(np.uint32).reshape(*matrix.shape[:2], len(slots), 32)
    if group.mask is not None:
        for index, slot in enumerate(slots):
            group.registers[slot] = np.where(group.mask, words[:, :, index], group.registers[slot])
        return
    registers = tuple(words[:, :, index] for index in range(len(slots)))
    fragment = Fragment(words, registers)
    for slot, register in zip(slots, registers, strict=True):
        group.registers[slot] = register
        group.fragments[slot] = fragment
