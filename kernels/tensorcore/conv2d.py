"""HWNC convolution on tensor cores: what it computes, and its schedule.

    out[y, x, n, o] = sum over ky, kx, c of
        data[y * stride + ky * dilation - top, x * stride + kx * dilation - left, n, c] * weight[ky, kx, o, c]

with zeros outside the image, in int32, wrapping mod 2^32.
"""

from __future__ import annotations

from tvm import te, tirx

from kernels.tensorcore import product, schedule
from kernels.tensorcore.epilogue import NO_EPILOGUE, Epilogue
from kernels.tensorcore.operands import per_item, storage_dtype
from kernels.tensorcore.problem import Extents, Problem
from kernels.tensorcore.tile import Tile, default_tile
from kernels.tensorcore.tiling import Tiling


def _output_extent(what: str, size: int, *, pads: int, kernel: int, stride: int, dilation: int) -> int:
    reach = (kernel - 1) * dilation + 1
    if size + pads < reach:
        raise ValueError(f"the kernel reaches over {reach} {what}, the padded image has {size + pads}")
    return (size + pads - reach) // stride + 1


def _output_place(
    data_shape: tuple[int, int, int, int],
    *,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Height and width of the output. Raises ValueError naming what is illegal."""
    for what, values, least in (
        ("kernel", kernel, 1),
        ("strides", strides, 1),
        ("dilation", dilation, 1),
        ("padding", padding, 0),
    ):
        if min(values) < least:
            raise ValueError(f"{what} = {values} has an entry below {least}")
    top, left, bottom, right = padding
    height, width = (
        _output_extent(what, size, pads=pads, kernel=kernel[d], stride=strides[d], dilation=dilation[d])
        for d, (what, size, pads) in enumerate(
            [("rows", data_shape[0], top + bottom), ("columns", data_shape[1], left + right)]
        )
    )
    return height, width


def conv2d_primfunc(
    data_shape: tuple[int, int, int, int],
    *,
    out_channels: int,
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    dtype: str = "int8",
    weight_dtype: str | None = None,
    tile: Tile | None = None,
    epilogue: Epilogue = NO_EPILOGUE,
) -> tirx.PrimFunc:
    """Describe the convolution as a TensorIR function (data, weight, out), which TVM also builds for a CPU.

    All sizes are in elements. data (H, W, N, IC) `dtype`; weight (KH, KW, OC/n, IC/k, n, k) `dtype`, that
    is HWOI32o16i for 8-bit types and HWOI8o32i for 4-bit types; out (OH, OW, N, OC) int32. Operands of a
    4-bit type are buffers of int32 words, eight elements a word along the last dimension. kernel is
    (KH, KW); padding is (top, left, bottom, right); `tile` is m8n32k16 or m8n8k32 unless given. With an
    epilogue its operands come before out, and out has its type.

    Raises ValueError naming N, IC or OC where it is no multiple of the tile's m, k or n, and any other
    illegal argument.
    """
    weight_dtype = weight_dtype or dtype
    tile = tile or default_tile(dtype, weight_dtype)
    product.check(
        tile,
        (dtype, weight_dtype),
        [("N", data_shape[2], "m"), ("IC", data_shape[3], "k"), ("OC", out_channels, "n")],
    )
    height, width, batch, in_channels = data_shape
    out_height, out_width = _output_place(
        data_shape, kernel=kernel, strides=strides, padding=padding, dilation=dilation
    )
    top, left, _, _ = padding
    # A kernel of one row touches every stride-th row of the image: only these are staged.
    skipped = [stride if size == 1 else 1 for stride, size in zip(strides, kernel, strict=True)]
    extents = Extents(
        rows=batch // tile.m,
        columns=out_channels // tile.n,
        steps=in_channels // tile.k,
        height=out_height,
        width=out_width,
        kernel=kernel,
        stride=(strides[0] // skipped[0], strides[1] // skipped[1]),
        dilation=dilation,
    )
    items = per_item(dtype)
    stored, weight_stored = storage_dtype(dtype), storage_dtype(weight_dtype)
    data = te.placeholder((height, width, batch, in_channels // items), stored, name="data")
    weight = te.placeholder(
        (*kernel, extents.columns, extents.steps, tile.n, tile.k // items), weight_stored, name="weight"
    )

    def image(*index):  # type: ignore[no-untyped-def]
        y, x, row, step, row_inner, item = index
        y, x = y * skipped[0], x * skipped[1]
        return tirx.if_then_else(
            tirx.all(y >= top, y < top + height, x >= left, x < left + width),
            data[y - top, x - left, row * tile.m + row_inner, step * (tile.k // items) + item],
            tirx.const(0, stored),
        )

    problem = Problem(extents, tile, dtype, weight_dtype, epilogue.out_dtype, fused=not epilogue.is_empty)
    conv = product.tiled_product(problem, image=image, weight=weight, weight_index=lambda y, ky, kx: (ky, kx))
    out, operands = product.finished(conv, problem, epilogue, place=(out_height, out_width))
    return product.described([data, weight, *operands, out], problem)


def schedule_conv2d(func: tirx.PrimFunc, *, tiling: Tiling | None = None) -> tirx.PrimFunc:
    """Schedule what `conv2d_primfunc` made, for a CUDA device with WMMA.

    The grid is (rectangles of output places, N blocks, OC blocks). Padding is a predicate on the load into
    shared memory. Without `tiling`, `default_tiling` decides. Raises ValueError if a given tiling does not
    divide the layer.
    """
    return schedule.schedule_product(func, tiling=tiling)
