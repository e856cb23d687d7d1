"""The calls of WMMA instructions in TensorIR: load, zero, multiply-accumulate and store one warp's tile.

Semantics: PTX ISA, "Warp-level Matrix Instructions: wmma.load, wmma.mma, wmma.store".

A fragment buffer keeps one tile in its two last dimensions, so tile number `i` of a buffer starts at
element `i * rows * columns`; that is how an instruction finds which fragment of the array it is given.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812 - TVMScript's own spelling

from kernels.tensorcore.operands import per_item
from kernels.tensorcore.tile import Tile

A_SCOPE, B_SCOPE, ACCUMULATOR_SCOPE = "wmma.matrix_a", "wmma.matrix_b", "wmma.accumulator"
# Rows of a tile in shared memory lie some distance apart.
STRIDED = True


def element(dtype: str) -> str:
    """The type of an operand's elements in a fragment: its own."""
    return dtype


def segments(tile: Tile, dtype: str) -> int:
    """Pieces in which a tile lies in shared memory: one."""
    return 1


def load(tile: Tile, dtype: str, scope: str, source: Any, target: Any) -> tirx.PrimExpr:
    """Load one tile of an operand. B's lies in shared memory as (n, k): column-major."""
    return T.tvm_load_matrix_sync(
        target.data,
        tile.m,
        tile.n,
        tile.k,
        _number(target),
        source.access_ptr("r", ptr_type=source.dtype),
        source.strides[0] * per_item(dtype),
        "row_major" if scope == A_SCOPE else "col_major",
        dtype="void",
    )


def zero(tile: Tile, target: Any) -> tirx.PrimExpr:
    """Zero one accumulator."""
    return T.tvm_fill_fragment(target.data, tile.m, tile.n, tile.k, _number(target), 0, dtype="void")


def multiply(tile: Tile, dtypes: tuple[str, str], a: Any, b: Any, c: Any) -> tirx.PrimExpr:
    """Multiply two tiles, and add to an accumulator."""
    return T.tvm_mma_sync(
        c.data, _number(c), a.data, _number(a), b.data, _number(b), c.data, _number(c), dtype="void"
    )


def store(tile: Tile, layout: str, source: Any, target: Any) -> tirx.PrimExpr:
    """Store one accumulator, in the layout "row_major" or "col_major"."""
    return T.tvm_store_matrix_sync(
        source.data,
        tile.m,
        tile.n,
        tile.k,
        _number(source),
        target.access_ptr("w", ptr_type="int32"),
        target.strides[0],
        layout,
        dtype="void",
    )


def _number(fragment: Any) -> tirx.PrimExpr:
    return fragment.elem_offset // prod(int(extent) for extent in fragment.shape)
