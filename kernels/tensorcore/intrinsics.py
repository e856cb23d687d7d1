"""The registered TensorIR intrinsics of one tensor instruction, whichever way it is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

from tvm.s_tir import TensorIntrin

from kernels.tensorcore import mma, wmma
from kernels.tensorcore.descriptions import Pair, Place, fragment, loading, multiplying, storing, zeroing
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


def _register(name: str, pair: Pair) -> str:
    TensorIntrin.register(name, *pair, override=True)
    return name


@cache
def intrinsics(tile: Tile, dtype: str, weight_dtype: str) -> Intrinsics:
    """Register the intrinsics of one tile and its operand types with TVM (once), and name them.

    Raises ValueError, listing what is supported, for any other tile and types.
    """
    check_supported(tile, dtype, weight_dtype)
    prefix = f"bitexact.{tile}.{dtype}.{weight_dtype}"
    instruction = mma if tile.instruction == "mma" else wmma
    scopes = instruction.A_SCOPE, instruction.B_SCOPE, instruction.ACCUMULATOR_SCOPE
    dtypes = dtype, weight_dtype
    a, b = (
        fragment(rows, tile.k, instruction.element(of), scope)
        for rows, of, scope in zip((tile.m, tile.n), dtypes, scopes, strict=False)
    )
    accumulator = fragment(tile.m, tile.n, "int32", scopes[2])

    def load(of: str, place: Place) -> Pair:
        return loading(
            of,
            place,
            partial(instruction.load, tile, of, place.scope),
            segments=instruction.segments(tile, of),
            strided=instruction.STRIDED,
        )

    def store(scope: str, layout: str) -> Pair:
        call = partial(instruction.store, tile, layout)
        return storing(accumulator, scope, call, transposed=layout == "col_major")

    product = multiplying(dtypes, (a, b, accumulator), partial(instruction.multiply, tile, dtypes))
    return Intrinsics(
        scopes=scopes,
        load_a=_register(f"{prefix}.load_a", load(dtype, a)),
        load_b=_register(f"{prefix}.load_b", load(weight_dtype, b)),
        fill=_register(f"{prefix}.fill", zeroing(accumulator, partial(instruction.zero, tile))),
        multiply=_register(f"{prefix}.multiply", product),
        store=_register(f"{prefix}.store", store("global", "row_major")),
        stage=_register(f"{prefix}.stage", store("shared", "row_major")),
        stage_transposed=_register(f"{prefix}.stage_transposed", store("shared", "col_major")),
    )
