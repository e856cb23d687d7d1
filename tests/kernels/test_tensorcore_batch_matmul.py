"""Batched products: description on the CPU, and the kernel on the PTX machine."""

import numpy as np
import pytest
import tvm

from kernels.tensorcore.batch_matmul import batch_matmul_primfunc, schedule_batch_matmul
from kernels.tensorcore.epilogue import Epilogue, Requantize
from kernels.tensorcore.problem import Extents
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.ptx import compile_ptx
from kernels.tensorcore.tile import default_tile
from kernels.tensorcore.tiling import Tiling
from simulators import ptx
from tests.kernels.tensorcore_reference import operands, pack, stored, wrap

TYPES = [("int8", "int8"), ("uint8", "int8"), ("int4", "int4"), ("uint4", "int4")]


def case(shape, units, dtype, weight_dtype, **options):
    """Function, buffers and expected sums of one batch of products."""
    function = batch_matmul_primfunc(shape, units=units, dtype=dtype, weight_dtype=weight_dtype, **options)
    data, weight = operands(shape, dtype, 61), operands((shape[0], units, shape[2]), weight_dtype, 62)
    expected = wrap(data.astype(np.int64) @ np.swapaxes(weight.astype(np.int64), 1, 2))
    tile = default_tile(dtype, weight_dtype)
    return function, {"data": stored(data, dtype), "weight": pack(weight, weight_dtype, tile)}, expected


def launched(function, buffers, out, **options):
    kernel = compile_ptx(schedule_batch_matmul(function, **options), name="batch_matmul")
    report = ptx.parse(kernel.text).launch(
        kernel.entry, kernel.grid, kernel.block, kernel.in_kernel_order({**buffers, "out": out})
    )
    assert report.findings == []
    return kernel, report


@pytest.mark.parametrize(("dtype", "weight_dtype"), TYPES)
def test_products_are_exact_in_the_kernel(dtype, weight_dtype):
    function, buffers, expected = case((3, 16, 64), 64, dtype, weight_dtype)
    out = np.full(expected.shape, 0x5A5A5A5A, np.int32)
    kernel, report = launched(function, buffers, out)
    np.testing.assert_array_equal(out, expected)
    tile = default_tile(dtype, weight_dtype)
    assert report.counters["tensor_instructions"] == 3 * 16 * 64 * 64 // (tile.m * tile.n * tile.k)
    assert kernel.grid[0] == 3


def test_products_are_exact_on_the_cpu():
    function, buffers, expected = case((2, 8, 32), 16, "uint4", "int4")
    out = tvm.runtime.tensor(np.zeros(expected.shape, np.int32))
    tvm.compile(function, target="llvm")(*map(tvm.runtime.tensor, buffers.values()), out)
    np.testing.assert_array_equal(out.numpy(), expected)


def test_products_have_epilogues():
    epilogue = Epilogue((Requantize(2**30, -4, to="int4"),), "int4")
    function, buffers, sums = case((2, 8, 64), 32, "int4", "int4", epilogue=epilogue)
    out = np.zeros((2, 8, 4), np.int32)
    launched(function, buffers, out)
    np.testing.assert_array_equal(out, stored(np.clip((sums.astype(np.int64) + 16) >> 5, -8, 7), "int4"))


def test_each_product_has_its_own_weights():
    function, _, _ = case((4, 8, 32), 32, "int8", "int8")
    assert problem_of(function).extents == Extents(rows=1, columns=1, steps=2, height=4, shared_weights=False)
    with pytest.raises(ValueError, match="a block takes 2 rows at a time, which have weights of their own"):
        schedule_batch_matmul(function, tiling=Tiling(warp_height_tiles=2))


@pytest.mark.parametrize(
    ("shape", "units", "message"),
    [
        ((0, 8, 16), 32, "B = 0"),
        ((1, 9, 16), 32, "M = 9"),
        ((1, 8, 8), 32, "K = 8"),
        ((1, 8, 16), 8, "N = 8"),
    ],
)
def test_illegal_shapes_are_refused_by_name(shape, units, message):
    with pytest.raises(ValueError, match=message):
        batch_matmul_primfunc(shape, units=units)
