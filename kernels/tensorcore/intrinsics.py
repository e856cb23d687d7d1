"""WMMA instructions as TensorIR intrinsics: load, fill, multiply-accumulate and store of one warp's tile.

A is row-major, B column-major, accumulators are int32; a further shape or type is one row of `SUPPORTED`.
Semantics: PTX ISA, "Warp-level Matrix Instructions: wmma.load, wmma.mma, wmma.store".

Operands of four bits lie in shared memory as words (`operands`): loading a fragment of them is described as
unpacking, which is what the instruction does.

A fragment buffer keeps one tile in its two last dimensions, so tile number `i` of a buffer starts at
element `i * rows * columns`; that is how an intrinsic finds which fragment of the array it is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T  # noqa: N812 - TVMScript's own spelling

from kernels.tensorcore.operands import (
    HELD,
    check_dtype,
    is_packed,
    per_item,
    storage_dtype,
    unpacked,
)


@dataclass(frozen=True)
class Tile:
    """The shape of one tensor instruction: A is (m, k), B is (n, k) column-major, C is (m, n)."""

    m: int
    n: int
    k: int

    def __str__(self) -> str:
        """Spell the shape as PTX does, such as m8n32k16."""
        return f"m{self.m}n{self.n}k{self.k}"

    @classmethod
    def parse(cls, spelled: str) -> Tile:
        """Read a shape as `str` spells it. Raises ValueError for anything else."""
        match = re.fullmatch(r"m(\d+)n(\d+)k(\d+)", spelled)
        if not match:
            raise ValueError(f"{spelled!r} is no tile: one is spelled like m8n32k16")
        m, n, k = map(int, match.groups())
        return cls(m, n, k)


HOUSE_TILE = Tile(m=8, n=32, k=16)
SUBBYTE_TILE = Tile(m=8, n=8, k=32)

_BYTE_TILES = (HOUSE_TILE, Tile(m=16, n=16, k=16), Tile(m=32, n=8, k=16))

# (tile, operand type): what the kernels may ask for. PTX ISA, "Matrix Shape" and "Matrix Data-types" of
# wmma: integer types.
SUPPORTED: frozenset[tuple[Tile, str]] = frozenset(
    [(tile, dtype) for tile in _BYTE_TILES for dtype in ("int8", "uint8")]
    + [(SUBBYTE_TILE, dtype) for dtype in ("int4", "uint4")]
)


def default_tile(dtype: str) -> Tile:
    """Choose the tile of TVM's HWNC layout for operands of this type: 8x32x16 or, of four bits, 8x8x32."""
    check_dtype(dtype)
    return SUBBYTE_TILE if is_packed(dtype) else HOUSE_TILE


@dataclass(frozen=True)
class Intrinsics:
    """Names of the registered TensorIR intrinsics of one tile and operand type.

    `store` goes to global memory; `stage` and `stage_transposed` (column-major) go to shared memory.
    """

    tile: Tile
    dtype: str
    load_a: str
    load_b: str
    fill: str
    multiply: str
    store: str
    stage: str
    stage_transposed: str


def _copy_description(rows: int, columns: int, dtype: str, source_scope: str, target_scope: str):  # type: ignore[no-untyped-def]
    """Describe what loading or storing one tile means: a copy, element by element."""

    @T.prim_func(s_tir=True)
    def copy(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (rows, columns), dtype, align=16, offset_factor=columns, scope=source_scope
        )
        target_tile = T.match_buffer(
            target, (rows, columns), dtype, align=16, offset_factor=columns, scope=target_scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:rows, 0:columns])
            T.writes(target_tile[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("copy"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = source_tile[row, column]

    return copy


def _unpacking_description(rows: int, columns: int, dtype: str, scope: str):  # type: ignore[no-untyped-def]
    """Describe what loading one tile of 4-bit operands means: the elements of its words."""
    words = columns // per_item(dtype)

    @T.prim_func(s_tir=True)
    def unpack(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (rows, words), "int32", align=16, offset_factor=words, scope="shared"
        )
        target_tile = T.match_buffer(
            target, (rows, columns), dtype, align=16, offset_factor=columns, scope=scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:rows, 0:words])
            T.writes(target_tile[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("unpack"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = T.Cast(
                        dtype, unpacked(source_tile[row, column // 8], column, dtype)
                    )

    return unpack


def _load(tile: Tile, dtype: str, scope: str):  # type: ignore[no-untyped-def]
    """Load one tile from shared memory to a fragment. B's tile lies there as (n, k): column-major."""
    rows, layout = (tile.m, "row_major") if scope == "wmma.matrix_a" else (tile.n, "col_major")
    m, n, columns = tile.m, tile.n, tile.k
    elements = rows * columns
    stored, packing = storage_dtype(dtype), per_item(dtype)
    items = columns // packing

    @T.prim_func(s_tir=True)
    def load(source: T.handle, target: T.handle) -> None:
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
        return _unpacking_description(rows, columns, dtype, scope), load
    return _copy_description(rows, columns, dtype, "shared", scope), load


def _fill(tile: Tile):  # type: ignore[no-untyped-def]
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
    def fill(target: T.handle) -> None:
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

    return description, fill


def _multiply(tile: Tile, dtype: str):  # type: ignore[no-untyped-def]
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
    def multiply(a: T.handle, b: T.handle, c: T.handle) -> None:
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

    return description, multiply


def _store(tile: Tile, scope: str, layout: str):  # type: ignore[no-untyped-def]
    """Store one accumulator, row-major or column-major, with the stride of where it goes."""
    m, n, k = tile.m, tile.n, tile.k
    elements = m * n
    transposed = layout == "col_major"
    rows, columns = (n, m) if transposed else (m, n)

    @T.prim_func(s_tir=True)
    def transposition(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator"
        )
        target_tile = T.match_buffer(target, (n, m), "int32", align=16, offset_factor=4, scope=scope)
        with T.sblock("root"):
            T.reads(source_tile[0:m, 0:n])
            T.writes(target_tile[0:n, 0:m])
            for i, j in T.grid(m, n):
                with T.sblock("copy"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[column, row] = source_tile[row, column]

    @T.prim_func(s_tir=True)
    def store(source: T.handle, target: T.handle) -> None:
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

    if transposed:
        return transposition, store
    return _copy_description(m, n, "int32", "wmma.accumulator", scope), store


def _register(name: str, pair: tuple[tirx.PrimFunc, tirx.PrimFunc]) -> str:
    TensorIntrin.register(name, *pair, override=True)
    return name


@cache
def intrinsics(tile: Tile, dtype: str) -> Intrinsics:
    """Register the intrinsics of one tile and operand type with TVM (once), and name them.

    dtype is the type of both operands: WMMA multiplies operands of one signedness. Raises ValueError,
    listing what is supported, for any other pair.
    """
    if (tile, dtype) not in SUPPORTED:
        listed = ", ".join(sorted(f"{shape} {operand}" for shape, operand in SUPPORTED))
        raise ValueError(f"no WMMA intrinsic for {tile} {dtype}: supported are {listed}")
    prefix = f"bitexact.wmma.{tile}.{dtype}"
    return Intrinsics(
        tile=tile,
        dtype=dtype,
        load_a=_register(f"{prefix}.load_a", _load(tile, dtype, "wmma.matrix_a")),
        load_b=_register(f"{prefix}.load_b", _load(tile, dtype, "wmma.matrix_b")),
        fill=_register(f"{prefix}.fill", _fill(tile)),
        multiply=_register(f"{prefix}.multiply", _multiply(tile, dtype)),
        store=_register(f"{prefix}.store", _store(tile, "global", "row_major")),
        stage=_register(f"{prefix}.stage", _store(tile, "shared", "row_major")),
        stage_transposed=_register(f"{prefix}.stage_transposed", _store(tile, "shared", "col_major")),
    )
