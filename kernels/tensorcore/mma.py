"""The calls of `mma.sync` and `ldmatrix` in TensorIR: load, zero, multiply-accumulate and store one tile.

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
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812 - TVMScript's own spelling

from kernels.tensorcore.operands import HELD, PTX_NAME
from kernels.tensorcore.tile import Tile

A_SCOPE = B_SCOPE = ACCUMULATOR_SCOPE = "local"
# The rows of a tile in shared memory lie next to each other.
STRIDED = False
_CALL = re.compile(r"\b(bitexact_\w+)\(")


def element(dtype: str) -> str:
    """The type of an operand's elements in a fragment: 8 bits, of which TensorIR can make an array."""
    return HELD[dtype]


def segments(tile: Tile, dtype: str) -> int:
    """Pieces of 16 bytes a row in which a tile lies in shared memory."""
    return tile.segments(dtype)


def load(tile: Tile, dtype: str, scope: str, source: Any, target: Any) -> tirx.PrimExpr:
    """Load one tile of an operand: one ldmatrix."""
    rows = int(target.shape[0])
    return T.call_extern(
        "int32",
        f"bitexact_ldmatrix_x{rows // 8 * segments(tile, dtype)}",
        target.access_ptr("w", ptr_type=target.dtype),
        source.access_ptr("r", ptr_type=source.dtype),
    )


def zero(tile: Tile, target: Any) -> tirx.PrimExpr:
    """Zero one accumulator."""
    pointer = target.access_ptr("w", ptr_type="int32")
    return T.call_extern("int32", f"bitexact_zero_{tile.shape}", pointer)


def multiply(tile: Tile, dtypes: tuple[str, str], a: Any, b: Any, c: Any) -> tirx.PrimExpr:
    """Multiply two tiles, and add to an accumulator."""
    return T.call_extern(
        "int32",
        f"bitexact_mma_{tile.shape}_{PTX_NAME[dtypes[0]]}_{PTX_NAME[dtypes[1]]}",
        c.access_ptr("rw", ptr_type="int32"),
        a.access_ptr("r", ptr_type=a.dtype),
        b.access_ptr("r", ptr_type=b.dtype),
    )


def store(tile: Tile, layout: str, source: Any, target: Any) -> tirx.PrimExpr:
    """Store one accumulator, in the layout "row_major" or "col_major"."""
    return T.call_extern(
        "int32",
        f"bitexact_store_{layout}_{tile.shape}",
        target.access_ptr("w", ptr_type="int32"),
        target.strides[0],
        source.access_ptr("r", ptr_type="int32"),
    )


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
