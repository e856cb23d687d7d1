"""TensorIR intrinsics of tiles: what loading, zeroing, multiplying and storing mean, and the call for it.

An intrinsic is a pair of functions: the description, by which TVM finds the place where the instruction
fits, and the implementation, which evaluates one call. Both see the same buffers.

They are built, and not written in TVMScript: T.prim_func of TVM 0.27 lets inspect read the source of all
callers, which takes longer than anything else here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T  # noqa: N812 - TVMScript's own spelling

from kernels.tensorcore.operands import HELD, is_packed, per_item, storage_dtype, unpacked

Pair = tuple[tirx.PrimFunc, tirx.PrimFunc]
Call = Callable[..., Any]
"""The call of an instruction, given the buffers of its tiles."""


@dataclass(frozen=True)
class Place:
    """Where a tile lies: what a buffer must be, and what its offset is a multiple of.

    Rows are next to each other, or `strided`: then the buffer's first stride says how far apart.
    """

    shape: tuple[int, ...]
    dtype: str
    scope: str
    factor: int
    strided: bool = False


def fragment(rows: int, columns: int, dtype: str, scope: str) -> Place:
    """A tile in the registers of a warp."""
    return Place((rows, columns), dtype, scope, factor=columns)


def loading(dtype: str, target: Place, call: Call, *, segments: int = 1, strided: bool) -> Pair:
    """Load a tile of operands from shared memory to a fragment, which holds elements one by one.

    4-bit elements are words there. In more than one segment the tile is (segments, rows, 16 bytes).
    """
    rows, columns = target.shape
    packing = per_item(dtype)
    width = columns // packing // segments
    shape = (rows, width) if segments == 1 else (segments, rows, width)
    source = Place(shape, storage_dtype(dtype), "shared", factor=width, strided=strided)

    def element(tile: Any, _: Any, row: Any, column: Any) -> Any:
        item = column // packing
        value = tile[row, item] if segments == 1 else tile[item // width, row, item % width]
        return unpacked(value, column, dtype).astype(target.dtype) if is_packed(dtype) else value

    return _pair([source], target, element, call)


def storing(source: Place, scope: str, call: Call, *, transposed: bool) -> Pair:
    """Store an accumulator, row-major or column-major, where rows lie some distance apart."""
    rows, columns = source.shape
    shape = (columns, rows) if transposed else (rows, columns)
    target = Place(shape, source.dtype, scope, factor=4, strided=True)
    return _pair([source], target, lambda tile, _, *at: tile[at], call, transposed=transposed)


def zeroing(target: Place, call: Call) -> Pair:
    """Zero an accumulator."""
    return _pair([], target, lambda *_: tirx.const(0, target.dtype), call)


def multiplying(dtypes: tuple[str, str], places: tuple[Place, Place, Place], call: Call) -> Pair:
    """c[i, j] += sum over l of a[i, l] * b[j, l], in int32, wrapping. `dtypes` are the operands' own."""
    *sources, target = places

    def element(a: Any, b: Any, c: Any, *at: Any) -> Any:
        row, column, inner = at
        left, right = (
            operand[place, inner].astype(HELD[dtype]).astype("int32")
            for operand, place, dtype in zip((a, b), (row, column), dtypes, strict=True)
        )
        return c[row, column] + left * right

    return _pair(sources, target, element, call, summed=sources[0].shape[1])


def _pair(
    sources: Sequence[Place],
    target: Place,
    element: Call,
    call: Call,
    *,
    transposed: bool = False,
    summed: int | None = None,
) -> Pair:
    """Make both functions of an intrinsic that reads the tiles at some places, and writes one.

    `element` gives what is stored, from all tiles and the loops: row and column of the target (or, where it
    is `transposed`, of what it is the transposed of), and the number of the term where so many are `summed`
    up.
    """
    rows, columns = reversed(target.shape) if transposed else target.shape
    extents = [rows, columns, *([summed] if summed else [])]

    def describe(*tiles: Any) -> None:
        with T.grid(*extents) as loops, T.sblock("element"):
            row, column, *rest = T.axis.remap("SSR"[: len(extents)], list(loops))
            at = [column, row] if transposed else [row, column]
            T.buffer_store(tiles[-1], element(*tiles, row, column, *rest), at)

    def function(body: Call, *, strided: bool) -> tirx.PrimFunc:
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("intrinsic")
            tiles = [
                T.arg(f"tile{number}", _buffer(place, strided=strided and place.strided))
                for number, place in enumerate((*sources, target))
            ]
            read = tiles[:-1] if summed is None else [tiles[-1], *tiles[:-1]]
            with T.sblock("root"):
                T.reads(*map(_whole, read))
                T.writes(_whole(tiles[-1]))
                body(*tiles)
        return builder.get()

    return (
        function(describe, strided=False),
        function(lambda *tiles: T.evaluate(call(*tiles)), strided=True),
    )


def _buffer(place: Place, *, strided: bool) -> Any:
    strides = [tirx.Var(name, "int32") for name in ("row_stride", "unit")] if strided else None
    return T.buffer(
        place.shape,
        place.dtype,
        strides=strides,
        scope=place.scope,
        align=16,
        offset_factor=place.factor,
        layout=None,
    )


def _whole(tile: Any) -> Any:
    """The region of all elements."""
    return tile[tuple(slice(0, extent) for extent in tile.shape)]
