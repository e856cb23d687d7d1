"""Fragments: how the matrices of a warp lie in its registers.

A matrix has one canonical order of 32-bit words here: A by rows (m rows of k elements), B by columns (n
columns of k elements), C and D by rows (m rows of n). Within a word the element with the lower index is in
the lower bits; sub-byte elements lie eight to a word, single bits thirty-two.

PTX leaves the layout of wmma fragments open: here word w of the canonical order is in register w // 32 of
lane w % 32, and whether memory held the matrix by rows or by columns makes no difference to it.

For mma and ldmatrix the manual fixes the layout ("Matrix Fragments for mma"). Its integer shapes share one
rule. With group = lane // 4 and member = lane % 4, a lane holds of A and B the words of row group + 8 i and
column member + 4 j in register i + j * (rows / 8), and of C and D the elements of row group + 8 i and column
2 member + j in register 2 i + j.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulators.ptx.group import Group

ELEMENT_BITS = {"s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1, "s32": 32}

# Up to this k a product of small matrices takes less than half the time with its right factor by rows;
# beyond, it takes longer.
SHORT = 16


@dataclass(frozen=True)
class Tile:
    """One matrix of an instruction in canonical order (B's rows here are its columns), and its type.

    `fixed` says that it lies in registers as the manual prescribes for mma, not in the open layout of wmma.
    """

    rows: int
    columns: int
    type: str
    fixed: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.columns * ELEMENT_BITS[self.type] // 8

    @property
    def registers(self) -> int:
        """Registers that hold the tile in each lane."""
        return self.rows * self.row_bytes // 128

    def gather(self, words: np.ndarray) -> np.ndarray:
        """Bring the words of the registers, (blocks, warps, registers, 32), into canonical order."""
        batch = words.shape[:2]
        if self.fixed and self.type == "s32":
            words = words.reshape(*batch, self.rows // 8, 2, 8, 4).transpose(0, 1, 2, 4, 5, 3)
        elif self.fixed:
            words = words.reshape(*batch, self.row_bytes // 16, self.rows // 8, 8, 4)
            words = words.transpose(0, 1, 3, 4, 2, 5)
        return np.ascontiguousarray(words).reshape(*batch, self.rows, self.row_bytes // 4)

    def scatter(self, words: np.ndarray) -> tuple[np.ndarray, ...]:
        """Cut words in canonical order, (blocks, warps, ...), into what each register holds: views."""
        batch = words.shape[:2]
        if self.fixed and self.type == "s32":
            # Two columns of a row are neighbours in one lane: its elements stand two apart.
            halves = words.reshape(*batch, self.rows // 8, 32, 2)
            return tuple(halves[:, :, i, :, j] for i in range(self.rows // 8) for j in range(2))
        if self.fixed:
            words = words.reshape(*batch, self.rows // 8, 8, self.row_bytes // 16, 4)
            words = words.transpose(0, 1, 4, 2, 3, 5)
        words = words.reshape(*batch, self.registers, 32)
        return tuple(words[:, :, register] for register in range(self.registers))


@dataclass
class Fragment:
    """What some registers hold, and the matrices that it was found to be so far."""

    registers: tuple[np.ndarray, ...]
    # In open layout, where an instruction wrote all of it: its words in canonical order.
    words: np.ndarray | None = None
    _known: dict[Tile, np.ndarray] = field(default_factory=dict)
    _right: np.ndarray | None = None

    def _words(self, tile: Tile) -> np.ndarray:
        if self.words is not None and not tile.fixed:
            return self.words.reshape(*self.words.shape[:2], tile.rows, tile.row_bytes // 4)
        full = np.broadcast_arrays(*self.registers, np.empty((1, 1, 32), np.uint32))[:-1]
        return tile.gather(np.stack(full, axis=2))

    def factor(self, tile: Tile) -> np.ndarray:
        """Give the elements as float32, (blocks, warps, rows, columns); exact for every 8-bit integer."""
        if tile not in self._known:
            words = self._words(tile)
            shape = (*words.shape[:2], tile.rows, tile.columns)
            if ELEMENT_BITS[tile.type] == 8:
                dtype = np.int8 if tile.type == "s8" else np.uint8
                elements = words.view(dtype).astype(np.float32)
            elif ELEMENT_BITS[tile.type] == 4:
                elements = _nibble_pairs(tile.type).take(words.view(np.uint8)).view(np.float32)
            else:
                elements = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little").astype(np.float32)
            self._known[tile] = elements.reshape(shape)
        return self._known[tile]

    def right_factor(self, tile: Tile) -> np.ndarray:
        """Give the columns of B as the right factor of a product, (blocks, warps, k, n)."""
        rows = self.factor(tile)
        if tile.columns > SHORT:
            return rows.swapaxes(2, 3)
        if self._right is None:
            self._right = np.ascontiguousarray(rows.swapaxes(2, 3))
        return self._right

    def accumulator(self, tile: Tile) -> np.ndarray:
        """Give the elements as int32, (blocks, warps, rows, columns)."""
        if tile not in self._known:
            self._known[tile] = self._words(tile).view(np.int32)
        return self._known[tile]

    def remember(self, tile: Tile, matrix: np.ndarray) -> None:
        """Note that the registers hold this int32 matrix."""
        self._known[tile] = matrix


@cache
def _nibble_pairs(type_: str) -> np.ndarray:
    """For each byte its two elements as float32, low nibble first, packed into one 64-bit item."""
    byte = np.arange(256)
    pairs = np.stack([byte & 15, byte >> 4], axis=-1)
    if type_ == "s4":
        pairs = (pairs ^ 8) - 8
    return pairs.astype(np.float32).view(np.uint64)[:, 0]


def read_fragment(group: "Group", slots: tuple[int, ...]) -> Fragment:
    """Give the fragment in some registers: the one they were written with, or a new one."""
    registers = tuple(group.registers[slot] for slot in slots)
    known = group.fragments.get(slots[0])
    if known is not None and len(known.registers) == len(registers):
        for ours, theirs in zip(registers, known.registers, strict=True):
            if ours is not theirs:
                break
        else:
            return known
    fragment = Fragment(registers)
    for slot in slots:
        group.fragments[slot] = fragment
    return fragment


def write_fragment(group: "Group", slots: tuple[int, ...], matrix: np.ndarray, tile: Tile) -> None:
    """Put contiguous matrices in canonical order, (blocks, warps, ...), into registers of active warps."""
    words = matrix.view(np.uint32)
    registers = tile.scatter(words)
    if group.mask is not None:
        for slot, register in zip(slots, registers, strict=True):
            group.registers[slot] = np.where(group.mask, register, group.registers[slot])
        return
    fragment = Fragment(registers, None if tile.fixed else words)
    if tile.type == "s32":
        fragment.remember(tile, matrix.view(np.int32).reshape(*matrix.shape[:2], tile.rows, tile.columns))
    for slot, register in zip(slots, registers, strict=True):
        group.registers[slot] = register
        group.fragments[slot] = fragment
