"""`bitexact.requantize`: Python integers, the NumPy model and the compiled operator say the same."""

from fractions import Fraction
from functools import cache
from math import floor

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax, te, tirx

from bench.evaluate import evaluate
from bench.evaluate.requantize import requantize as model
from bench.operators import ROUNDINGS, requantize

INT32 = np.iinfo(np.int32)
OUT_DTYPES = ("int8", "uint8", "int32")
# Ends, ties, the exact power of two, and the multipliers that TVM's own tests use.
DATA = np.array(
    [INT32.min, INT32.min + 1, -(2**30), -96, -3, -2, -1, 0, 1, 2, 3, 95, 2**30, INT32.max - 1, INT32.max],
    np.int32,
)
MULTIPLIERS = (
    2**30,
    2**30 + 1,
    3 * 2**29,
    2**31 - 1,
    1288490240,
    1395864320,
    1288490188,
    1,
    0,
    -1,
    INT32.min,
)


def in_python(x, multiplier, shift, *, zero_point, rounding, dtype):
    """Follow the definition in rational arithmetic."""
    limits = np.iinfo(dtype)

    def half_up(value):
        return floor(value + Fraction(1, 2))

    exact = Fraction(int(x) * int(multiplier), 2**31) * Fraction(2) ** int(shift)
    if rounding == "half_up":
        result = half_up(exact)
    elif rounding == "half_even":
        result = round(exact)
    elif rounding == "floor":
        result = floor(exact)
    elif shift >= 0:
        result = half_up(exact)
    else:
        # As the instruction, which saturates in between: model and operator show that it is not seen.
        first = min(max(half_up(Fraction(int(x) * int(multiplier), 2**31)), INT32.min), INT32.max)
        result = half_up(Fraction(first, 2 ** -int(shift)))
    return min(max(result + zero_point, limits.min), limits.max)


@cache
def compiled(shape, channels, *, axis=1, zero_point=0, rounding, dtype):
    """Build the operator for this CPU, with multiplier and shift as arguments."""
    factor = (channels,) if channels else ()
    parameters = [
        relax.Var(name, relax.TensorType(extents, "int32"))
        for name, extents in (("data", shape), ("multiplier", factor), ("shift", factor))
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", parameters):
        call = requantize(*parameters, axis=axis, zero_point=zero_point, rounding=rounding, out_dtype=dtype)
        builder.emit_func_output(builder.emit(call))
    machine = relax.VirtualMachine(relax.build(builder.get(), "llvm"), tvm.cpu())
    return lambda *arrays: machine["main"](*map(tvm.runtime.tensor, arrays)).numpy()


@pytest.mark.parametrize("dtype", OUT_DTYPES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_corners_of_every_operand(rounding, dtype):
    pairs = [(multiplier, shift) for multiplier in MULTIPLIERS for shift in range(-31, 32)]
    multiplier, shift = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    data = np.repeat(DATA[:, np.newaxis], len(pairs), axis=1)
    expected = [
        [in_python(x, m, s, zero_point=5, rounding=rounding, dtype=dtype) for m, s in pairs] for x in DATA
    ]
    modelled = model(data, multiplier, shift, zero_point=5, rounding=rounding, dtype=dtype)
    assert modelled.dtype == dtype
    np.testing.assert_array_equal(modelled, expected)
    run = compiled(data.shape, len(pairs), zero_point=5, rounding=rounding, dtype=dtype)
    np.testing.assert_array_equal(run(data, multiplier, shift), modelled)


int32s = st.integers(INT32.min, INT32.max)


@given(
    st.lists(int32s, min_size=16, max_size=16),
    st.one_of(st.integers(2**30, INT32.max), int32s),
    st.integers(-31, 31),
    st.sampled_from(ROUNDINGS),
)
def test_any_operands_with_one_factor_for_the_tensor(values, multiplier, shift, rounding):
    data = np.array(values, np.int32).reshape(2, 8)
    factors = np.array(multiplier, np.int32), np.array(shift, np.int32)
    expected = [
        in_python(x, multiplier, shift, zero_point=-3, rounding=rounding, dtype="int32") for x in values
    ]
    modelled = model(data, *factors, zero_point=-3, rounding=rounding, dtype="int32")
    np.testing.assert_array_equal(modelled.ravel(), expected)
    run = compiled((2, 8), 0, zero_point=-3, rounding=rounding, dtype="int32")
    np.testing.assert_array_equal(run(data, *factors), modelled)


@given(st.integers(-(2**20), 2**20), st.integers(-20, -1), st.sampled_from(ROUNDINGS))
def test_ties_of_exact_powers_of_two(odd, shift, rounding):
    # multiplier 2^30 is a factor 1/2: x / 2^(1 - shift), exactly between two integers.
    x = (2 * odd + 1) << -shift
    if abs(x) > INT32.max:
        return
    data = np.full((1, 1), x, np.int32)
    result = model(data, np.int32(2**30), np.int32(shift), rounding=rounding, dtype="int32").item()
    below = odd
    expected = {"half_up": below + 1, "half_even": below + below % 2, "double": below + 1, "floor": below}
    assert result == expected[rounding]


def test_double_rounding_differs_from_one_rounding():
    # 3·2^-3 rounds to 0; rounded at 2^-1 first, to 2, and then at 2^-2, it is 1.
    arguments = np.array([[3]], np.int32), np.int32(2**30), np.int32(-2)
    assert model(*arguments, rounding="half_up", dtype="int32").item() == 0
    assert model(*arguments, rounding="double", dtype="int32").item() == 1


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3)], ids=str)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_channel_factors_along_an_axis(shape, axis):
    generator = np.random.default_rng(0)
    data = generator.integers(-(2**20), 2**20, shape).astype(np.int32)
    channels = shape[axis]
    multiplier = generator.integers(2**30, 2**31, channels).astype(np.int32)
    shift = generator.integers(-15, 2, channels).astype(np.int32)
    modelled = model(data, multiplier, shift, axis=axis, rounding="half_even", dtype="int8")
    for c in range(channels):
        one = model(np.take(data, c, axis), multiplier[c], shift[c], rounding="half_even", dtype="int8")
        np.testing.assert_array_equal(np.take(modelled, c, axis), one)
    run = compiled(shape, channels, axis=axis, rounding="half_even", dtype="int8")
    np.testing.assert_array_equal(run(data, multiplier, shift), modelled)


@pytest.mark.parametrize(
    ("multiplier", "shift"),
    [(1288490240, -2), (1395864320, 1), (1288490188, 0), (2**30, 0), (2**30, -4), (2**31 - 1, -12)],
)
def test_half_up_is_tvms_q_multiply_shift(multiplier, shift):
    data = np.concatenate([np.arange(-96, 96), DATA // 4]).astype(np.int32)
    source = te.placeholder(data.shape, "int32", name="source")
    q, y, s = (tirx.const(value, "int32") for value in (31, multiplier, shift))
    result = te.compute(data.shape, lambda i: tirx.q_multiply_shift(source[i], y, q, s), name="result")
    function = tvm.compile(te.create_prim_func([source, result]), target="llvm")
    output = tvm.runtime.empty(data.shape, "int32")
    function(tvm.runtime.tensor(data), output)
    modelled = model(data, np.int32(multiplier), np.int32(shift), dtype="int32")
    np.testing.assert_array_equal(output.numpy(), modelled)


def test_a_graph_with_the_operator_is_evaluated():
    data = relax.Var("data", relax.TensorType((2, 3), "int32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [data]):
        call = requantize(data, relax.const(np.int32(2**30)), relax.const(np.int32(1)), zero_point=1)
        builder.emit_func_output(builder.emit(call))
    values = np.array([[-300, -1, 0], [1, 126, 300]], np.int32)
    assert evaluate(builder.get(), values).tolist() == [[-128, 0, 1], [2, 127, 127]]


def _operands(shape=(2, 3), dtype="int32", multiplier=1, shift=0):
    data = relax.Var("data", relax.TensorType(shape, dtype))
    return data, *(relax.const(f) for f in (multiplier, shift))


THREE = np.ones(3, np.int32)
ERRORS = {
    "rounding": (
        {},
        {"rounding": "nearest"},
        "rounding 'nearest' is none of half_up, half_even, double, floor",
    ),
    "out_dtype": ({}, {"out_dtype": "int16"}, "out_dtype 'int16' is none of int8, uint8, int4, uint4, int32"),
    "data dtype": ({"dtype": "int8"}, {}, "data must be int32, not int8"),
    "multiplier dtype": ({"multiplier": 1.0}, {}, "multiplier must be int32, not float32"),
    "shift dtype": ({"shift": 1.0}, {}, "shift must be int32, not float32"),
    "shift too large": ({"shift": 32}, {}, "shift 32..32 is outside -31..31"),
    "one factor per channel": (
        {"multiplier": THREE},
        {},
        r"shapes \(3,\) and \(\) must both be \(\), or \(3,\) for axis 1",
    ),
    "channels": (
        {"multiplier": THREE, "shift": THREE},
        {"axis": 0},
        r"\(2,\) for axis 0 of data of shape \(2, 3\)",
    ),
    "axis": ({"multiplier": THREE, "shift": THREE}, {"axis": 2}, r"axis 2 is outside data of shape \(2, 3\)"),
    "dynamic shape": ({"shape": (tirx.Var("n", "int64"), 3)}, {}, "data must have a static shape"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_of_the_operator_name_what_is_wrong(case):
    operands, options, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        relax.BlockBuilder().normalize(requantize(*_operands(**operands), **options))


def test_errors_of_the_model():
    data = np.zeros((1, 1), np.int32)
    with pytest.raises(ValueError, match="rounding 'nearest' is none of"):
        model(data, np.int32(1), np.int32(0), rounding="nearest")
    with pytest.raises(ValueError, match=r"shift -40\.\.-40 is outside"):
        model(data, np.int32(1), np.int32(-40))
