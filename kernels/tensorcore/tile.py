"""The tensor instructions that kernels may ask for: shapes and types of operands.

A is row-major, B column-major, accumulators are int32 and wrap. `wmma` multiplies operands of one
signedness; `mma` takes any pairing, and its fragments are loaded by ldmatrix. PTX ISA: "Matrix Shape",
"Matrix Data-types" of the warp-level matrix instructions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from kernels.tensorcore.operands import check_dtype, is_packed, row_bytes


@dataclass(frozen=True)
class Tile:
    """The shape of one tensor instruction: A is (m, k), B is (n, k) column-major, C is (m, n)."""

    m: int
    n: int
    k: int
    instruction: str = "wmma"

    @property
    def shape(self) -> str:
        """The shape as PTX spells it, such as m8n32k16."""
        return f"m{self.m}n{self.n}k{self.k}"

    def __str__(self) -> str:
        """Spell instruction and shape, such as wmma.m8n32k16."""
        return f"{self.instruction}.{self.shape}"

    @classmethod
    def parse(cls, spelled: str) -> Tile:
        """Read a tile as `str` spells it. Raises ValueError for anything else."""
        match = re.fullmatch(r"(wmma|mma)\.m(\d+)n(\d+)k(\d+)", spelled)
        if not match:
            raise ValueError(f"{spelled!r} is no tile: one is spelled like wmma.m8n32k16")
        m, n, k = map(int, match.groups()[1:])
        return cls(m, n, k, match[1])

    def segments(self, dtype: str) -> int:
        """Pieces of 16 bytes of one row of an operand: what ldmatrix takes at a time."""
        return row_bytes(self.k, dtype) // 16


HOUSE_TILE = Tile(m=8, n=32, k=16)
SUBBYTE_TILE = Tile(m=8, n=8, k=32)

BYTES, NIBBLES = ("int8", "uint8"), ("int4", "uint4")
_WMMA = {
    HOUSE_TILE: BYTES,
    Tile(m=16, n=16, k=16): BYTES,
    Tile(m=32, n=8, k=16): BYTES,
    SUBBYTE_TILE: NIBBLES,
}
_MMA = {
    Tile(m=8, n=8, k=16, instruction="mma"): BYTES,
    Tile(m=16, n=8, k=32, instruction="mma"): BYTES,
    Tile(m=8, n=8, k=32, instruction="mma"): NIBBLES,
    Tile(m=16, n=8, k=64, instruction="mma"): NIBBLES,
}

# (tile, type of A, type of B).
SUPPORTED: frozenset[tuple[Tile, str, str]] = frozenset(
    [(tile, dtype, dtype) for tile, dtypes in _WMMA.items() for dtype in dtypes]
    + [(tile, a, b) for tile, dtypes in _MMA.items() for a, b in product(dtypes, repeat=2)]
)


def default_tile(dtype: str, weight_dtype: str | None = None) -> Tile:
    """Choose the tile for operands of these types.

    Of one type: that of TVM's HWNC layout, 8x32x16 or, of four bits, 8x8x32. Of different signedness: the
    mma that asks for the smallest batch, 8x8x16 or 8x8x32. Raises ValueError for types that no tensor
    instruction multiplies.
    """
    weight_dtype = weight_dtype or dtype
    check_dtype(dtype)
    check_dtype(weight_dtype)
    if is_packed(dtype) != is_packed(weight_dtype):
        raise ValueError(f"no tensor instruction multiplies {dtype} by {weight_dtype}")
    if dtype == weight_dtype:
        return SUBBYTE_TILE if is_packed(dtype) else HOUSE_TILE
    return Tile(m=8, n=8, k=32 if is_packed(dtype) else 16, instruction="mma")


def check_supported(tile: Tile, dtype: str, weight_dtype: str) -> None:
    """Raise ValueError, listing what is supported, for an instruction that is not in the table."""
    check_dtype(dtype)
    check_dtype(weight_dtype)
    if (tile, dtype, weight_dtype) not in SUPPORTED:
        listed = ", ".join(sorted(f"{t} {a}*{b}" for t, a, b in SUPPORTED))
        raise ValueError(f"no tensor instruction {tile} {dtype}*{weight_dtype}: supported are {listed}")
