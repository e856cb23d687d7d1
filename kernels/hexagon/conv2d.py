"""conv2d on packed tensors, tensorised with vrmpy.

Layouts (those of TVM's PR #12911): data NCHW{b}c with b = min(IC, 32), weights OIHW{b/4}i32o4i,
result NCHW32c in int32.
"""

from tvm import te, tirx
from tvm.ir import Expr
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from kernels.hexagon.tile import MAX_ACCUMULATORS, finish_tile, largest_divisor
from kernels.hexagon.vrmpy import INTRINSICS, intrinsic_for


def _check_geometry(
    data_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    strides: tuple[int, int],
    padding: tuple[int, ...],
) -> None:
    if len(data_shape) != 5 or len(weight_shape) != 7:
        raise ValueError(
            "conv2d takes data NCHW{b}c of 5 dimensions and weights OIHW{b/4}i32o4i of 7, "
            f"not {data_shape} and {weight_shape}"
        )
    blocks, lanes = data_shape[1], data_shape[4]
    if lanes % 4 or not 4 <= lanes <= 32 or (blocks > 1 and lanes != 32):
        raise ValueError(
            f"{blocks} blocks of {lanes} input channels: one block holds a multiple of 4 up to 32, "
            "and more than one block holds 32 each"
        )
    expected = (blocks, lanes // 4, 32, 4)
    if (weight_shape[1], *weight_shape[4:]) != expected:
        raise ValueError(
            f"weights {weight_shape} do not fit data {data_shape}: "
            f"they would be (O/32, {blocks}, KH, KW, {lanes // 4}, 32, 4)"
        )
    if min(*data_shape, *weight_shape, *strides) < 1 or len(padding) != 4 or min(padding) < 0:
        raise ValueError(
            f"dimensions and strides are at least 1 and the padding is 4 numbers from 0 (top, left, bottom, "
            f"right): {data_shape}, {weight_shape}, strides {strides}, padding {padding}"
        )
    top, left, bottom, right = padding
    padded = (data_shape[2] + top + bottom, data_shape[3] + left + right)
    if padded[0] < weight_shape[2] or padded[1] < weight_shape[3]:
        raise ValueError(f"a kernel of {weight_shape[2:4]} does not fit a padded image of {padded}")


def conv2d_primfunc(
    data_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    data_dtype: str = "uint8",
    weight_dtype: str = "int8",
) -> PrimFunc:
    """Describe a packed convolution: arguments data, weight, out.

    data (N, IC/b, H, W, b) uint8; weight (O/32, IC/b, KH, KW, b/4, 32, 4) int8 or uint8; out
    (N, O/32, OH, OW, 32) int32, sums wrapping mod 2^32. `padding` is (top, left, bottom, right) of zeros.
    TVM compiles it as it is for any CPU; `schedule_conv2d` tensorises it.

    Raises ValueError for shapes, dtypes, strides or paddings that no kernel takes.
    """
    if (data_dtype, weight_dtype) not in INTRINSICS:
        intrinsic_for(data_dtype, weight_dtype)
    _check_geometry(data_shape, weight_shape, strides, padding)
    images, blocks, height, width, lanes = data_shape
    out_blocks, _, kernel_height, kernel_width = weight_shape[:4]
    top, left, bottom, right = padding
    out_height = (height + top + bottom - kernel_height) // strides[0] + 1
    out_width = (width + left + right - kernel_width) // strides[1] + 1

    data = te.placeholder(data_shape, data_dtype, "data")
    weight = te.placeholder(weight_shape, weight_dtype, "weight")

    def pad(n: tirx.Var, c: tirx.Var, h: tirx.Var, w: tirx.Var, i: tirx.Var) -> Expr:
        inside = tirx.all(h >= top, h < height + top, w >= left, w < width + left)
        return tirx.if_then_else(inside, data[n, c, h - top, w - left, i], tirx.const(0, data_dtype))

    source = data
    if any(padding):
        padded_shape = (images, blocks, height + top + bottom, width + left + right, lanes)
        source = te.compute(padded_shape, pad, "padded")

    block = te.reduce_axis((0, blocks), "block")
    y = te.reduce_axis((0, kernel_height), "kernel_y")
    x = te.reduce_axis((0, kernel_width), "kernel_x")
    word = te.reduce_axis((0, lanes // 4), "word")
    byte = te.reduce_axis((0, 4), "byte")

    def multiply_add(n: tirx.Var, o: tirx.Var, h: tirx.Var, w: tirx.Var, lane: tirx.Var) -> Expr:
        pixel = source[n, block, h * strides[0] + y, w * strides[1] + x, word * 4 + byte]
        factor = weight[o, block, y, x, word, lane, byte]
        return te.sum(pixel.astype("int32") * factor.astype("int32"), axis=[block, y, x, word, byte])

    out = te.compute((images, out_blocks, out_height, out_width, 32), multiply_add, "conv2d")
    return te.create_prim_func([data, weight, out])


def schedule_conv2d(primfunc: PrimFunc) -> Schedule:
    """Tensorise a function made by `conv2d_primfunc`; the schedule's module has it as `main`.

    A tile of up to 8 output pixels by 32 channels is one vector register a pixel, for the whole reduction.
    The zero padding is written once an image into a workspace.
    """
    schedule = Schedule(primfunc)
    conv2d = schedule.get_sblock("conv2d")
    data, weight, out = primfunc.params
    out_height, out_width = (int(extent) for extent in out.shape[2:4])
    tile_width = largest_divisor(out_width, MAX_ACCUMULATORS)
    tile_height = largest_divisor(out_height, MAX_ACCUMULATORS // tile_width)

    accumulators = schedule.cache_write(conv2d, 0, "local")
    n, o, h, w, lane, block, y, x, word, byte = schedule.get_loops(conv2d)
    h_outer, h_inner = schedule.split(h, [None, tile_height])
    w_outer, w_inner = schedule.split(w, [None, tile_width])
    # The kernel's window innermost: its unrolled taps read the same words of the row as neighbours do.
    schedule.reorder(n, o, h_outer, w_outer, block, word, y, x, h_inner, w_inner, lane, byte)
    for stage in schedule.get_producers(conv2d):  # the zero padding, where there is any
        # Not vectorised: LLVM splits 32 bytes with a condition into bytes, and takes ten times as long.
        schedule.compute_at(stage, n)
    schedule.reverse_compute_at(accumulators, w_outer)
    intrinsic = intrinsic_for(str(data.dtype), str(weight.dtype))
    finish_tile(schedule, conv2d, accumulators, first_reduction=block, rows=2, intrinsic=intrinsic)
    return schedule
