"""HWNC convolution of 8-bit integers: what it computes, and its schedule for tensor cores.

    out[y, x, n, o] = sum over ky, kx, c of
        data[y * stride + ky * dilation - top, x * stride + kx * dilation - left, n, c] * weight[ky, kx, o, c]

with zeros outside the image, in int32, wrapping mod 2^32.
"""

from __future__ import annotations

from tvm import sym, te, tirx
from tvm.s_tir import Schedule

from kernels.tensorcore import schedule
from kernels.tensorcore.intrinsics import HOUSE_TILE, Tile, intrinsics
from kernels.tensorcore.tiling import Extents, Tiling, default_tiling


def _output_extent(what: str, size: int, *, pads: int, kernel: int, stride: int, dilation: int) -> int:
    reach = (kernel - 1) * dilation + 1
    if size + pads < reach:
        raise ValueError(f"the kernel reaches over {reach} {what}, the padded image has {size + pads}")
    return (size + pads - reach) // stride + 1


def conv2d_primfunc(
    data_shape: tuple[int, int, int, int],
    *,
    out_channels: int,
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    dtype: str = "int8",
    tile: Tile = HOUSE_TILE,
) -> tirx.PrimFunc:
    """Describe the convolution as a TensorIR function (data, weight, out), which TVM also builds for a CPU.

    data (H, W, N, IC) `dtype`; weight (KH, KW, OC/32, IC/16, 32, 16) `dtype`, that is HWOI32o16i; out
    (OH, OW, N, OC) int32. kernel is (KH, KW); padding is (top, left, bottom, right). Raises ValueError
    naming N, IC or OC where it is no multiple of the tile's m, k or n, and any other illegal argument.
    """
    intrinsics(tile, dtype)
    height, width, batch, in_channels = data_shape
    kernel_height, kernel_width = kernel
    top, left, bottom, right = padding
    schedule.check_tile(
        tile, [("N", batch, tile.m), ("IC", in_channels, tile.k), ("OC", out_channels, tile.n)]
    )
    for what, values, least in (
        ("kernel", kernel, 1),
        ("strides", strides, 1),
        ("dilation", dilation, 1),
        ("padding", padding, 0),
    ):
        if min(values) < least:
            raise ValueError(f"{what} = {values} has an entry below {least}")
    out_height = _output_extent(
        "rows", height, pads=top + bottom, kernel=kernel_height, stride=strides[0], dilation=dilation[0]
    )
    out_width = _output_extent(
        "columns", width, pads=left + right, kernel=kernel_width, stride=strides[1], dilation=dilation[1]
    )

    m, n, k = tile.m, tile.n, tile.k
    rows, columns, steps = batch // m, out_channels // n, in_channels // k
    data = te.placeholder(data_shape, dtype, name="data")
    weight = te.placeholder((kernel_height, kernel_width, columns, steps, n, k), dtype, name="weight")

    packed = te.compute(
        (height + top + bottom, width + left + right, rows, steps, m, k),
        lambda y, x, row, step, row_inner, channel: tirx.if_then_else(
            tirx.all(y >= top, y < top + height, x >= left, x < left + width),
            data[y - top, x - left, row * m + row_inner, step * k + channel],
            tirx.const(0, dtype),
        ),
        name="packed",
    )
    step = te.reduce_axis((0, steps), name="step")
    ky = te.reduce_axis((0, kernel_height), name="ky")
    kx = te.reduce_axis((0, kernel_width), name="kx")
    channel = te.reduce_axis((0, k), name="channel")

    def image(y, x):  # type: ignore[no-untyped-def]
        return y * strides[0] + ky * dilation[0], x * strides[1] + kx * dilation[1]

    conv = te.compute(
        (out_height, out_width, rows, columns, m, n),
        lambda y, x, row, column, row_inner, column_inner: te.sum(
            packed[*image(y, x), row, step, row_inner, channel].astype("int32")
            * weight[ky, kx, column, step, column_inner, channel].astype("int32"),
            axis=[step, ky, kx, channel],
        ),
        name="conv",
    )
    out = te.compute(
        (out_height, out_width, batch, out_channels),
        lambda y, x, b, o: conv[y, x, b // m, o // n, b % m, o % n],
        name="out",
    )
    return te.create_prim_func([data, weight, out])


def conv2d_extents(func: tirx.PrimFunc) -> Extents:
    """Find what a tiling of this convolution (as `conv2d_primfunc` makes it) has to divide."""
    sch = Schedule(func)
    block = sch.get(sch.get_sblock("conv"))
    by_name = {var.var.name.removeprefix("v_"): var for var in block.iter_vars}
    size = {name: int(var.dom.extent) for name, var in by_name.items()}
    image_x = next(read for read in block.reads if read.source.name == "packed").region[1].min
    stride, dilation, _ = sym.detect_linear_equation(image_x, [by_name["x"].var, by_name["kx"].var])
    return Extents(
        rows=size["row"],
        columns=size["column"],
        steps=size["step"],
        positions=size["x"],
        kernel_columns=size["kx"],
        stride=int(stride),
        dilation=int(dilation),
    )


def schedule_conv2d(
    func: tirx.PrimFunc, *, tiling: Tiling | None = None, tile: Tile = HOUSE_TILE
) -> tirx.PrimFunc:
    """Schedule what `conv2d_primfunc` made, for a CUDA device with WMMA.

    The grid is (OH * OW / positions, N blocks, OC blocks); a block stages padded data and weights of one
    kernel row (or position) and `tiling.chunk` k steps in shared memory, and its warps multiply from
    there. Padding is a predicate on the load into shared memory. Without `tiling`, `default_tiling`
    decides. Raises ValueError if a given tiling does not divide the layer.
    """
    extents = conv2d_extents(func)
    tiling = tiling or default_tiling(extents, tile)
    tiling.check(extents, tile)
    instruction = intrinsics(tile, str(func.params[0].dtype))

    sch = Schedule(func)
    packed, conv, out = (sch.get_sblock(name) for name in ("packed", "conv", "out"))
    m, n = tile.m, tile.n
    sch.transform_block_layout(out, lambda y, x, b, o: (y, x, b // m, o // n, b % m, o % n))
    y, x, row, column, *tile_loops = sch.get_loops(out)
    output = schedule.bind_output(
        sch,
        spatial=[y],
        position=x,
        row=row,
        column=column,
        tile_loops=(tile_loops[0], tile_loops[1]),
        tiling=tiling,
    )

    sch.set_scope(conv, 0, "wmma.accumulator")
    sch.compute_at(conv, output.warp, preserve_unit_loops=True)
    y1, x1, row1, column1, row_inner, column_inner, step, ky, kx, channel = sch.get_loops(conv)[-10:]
    chunk, step1 = sch.split(step, [None, tiling.chunk])
    sch.reorder(chunk, ky, kx, step1, y1, x1, row1, column1, row_inner, column_inner, channel)

    stage = ky if tiling.stage_kernel_row else kx
    sch.set_scope(packed, 0, "shared")
    schedule.stage_in_shared(sch, packed, stage, dimensions=6, tiling=tiling, contiguous=False)
    weight_shared = sch.cache_read(conv, 1, "shared")
    schedule.stage_in_shared(sch, weight_shared, stage, dimensions=6, tiling=tiling, contiguous=True)

    # Indexed by output place and kernel place apart: TVM 0.27 blockizes an index such as y + ky, a sum of
    # two loops that overlap, into a wrong one (y * KH + ky), and then tensorize fails.
    a = sch.reindex_cache_read(
        conv,
        0,
        "wmma.matrix_a",
        lambda y, x, row, column, row_inner, column_inner, step, ky, kx, channel: (
            y, x, ky, kx, row, step, row_inner, channel,
        ),
    )  # fmt: skip
    sch.compute_at(a, x1, preserve_unit_loops=True)
    a_y, a_x, a_row, a_inner, a_step, a_ky, a_kx, a_channel = sch.get_loops(a)[-8:]
    sch.reorder(a_y, a_x, a_ky, a_kx, a_step, a_row, a_inner, a_channel)
    b = sch.cache_read(conv, 1, "wmma.matrix_b")
    sch.compute_at(b, step1, preserve_unit_loops=True)

    fill = sch.decompose_reduction(conv, chunk)
    schedule.tensorize_last_two(sch, fill, instruction.fill)
    schedule.tensorize_last_two(sch, a, instruction.load_a)
    schedule.tensorize_last_two(sch, b, instruction.load_b)
    sch.tensorize(row_inner, instruction.multiply)
    sch.tensorize(output.tile_row, instruction.store)
    for loop in (step1, x1, row1, column1, *output.unrolled):
        sch.unroll(loop)
    return sch.mod["main"]
