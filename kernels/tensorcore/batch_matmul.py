"""Batched product of matrices on tensor cores: what it computes, and its schedule.

out[b, i, j] = sum over l of data[b, i, l] * weight[b, j, l], in int32, wrapping mod 2^32.
"""

from __future__ import annotations

from tvm import te, tirx

from kernels.tensorcore import product, schedule
from kernels.tensorcore.epilogue import NO_EPILOGUE, Epilogue
from kernels.tensorcore.operands import per_item, storage_dtype
from kernels.tensorcore.problem import Extents, Problem
from kernels.tensorcore.tile import Tile, default_tile
from kernels.tensorcore.tiling import Tiling


def batch_matmul_primfunc(
    data_shape: tuple[int, int, int],
    *,
    units: int,
    dtype: str = "int8",
    weight_dtype: str | None = None,
    tile: Tile | None = None,
    epilogue: Epilogue = NO_EPILOGUE,
) -> tirx.PrimFunc:
    """Describe the products as a TensorIR function (data, weight, out), which TVM also builds for a CPU.

    All sizes are in elements. data (B, M, K) `dtype`; weight (B, N/n, K/k, n, k) `weight_dtype`, that is a
    packed weight of `dense_primfunc` for every product; out (B, M, N) int32, where N is `units`. Operands
    of a 4-bit type are buffers of int32 words, eight elements a word along the last dimension. With an
    epilogue its operands come before out, and out has its type.

    Raises ValueError naming M, N or K where it is no multiple of the tile's, and B where there is none.
    """
    weight_dtype = weight_dtype or dtype
    tile = tile or default_tile(dtype, weight_dtype)
    batches, rows, length = data_shape
    product.check(tile, (dtype, weight_dtype), [("M", rows, "m"), ("N", units, "n"), ("K", length, "k")])
    if batches < 1:
        raise ValueError(f"B = {batches} is no number of products")
    m, n, items = tile.m, tile.n, tile.k // per_item(dtype)
    extents = Extents(
        rows=rows // m, columns=units // n, steps=length // tile.k, height=batches, shared_weights=False
    )
    data = te.placeholder((batches, rows, extents.steps * items), storage_dtype(dtype), name="data")
    weight = te.placeholder(
        (batches, extents.columns, extents.steps, n, items), storage_dtype(weight_dtype), name="weight"
    )
    problem = Problem(extents, tile, dtype, weight_dtype, epilogue.out_dtype, fused=not epilogue.is_empty)
    products = product.tiled_product(
        problem,
        image=lambda y, x, row, step, row_inner, item: data[y, row * m + row_inner, step * items + item],
        weight=weight,
        weight_index=lambda y, ky, kx: (y,),
    )
    out, operands = product.finished(products, problem, epilogue, place=(batches,))
    return product.described([data, weight, *operands, out], problem)


def schedule_batch_matmul(func: tirx.PrimFunc, *, tiling: Tiling | None = None) -> tirx.PrimFunc:
    """Schedule what `batch_matmul_primfunc` made, for a CUDA device with tensor cores.

    The grid is (products, M blocks, N blocks). Without `tiling`, `default_tiling` decides. Raises
    ValueError if a given tiling does not divide the layer, or gives a block several products at a time.
    """
    return schedule.schedule_product(func, tiling=tiling)
