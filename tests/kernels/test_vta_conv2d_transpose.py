"""Transposed convolutions phase by phase, against NumPy that adds up what each datum gives."""

from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
import tvm

from kernels.vta import conv2d, conv2d_transpose
from kernels.vta.tensorir import conv2d_transpose_primfunc
from simulators.vta import Config, Machine, load
from tests.kernels import vta_reference as reference
from tests.kernels.test_vta_conv2d import BATCHED, FEW_UOPS, PYNQ, TINY

STEPS = (("add", "bias"), ("add", 256), ("shr", 9), ("max", -127), ("min", 127))


@dataclass(frozen=True)
class Case:
    """(N, C, H, W) and (O, KH, KW) in elements, all multiples of the configuration's block."""

    data: tuple[int, int, int, int]
    weight: tuple[int, int, int]
    strides: tuple[int, int] = (2, 2)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    output_padding: tuple[int, int] = (0, 0)
    groups: int = 1
    config: Config = PYNQ


CASES = {
    "kernel-2": Case((1, 32, 4, 5), (32, 2, 2)),
    "kernel-3": Case((1, 32, 4, 4), (16, 3, 3), padding=(1, 1, 1, 1), output_padding=(1, 1)),
    "dcgan-kernel-4": Case((1, 64, 8, 8), (32, 4, 4), padding=(1, 1, 1, 1)),
    "kernel-5-cut-far": Case((1, 16, 5, 5), (16, 5, 5), padding=(4, 3, 4, 3)),
    "kernel-below-its-stride": Case((1, 16, 3, 4), (16, 2, 1), (3, 4)),
    "strides-2-by-3-asymmetric": Case((2, 16, 3, 5), (32, 3, 5), (2, 3), (1, 2, 0, 1), output_padding=(0, 2)),
    "rows-that-no-datum-reaches": Case((1, 8, 3, 3), (4, 1, 1), (3, 3), output_padding=(2, 2), config=TINY),
    "stride-1": Case((1, 16, 3, 3), (16, 3, 3), (1, 1), (0, 1, 2, 0)),
    "odd-extents": Case((1, 16, 4, 3), (16, 3, 3)),
    "one-datum": Case((1, 16, 1, 1), (16, 3, 3)),
    "groups": Case((1, 64, 4, 4), (32, 3, 3), padding=(1, 1, 1, 1), groups=2),
    "cut-into-tiles": Case((1, 32, 24, 20), (32, 4, 4), padding=(1, 1, 1, 1)),
    "batch-4-block-8": Case((4, 16, 4, 4), (24, 4, 4), padding=(1, 1, 1, 1), config=BATCHED),
    "tiny-memories": Case((2, 16, 5, 6), (12, 3, 3), padding=(1, 0, 0, 1), config=TINY),
    "micro-ops-replaced": Case((1, 8, 6, 6), (12, 4, 4), padding=(1, 1, 1, 1), config=FEW_UOPS),
}


def build(case: Case):
    """The layer's shapes and options, its operands by name, and the result as NumPy has it."""
    rng = np.random.default_rng(prod(case.data))
    b, c = case.config.batch, case.config.block
    data = reference.full_range(rng, case.data)
    outputs = case.weight[0] // case.groups
    weight = reference.full_range(rng, (case.data[1], outputs, *case.weight[1:]))
    bias = rng.integers(-5000, 5000, (b, case.weight[0])).astype(np.int32)
    window = (case.strides, case.padding, case.output_padding)
    acc = np.concatenate(
        [
            reference.transposed_convolution(*each, *window)
            for each in zip(
                np.split(data, case.groups, axis=1), np.split(weight, case.groups, axis=0), strict=True
            )
        ],
        axis=1,
    )
    arrays = {
        "data": reference.pack_data(data, b, c),
        # In channel blocks first, but within a block out channels first.
        "weight": np.ascontiguousarray(reference.pack_data(weight, c, c).swapaxes(-1, -2)),
        "bias": reference.pack_tensor(bias, c),
    }
    names = ("strides", "padding", "output_padding", "groups", "config")
    options = {name: getattr(case, name) for name in names} | {"epilogue": STEPS}
    shapes = arrays["data"].shape, arrays["weight"].shape
    return shapes, options, arrays, reference.epilogue(acc, STEPS, {"bias": bias})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_program_computes_the_transposed_convolution(case):
    shapes, options, arrays, expected = build(case)
    program = load(conv2d_transpose(*shapes, **options).to_bytes())
    outputs, report = program.run(Machine(case.config), arrays)
    np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
    assert report.findings == []
    assert report.counters == program.counters
    assert len(np.unique(expected)) > 4


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_description_computes_the_same_bytes_on_this_cpu(case):
    shapes, options, arrays, expected = build(case)
    function = conv2d_transpose_primfunc(*shapes, **options)
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    packed = np.zeros_like(reference.pack_data(expected, case.config.batch, case.config.block))
    tensors = [tvm.runtime.tensor(each) for each in (*arrays.values(), packed)]
    tvm.compile(module, target="llvm")["main"](*tensors)
    np.testing.assert_array_equal(reference.unpack_data(tensors[-1].numpy()), expected)


def taps_of(kernel: int, stride: int, place: int) -> int:
    """How many taps of a kernel stand at a place, from 0 on, or a multiple of the stride behind it."""
    return len(range(place % stride, kernel, stride))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_result_is_multiplied_by_the_taps_of_its_phase_alone(case):
    shapes, options, _, expected = build(case)
    taps = prod(
        sum(
            taps_of(case.weight[1 + axis], case.strides[axis], result + case.padding[axis])
            for result in range(expected.shape[2 + axis])
        )
        for axis in range(2)
    )
    channels = case.data[1] * case.weight[0] // case.groups // case.config.block**2
    images = case.data[0] // case.config.batch
    assert conv2d_transpose(*shapes, **options).counters["gemm_counter"] == images * channels * taps


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_the_products_are_those_of_data_spread_with_zeros_by_the_square_of_the_stride(stride):
    kernel, size = 2 * stride, 6
    padding = (stride // 2,) * 4
    program = conv2d_transpose(
        (1, 2, size, size, 1, 16), (2, 2, kernel, kernel, 16, 16), strides=(stride,) * 2, padding=padding
    )
    (out,) = program.outputs
    around = kernel - 1 - stride // 2
    spread = out.shape[2] + kernel - 1 - 2 * around
    plain = conv2d((1, 2, spread, spread, 1, 16), (2, 2, kernel, kernel, 16, 16), padding=(around,) * 4)
    assert plain.outputs[0].shape == out.shape
    assert program.counters["gemm_counter"] * stride**2 == plain.counters["gemm_counter"]
    assert program.counters["inp_load_nbytes"] * stride < plain.counters["inp_load_nbytes"]


@pytest.mark.parametrize(
    ("weight", "options", "words"),
    [
        ((2, 1, 3, 3, 16, 8), {}, "weight .* is not packed as .C/16, O/16"),
        ((3, 1, 3, 3, 16, 16), {}, "weight has 3 blocks of input channels, and data has 2"),
        ((2, 2, 3, 3, 16, 16), {"groups": 2}, "2 groups of 2 blocks of in and 2 of out channels"),
        ((2, 1, 3, 3, 16, 16), {"strides": (0, 1)}, "strides"),
        ((2, 1, 3, 3, 16, 16), {"padding": (1, 1)}, r"is not \(top, left, bottom, right\)"),
        ((2, 1, 3, 3, 16, 16), {"padding": (-1, 0, 0, 0)}, "padding -1, 0 .* of the height"),
        ((2, 1, 3, 3, 16, 16), {"output_padding": (0, 1)}, "output padding 1 of the width"),
        ((2, 1, 3, 3, 16, 16), {"padding": (3, 0, 3, 0)}, "padding 3, 3 cuts off all of the height"),
        ((2, 1, 3, 18, 16, 16), {}, "the width needs 17 zeros around the data, and 15 fit"),
        ((2, 1, 33, 33, 16, 16), {"strides": (3, 3)}, "WGT: the smallest tile takes 1089 elements"),
    ],
    ids=["block", "channels", "groups", "stride", "two-pads", "negative", "output", "all", "zeros", "memory"],
)
def test_a_layer_that_vta_cannot_take_is_one_error(weight, options, words):
    with pytest.raises(ValueError, match=words):
        conv2d_transpose((1, 2, 4, 4, 1, 16), weight, **options)
