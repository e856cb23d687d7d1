"""The HWNC convolution: description on the CPU, shape rules, and the launch of its kernel."""

import re

import numpy as np
import pytest
import tvm
from tvm import te

from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.tensorcore.problem import Extents
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.ptx import compile_ptx
from kernels.tensorcore.tile import HOUSE_TILE, SUBBYTE_TILE, default_tile
from kernels.tensorcore.tiling import Tiling
from tests.kernels.tensorcore_reference import Conv, conv2d, operands, pack, stored

CASES = {
    "digits conv1, batch 8": Conv(8, 8, 8, 16, 32, (3, 3), padding=(1, 1, 1, 1)),
    "stride 2": Conv(8, 8, 8, 32, 64, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1)),
    "1x1": Conv(4, 4, 8, 48, 64, (1, 1)),
    "uneven padding": Conv(5, 6, 8, 16, 32, (3, 2), padding=(2, 0, 1, 3)),
    "dilation 2 and 3": Conv(7, 9, 8, 16, 32, (3, 3), padding=(2, 3, 2, 3), dilation=(2, 3)),
    "uint8": Conv(4, 5, 8, 16, 32, (2, 3), padding=(1, 1, 1, 1), dtype="uint8"),
    "int4": Conv(4, 5, 8, 32, 8, (2, 3), padding=(1, 0, 1, 2), strides=(1, 2), dtype="int4"),
    "uint4": Conv(4, 5, 16, 64, 24, (1, 1), dtype="uint4"),
    "uint8 by int8": Conv(3, 3, 8, 16, 8, (2, 2), dtype="uint8", weight_dtype="int8"),
    "int4 by uint4": Conv(3, 3, 8, 32, 8, (2, 2), dtype="int4", weight_dtype="uint4"),
    "1x1, stride 2 and 3, padding": Conv(5, 7, 8, 16, 32, (1, 1), strides=(2, 3), padding=(1, 2, 0, 1)),
}


@pytest.mark.parametrize("conv", CASES.values(), ids=CASES)
def test_description_built_for_the_cpu_equals_int64_convolution(conv):
    data, weight = operands(conv.data_shape, conv.dtype, 1), operands(conv.weight_shape, conv.of_weight, 2)
    expected = conv2d(conv, data, weight)
    built = tvm.compile(conv2d_primfunc(conv.data_shape, **conv.options()), target="llvm")
    out = tvm.runtime.tensor(np.full(expected.shape, -7, np.int32))
    built(
        tvm.runtime.tensor(stored(data, conv.dtype)),
        tvm.runtime.tensor(pack(weight, conv.of_weight, default_tile(conv.dtype, conv.of_weight))),
        out,
    )
    np.testing.assert_array_equal(out.numpy(), expected)


def test_sums_wrap_at_32_bits():
    # K = 35200: uint8 products can pass 2^31 from K = 33026 on.
    conv = Conv(1, 1100, 8, 32, 32, (1, 1100), dtype="uint8")
    data, weight = np.full(conv.data_shape, 255, "uint8"), np.full(conv.weight_shape, 255, "uint8")
    built = tvm.compile(conv2d_primfunc(conv.data_shape, **conv.options()), target="llvm")
    out = tvm.runtime.tensor(np.zeros((1, 1, 8, 32), np.int32))
    built(tvm.runtime.tensor(data), tvm.runtime.tensor(pack(weight, "uint8")), out)
    assert set(out.numpy().ravel()) == {255 * 255 * 32 * 1100 - 2**32}


ILLEGAL = {
    "batch": (Conv(4, 4, 12, 16, 32, (1, 1)), "N = 12 is not a positive multiple of 8"),
    "no batch": (Conv(4, 4, 0, 16, 32, (1, 1)), "N = 0 is not"),
    "input channels": (Conv(4, 4, 8, 24, 32, (1, 1)), "IC = 24 is not a positive multiple of 16"),
    "output channels": (Conv(4, 4, 8, 16, 40, (1, 1)), "OC = 40 is not a positive multiple of 32"),
    "stride": (Conv(4, 4, 8, 16, 32, (1, 1), strides=(1, 0)), r"strides = \(1, 0\) has an entry below 1"),
    "dilation": (Conv(4, 4, 8, 16, 32, (1, 1), dilation=(0, 1)), "dilation"),
    "kernel": (Conv(4, 4, 8, 16, 32, (0, 1)), "kernel"),
    "padding": (Conv(4, 4, 8, 16, 32, (1, 1), padding=(0, -1, 0, 0)), "padding"),
    "kernel over the image": (Conv(4, 4, 8, 16, 32, (1, 3), dilation=(1, 2)), "over 5 columns.* has 4"),
    "operand type": (
        Conv(4, 4, 8, 16, 32, (1, 1), dtype="int16"),
        "int16 is no operand of a tensor instruction: known are int8, uint8, int4, uint4",
    ),
    "input channels of 4 bits": (Conv(4, 4, 8, 48, 8, (1, 1), dtype="int4"), "IC = 48 .* multiple of 32"),
    "output channels of 4 bits": (Conv(4, 4, 8, 32, 12, (1, 1), dtype="uint4"), "OC = 12 .* multiple of 8"),
}


@pytest.mark.parametrize(("conv", "message"), ILLEGAL.values(), ids=ILLEGAL)
def test_illegal_layers_are_refused_by_name(conv, message):
    with pytest.raises(ValueError, match=message):
        conv2d_primfunc(conv.data_shape, **conv.options())


def test_extents_are_read_from_the_function():
    conv = Conv(9, 9, 24, 48, 96, (3, 3), strides=(1, 2), padding=(1, 1, 1, 1), dilation=(2, 2))
    problem = problem_of(conv2d_primfunc(conv.data_shape, **conv.options()))
    assert problem.extents == Extents(
        rows=3, columns=3, steps=3, height=7, width=4, kernel=(3, 3), stride=(1, 2), dilation=(2, 2)
    )
    assert (problem.tile, problem.dtype) == (HOUSE_TILE, "int8")


def test_a_kernel_of_one_position_has_no_stride_left():
    conv = Conv(9, 9, 8, 64, 16, (1, 3), strides=(2, 2), dtype="int4")
    problem = problem_of(conv2d_primfunc(conv.data_shape, **conv.options()))
    assert problem.extents == Extents(
        rows=1, columns=2, steps=2, height=5, width=4, kernel=(1, 3), stride=(1, 2)
    )
    assert (problem.tile, problem.dtype) == (SUBBYTE_TILE, "int4")


def test_a_function_of_another_origin_has_no_schedule():
    a = te.placeholder((8,), "int32", name="a")
    function = te.create_prim_func([a, te.compute((8,), lambda i: a[i] + 1, name="b")])
    with pytest.raises(ValueError, match="was not described by conv2d_primfunc"):
        schedule_conv2d(function)


def test_a_tiling_that_does_not_divide_the_layer_is_refused():
    function = conv2d_primfunc((4, 4, 8, 16), out_channels=32, kernel=(1, 1))
    with pytest.raises(ValueError, match="1 row tiles cannot be divided by 2"):
        schedule_conv2d(function, tiling=Tiling(block_row_warps=2))


def compiled(conv, **options):
    return compile_ptx(
        schedule_conv2d(conv2d_primfunc(conv.data_shape, **conv.options()), **options), name="conv2d"
    )


@pytest.mark.parametrize(("dtype", "letters"), [("int8", "s8"), ("uint8", "u8")])
def test_the_kernel_multiplies_on_tensor_cores(dtype, letters):
    kernel = compiled(Conv(4, 4, 16, 32, 64, (1, 1), dtype=dtype))
    opcodes = re.findall(r"^\s*(wmma\.\S+|dp4a\S*)", kernel.text, re.MULTILINE)
    assert set(opcodes) == {
        f"wmma.load.a.sync.aligned.row.m8n32k16.shared.{letters}",
        f"wmma.load.b.sync.aligned.col.m8n32k16.shared.{letters}",
        f"wmma.mma.sync.aligned.row.col.m8n32k16.s32.{letters}.{letters}.s32",
        "wmma.store.d.sync.aligned.row.m8n32k16.global.s32",
    }


def test_grid_covers_places_by_batch_by_channels():
    conv = Conv(6, 8, 64, 32, 128, (3, 3), padding=(1, 1, 1, 1))
    tiling = Tiling(
        warp_width_tiles=2, block_row_warps=2, warp_row_tiles=2, block_col_warps=2, chunk=2,
        split_block_k_nums=2,
    )  # fmt: skip
    kernel = compiled(conv, tiling=tiling)
    assert kernel.entry == "conv2d_kernel"
    assert kernel.grid == (6 * 8 // 2 // 2, 64 // 8 // 4, 128 // 32 // 2)
    assert kernel.block == (32, 2, 2)
    assert kernel.dynamic_shared == 0
    assert kernel.parameters == ("data", "weight", "out")
    assert {a.name: (a.dtype, a.shape) for a in kernel.arguments} == {
        "data": ("int8", conv.data_shape),
        "weight": ("int8", (3, 3, 4, 2, 32, 16)),
        "out": ("int32", (6, 8, 64, 128)),
    }
