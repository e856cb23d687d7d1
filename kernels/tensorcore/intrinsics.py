"""WMMA instructions as TensorIR intrinsics: load, fill, multiply-accumulate and store of one warp's tile.

TVM 0.27 registers 16x16x16 alone for 8-bit integers. The house tile is (m, n, k) = (8, 32, 16), with A
row-major, B column-major and int32 accumulators; a further shape or type is one row of `SUPPORTED`.
Semantics: PTX ISA, "Warp-level Matrix Instructions: wmma.load, wmma.mma, wmma.store".

A fragment buffer keeps one tile in its two last dimensions, so tile number `i` of a buffer starts at
element `i * rows * columns`; that is how an intrinsic finds which fragment of the array it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T


@dataclass(frozen=True)
class Tile:
    """The shape of one tensor instruction: A is (m, k), B is (n, k) column-major, C is (m, n)."""

    m: int
    n: int
    k: int

    def __str__(self) -> str:
        """The shape as PTX spells it, such as m8n32k16."""
        return f"m{self.m}n{self.n}k{self.k}"


HOUSE_TILE = Tile(m=8, n=32, k=16)

# (tile, operand type): what the kernels may ask for. PTX ISA, table "wmma shapes": .s8 and .u8.
SUPPORTED: frozenset[tuple[Tile, str]] = frozenset((HOUSE_TILE, dtype) for dtype in ("int8", "uint8"))


@dataclass(frozen=True)
class Intrinsics:
    """Names of the registered TensorIR intrinsics of one tile and operand type."""

    tile: Tile
    dtype: str
    load_a: str
    load_b: str
    fill: str
    multiply: str
    store: str


def _copy_description(rows: int, columns: int, dtype: str, source_scope: str, target_scope: str):  # type: ignore[no-untyped-def]
    """What loading or storing one tile means: a copy, element by element."""

    @T.prim_func(s_tir=True)
    def copy(source: T.handle, target: T.handle) -> None:
        S = T.match_buffer(source, (rows, columns), dtype, align=16, offset_factor=columns, scope=source_scope)
        D = T.match_buffer(target, (rows, columns), dtype, align=16, offset_factor=columns, scope=target_scope)
        with T.sblock("root"):
            T.reads(S[0:rows, 0:columns])
            T.writes(D[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("copy"):
                    row, column = T.axis.remap("SS", [i, j])
                    D[row, column] = S[row, column]

    return copy


def _load(tile: Tile, dtype: str, scope: str):  # type: ignore[no-untyped-def]
    """One tile from shared memory to a fragment. B's tile lies there as (n, k): column-major."""
    rows, layout = (tile.m, "row_major") if scope == "wmma.matrix_a" else (tile.n, "col_major")
    m, n, columns = tile.m, tile.n, tile.k
    elements = rows * columns

    @T.prim_func(s_tir=True)
    def load(source: T.handle, target: T.handle) -> None:
        row_stride = T.int32()
        unit = T.int32()
        S = T.match_buffer(
            source,
            (rows, columns),
            dtype,
            align=16,
            offset_factor=columns,
            scope="shared",
            strides=[row_stride, unit],
        )
        D = T.match_buffer(target, (rows, columns), dtype, align=16, offset_factor=columns, scope=scope)
        with T.sblock("root"):
            T.reads(S[0:rows, 0:columns])
            T.writes(D[0:rows, 0:columns])
            T.evaluate(
                T.tvm_load_matrix_sync(
                    D.data,
                    m,
                    n,
                    columns,
                    D.elem_offset // elements,
                    S.access_ptr("r", ptr_type=dtype),
                    row_stride,
                    layout,
                    dtype="void",
                )
            )

    return _copy_description(rows, columns, dtype, "shared", scope), load


def _fill(tile: Tile):  # type: ignore[no-untyped-def]
    """Zero one accumulator."""
    m, n, k = tile.m, tile.n, tile.k
    elements = m * n

    @T.prim_func(s_tir=True)
    def description(target: T.handle) -> None:
        D = T.match_buffer(target, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads()
            T.writes(D[0:m, 0:n])
            for i, j in T.grid(m, n):
                with T.sblock("zero"):
                    row, column = T.axis.remap("SS", [i, j])
                    D[row, column] = 0

    @T.prim_func(s_tir=True)
    def fill(target: T.handle) -> None:
        D = T.match_buffer(target, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads()
            T.writes(D[0:m, 0:n])
            T.evaluate(T.tvm_fill_fragment(D.data, m, n, k, D.elem_offset // elements, 0, dtype="void"))

    return description, fill


def _multiply(tile: Tile, dtype: str):  # type: ignore[no-untyped-def]
    """C[i, j] += sum over l of A[i, l] * B[j, l], in int32, wrapping."""
    m, n, k = tile.m, tile.n, tile.k
    a_elements, b_elements, c_elements = m * k, n * k, m * n

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (m, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_a")
        B = T.match_buffer(b, (n, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_b")
        C = T.match_buffer(c, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads(C[0:m, 0:n], A[0:m, 0:k], B[0:n, 0:k])
            T.writes(C[0:m, 0:n])
            for i, j, l in T.grid(m, n, k):
                with T.sblock("multiply"):
                    row, column, inner = T.axis.remap("SSR", [i, j, l])
                    C[row, column] = C[row, column] + T.Cast("int32", A[row, inner]) * T.Cast(
                        "int32", B[column, inner]
                    )

    @T.prim_func(s_tir=True)
    def multiply(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (m, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_a")
        B = T.match_buffer(b, (n, k), dtype, align=16, offset_factor=k, scope="wmma.matrix_b")
        C = T.match_buffer(c, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator")
        with T.sblock("root"):
            T.reads(C[0:m, 0:n], A[0:m, 0:k], B[0:n, 0:k])
            T.writes(C[0:m, 0:n])
            T.evaluate(
                T.tvm_mma_sync(
                    C.data,
                    C.elem_offset // c_elements,
                    A.data,
                    A.elem_offset // a_elements,
                    B.data,
                    B.elem_offset // b_elements,
                    C.data,
                    C.elem_offset // c_elements,
                    dtype="void",
                )
            )

    return description, multiply


def _store(tile: Tile):  # type: ignore[no-untyped-def]
    """One accumulator to global memory, row-major with the row stride of the output."""
    m, n, k = tile.m, tile.n, tile.k
    elements = m * n

    @T.prim_func(s_tir=True)
    def store(source: T.handle, target: T.handle) -> None:
        row_stride = T.int32()
        unit = T.int32()
        S = T.match_buffer(source, (m, n), "int32", align=16, offset_factor=n, scope="wmma.accumulator")
        D = T.match_buffer(
            target,
            (m, n),
            "int32",
            align=16,
            offset_factor=n,
            scope="global",
            strides=[row_stride, unit],
        )
        with T.sblock("root"):
            T.reads(S[0:m, 0:n])
            T.writes(D[0:m, 0:n])
            T.evaluate(
                T.tvm_store_matrix_sync(
                    S.data,
                    m,
                    n,
                    k,
                    S.elem_offset // elements,
                    D.access_ptr("w", ptr_type="int32"),
                    row_stride,
                    "row_major",
                    dtype="void",
                )
            )

    return _copy_description(m, n, "int32", "wmma.accumulator", "global"), store


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
        store=_register(f"{prefix}.store", _store(tile)),
    )
