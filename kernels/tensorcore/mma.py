"""`mma.sync` and `ldmatrix` as TensorIR intrinsics: load, fill, multiply-accumulate and store of one tile.

The instructions are written as inline PTX in functions of CUDA C++ (`device_functions`), which the source
of a kernel calls. Semantics and layout of fragments: PTX ISA, "Warp-level Matrix Instructions: mma,
ldmatrix" and "Matrix Fragments for mma".

A fragment is a buffer of a thread. TensorIR sees in it a whole tile of elements; of these a thread keeps
its own registers in the first bytes of the tile's place, and the compiler drops the rest.

Where a row has more than 16 bytes it lies in shared memory in segments, each with all rows of the tile: so
the eight rows of a matrix that ldmatrix loads are 128 contiguous bytes, which meet in no bank.
"""

from __future__ import annotations

import re

from tvm.script import tirx as T  # noqa: N812 - TVMScript's own spelling

from kernels.tensorcore.descriptions import copy, segmented, transposition, unpacking
from kernels.tensorcore.operands import HELD, PTX_NAME, is_packed, per_item, storage_dtype
from kernels.tensorcore.tile import Tile

SCOPES = ("local", "local", "local")
_CALL = re.compile(r"\b(bitexact_\w+)\(")


def load(tile: Tile, dtype: str, *, rows: int):  # type: ignore[no-untyped-def]
    """Load one tile of so many rows from shared memory: one ldmatrix."""
    columns, held, stored = tile.k, HELD[dtype], storage_dtype(dtype)
    segments = tile.segments(dtype)
    width = columns // per_item(dtype) // segments
    name = f"bitexact_ldmatrix_x{rows // 8 * segments}"
    shape = (segments, rows, width) if segments > 1 else (rows, width)
    whole = tuple(slice(0, extent) for extent in shape)

    @T.prim_func(s_tir=True)
    def load_tile(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(source, shape, stored, align=16, offset_factor=width, scope="shared")
        target_tile = T.match_buffer(
            target, (rows, columns), held, align=16, offset_factor=columns, scope="local"
        )
        with T.sblock("root"):
            T.reads(source_tile[whole])
            T.writes(target_tile[0:rows, 0:columns])
            T.evaluate(
                T.call_extern(
                    "int32",
                    name,
                    target_tile.access_ptr("w", ptr_type=held),
                    source_tile.access_ptr("r", ptr_type=stored),
                )
            )

    if segments > 1:
        return segmented(rows, columns, dtype, stored=stored, scope="local", held=held), load_tile
    if is_packed(dtype):
        return unpacking(rows, columns, dtype, scope="local", held=held), load_tile
    return copy(rows, columns, dtype, "shared", "local"), load_tile


def fill(tile: Tile):  # type: ignore[no-untyped-def]
    """Zero one accumulator."""
    m, n = tile.m, tile.n
    name = f"bitexact_zero_{tile.shape}"

    @T.prim_func(s_tir=True)
    def description(target: T.handle) -> None:
        target_tile = T.match_buffer(target, (m, n), "int32", align=16, offset_factor=n, scope="local")
        with T.sblock("root"):
            T.reads()
            T.writes(target_tile[0:m, 0:n])
            for i, j in T.grid(m, n):
                with T.sblock("zero"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = 0

    @T.prim_func(s_tir=True)
    def fill_tile(target: T.handle) -> None:
        target_tile = T.match_buffer(target, (m, n), "int32", align=16, offset_factor=n, scope="local")
        with T.sblock("root"):
            T.reads()
            T.writes(target_tile[0:m, 0:n])
            T.evaluate(T.call_extern("int32", name, target_tile.access_ptr("w", ptr_type="int32")))

    return description, fill_tile


def multiply(tile: Tile, dtype: str, weight_dtype: str):  # type: ignore[no-untyped-def]
    """c_tile[i, j] += sum over l of a_tile[i, l] * b_tile[j, l], in int32, wrapping."""
    m, n, k = tile.m, tile.n, tile.k
    a_held, b_held = HELD[dtype], HELD[weight_dtype]
    name = f"bitexact_mma_{tile.shape}_{PTX_NAME[dtype]}_{PTX_NAME[weight_dtype]}"

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        a_tile = T.match_buffer(a, (m, k), a_held, align=16, offset_factor=k, scope="local")
        b_tile = T.match_buffer(b, (n, k), b_held, align=16, offset_factor=k, scope="local")
        c_tile = T.match_buffer(c, (m, n), "int32", align=16, offset_factor=n, scope="local")
        with T.sblock("root"):
            T.reads(c_tile[0:m, 0:n], a_tile[0:m, 0:k], b_tile[0:n, 0:k])
            T.writes(c_tile[0:m, 0:n])
            for i, j, p in T.grid(m, n, k):
                with T.sblock("multiply"):
                    row, column, inner = T.axis.remap("SSR", [i, j, p])
                    c_tile[row, column] = c_tile[row, column] + T.Cast("int32", a_tile[row, inner]) * T.Cast(
                        "int32", b_tile[column, inner]
                    )

    @T.prim_func(s_tir=True)
    def multiply_tiles(a: T.handle, b: T.handle, c: T.handle) -> None:
        a_tile = T.match_buffer(a, (m, k), a_held, align=16, offset_factor=k, scope="local")
        b_tile = T.match_buffer(b, (n, k), b_held, align=16, offset_factor=k, scope="local")
        c_tile = T.match_buffer(c, (m, n), "int32", align=16, offset_factor=n, scope="local")
        with T.sblock("root"):
            T.reads(c_tile[0:m, 0:n], a_tile[0:m, 0:k], b_tile[0:n, 0:k])
            T.writes(c_tile[0:m, 0:n])
            T.evaluate(
                T.call_extern(
                    "int32",
                    name,
                    c_tile.access_ptr("rw", ptr_type="int32"),
                    a_tile.access_ptr("r", ptr_type=a_held),
                    b_tile.access_ptr("r", ptr_type=b_held),
                )
            )

    return description, multiply_tiles


def store(tile: Tile, scope: str, layout: str):  # type: ignore[no-untyped-def]
    """Store one accumulator, row-major or column-major, with the stride of where it goes."""
    m, n = tile.m, tile.n
    transposed = layout == "col_major"
    rows, columns = (n, m) if transposed else (m, n)
    name = f"bitexact_store_{layout}_{tile.shape}"

    @T.prim_func(s_tir=True)
    def store_tile(source: T.handle, target: T.handle) -> None:
        row_stride = T.int32()
        unit = T.int32()
        source_tile = T.match_buffer(source, (m, n), "int32", align=16, offset_factor=4, scope="local")
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
                T.call_extern(
                    "int32",
                    name,
                    target_tile.access_ptr("w", ptr_type="int32"),
                    row_stride,
                    source_tile.access_ptr("r", ptr_type="int32"),
                )
            )

    describe = transposition if transposed else copy
    return describe(m, n, "int32", "local", scope), store_tile


def device_functions(source: str) -> str:
    """Write the functions that the source of a kernel calls, as CUDA C++; nothing where it calls none."""
    return "\n".join(_device_function(name) for name in sorted(set(_CALL.findall(source))))


_HEAD = "static __device__ __forceinline__ int"


def _device_function(name: str) -> str:
    kind, *details = name.removeprefix("bitexact_").split("_")
    if kind == "ldmatrix":
        return _ldmatrix(name, int(details[0][1:]))
    if kind == "mma":
        shape, a, b = details
        return _mma(name, shape, a, b)
    m, n, _ = (int(side) for side in re.findall(r"\d+", details[-1]))
    if kind == "zero":
        zeros = " ".join(f"c[{register}] = 0;" for register in range(m * n // 32))
        return f"{_HEAD} {name}(int* c) {{ {zeros} return 0; }}"
    return _store(name, m, transposed="col" in details)


def _ldmatrix(name: str, count: int) -> str:
    outputs = ", ".join(f"%{register}" for register in range(count))
    constraints = ", ".join(f'"=r"(r[{register}])' for register in range(count))
    # Lane l names row l % 8 of matrix l / 8; the lanes beyond the last row name rows again, unused.
    return f"""{_HEAD} {name}(void* fragment, const void* tile) {{
  unsigned* r = (unsigned*)fragment;
  unsigned row = __cvta_generic_to_shared((const char*)tile + threadIdx.x % {8 * count} * 16);
  asm volatile("ldmatrix.sync.aligned.m8n8.x{count}.shared.b16 {{{outputs}}}, [%{count}];"
               : {constraints} : "r"(row) : "memory");
  return 0;
}}"""


def _mma(name: str, shape: str, a: str, b: str) -> str:
    m, n, k = (int(side) for side in re.findall(r"\d+", shape))
    bits = int(a[1:])
    counts = [m * n // 32, m * k * bits // 1024, n * k * bits // 1024]
    c, x, y = (
        ", ".join(f"%{sum(counts[:which]) + register}" for register in range(count))
        for which, count in enumerate(counts)
    )
    read_write = ", ".join(f'"+r"(c[{register}])' for register in range(counts[0]))
    inputs = ", ".join(
        [f'"r"(x[{register}])' for register in range(counts[1])]
        + [f'"r"(y[{register}])' for register in range(counts[2])]
    )
    return f"""{_HEAD} {name}(int* c, const void* a, const void* b) {{
  const unsigned* x = (const unsigned*)a;
  const unsigned* y = (const unsigned*)b;
  asm("mma.sync.aligned.{shape}.row.col.s32.{a}.{b}.s32 {{{c}}}, {{{x}}}, {{{y}}}, {{{c}}};"
      : {read_write} : {inputs});
  return 0;
}}"""


def _store(name: str, m: int, *, transposed: bool) -> str:
    # Lane l holds columns 2 (l % 4) and the next of row l / 4, and of every eighth row after it.
    lines = []
    for block in range(m // 8):
        row = f"(threadIdx.x / 4 + {8 * block})"
        first, second = 2 * block, 2 * block + 1
        if transposed:
            lines += [
                f"target[column * stride + {row}] = c[{first}];",
                f"target[(column + 1) * stride + {row}] = c[{second}];",
            ]
        else:
            lines.append(f"*(int2*)(target + {row} * stride + column) = make_int2(c[{first}], c[{second}]);")
    return f"""{_HEAD} {name}(int* target, int stride, const int* c) {{
  int column = threadIdx.x % 4 * 2;
  {" ".join(lines)}
  return 0;
}}"""
