# ruff: noqa: E501  (tables of cases: one case, one line)
"""Directed rounding, .ftz, .sat and float64, against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.one_instruction import execute

MODES = ["rn", "rz", "rm", "rp"]
VALUES = [0.0, 1.0, -1.0, 1.5, 2.0**-24, 1 + 2.0**-23, -(1 + 2.0**-23), 3.0, 0.1, -0.1, 1e30, -1e30, 1e-38, 2.0**-149, -(2.0**-149),
          2.0**-126, -(2.0**-126) * 1.5, 2.0**-127, 3e38, -3e38, 16777215.0, 16777217.0, 33554431.0]  # fmt: skip
finite = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**60), max_value=2.0**60)


def exact(value) -> Fraction:
    return Fraction(float(value))


def rounded(value: Fraction, mode: str, sign_of_zero: float = 0.0) -> np.float32:
    """A fraction as float32, found by trying the neighbours of an approximation."""
    if value == 0:
        return np.float32(sign_of_zero)
    largest = exact(np.finfo(np.float32).max)
    if abs(value) > largest:
        beyond = value > 0
        outward = mode == ("rp" if beyond else "rm") or (
            mode == "rn" and abs(value) >= largest + Fraction(2) ** 103
        )
        return np.float32(math.copysign(math.inf if outward else float(largest), 1 if beyond else -1))
    near = np.float32(float(value))
    near = np.clip(near, -np.finfo(np.float32).max, np.finfo(np.float32).max)
    below = near if exact(near) <= value else np.nextafter(near, np.float32(-np.inf))
    above = near if exact(near) >= value else np.nextafter(near, np.float32(np.inf))
    if mode == "rn":
        even = int(np.float32(below).view(np.uint32)) & 1
        lower, upper = value - exact(below), exact(above) - value
        result = below if lower < upper or (lower == upper and not even) else above
    else:
        result = {"rm": below, "rp": above, "rz": below if value > 0 else above}[mode]
    return np.float32(math.copysign(0.0, float(value))) if result == 0 else np.float32(result)


def same(got, want, rows):
    for g, w, row in zip(got, want, rows, strict=True):
        assert g.view(np.uint32) == np.float32(w).view(np.uint32), (row, g, w)


PAIRS = [(np.float32(a), np.float32(b)) for a in VALUES for b in VALUES]


def zero(mode, *signs):
    """The sign of an exact zero: that of the operands where they agree, else -0 only when rounding down."""
    if len(set(signs)) == 1:
        return -0.0 if signs[0] else 0.0
    return -0.0 if mode == "rm" else 0.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_directed_rounding(name, mode):
    a, b = np.array(PAIRS, np.float32).T
    want = []
    for x, y in PAIRS:
        if name == "mul":
            sign = -0.0 if np.signbit(x) != np.signbit(y) else 0.0
            want.append(rounded(exact(x) * exact(y), mode, sign))
        else:
            other = y if name == "add" else -y
            want.append(
                rounded(
                    exact(x) + exact(other), mode, zero(mode, bool(np.signbit(x)), bool(np.signbit(other)))
                )
            )
    same(execute(f"{name}.{mode}.f32", ["f32"] * 2, "f32", [a, b]), want, PAIRS)


@pytest.mark.parametrize("mode", MODES)
@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=10))
@settings(max_examples=25, deadline=None)
def test_directed_fma(mode, rows):
    a, b, c = np.array(rows, np.float32).T
    want = [
        rounded(exact(x) * exact(y) + exact(z), mode, zero(mode, bool(np.signbit(x) ^ np.signbit(y)), bool(np.signbit(z))))
        for x, y, z in zip(a, b, c, strict=True)
    ]  # fmt: skip
    same(execute(f"fma.{mode}.f32", ["f32"] * 3, "f32", [a, b, c]), want, rows)


INTEGERS = {
    "s32": [0, 1, -1, 16777217, -16777217, 16777219, 2**31 - 1, -(2**31), 33554435, 2**31 - 65],
    "u32": [0, 1, 16777217, 2**32 - 1, 2**32 - 127, 2**32 - 129],
    "s64": [0, -1, 2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, 2**62 + 2**38, 2**62 + 2**38 + 1, -(2**62) - 2**38 - 1, 2**62 + 2**38 - 1, 2**54 + 3],
    "u64": [2**64 - 1, 2**63, 2**63 + 2**39, 2**63 + 2**39 + 1, 2**63 + 2**39 - 1, 2**53 + 2**29 + 1],
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("type_", INTEGERS)
def test_integers_to_float32(type_, mode):
    values = INTEGERS[type_]
    got = execute(f"cvt.{mode}.f32.{type_}", [type_], "f32", [values])
    same(got, [rounded(Fraction(v), mode) for v in values], values)


@pytest.mark.parametrize("mode", MODES)
def test_float64_to_float32(mode):
    values = [
        0.1,
        -0.1,
        1 + 2.0**-24,
        1 + 2.0**-24 + 2.0**-50,
        -(1 + 2.0**-30),
        1e300,
        -1e300,
        1e-300,
        -1e-300,
        2.0**-149 * 1.5,
        3.4028235677973366e38,
    ]
    got = execute(f"cvt.{mode}.f32.f64", ["f64"], "f32", [values])
    same(got, [rounded(Fraction(v), mode) for v in values], values)


TINY = [2.0**-149, -(2.0**-127), 2.0**-126, -(2.0**-126), 1.0, -0.0, 3.0, 2.0**-120]


def flushed(values):
    values = np.array(values, np.float32)
    return np.where(np.abs(values) < 2.0**-126, np.copysign(np.float32(0), values), values).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "model"),
    [("add.ftz.f32", np.add), ("sub.rn.ftz.f32", np.subtract), ("mul.ftz.f32", np.multiply), ("div.rn.ftz.f32", np.divide),
     ("min.ftz.f32", np.minimum), ("max.ftz.f32", np.maximum)],
)  # fmt: skip
def test_ftz_takes_subnormals_as_zeros_and_makes_none(name, model):
    pairs = [(a, b) for a in TINY for b in TINY if not (name.startswith("div") and abs(b) < 2.0**-126)]
    pairs = [
        (a, b)
        for a, b in pairs
        if "m" not in name[:1] or name[1] == "u" or flushed([a])[0] != flushed([b])[0]
    ]
    a, b = np.array(pairs, np.float32).T
    with np.errstate(all="ignore"):
        want = flushed(model(flushed(a), flushed(b)).astype(np.float32))
    same(execute(name, ["f32"] * 2, "f32", [a, b]), want, pairs)


def test_ftz_in_comparisons_and_conversions():
    assert execute("setp.gt.ftz.f32", ["f32"] * 2, "pred", [[2.0**-140, 1.0], [0.0, 0.5]]).tolist() == [0, 1]
    assert execute("setp.gt.f32", ["f32"] * 2, "pred", [[2.0**-140], [0.0]]).tolist() == [1]
    assert execute("cvt.rpi.ftz.s32.f32", ["f32"], "s32", [[2.0**-140, 0.25]]).tolist() == [0, 1]
    assert execute("cvt.rpi.s32.f32", ["f32"], "s32", [[2.0**-140]]).tolist() == [1]


@pytest.mark.parametrize("name", ["add.sat.f32", "mul.rn.sat.f32", "cvt.sat.f32.f32"])
def test_sat_clamps_to_the_unit_interval(name):
    x = np.array([-1.0, 0.25, 0.5, 2.0, np.nan, -0.0, np.inf], np.float32)
    second = [[0.0] * 7] if "add" in name else [[1.0] * 7] if "mul" in name else []
    got = execute(name, ["f32"] * (1 + len(second)), "f32", [x, *second])
    same(got, np.array([0.0, 0.25, 0.5, 1.0, 0.0, 0.0, 1.0], np.float32), x)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("add.f64", np.add),
        ("sub.rn.f64", np.subtract),
        ("mul.rn.f64", np.multiply),
        ("div.rn.f64", np.divide),
        ("min.f64", np.fmin),
        ("max.f64", np.fmax),
    ],
)
def test_float64(name, model):
    values = [0.1, -0.3, 1e308, -1e-308, 5e-324, 3.0, 7.25, 1e16 + 2]
    a, b = np.array([(x, y) for x in values for y in values]).T
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(execute(name, ["f64"] * 2, "f64", [a, b]), model(a, b))


doubles = st.floats(min_value=-1e90, max_value=1e90).filter(lambda v: v == 0 or abs(v) > 1e-90)


@given(st.lists(st.tuples(doubles, doubles, doubles), min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_float64_fma_rounds_once(rows):
    a, b, c = np.array(rows).T
    got = execute("fma.rn.f64", ["f64"] * 3, "f64", [a, b, c])
    for x, y, z, g in zip(a, b, c, got, strict=True):
        # Division of integers in Python rounds to nearest even, once.
        value = Fraction(x) * Fraction(y) + Fraction(z)
        assert g == value.numerator / value.denominator


def test_float64_fma_where_rounding_twice_would_differ():
    x = 1 + 2.0**-30
    got = execute("fma.rn.f64", ["f64"] * 3, "f64", [[x, x], [x, 1 - 2.0**-30], [-1.0, -1.0]])
    assert got.tolist() == [2.0**-29 + 2.0**-60, -(2.0**-60)]


@pytest.mark.parametrize(("name", "source", "result", "values", "want"), [
    ("cvt.rzi.s32.f64", "f64", "s32", [1e10, -1e10, 2.9, -2.9, float("nan")], [2**31 - 1, -(2**31), 2, -2, 0]),
    ("cvt.rni.s64.f64", "f64", "s64", [2.5, 3.5, 1e300, -1e300], [2, 4, 2**63 - 1, -(2**63)]),
    ("cvt.rn.f64.s64", "s64", "f64", [2**53 + 1, -(2**53) - 3], [2.0**53, -(2.0**53) - 4]),
    ("cvt.f64.f32", "f32", "f64", [0.1], [float(np.float32(0.1))]),
    ("cvt.rmi.f64.f64", "f64", "f64", [-1.5, 2.5], [-2.0, 2.0]),
    ("rcp.rn.f32", "f32", "f32", [3.0, -8.0], [np.float32(1) / np.float32(3), -0.125]),
    ("sqrt.rn.f32", "f32", "f32", [2.0, 9.0], [np.sqrt(np.float32(2)), 3.0]),
    ("sqrt.rn.f64", "f64", "f64", [2.0, 9.0], [math.sqrt(2), 3.0]),
    ("neg.f64", "f64", "f64", [2.0, -0.5], [-2.0, 0.5]),
    ("abs.f64", "f64", "f64", [2.0, -0.5], [2.0, 0.5]),
])  # fmt: skip
def test_conversions_and_roots(name, source, result, values, want):
    np.testing.assert_array_equal(
        execute(name, [source], result, [values]),
        np.array(want, execute(name, [source], result, [values]).dtype),
    )


@pytest.mark.parametrize("kind", ["s8", "u8", "s4", "u4", "s2", "u2"])
def test_pack_clamps_two_and_moves_the_others_up(kind):
    bits = int(kind[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "s" else (0, 2**bits - 1)
    rows = [(a, b) for a in (-(2**31), -9, -1, 0, 1, 7, 300, 2**31 - 1) for b in (-200, -2, 0, 3, 255, 999)]
    a, b = zip(*rows, strict=True)
    c = [0x9ABCDEF1] * len(rows)
    got = execute(f"cvt.pack.sat.{kind}.s32.b32", ["s32", "s32", "b32"], "b32", [a, b, c])
    mask = 2**bits - 1
    want = [
        (0x9ABCDEF1 << 2 * bits | (min(max(x, low), high) & mask) << bits | min(max(y, low), high) & mask) & 0xFFFFFFFF
        for x, y in rows
    ]  # fmt: skip
    assert got.tolist() == want
