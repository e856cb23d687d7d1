"""The workloads of TVM's HWNC test (test_topi_conv2d_hwnc_tensorcore.py), exact over the full operand range.

What their kernels cost is guarded here too, by the PTX machine's counters and with the default tiling:
the bench asks for 6 warp instructions a tensor instruction, 2.5 times the compulsory bytes and 5 % of
shared transactions lost to bank conflicts, and for 4 and 2 of a tuned kernel. The default keeps the latter.
"""

import numpy as np
import pytest

from bench.perf.layers import HWNC, HWNC_INT8
from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.tensorcore.ptx import compile_ptx
from simulators import ptx
from tests.kernels.tensorcore_reference import Conv, conv2d, operands, pack, stored


def workload(dtype, *, channels, size, out_channels, kernel, stride, pad):
    return Conv(
        size, size, 8, channels, out_channels, (kernel, kernel), (stride, stride), (pad,) * 4, dtype=dtype
    )


def _named(dtype, rows):
    names = ("channels", "size", "out_channels", "kernel", "stride", "pad")
    return {
        f"{dtype}, {', '.join(map(str, row))}": workload(dtype, **dict(zip(names, row, strict=True)))
        for row in rows
    }


WORKLOADS = _named("int4", HWNC) | _named("int8", [HWNC_INT8])
# Of each kind a small one: 3x3, 3x3 with stride 2, 1x1 with stride 2.
SMALL = _named("int4", [(128, 7, 64, 3, 1, 1), (64, 14, 64, 3, 2, 1), (128, 14, 128, 1, 2, 0)]) | _named(
    "int8", [(32, 14, 64, 3, 1, 1)]
)
MOST_INSTRUCTIONS, MOST_BYTES = 4.0, 2.0
MOST_CONFLICTS = 0.05


def execute(conv):
    """Compile, run and compare one layer: the counters."""
    data, weight = operands(conv.data_shape, conv.dtype, 21), operands(conv.weight_shape, conv.dtype, 22)
    kernel = compile_ptx(schedule_conv2d(conv2d_primfunc(conv.data_shape, **conv.options())), name="workload")
    expected = conv2d(conv, data, weight)
    out = np.full(expected.shape, 0x5A5A5A5A, np.int32)
    buffers = {"data": stored(data, conv.dtype), "weight": pack(weight, conv.dtype), "out": out}
    report = ptx.parse(kernel.text).launch(
        kernel.entry, kernel.grid, kernel.block, kernel.in_kernel_order(buffers)
    )
    np.testing.assert_array_equal(out, expected)
    assert report.findings == []
    return report.counters


def assert_efficient(counters, *, instructions, share):
    assert counters["warp_instructions"] <= instructions * counters["tensor_instructions"]
    moved = counters["global_load_bytes"] + counters["global_store_bytes"]
    assert moved <= share * counters["global_compulsory_bytes"]
    assert counters["shared_bank_conflicts"] <= MOST_CONFLICTS * counters["shared_transactions"]


@pytest.mark.slow
@pytest.mark.parametrize("conv", WORKLOADS.values(), ids=WORKLOADS)
def test_workloads_are_exact_and_efficient_without_tuning(conv):
    assert_efficient(execute(conv), instructions=MOST_INSTRUCTIONS, share=MOST_BYTES)


@pytest.mark.parametrize("conv", SMALL.values(), ids=SMALL)
def test_small_workloads_are_exact_and_efficient_without_tuning(conv):
    # A small layer has fewer products to spread its stores and its first loads over.
    assert_efficient(execute(conv), instructions=6, share=2.5)


CORNERS = {"int4": [(-8, -8), (-8, 7), (7, 7)], "uint4": [(15, 15), (0, 15)]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "datum", "weight"), [(dtype, *ends) for dtype, pairs in CORNERS.items() for ends in pairs]
)
def test_ends_of_the_range_in_the_deepest_workload(dtype, datum, weight):
    conv = workload(dtype, channels=512, size=9, out_channels=64, kernel=3, stride=1, pad=1)
    kernel = compile_ptx(schedule_conv2d(conv2d_primfunc(conv.data_shape, **conv.options())), name="workload")
    held = np.uint8 if dtype == "uint4" else np.int8
    data, weights = np.full(conv.data_shape, datum, held), np.full(conv.weight_shape, weight, held)
    expected = conv2d(conv, data, weights)
    out = np.full(expected.shape, 0x5A5A5A5A, np.int32)
    buffers = {"data": stored(data, dtype), "weight": pack(weights, dtype), "out": out}
    ptx.parse(kernel.text).launch(
        kernel.entry, kernel.grid, kernel.block, kernel.in_kernel_order(buffers), check=False
    )
    np.testing.assert_array_equal(out, expected)
