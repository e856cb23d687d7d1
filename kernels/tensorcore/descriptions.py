"""TensorIR intrinsics of tiles: what loading, zeroing, multiplying and storing mean, and the call for it.

An intrinsic is a pair of functions: the description, by which TVM finds the place where the instruction
fits, and the implementation, which evaluates one call. Both see the same buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T  # noqa: N812 - TVMScript's own spelling

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

    @property
    def whole(self) -> tuple[slice, ...]:
        """The region of all its elements."""
        return tuple(slice(0, extent) for extent in self.shape)


def _matched(handle: Any, place: Place, *strides: Any) -> Any:
    """Match a buffer with a place; where that is strided, by strides if they are given."""
    return T.match_buffer(
        handle,
        place.shape,
        place.dtype,
        align=16,
        offset_factor=place.factor,
        scope=place.scope,
        strides=list(strides) if strides and place.strided else None,
    )


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

    def element(tile: Any, row: Any, column: Any) -> Any:
        item = column // packing
        value = tile[row, item] if segments == 1 else tile[item // width, row, item % width]
        return unpacked(value, column, dtype).astype(target.dtype) if is_packed(dtype) else value

    return _moving(source, target, element, call)


def storing(source: Place, scope: str, call: Call, *, transposed: bool) -> Pair:
    """Store an accumulator, row-major or column-major, where rows lie some distance apart."""
    rows, columns = source.shape
    target = Place((columns, rows) if transposed else (rows, columns), source.dtype, scope, 4, strided=True)
    return _moving(source, target, lambda tile, *index: tile[index], call, transposed=transposed)


def _moving(source: Place, target: Place, element: Call, call: Call, *, transposed: bool = False) -> Pair:
    """Fill a tile of two dimensions with elements of another, or its transposed."""
    rows, columns = reversed(target.shape) if transposed else target.shape

    def at(row: Any, column: Any) -> tuple[Any, Any]:
        return (column, row) if transposed else (row, column)

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle) -> None:
        source_tile = _matched(a, source)
        target_tile = _matched(b, target)
        with T.sblock("root"):
            T.reads(source_tile[source.whole])
            T.writes(target_tile[target.whole])
            for i, j in T.grid(rows, columns):
                with T.sblock("move"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[at(row, column)] = element(source_tile, row, column)

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle) -> None:
        row_stride = T.int32()
        unit = T.int32()
        source_tile = _matched(a, source, row_stride, unit)
        target_tile = _matched(b, target, row_stride, unit)
        with T.sblock("root"):
            T.reads(source_tile[source.whole])
            T.writes(target_tile[target.whole])
            T.evaluate(call(source_tile, target_tile))

    return description, implementation


def zeroing(target: Place, call: Call) -> Pair:
    """Zero an accumulator."""
    rows, columns = target.shape

    @T.prim_func(s_tir=True)
    def description(a: T.handle) -> None:
        tile = _matched(a, target)
        with T.sblock("root"):
            T.reads()
            T.writes(tile[target.whole])
            for i, j in T.grid(rows, columns):
                with T.sblock("zero"):
                    row, column = T.axis.remap("SS", [i, j])
                    tile[row, column] = 0

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle) -> None:
        tile = _matched(a, target)
        with T.sblock("root"):
            T.reads()
            T.writes(tile[target.whole])
            T.evaluate(call(tile))

    return description, implementation


def multiplying(dtypes: tuple[str, str], places: tuple[Place, Place, Place], call: Call) -> Pair:
    """c[i, j] += sum over l of a[i, l] * b[j, l], in int32, wrapping. `dtypes` are the operands' own."""
    a_place, b_place, c_place = places
    a_held, b_held = (HELD[dtype] for dtype in dtypes)
    (m, k), (n, _) = a_place.shape, b_place.shape

    def wide(value: Any, held: str) -> Any:
        return value.astype(held).astype("int32")

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        a_tile = _matched(a, a_place)
        b_tile = _matched(b, b_place)
        c_tile = _matched(c, c_place)
        with T.sblock("root"):
            T.reads(c_tile[c_place.whole], a_tile[a_place.whole], b_tile[b_place.whole])
            T.writes(c_tile[c_place.whole])
            for i, j, p in T.grid(m, n, k):
                with T.sblock("multiply"):
                    row, column, inner = T.axis.remap("SSR", [i, j, p])
                    c_tile[row, column] = c_tile[row, column] + wide(a_tile[row, inner], a_held) * wide(
                        b_tile[column, inner], b_held
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        a_tile = _matched(a, a_place)
        b_tile = _matched(b, b_place)
        c_tile = _matched(c, c_place)
        with T.sblock("root"):
            T.reads(c_tile[c_place.whole], a_tile[a_place.whole], b_tile[b_place.whole])
            T.writes(c_tile[c_place.whole])
            T.evaluate(call(a_tile, b_tile, c_tile))

    return description, implementation
