"""The Hexagon kernels around the products: requantise, elementwise, depthwise, pooling; against NumPy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm.tirx import PrimFunc

from kernels.hexagon.architectures import ARCHITECTURES, probe_elf
from kernels.hexagon.build import build_elf
from kernels.hexagon.conv2d import schedule_conv2d
from kernels.hexagon.depthwise import depthwise_primfunc, schedule_depthwise, sum_pool_primfunc, taps_of
from kernels.hexagon.elementwise import (
    BINARY,
    DTYPES,
    binary_primfunc,
    schedule_binary,
    schedule_unary,
    unary_primfunc,
)
from kernels.hexagon.machine_code import find_vrmpy, without_vrmpy
from kernels.hexagon.max_pool import max_pool_primfunc, schedule_max_pool
from kernels.hexagon.operators import OPERATORS
from kernels.hexagon.requantize import ROUNDINGS, requantize_primfunc, schedule_requantize
from simulators.hvx import qemu
from simulators.hvx.qemu import FunctionServer
from tests.kernels.test_hexagon_operators import CONVOLUTIONS, convolve, operands
from tests.simulators.hvx_guest import needs_qemu, needs_toolchain

PACKED = (2, 3, 3, 5, 32)
PER_CHANNEL = (1, 3, 1, 1, 32)
CORNERS = np.array([-(2**31), 2**31 - 1, -1, 0, 1, 2, 3, -3, 5, 7, -96, 95, 2**30, -(2**30)], np.int32)


@dataclass(frozen=True)
class Case:
    """A description, its schedule, operands for it and the result in NumPy."""

    description: PrimFunc
    schedule: Callable[[PrimFunc], PrimFunc]
    operands: tuple[np.ndarray, ...]
    expected: np.ndarray
    vrmpy: int = 0


def drawn(shape: tuple[int, ...], dtype: str, seed: int = 5) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def wrapped(values: np.ndarray) -> np.ndarray:
    return ((values + 2**31) % 2**32 - 2**31).astype(np.int32)


# ---- requantise ----


def rescaled(value: int, multiplier: int, shift: int, rounding: str) -> int:
    """The definition, in Python's integers."""

    def half_up(number: int, right: int) -> int:
        return (number + ((1 << right) >> 1)) >> right

    product, shift = value * multiplier, min(max(shift, -31), 31)
    right = 31 - shift
    if rounding == "double":
        return half_up(half_up(product, 31 - max(shift, 0)), max(-shift, 0))
    if rounding == "half_up":
        return half_up(product, right)
    low, rest = product >> right, product - (product >> right << right)
    if rounding == "floor" or right == 0:
        return low
    return low + (2 * rest > 1 << right or (2 * rest == 1 << right and low & 1 == 1))


def requantization(shape, parameter_shape, out_dtype, zero_point, rounding) -> Case:
    rng = np.random.default_rng(abs(zero_point))
    data = np.where(rng.random(shape) < 0.5, rng.choice(CORNERS, shape), drawn(shape, "int32"))
    multipliers = np.array([2**30, -(2**31), 2**31 - 1, 0, 1, 1288490240, 1395864320, 3 << 29], np.int32)
    multiplier = rng.choice(multipliers, parameter_shape)
    shift = rng.integers(-40, 41, parameter_shape).astype(np.int32)
    shift = np.where(rng.random(parameter_shape) < 0.7, shift // 8, shift).astype(np.int32)
    limits = np.iinfo(out_dtype)
    parameters = (np.broadcast_to(p, shape).flat for p in (multiplier, shift))
    results = [
        min(max(rescaled(*map(int, one), rounding) + zero_point, limits.min), limits.max)
        for one in zip(data.flat, *parameters, strict=True)
    ]
    description = requantize_primfunc(
        shape, parameter_shape, zero_point=zero_point, rounding=rounding, out_dtype=out_dtype
    )
    expected = np.array(results).astype(out_dtype).reshape(shape)
    return Case(description, schedule_requantize, (data.astype(np.int32), multiplier, shift), expected)


REQUANTIZE = {
    f"requantize_{rounding}_{name}": requantization(*arguments, rounding)
    for rounding in ROUNDINGS
    for name, arguments in {
        "per_channel_uint8": (PACKED, PER_CHANNEL, "uint8", 3),
        "per_tensor_int8_three_pixels": ((2, 2, 1, 3, 32), (1,), "int8", -128),
        "dense_per_channel_int8": ((3, 96), (1, 96), "int8", 0),
        "int32_zero_point_past_the_end": ((1, 3, 3, 3, 32), PER_CHANNEL, "int32", -(2**31)),
    }.items()
}


# ---- elementwise ----

IN_INT64 = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": lambda a, b: (a & 0xFFFF) * b + ((a >> 16) * b % 2**16 << 16),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "left_shift": np.left_shift,
    "right_shift": np.right_shift,
}


def binary(operator: str, other_shape: tuple[int, ...]) -> Case:
    data, other = drawn(PACKED, "int32"), drawn(other_shape, "int32", 6)
    if "shift" in operator:
        other &= 31
    expected = wrapped(IN_INT64[operator](data.astype(np.int64), other.astype(np.int64)))
    return Case(binary_primfunc(operator, PACKED, other_shape), schedule_binary, (data, other), expected)


def unary(operator: str, shape: tuple[int, ...], dtype: str, **options: object) -> Case:
    data = drawn(shape, dtype)
    if operator == "astype":
        expected = data.astype(str(options["out_dtype"]))
    else:
        expected = np.clip(data, options.get("low", 0), options.get("high", np.iinfo(dtype).max))
    return Case(unary_primfunc(operator, shape, dtype, **options), schedule_unary, (data,), expected)


ELEMENTWISE = {
    **{
        f"{operator}_{name}": binary(operator, shape)
        for operator in BINARY
        for name, shape in {"same": PACKED, "per_channel": PER_CHANNEL, "one": (1,)}.items()
    },
    **{
        f"{operator}_{dtype}_{tail}": unary(operator, shape, dtype, **options)
        for dtype in DTYPES
        for tail, shape in {"packed": PACKED, "335_elements": (5, 67)}.items()
        for operator, options in {"relu": {}, "clip": {"low": 3, "high": 100}}.items()
    },
    **{
        f"astype_{dtype}_to_{out}": unary("astype", (7, 33), dtype, out_dtype=out)
        for dtype in DTYPES
        for out in DTYPES
    },
}


# ---- windows ----


def windows(data, kernel, strides, padding, dilation, fill):  # noqa: PLR0917
    """For each tap the pixels that it takes, as int64 (N, blocks, OH, OW, 32)."""
    top, left, bottom, right = padding
    padded = np.pad(
        data.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill
    )
    size = [
        (padded.shape[2 + axis] - (kernel[axis] - 1) * dilation[axis] - 1) // strides[axis] + 1
        for axis in (0, 1)
    ]
    for y, x in np.ndindex(kernel):
        taken = padded[:, :, y * dilation[0] :, x * dilation[1] :]
        yield (y, x), taken[:, :, :: strides[0], :: strides[1]][:, :, : size[0], : size[1]]


def depthwise(shape, kernel, strides, padding, dilation, *dtypes) -> Case:
    data_dtype, weight_dtype = dtypes
    data, taps, groups = drawn(shape, data_dtype), taps_of(dilation[1]), -1
    expected: np.ndarray | int = 0
    weight = None
    if weight_dtype:
        groups = -(-kernel[1] // taps)
        weight = np.zeros((shape[1], kernel[0], groups, 32, 4), weight_dtype)
    rng = np.random.default_rng(8)
    for (y, x), pixels in windows(data, kernel, strides, padding, dilation, 0):
        factor: np.ndarray | int = 1
        if weight is not None:
            drawn_factor = rng.integers(-128, 128, (shape[1], 32)).astype(np.int8).view(weight_dtype)
            weight[:, y, x // taps, :, x % taps] = drawn_factor
            factor = drawn_factor.astype(np.int64)[None, :, None, None, :]
        expected = expected + pixels * factor
    options = {"strides": strides, "padding": padding, "data_dtype": data_dtype}
    if weight is None:
        description = sum_pool_primfunc(shape, kernel, **options)
    else:
        description = depthwise_primfunc(
            shape, kernel, dilation=dilation, weight_dtype=weight_dtype, **options
        )
    assert isinstance(expected, np.ndarray)
    operands = (data,) if weight is None else (data, weight)
    vrmpy = expected.size // 32 * kernel[0] * -(-kernel[1] // taps)
    return Case(description, schedule_depthwise, operands, expected.astype(np.int32), vrmpy)


def max_pool(shape, kernel, strides, padding, dtype) -> Case:
    data = drawn(shape, dtype)
    least = int(np.iinfo(dtype).min)
    taken = [pixels for _, pixels in windows(data, kernel, strides, padding, (1, 1), least)]
    description = max_pool_primfunc(shape, kernel, strides=strides, padding=padding, dtype=dtype)
    return Case(description, schedule_max_pool, (data,), np.max(taken, axis=0).astype(dtype))


ONE, TWO, NONE = (1, 1), (2, 2), (0, 0, 0, 0)
GEOMETRIES = {
    "3x3": ((2, 2, 7, 9, 32), (3, 3), ONE, (1, 1, 1, 1), ONE),
    "3x3_stride_2_asymmetric": ((1, 1, 8, 8, 32), (3, 3), TWO, (0, 1, 1, 0), ONE),
    "5x5": ((1, 1, 6, 6, 32), (5, 5), ONE, (2, 2, 2, 2), ONE),
    "whole_image": ((1, 2, 7, 7, 32), (7, 7), ONE, NONE, ONE),
    "one_pixel": ((1, 1, 1, 1, 32), ONE, ONE, NONE, ONE),
}
WINDOWS = {
    **{
        f"depthwise_{name}_{data}_{weight}": depthwise(*geometry, data, weight)
        for name, geometry in GEOMETRIES.items()
        for data, weight in (("uint8", "int8"), ("int8", "uint8"), ("int8", "int8"))
    },
    "depthwise_uint8_uint8": depthwise(*GEOMETRIES["3x3"], "uint8", "uint8"),
    "depthwise_dilation_2_and_3": depthwise(
        (1, 1, 9, 9, 32), (3, 2), ONE, (1, 2, 1, 2), (2, 3), "uint8", "int8"
    ),
    **{
        f"sum_pool_{name}_{data}": depthwise(*geometry, data, None)
        for name, geometry in GEOMETRIES.items()
        for data in ("uint8", "int8")
    },
    **{
        f"max_pool_{name}_{dtype}": max_pool(*geometry, dtype)
        for name, geometry in {
            "3x3_stride_2": ((2, 2, 8, 8, 32), (3, 3), TWO, (1, 1, 1, 1)),
            "3x2_asymmetric": ((1, 1, 5, 5, 32), (3, 2), (2, 1), (1, 0, 0, 1)),
            "2x2_one_result": ((1, 1, 2, 2, 32), TWO, TWO, NONE),
        }.items()
        for dtype in DTYPES
    },
}

CASES = {**REQUANTIZE, **ELEMENTWISE, **WINDOWS}


@pytest.fixture(scope="module")
def server():
    elf = build_elf({name: case.schedule(case.description) for name, case in CASES.items()})
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=60) as running:
        yield running


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize("name", CASES)
def test_hexagon_code_computes_the_operator(server, name):
    case = CASES[name]
    out = np.zeros_like(case.expected)
    counters = server.call(name, case.operands, out)
    assert np.array_equal(out, case.expected)
    assert counters["hvx_instructions"] > 0
    assert counters["vrmpy"] == case.vrmpy


@pytest.mark.parametrize("name", [name for name in CASES if "one" in name or "half_even" in name])
def test_the_plain_description_computes_the_operator_on_this_cpu(name):
    case = CASES[name]
    out = tvm.runtime.empty(case.expected.shape, str(case.expected.dtype))
    function = case.description.with_attr("global_symbol", "main")
    compiled = tvm.compile(tvm.IRModule({"main": function}), target="llvm")["main"]
    compiled(*(tvm.runtime.tensor(operand) for operand in case.operands), out)
    assert np.array_equal(out.numpy(), case.expected)


@needs_toolchain
def test_the_depthwise_kernel_is_vrmpy_of_two_vectors():
    elf = build_elf({"f": schedule_depthwise(CASES["depthwise_3x3_uint8_int8"].description)})
    assert {v.operation for v in find_vrmpy(elf)} <= {"vrmpybusv_acc", "vrmpybusv"}
    assert find_vrmpy(elf)


def test_the_table_of_operators_makes_what_it_lists():
    names = [name for operator in OPERATORS for name in operator.operators]
    assert len(names) == len(set(names))
    assert {"conv2d", "dense", "depthwise conv2d", "bitexact.requantize", "add", "relu", "clip"} <= set(names)
    schedules = {case.schedule for case in CASES.values()}
    assert schedules <= {operator.schedule for operator in OPERATORS}


REFUSED = {
    "rounding": (lambda: requantize_primfunc(PACKED, (1,), rounding="up"), "'up' is none of half_up"),
    "out-dtype": (lambda: requantize_primfunc(PACKED, (1,), out_dtype="int16"), "'int16' is none of"),
    "parameters": (lambda: requantize_primfunc(PACKED, (3, 32)), r"is \(1, 3, 1, 1, 32\), not \(3, 32\)"),
    "zero-point": (lambda: requantize_primfunc(PACKED, (1,), zero_point=2**31), "is no int32"),
    "layout": (lambda: requantize_primfunc((2, 33), (1,)), r"not \(2, 33\)"),
    "binary": (lambda: binary_primfunc("divide", PACKED, PACKED), "'divide' is none of add"),
    "other-shape": (lambda: binary_primfunc("add", PACKED, (3, 5, 32)), "second operand of add"),
    "unary": (lambda: unary_primfunc("abs", PACKED, "int8"), "'abs' is none of relu, clip, astype"),
    "unary-dtype": (lambda: unary_primfunc("relu", PACKED, "int16"), "int16 is none of"),
    "relu-type": (lambda: unary_primfunc("relu", PACKED, "int8", out_dtype="uint8"), "gives int8"),
    "clip-range": (lambda: unary_primfunc("clip", PACKED, "int8", low=9, high=3), "9..3 is no range"),
    "clip-type": (lambda: unary_primfunc("clip", PACKED, "int8", low=0, high=300), "no range of int8"),
    "no-shape": (lambda: unary_primfunc("relu", (), "int8"), "dimensions of at least 1"),
    "depthwise-layout": (lambda: depthwise_primfunc((1, 8, 8, 32), (3, 3)), "NCHW32c of 5 dimensions"),
    "depthwise-window": (lambda: depthwise_primfunc((1, 1, 2, 2, 32), (3, 3)), "does not fit"),
    "depthwise-dtype": (lambda: depthwise_primfunc(PACKED, (3, 3), data_dtype="int16"), "no vrmpy kernel"),
    "sum-strides": (lambda: sum_pool_primfunc(PACKED, (3, 3), strides=(0, 1)), "at least 1"),
    "max-dtype": (lambda: max_pool_primfunc(PACKED, (2, 2), dtype="float32"), "float32 is none of"),
    "max-layout": (lambda: max_pool_primfunc((1, 3, 8, 8), (2, 2)), "NCHW32c of 5 dimensions"),
    "max-padding": (lambda: max_pool_primfunc(PACKED, (2, 2), padding=(2, 0, 0, 0)), "less than the window"),
    "max-window": (lambda: max_pool_primfunc(PACKED, (9, 9)), "does not fit"),
    "max-strides": (lambda: max_pool_primfunc(PACKED, (2, 2), strides=(0, 1)), "at least 1"),
    "another": (lambda: schedule_conv2d(unary_primfunc("relu", PACKED, "int8")), "of conv2d, not of unary"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_kernel_takes_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()


SOME = (
    "requantize_half_even_per_channel_uint8",
    "add_per_channel",
    "astype_int32_to_int8",
    "depthwise_3x3_int8_int8",
    "sum_pool_whole_image_uint8",
    "max_pool_3x3_stride_2_uint8",
)


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize(("architecture", "seed"), list(zip(ARCHITECTURES, range(1, 8), strict=True)))
def test_any_order_of_parallel_tasks_gives_the_same_on_every_architecture(architecture, seed):
    """v66 and v67 under QEMU 7.2, and newer ones where the installed QEMU runs them."""
    if architecture > 67 and (reason := qemu.why_not_running((architecture, probe_elf(architecture)))):
        pytest.skip(reason)
    cases = {name: CASES[name] for name in SOME}
    functions = {name: case.schedule(case.description) for name, case in cases.items()}
    conv = CONVOLUTIONS["1x1"]
    data, weight = operands(conv, "random")
    elf = build_elf({**functions, "conv2d": schedule_conv2d(conv.primfunc())}, architecture=architecture)
    with FunctionServer(elf, timeout=60) as running:
        running.shuffle_tasks(seed)
        for name, case in cases.items():
            out = np.zeros_like(case.expected)
            running.call(name, case.operands, out)
            assert np.array_equal(out, case.expected), name
        out = np.zeros(conv.out_shape, np.int32)
        running.call("conv2d", [data, weight], out)
        assert np.array_equal(out, convolve(conv, data, weight))


@needs_toolchain
@pytest.mark.parametrize("architecture", [68, 69, 71, 73, 75])
def test_newer_architectures_are_built_with_their_vrmpy(architecture):
    function = schedule_conv2d(CONVOLUTIONS["1x1"].primfunc())
    found = find_vrmpy(build_elf({"conv2d": function}, architecture=architecture))
    # 8 words by 4 x 2 pixels by 2 blocks of channels, and the sums of the data.
    assert len(found) >= 8 * 8 * 2
    assert {v.operation for v in found} == {"vrmpyub_acc"}


@needs_qemu
@needs_toolchain
def test_a_chain_of_layers_runs_on_resident_tensors():
    """conv2d, bias, requantise and pooling, with nothing sent between them."""
    conv = CONVOLUTIONS["two_blocks_of_channels"]
    data, weight = operands(conv, "random")
    shape = conv.out_shape
    channels = (1, shape[1], 1, 1, 32)
    bias = drawn(channels, "int32") // 2**16
    multiplier, shift = np.full(channels, 1288490240, np.int32), np.full(channels, -12, np.int32)
    elf = build_elf(
        {
            "conv2d": schedule_conv2d(conv.primfunc()),
            "bias": schedule_binary(binary_primfunc("add", shape, channels)),
            "requantize": schedule_requantize(requantize_primfunc(shape, channels, out_dtype="uint8")),
            "pool": schedule_max_pool(max_pool_primfunc(shape, (2, 2), strides=(2, 2))),
        }
    )
    sums = wrapped(convolve(conv, data, weight).astype(np.int64) + bias)
    limited = [min(max(rescaled(int(value), 1288490240, -12, "half_up"), 0), 255) for value in sums.flat]
    bytes_ = np.array(limited, np.uint8).reshape(shape)
    expected = np.max([pixels for _, pixels in windows(bytes_, (2, 2), (2, 2), NONE, ONE, 0)], axis=0)
    with FunctionServer(elf, timeout=60) as running:
        kept = [running.upload(array) for array in (weight, bias, multiplier, shift)]
        wide, biased = (running.allocate(shape, np.int32) for _ in range(2))
        narrow, pooled = running.allocate(shape, np.uint8), running.allocate(expected.shape, np.uint8)
        for _ in range(2):
            running.call_resident("conv2d", [running.upload(data), kept[0], wide])
            running.call_resident("bias", [wide, kept[1], biased])
            running.call_resident("requantize", [biased, kept[2], kept[3], narrow])
            running.call_resident("pool", [narrow, pooled])
            assert np.array_equal(running.download(pooled), expected)
