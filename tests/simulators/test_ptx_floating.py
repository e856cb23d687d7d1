# ruff: noqa: E501  (tables of cases: one case, one line)
"""float32 instructions: against NumPy's float32, fma and conversions against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulators.one_instruction import execute

FLOATS = [0.0, -0.0, 1.0, -1.5, 3.0, 0.1, 16777217.0, 2**31, -(2**31), 2**40, 1e-30, 1e-42, 3e38, -3e38,
          float("inf"), float("-inf"), float("nan"), 0.5, 1.5, 2.5, -0.5, -2.5, 126.5, 255.5, -128.5, 2147483520.0]  # fmt: skip
PAIRS = [(a, b) for a in FLOATS for b in FLOATS]
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def same(got, want):
    np.testing.assert_array_equal(got.view(np.uint32)[~np.isnan(want)], want.view(np.uint32)[~np.isnan(want)])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize(
    ("name", "model"),
    [("add.f32", np.add), ("add.rn.f32", np.add), ("sub.f32", np.subtract), ("mul.rn.f32", np.multiply),
     ("div.rn.f32", np.divide)],
)  # fmt: skip
def test_arithmetic_rounds_to_nearest(name, model):
    a, b = np.array(PAIRS, np.float32).T
    with np.errstate(all="ignore"):
        same(execute(name, ["f32", "f32"], "f32", [a, b]), model(a, b))


def rounded(value: Fraction) -> np.float32:
    """The float32 nearest to a fraction, ties to even: the best of the two around it."""
    near = np.float32(float(value))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    even = lambda f: int(f.view(np.uint32)) & 1  # noqa: E731
    return min(
        (f for f in around if np.isfinite(f)), key=lambda f: (abs(Fraction(float(f)) - value), even(f))
    )


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=20))
def test_fma_rounds_once(rows):
    a, b, c = np.array(rows, np.float32).T
    got = execute("fma.rn.f32", ["f32"] * 3, "f32", [a, b, c])
    for x, y, z, g in zip(a, b, c, got, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        if abs(exact) < Fraction(2) ** 127:
            assert g == rounded(exact), (x, y, z)


def test_fma_where_rounding_twice_would_differ():
    # 1 + 2^-23 + 2^-24 - 2^-70 lies just below the middle of two float32, and at it once rounded to float64.
    x, y = np.float32([2.0**-12 * (1 + 2.0**-23)]), np.float32([2.0**-12 * (1 - 2.0**-23)])
    z = np.float32([1 + 2.0**-23])
    assert execute("fma.rn.f32", ["f32"] * 3, "f32", [x, y, z])[0] == z[0]
    # 1 + 2^-24 + 2^-60: rounded to float64 first it is a tie, and the tie goes the other way.
    a, b, c = 1.0 + 2.0**-23, 1.0 + 2.0**-12, 2.0**-60
    x, y, z = np.float32([a]), np.float32([b]), np.float32([c])
    exact = Fraction(float(x[0])) * Fraction(float(y[0])) + Fraction(float(z[0]))
    assert execute("fma.rn.f32", ["f32"] * 3, "f32", [x, y, z])[0] == rounded(exact)
    x, y, z = np.float32([2.0**-12]), np.float32([2.0**-12]), np.float32([1.0])
    below = execute("fma.rn.f32", ["f32"] * 3, "f32", [x, y, z])[0]
    above = execute("fma.rn.f32", ["f32"] * 3, "f32", [x * np.float32(1 + 2**-23), y, z])[0]
    assert (below, above) == (np.float32(1), np.float32(1 + 2**-23))


@pytest.mark.parametrize("name", ["min.f32", "max.f32"])
def test_min_and_max_pass_over_nan_and_order_zeros(name):
    a, b = np.array(PAIRS, np.float32).T
    got = execute(name, ["f32", "f32"], "f32", [a, b])
    for x, y, g in zip(a, b, got, strict=True):
        if np.isnan(x) or np.isnan(y):
            want = y if np.isnan(x) else x
        else:
            key = lambda f: (f, not np.signbit(f))  # noqa: E731
            want = (min if name[:3] == "min" else max)(x, y, key=key)
        same(np.array([g]), np.array([want]))


@pytest.mark.parametrize(
    ("name", "model"), [("neg.f32", np.negative), ("abs.f32", np.abs), ("mov.f32", np.positive)]
)
def test_one_operand(name, model):
    a = np.array(FLOATS, np.float32)
    same(execute(name, ["f32"], "f32", [a]), model(a))


@pytest.mark.parametrize("unordered", [False, True], ids=["ordered", "unordered"])
@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparison_with_nan(name, unordered):
    a, b = np.array(PAIRS, np.float32).T
    got = execute(f"setp.{name}{'u' if unordered else ''}.f32", ["f32", "f32"], "pred", [a, b])
    compare = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    }
    nan = np.isnan(a) | np.isnan(b)
    np.testing.assert_array_equal(got.astype(bool), np.where(nan, unordered, compare[name](a, b)))


ROUND = {"rni": round, "rzi": int, "rmi": lambda f: f.__floor__(), "rpi": lambda f: f.__ceil__()}


@pytest.mark.parametrize("to", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("mode", list(ROUND))
def test_float_to_integer_rounds_and_clamps(mode, to):
    values = [*FLOATS, 4294967040.0, 2.0**63, -(2.0**63), 2.0**64, 9223371487098961920.0]
    got = execute(f"cvt.{mode}.{to}.f32", ["f32"], to, [np.array(values, np.float32)])
    bits = int(to[1:])
    low = -(1 << bits - 1) if to[0] == "s" else 0
    high = low + (1 << bits) - 1
    for value, g in zip(np.array(values, np.float32), got, strict=True):
        if np.isnan(value):
            want = 0
        elif np.isinf(value):
            want = high if value > 0 else low
        else:
            want = min(max(ROUND[mode](Fraction(float(value))), low), high)
        assert int(g) == want, value


@pytest.mark.parametrize("of", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
def test_integer_to_float_is_the_nearest(of):
    bits, low = int(of[1:]), -(1 << int(of[1:]) - 1) if of[0] == "s" else 0
    values = [v for v in (0, 1, 255, 2**24 + 1, 2**24 + 3, 2**25 + 6, 2**31 - 1, 2**32 - 1, 2**63 + 2**39, 2**40 + 2**16,
                          2**40 + 2**16 + 1, low, low + (1 << bits) - 1) if low <= v < low + (1 << bits)]  # fmt: skip
    got = execute(f"cvt.rn.f32.{of}", [of], "f32", [values])
    assert [float(g) for g in got] == [float(rounded(Fraction(v))) for v in values]


@pytest.mark.parametrize(
    ("mode", "model"), [("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)]
)
def test_float_to_integral_float(mode, model):
    a = np.array(FLOATS, np.float32)
    same(execute(f"cvt.{mode}.f32.f32", ["f32"], "f32", [a]), model(a))
