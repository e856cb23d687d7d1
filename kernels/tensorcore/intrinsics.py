"""The registered TensorIR intrinsics of one tensor instruction, whichever way it is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tvm import tirx
from tvm.s_tir import TensorIntrin

from kernels.tensorcore import mma, wmma
from kernels.tensorcore.tile import Tile, check_supported


@dataclass(frozen=True)
class Intrinsics:
    """Names of the intrinsics of one instruction, and the scopes of its fragments A, B and accumulator.

    `store` goes to global memory; `stage` and `stage_transposed` (column-major) go to shared memory.
    """

    scopes: tuple[str, str, str]
    load_a: str
    load_b: str
    fill: str
    multiply: str
    store: str
    stage: str
    stage_transposed: str


def _register(name: str, pair: tuple[tirx.PrimFunc, tirx.PrimFunc]) -> str:
    TensorIntrin.register(name, *pair, override=True)
    return name


@cache
def intrinsics(tile: Tile, dtype: str, weight_dtype: str) -> Intrinsics:
    """Register the intrinsics of one tile and its operand types with TVM (once), and name them.

    Raises ValueError, listing what is supported, for any other tile and types.
    """
    check_supported(tile, dtype, weight_dtype)
    prefix = f"bitexact.{tile}.{dtype}.{weight_dtype}"
    if tile.instruction == "mma":
        fill, store, scopes = mma.fill, mma.store, mma.SCOPES
        loads = mma.load(tile, dtype, rows=tile.m), mma.load(tile, weight_dtype, rows=tile.n)
        product = mma.multiply(tile, dtype, weight_dtype)
    else:
        fill, store, scopes = wmma.fill, wmma.store, wmma.SCOPES
        loads = wmma.load(tile, dtype, scopes[0]), wmma.load(tile, dtype, scopes[1])
        product = wmma.multiply(tile, dtype)
    return Intrinsics(
        scopes=scopes,
        load_a=_register(f"{prefix}.load_a", loads[0]),
        load_b=_register(f"{prefix}.load_b", loads[1]),
        fill=_register(f"{prefix}.fill", fill(tile)),
        multiply=_register(f"{prefix}.multiply", product),
        store=_register(f"{prefix}.store", store(tile, "global", "row_major")),
        stage=_register(f"{prefix}.stage", store(tile, "shared", "row_major")),
        stage_transposed=_register(f"{prefix}.stage_transposed", store(tile, "shared", "col_major")),
    )
