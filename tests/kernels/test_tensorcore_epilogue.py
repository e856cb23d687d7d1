"""Epilogues in the kernel: bias, requantisation, clipping, ReLU, residuals and 4-bit words, all exact."""

import re
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import tvm

from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from kernels.tensorcore.epilogue import NO_EPILOGUE, RANGES, Bias, Clip, Epilogue, Relu, Requantize, Residual
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.ptx import compile_ptx
from kernels.tensorcore.tile import Tile
from kernels.tensorcore.tiling import Tiling, result_alignment
from simulators import ptx
from tests.kernels.tensorcore_reference import Conv, conv2d, operands, pack, stored, wrap

PER_CHANNEL = Requantize()
ENDS = (-(2**31), 2**31 - 1)


def requantized(values, multiplier, shift, step):
    """The definition in rational numbers: the nearest integer, the upper one of two."""
    least, greatest = RANGES.get(step.to, ENDS)
    if step.multiplier is not None:
        multiplier, shift = step.multiplier, step.shift
    arrays = (np.broadcast_to(array, values.shape).ravel().tolist() for array in (values, multiplier, shift))
    exact = (Fraction(v * m, 2**31) * Fraction(2) ** s for v, m, s in zip(*arrays, strict=True))
    results = [min(max(floor(value + Fraction(1, 2)) + step.zero_point, least), greatest) for value in exact]
    return np.array(results, np.int64).reshape(values.shape)


def finish(sums, steps, buffers, residual):
    """What the steps make of int32 sums, one after another."""
    values = sums.astype(np.int64)
    for step in steps:
        match step:
            case Bias():
                values = values + buffers["bias"]
            case Relu():
                values = np.maximum(values, 0)
            case Clip(least, greatest):
                values = np.clip(values, least, greatest)
            case Requantize():
                values = requantized(values, buffers.get("multiplier"), buffers.get("shift"), step)
            case Residual():
                other = residual.astype(np.int64)
                if step.requantize:
                    factors = buffers.get("residual_multiplier"), buffers.get("residual_shift")
                    other = requantized(other, *factors, step.requantize)
                values = values + other
        values = wrap(values).astype(np.int64)
    return values


def step_operands(steps, shape, seed):
    """Buffers of the operands of the steps, by name, and the residual before it is packed."""
    random = np.random.default_rng(seed)
    channels = (*([1] * (len(shape) - 1)), shape[-1])
    buffers, residual = {}, None

    def factors(prefix):
        buffers[f"{prefix}multiplier"] = random.integers(2**30, 2**31, channels).astype(np.int32)
        buffers[f"{prefix}shift"] = random.integers(-9, 1, channels).astype(np.int32)

    for step in steps:
        match step:
            case Bias():
                buffers["bias"] = random.integers(-(2**12), 2**12, channels).astype(np.int32)
                buffers["bias"][..., 0] = 2**31 - 1
            case Requantize(None):
                factors("")
            case Residual():
                if step.dtype == "int32":
                    residual = random.integers(*ENDS, shape).astype(np.int32)
                    buffers["residual"] = residual
                else:
                    residual = operands(shape, step.dtype, seed)
                    buffers["residual"] = stored(residual, step.dtype)
                if step.requantize and step.requantize.multiplier is None:
                    factors("residual_")
    return buffers, residual


STEPS = {
    "bias, int32": ((Bias(),), "int32"),
    "relu, int32": ((Relu(),), "int32"),
    "requantised to int8": ((Bias(), PER_CHANNEL), "int8"),
    "requantised by numbers, zero point": ((Bias(), Requantize(1610612737, -6, zero_point=-3)), "int8"),
    "shifted to the left": ((Requantize(2**30, 1), Clip(-128, 127)), "int8"),
    "uint8": ((Bias(), Requantize(zero_point=128, to="uint8")), "uint8"),
    "int4 words": ((Bias(), Relu(), PER_CHANNEL, Clip(-8, 7)), "int4"),
    "uint4 words": ((Bias(), Requantize(to="uint4")), "uint4"),
    "residual of int32": ((Residual(), Requantize(to="int4")), "int4"),
    "residual of int8": ((PER_CHANNEL, Residual("int8"), Clip(-8, 7)), "int4"),
    "residual of words, rescaled": (
        (Bias(), Requantize(to="int32"), Residual("int4", Requantize(to="int32")), Relu(), Clip(0, 7)),
        "int4",
    ),
    "residual of uint4, rescaled by a number": (
        (PER_CHANNEL, Residual("uint4", Requantize(2**30, 3, to="int32")), Clip(0, 15)),
        "uint4",
    ),
}
CONVS = {
    "int4": Conv(4, 6, 8, 64, 32, (3, 3), padding=(1, 1, 1, 1), dtype="int4"),
    "int8": Conv(3, 4, 16, 32, 64, (3, 2), padding=(1, 1, 1, 0), strides=(1, 2), dtype="int8"),
}


def launched(kernel, buffers, out):
    report = ptx.parse(kernel.text).launch(
        kernel.entry, kernel.grid, kernel.block, kernel.in_kernel_order({**buffers, "out": out})
    )
    assert report.findings == []
    return report.counters


def case(conv, steps, out_dtype, seed=31):
    """A fused layer: its function, its buffers in order, and the output that is expected."""
    function = conv2d_primfunc(conv.data_shape, **conv.options(), epilogue=Epilogue(steps, out_dtype))
    data, weight = (
        operands(conv.data_shape, conv.dtype, seed),
        operands(conv.weight_shape, conv.dtype, seed + 1),
    )
    sums = conv2d(conv, data, weight)
    extra, residual = step_operands(steps, sums.shape, seed + 2)
    values = finish(sums, steps, extra, residual)
    expected = values.astype(np.int32) if out_dtype == "int32" else stored(values, out_dtype)
    return function, {"data": stored(data, conv.dtype), "weight": pack(weight, conv.dtype), **extra}, expected


# After 8-bit operands the same steps run on tiles of another shape: a few of them tell.
IN_KERNELS = {f"int4, {name}": (CONVS["int4"], *steps) for name, steps in STEPS.items()} | {
    f"int8, {name}": (CONVS["int8"], *STEPS[name])
    for name in ("bias, int32", "uint8", "residual of words, rescaled")
}


BY_DEFAULT = (
    "int4, int4 words",
    "int4, requantised by numbers, zero point",
    "int8, residual of words, rescaled",
)


@pytest.mark.parametrize(
    "fused",
    [
        pytest.param(fused, id=name, marks=() if name in BY_DEFAULT else pytest.mark.slow)
        for name, fused in IN_KERNELS.items()
    ],
)
def test_an_epilogue_is_exact_in_the_kernel(fused):
    conv, steps, out_dtype = fused
    function, buffers, expected = case(conv, steps, out_dtype)
    out = np.full(expected.shape, 0x5A, expected.dtype)
    launched(compile_ptx(schedule_conv2d(function), name="fused"), buffers, out)
    np.testing.assert_array_equal(out, expected)
    assert len(np.unique(out)) > 8


ON_THE_CPU = ("requantised by numbers, zero point", "uint4 words", "residual of words, rescaled")


@pytest.mark.parametrize(("steps", "out_dtype"), [STEPS[name] for name in ON_THE_CPU], ids=ON_THE_CPU)
def test_an_epilogue_is_exact_on_the_cpu(steps, out_dtype):
    function, buffers, expected = case(CONVS["int4"], steps, out_dtype)
    out = tvm.runtime.tensor(np.full(expected.shape, 0x5A, expected.dtype))
    built = tvm.compile(function, target="llvm")
    built(*(tvm.runtime.tensor(buffer) for buffer in buffers.values()), out)
    np.testing.assert_array_equal(out.numpy(), expected)


TILINGS = {
    "warps along all axes": Tiling(
        block_height_warps=2, block_width_warps=2, block_col_warps=2, warp_col_tiles=2, warp_width_tiles=3
    ),
    "batch divided among warps": Tiling(block_row_warps=2, warp_height_tiles=2, warp_col_tiles=4),
    "batch within a warp": Tiling(warp_row_tiles=2, warp_width_tiles=2),
}


@pytest.mark.parametrize("tiling", TILINGS.values(), ids=TILINGS)
@pytest.mark.parametrize("out_dtype", [pytest.param("int8", marks=pytest.mark.slow), "int4"])
def test_every_tiling_finishes_alike(tiling, out_dtype):
    conv = Conv(4, 6, 16, 32, 32, (3, 3), padding=(1, 1, 1, 1), dtype="int4")
    function, buffers, expected = case(conv, (Bias(), Requantize(to=out_dtype)), out_dtype)
    out = np.full(expected.shape, 0x5A, expected.dtype)
    launched(compile_ptx(schedule_conv2d(function, tiling=tiling), name="fused"), buffers, out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("dtype", "out_dtype"), [("int4", "int4"), ("int8", "int8")])
def test_a_dense_layer_has_epilogues_too(dtype, out_dtype):
    steps = (Bias(), Requantize(to=out_dtype))
    data, weight = operands((16, 64), dtype, 41), operands((64, 64), dtype, 42)
    sums = wrap(data.astype(np.int64) @ weight.astype(np.int64).T)
    extra, _ = step_operands(steps, sums.shape, 43)
    expected = stored(finish(sums, steps, extra, None), out_dtype)
    out = np.full(expected.shape, 0x5A, expected.dtype)
    function = dense_primfunc((16, 64), units=64, dtype=dtype, epilogue=Epilogue(steps, out_dtype))
    buffers = {"data": stored(data, dtype), "weight": pack(weight, dtype), **extra}
    launched(compile_ptx(schedule_dense(function), name="fused"), buffers, out)
    np.testing.assert_array_equal(out, expected)


MMA = {"m16n8k64": ("int4", "uint4"), "m16n8k32": ("int8", "int8"), "m8n8k32": ("uint4", "int4")}


@pytest.mark.parametrize("shape", MMA)
def test_mma_finishes_alike(shape):
    dtype, weight_dtype = MMA[shape]
    tile, steps = Tile.parse(f"mma.{shape}"), (Bias(), Requantize(2**30, -5, to="int8"))
    for out_dtype in ("int8", "int4") if shape == "m16n8k64" else ("int4",):
        data, weight = operands((2 * tile.m, tile.k), dtype, 44), operands((32, tile.k), weight_dtype, 45)
        sums = wrap(data.astype(np.int64) @ weight.astype(np.int64).T)
        extra, _ = step_operands(steps, sums.shape, 46)
        expected = stored(finish(sums, steps, extra, None), out_dtype)
        out = np.full(expected.shape, 0x5A, expected.dtype)
        function = dense_primfunc(
            data.shape, units=32, dtype=dtype, weight_dtype=weight_dtype, tile=tile,
            epilogue=Epilogue(steps, out_dtype),
        )  # fmt: skip
        buffers = {"data": stored(data, dtype), "weight": pack(weight, weight_dtype, tile), **extra}
        launched(compile_ptx(schedule_dense(function), name="fused"), buffers, out)
        np.testing.assert_array_equal(out, expected)


def test_a_chain_of_4_bit_layers_stays_packed():
    first = Conv(5, 5, 8, 32, 64, (3, 3), padding=(1, 1, 1, 1), dtype="int4")
    second = Conv(5, 5, 8, 64, 32, (1, 1), dtype="int4")
    steps = (Bias(), Relu(), Requantize(2**30, -6, to="int4"))
    function, buffers, words = case(first, steps, "int4")
    between = np.zeros_like(words)
    launched(compile_ptx(schedule_conv2d(function), name="first"), buffers, between)
    function, buffers, _ = case(second, steps, "int4", seed=51)
    left = (28 - 4 * np.arange(8)).astype(np.int32)
    values = (between[..., None] << left >> 28).reshape(second.data_shape)
    weight = operands(second.weight_shape, "int4", 52)
    extra, _ = step_operands(steps, (5, 5, 8, 32), 53)
    expected = stored(finish(conv2d(second, values, weight), steps, extra, None), "int4")
    out = np.zeros_like(expected)
    buffers["data"] = between
    launched(compile_ptx(schedule_conv2d(function), name="second"), buffers, out)
    np.testing.assert_array_equal(out, expected)
    assert out.any()


def test_operands_follow_the_weight_in_the_order_of_the_steps():
    steps = (Bias(), Requantize(), Residual("int4", Requantize(to="int32")), Bias())
    function = conv2d_primfunc(
        (4, 4, 8, 32), out_channels=16, kernel=(1, 1), dtype="int4", epilogue=Epilogue(steps, "int4")
    )
    assert [(p.name, tuple(map(int, p.shape)), str(p.dtype)) for p in function.params] == [
        ("data", (4, 4, 8, 4), "int32"),
        ("weight", (1, 1, 2, 1, 8, 4), "int32"),
        ("bias", (1, 1, 1, 16), "int32"),
        ("multiplier", (1, 1, 1, 16), "int32"),
        ("shift", (1, 1, 1, 16), "int32"),
        ("residual", (4, 4, 8, 2), "int32"),
        ("residual_multiplier", (1, 1, 1, 16), "int32"),
        ("residual_shift", (1, 1, 1, 16), "int32"),
        ("bias_1", (1, 1, 1, 16), "int32"),
        ("out", (4, 4, 8, 2), "int32"),
    ]


DEEP = Conv(4, 8, 8, 128, 64, (3, 3), padding=(1, 1, 1, 1), dtype="int4")


@pytest.mark.parametrize(("out_dtype", "tile"), [("int4", None), ("int8", None), ("int4", "mma.m8n8k32")])
def test_an_epilogue_costs_little_and_meets_in_no_bank(out_dtype, tile):
    steps = (Bias(), Relu(), Requantize(to=out_dtype))
    options = {"out_channels": 64, "kernel": (3, 3), "padding": (1, 1, 1, 1), "dtype": "int4"}
    function = conv2d_primfunc(
        DEEP.data_shape, **options, tile=tile and Tile.parse(tile), epilogue=Epilogue(steps, out_dtype)
    )
    _, buffers, expected = case(DEEP, steps, out_dtype)
    out = np.zeros_like(expected)
    counters = launched(compile_ptx(schedule_conv2d(function), name="fused"), buffers, out)
    np.testing.assert_array_equal(out, expected)
    assert counters["warp_instructions"] <= 6 * counters["tensor_instructions"]
    assert counters["shared_bank_conflicts"] <= 0.05 * counters["shared_transactions"]


@pytest.mark.parametrize("tiling", TILINGS.values(), ids=TILINGS)
def test_a_kernel_has_no_more_shared_memory_than_was_reckoned_with(tiling):
    conv = Conv(4, 6, 16, 32, 64, (3, 3), padding=(1, 1, 1, 1), dtype="int4")
    function, _, _ = case(conv, (Bias(), Requantize(to="int4")), "int4")
    kernel = compile_ptx(schedule_conv2d(function, tiling=tiling), name="fused")
    declared = re.findall(r"\.shared \S+ \S+ \.b8 \S+?\[(\d+)\]", kernel.text)
    assert 0 < sum(map(int, declared)) <= tiling.shared_bytes(problem_of(function))


def test_sums_pass_through_shared_memory_only_with_an_epilogue():
    conv = CONVS["int4"]
    plain = problem_of(conv2d_primfunc(conv.data_shape, **conv.options(), epilogue=NO_EPILOGUE))
    fused = problem_of(case(conv, (Bias(), PER_CHANNEL), "int4")[0])
    assert (plain.fused, fused.fused) == (False, True)
    assert (plain.out_dtype, fused.out_dtype) == ("int32", "int4")
    # Two warps, eight channels of two 8-row tiles each: lines of 16 words, padded to 8 modulo 32.
    tiling = Tiling(block_width_warps=2, warp_col_tiles=2)
    assert result_alignment(fused) == (32, 8)
    assert tiling.result_bytes(fused) == 2 * 8 * 40 * 4
    assert tiling.result_bytes(plain) == 0


WRONG = {
    "no type": (lambda: Epilogue((), "int16"), "int16 is no operand of a tensor instruction"),
    "empty range": (lambda: Epilogue((Clip(3, 2),)), "leaves no value"),
    "no shift": (lambda: Epilogue((Requantize(5, None),)), "both numbers or both operands"),
    "far shift": (lambda: Epilogue((Requantize(5, 32),)), r"shift is outside -31\.\.31"),
    "no range": (lambda: Epilogue((Requantize(to="int16"),)), "saturates to none of int32, int8"),
    "no residual": (lambda: Epilogue((Residual("float32"),)), "float32 is no operand"),
    "nothing read": (
        lambda: dense_primfunc((8, 16), units=32, epilogue=Epilogue((Relu(), Clip(-3, -2)), "int32")),
        "makes the same of every sum",
    ),
    "wrong residual scale": (lambda: Epilogue((Residual("int8", Requantize(1, 40)),)), "outside"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_impossible_epilogues_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
