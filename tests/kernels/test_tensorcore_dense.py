"""The dense layer: description on the CPU, shape rules, and the launch of its kernel."""

import numpy as np
import pytest
import tvm

from bench.pytest_plugin import case_id
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from kernels.tensorcore.problem import Extents
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.ptx import compile_ptx
from kernels.tensorcore.tiling import Tiling
from tests.kernels.tensorcore_reference import operands, pack, stored, wrap

CASES = {
    case_id("tensorcore", "dense", dtypes=(dtype, dtype), shapes=((batch, length), (units, length))): (
        (batch, length, units),
        dtype,
    )
    for dtype in ("int8", "uint8", "int4", "uint4")
    for batch, length, units in ((8, 32, 32), (24, 64, 32), (16, 96, 96))
}


@pytest.mark.parametrize(("sizes", "dtype"), CASES.values(), ids=CASES)
def test_description_built_for_the_cpu_equals_int64_product(sizes, dtype):
    batch, length, units = sizes
    data, weight = operands((batch, length), dtype, 3), operands((units, length), dtype, 4)
    built = tvm.compile(dense_primfunc((batch, length), units=units, dtype=dtype), target="llvm")
    out = tvm.runtime.tensor(np.full((batch, units), -7, np.int32))
    built(tvm.runtime.tensor(stored(data, dtype)), tvm.runtime.tensor(pack(weight, dtype)), out)
    np.testing.assert_array_equal(out.numpy(), wrap(data.astype(np.int64) @ weight.astype(np.int64).T))


@pytest.mark.parametrize(
    ("shape", "units", "message"),
    [((12, 16), 32, "M = 12"), ((8, 16), 10, "N = 10"), ((8, 20), 32, "K = 20")],
    ids=["batch", "units", "length"],
)
def test_illegal_layers_are_refused_by_name(shape, units, message):
    with pytest.raises(ValueError, match=message):
        dense_primfunc(shape, units=units)


def test_a_type_without_instruction_is_refused():
    with pytest.raises(ValueError, match="float16 is no operand of a tensor instruction"):
        dense_primfunc((8, 16), units=32, dtype="float16")


def test_extents_are_read_from_the_function():
    extents = problem_of(dense_primfunc((24, 64), units=96)).extents
    assert extents == Extents(rows=3, columns=3, steps=4)


def test_a_tiling_that_does_not_divide_the_layer_is_refused():
    with pytest.raises(ValueError, match="4 k steps cannot be divided by 3"):
        schedule_dense(dense_primfunc((8, 64), units=32), tiling=Tiling(chunk=3))


def test_grid_covers_batch_by_channels():
    tiling = Tiling(block_row_warps=2, warp_row_tiles=2, warp_col_tiles=2)
    kernel = compile_ptx(schedule_dense(dense_primfunc((64, 32), units=128), tiling=tiling), name="dense")
    assert (kernel.grid, kernel.block) == ((1, 2, 2), (32, 2, 1))
    assert "wmma.mma.sync.aligned.row.col.m8n32k16.s32.s8.s8.s32" in kernel.text
