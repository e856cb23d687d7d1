"""Dense layer on tensor cores: what it computes, and its schedule.

out[i, j] = sum over l of data[i, l] * weight[j, l], in int32, wrapping mod 2^32.
"""

from __future__ import annotations

from tvm import te, tirx

from kernels.tensorcore import product, schedule
from kernels.tensorcore.epilogue import NO_EPILOGUE, Epilogue
from kernels.tensorcore.operands import per_item, storage_dtype
from kernels.tensorcore.problem import Extents, Problem
from kernels.tensorcore.tile import Tile, default_tile
from kernels.tensorcore.tiling import Tiling


def dense_primfunc(
    data_shape: tuple[int, int],
    *,
    units: int,
    dtype: str = "int8",
    weight_dtype: str | None = None,
    tile: Tile | None = None,
    epilogue: Epilogue = NO_EPILOGUE,
) -> tirx.PrimFunc:
    """Describe the layer as a TensorIR function (data, weight, out), which TVM also builds for a CPU.

    All sizes are in elements. data (M, K) `dtype`; weight (N/n, K/k, n, k) `dtype`, that is NK32n16k for
    8-bit types and NK8n32k for 4-bit types; out (M, N) int32, where N is `units`. Operands of a 4-bit type
    are buffers of int32 words, eight elements a word along the last dimension. With an epilogue its
    operands come before out, and out has its type.

    Raises ValueError naming M, N or K where it is no multiple of the tile's.
    """
    weight_dtype = weight_dtype or dtype
    tile = tile or default_tile(dtype, weight_dtype)
    batch, length = data_shape
    product.check(tile, (dtype, weight_dtype), [("M", batch, "m"), ("N", units, "n"), ("K", length, "k")])
    m, n, items = tile.m, tile.n, tile.k // per_item(dtype)
    extents = Extents(rows=batch // m, columns=units // n, steps=length // tile.k)
    stored, weight_stored = storage_dtype(dtype), storage_dtype(weight_dtype)
    data = te.placeholder((batch, extents.steps * items), stored, name="data")
    weight = te.placeholder((extents.columns, extents.steps, n, items), weight_stored, name="weight")
    problem = Problem(extents, tile, dtype, weight_dtype, epilogue.out_dtype, fused=not epilogue.is_empty)
    dense = product.tiled_product(
        problem,
        image=lambda y, x, row, step, row_inner, item: data[row * m + row_inner, step * items + item],
        weight=weight,
        weight_index=lambda y, ky, kx: (),
    )
    out, operands = product.finished(dense, problem, epilogue, place=())
    return product.described([data, weight, *operands, out], problem)


def schedule_dense(func: tirx.PrimFunc, *, tiling: Tiling | None = None) -> tirx.PrimFunc:
    """Schedule what `dense_primfunc` made, for a CUDA device with WMMA.

    The grid is (1, M blocks, N blocks). Without `tiling`, `default_tiling` decides. Raises ValueError if
    a given tiling does not divide the layer.
    """
    return schedule.schedule_product(func, tiling=tiling)
