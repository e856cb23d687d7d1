"""WMMA instructions as TensorIR intrinsics: load, fill, multiply-accumulate and store of one warp's tile.

Semantics: PTX ISA, "Warp-level Matrix Instructions: wmma.load, wmma.mma, wmma.store".

Operands of four bits lie in shared memory as words (`operands`): loading a fragment of them is described as
unpacking, which is what the instruction does.

A fragment buffer keeps one tile in its two last dimensions, so tile number `i` of a buffer starts at
element `i * rows * columns`; that is how an intrinsic finds which fragment of the array it is given.
"""

from __future__ import annotations

from tvm.script import tirx as T  # noqa: N812 - TVMScript's own spelling

from kernels.tensorcore.descriptions import copy, transposition, unpacking
from kernels.tensorcore.operands import HELD, is_packed, per_item, storage_dtype
from kernels.tensorcore.tile import Tile

SCOPES = ("wmma.matrix_a", "wmma.matrix_b", "wmma.accumulator")


def load(tile: Tile, dtype: str, scope: str):  # type: ignore[no-untyped-def]
    """Load one tile from shared memory to a fragment. B's tile lies there as (n, k): column-major."""
    rows, layout = (tile.m, "row_major") if scope == "wmma.matrix_a" else (tile.n, "col_major")
    m, n, columns = tile.m, tile.n, tile.k
    elements = rows * columns
    stored, packing = storage_dtype(dtype), per_item(dtype)
    items = columns // packing

    @T.prim_func(s_tir=True)
    def load_tile(source: T.handle, target: T.handle) -> None:
        row_stride = T.int32()
        unit = T.int32()
        source_tile = T.match_buffer(
            source,
            (rows, items),
            stored,
            align=16,
            offset_factor=items,
            scope="shared",
            strides=[row_stride, unit],
        )
        target_tile = T.match_buffer(
            target, (rows, columns), dtype, align=16, offset_factor=columns, scope=scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:rows, 0:items])
            T.writes(target_tile[0:rows, 0:columns])
            T.evaluate(
                T.tvm_load_matrix_sync(
                    target_tile.data,
                    m,
                    n,
                    columns,
                    target_tile.elem_offset // elements,
                    source_tile.access_ptr("r", ptr_type=stored),
                    row_stride * packing,
                    layout,
                    dtype="void",
                )
            )

    if is_packed(dtype):
        return unpacking(rows, columns, dtype, scope=scope, held=dtype), load_tile
    return copy(rows, columns, dtype, "shared", scope), load_tile


def fill(tile: Tile):  # type: ignore[no-untyped-def]
    """Zero one accumulator."""
    m, n, k = tile.m, tile.n, tile.k
    elements = m * n

    @T.prim_func(s_tir=True)
    def description(target: T.handle) -> None:
        target_tile = T.match_buffer(
            target, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator"
        )
        with T.sblock("root"):
            T.reads()
            T.writes(target_tile[0:m, 0:n])
            for i, j in T.grid(m, n):
                with T.sblock("zero"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = 0

    @T.prim_func(s_tir=True)
    def fill_tile(target: T.handle) -> None:
        target_tile = T.match_buffer(
            target, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator"
        )
        with T.sblock("root"):
            T.reads()
            T.writes(target_tile[0:m, 0:n])
            T.evaluate(
                T.tvm_fill_fragment(
                    target_tile.data, m, n, k, target_tile.elem_offset // elements, 0, dtype="void"
                )
            )

    return description, fill_tile


def multiply(tile: Tile, dtype: str):  # type: ignore[no-untyped-def]
    """c_tile[i, j] += sum over l of a_tile[i, l] * b_tile[j, l], in int32, wrapping."""
    m, n, k = tile.m, tile.n, tile.k
    held = HELD[dtype]
    a_elements, b_elements, c_elements = m * k, n * k, m * n

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        a_tile = T.match_buffer(a, (m, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_a")
        b_tile = T.match_buffer(b, (n, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_b")
        c_tile = T.match_buffer(c, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads(c_tile[0:m, 0:n], a_tile[0:m, 0:k], b_tile[0:n, 0:k])
            T.writes(c_tile[0:m, 0:n])
            for i, j, p in T.grid(m, n, k):
                with T.sblock("multiply"):
                    row, column, inner = T.axis.remap("SSR", [i, j, p])
                    c_tile[row, column] = c_tile[row, column] + T.Cast(
                        "int32", T.Cast(held, a_tile[row, inner])
                    ) * T.Cast("int32", T.Cast(held, b_tile[column, inner]))

    @T.prim_func(s_tir=True)
    def multiply_tiles(a: T.handle, b: T.handle, c: T.handle) -> None:
        a_tile = T.match_buffer(a, (m, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_a")
        b_tile = T.match_buffer(b, (n, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_b")
        c_tile = T.match_buffer(c, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads(c_tile[0:m, 0:n], a_tile[0:m, 0:k], b_tile[0:n, 0:k])
            T.writes(c_tile[0:m, 0:n])
            T.evaluate(
                T.tvm_mma_sync(
                    c_tile.data,
                    c_tile.elem_offset // c_elements,
                    a_tile.data,
                    a_tile.elem_offset // a_elements,
                    b_tile.data,
                    b_tile.elem_offset // b_elements,
                    c_tile.data,
                    c_tile.elem_offset // c_elements,
                    dtype="void",
                )
            )

    return description, multiply_tiles


def store(tile: Tile, scope: str, layout: str):  # type: ignore[no-untyped-def]
    """Store one accumulator, row-major or column-major, with the stride of where it goes."""
    m, n, k = tile.m, tile.n, tile.k
    elements = m * n
    transposed = layout == "col_major"
    rows, columns = (n, m) if transposed else (m, n)

    @T.prim_func(s_tir=True)
    def store_tile(source: T.handle, target: T.handle) -> None:
        row_stride = T.int32()
        unit = T.int32()
        source_tile = T.match_buffer(
            source, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator"
        )
        target_tile = T.match_buffer(
            target,
            (rows, columns),
            "int32",
            align=16,
            offset_factor=4,
            scope=scope,
            strides=[row_stride, unit],
        )
        with T.sblock("root"):
            T.reads(source_tile[0:m, 0:n])
            T.writes(target_tile[0:rows, 0:columns])
            T.evaluate(
                T.tvm_store_matrix_sync(
                    source_tile.data,
                    m,
                    n,
                    k,
                    source_tile.elem_offset // elements,
                    target_tile.access_ptr("w", ptr_type="int32"),
                    row_stride,
                    layout,
                    dtype="void",
                )
            )

    describe = transposition if transposed else copy
    return describe(m, n, "int32", "wmma.accumulator", scope), store_tile
