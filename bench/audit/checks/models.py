"""Checks of the NumPy models, against sums and quotients of Python's integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import floor

import ml_dtypes
import numpy as np

from bench.audit.checks.check import Check

ENDS = np.array([-(2**31), 2**31 - 1, 0, -1], np.int64)


def _int32(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _clamp(value: int) -> int:
    return max(-(2**31), min(2**31 - 1, value))


def _accumulators(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.integers(-(2**31), 2**31, shape)
    return np.where(rng.random(shape) < 0.5, rng.choice(ENDS, shape), values).astype(np.int32)


def _numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
    limits = ml_dtypes.iinfo(kind) if dtype.endswith("int4") else np.iinfo(kind)
    low, high = int(limits.min), int(limits.max)
    values = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([low, high], shape), values).astype(kind)


def _wmma() -> str | None:
    from simulators.wmma.model import SUPPORTED, mma

    rng = np.random.default_rng(0)
    for variant in SUPPORTED:
        m, n, k = variant.shape
        a, b = _numbers(rng, (m, k), variant.a), _numbers(rng, (k, n), variant.b)
        c = _accumulators(rng, (m, n))
        for satfinite, held in ((False, _int32), (True, _clamp)):
            got = mma(a, b, c, satfinite=satfinite)
            for row, column in ((0, 0), (m - 1, n - 1), (m // 2, 1)):
                terms = zip(a[row].tolist(), b[:, column].tolist(), strict=True)
                meant = held(int(c[row, column]) + sum(int(x) * int(y) for x, y in terms))
                if int(got[row, column]) != meant:
                    return f"{variant} satfinite={satfinite}: {got[row, column]} instead of {meant}"
    return None


def _wmma_chain() -> str | None:
    from simulators.wmma.model import mma_chain

    # So long that its sums do not fit a float32: the model has to cut it.
    steps, (m, n, k) = 200, (8, 32, 16)
    a, b = np.full((steps, m, k), -128, np.int8), np.full((steps, k, n), -128, np.int8)
    c = _accumulators(np.random.default_rng(0), (m, n))
    got = mma_chain(a, b, c)
    for row, column in np.ndindex(m, n):
        meant = _int32(int(c[row, column]) + steps * k * 2**14)
        if int(got[row, column]) != meant:
            return f"{steps} instructions: {got[row, column]} instead of {meant}"
    return None


def _vrmpy() -> str | None:
    from simulators.hvx.instructions import VRMPY_FORMS, vrmpy

    rng = np.random.default_rng(0)
    for (left, right, lanes), form in VRMPY_FORMS.items():
        u, v = _numbers(rng, (128,), left), _numbers(rng, (lanes,), right)
        acc = _accumulators(rng, (32,))
        got = vrmpy(acc, u, v)
        for word in range(32):
            first = word * 4 if lanes == 128 else 0
            meant = int(acc[word]) + sum(int(u[4 * word + i]) * int(v[first + i]) for i in range(4))
            if int(got[word]) != _int32(meant):
                return f"{form} word {word}: {got[word]} instead of {_int32(meant)}"
    return None


def _vdmpy() -> str | None:
    from simulators.hvx.instructions import vdmpyhvsat

    rng = np.random.default_rng(0)
    u, v = _numbers(rng, (64,), "int16"), _numbers(rng, (64,), "int16")
    acc = _accumulators(rng, (32,))
    got = vdmpyhvsat(acc, u, v)
    for word in range(32):
        meant = _clamp(int(acc[word]) + sum(int(u[2 * word + i]) * int(v[2 * word + i]) for i in range(2)))
        if int(got[word]) != meant:
            return f"word {word}: {got[word]} instead of {meant}"
    return None


def _vta_gemm() -> str | None:
    from simulators.vta.models import gemm

    rng = np.random.default_rng(0)
    inp, wgt = _numbers(rng, (2, 16), "int8"), _numbers(rng, (16, 16), "int8")
    acc = _accumulators(rng, (2, 16))
    got = gemm(acc, inp, wgt)
    for row in range(2):
        for column in range(16):
            meant = int(acc[row, column]) + sum(int(inp[row, i]) * int(wgt[column, i]) for i in range(16))
            if int(got[row, column]) != _int32(meant):
                return f"lane {row}, {column}: {got[row, column]} instead of {_int32(meant)}"
    return None


def _vta_alu() -> str | None:
    from simulators.vta.models import alu

    rng = np.random.default_rng(0)
    dst = _accumulators(rng, (1, 16))
    operations: dict[str, Callable[[int, int], int]] = {
        "min": min,
        "max": max,
        "add": lambda x, y: x + y,
        "mul": lambda x, y: x * y,
        "shr": lambda x, y: x >> y if y >= 0 else x << -y,
    }
    for name, operation in operations.items():
        for operand in (3, -2):
            got = alu(name, dst, operand)
            for lane, value in enumerate(dst[0].tolist()):
                if int(got[0, lane]) != _int32(operation(value, operand)):
                    return f"{name} of {value} and {operand}: {got[0, lane]}"
    return None


def _rounded(value: Fraction, rounding: str) -> int:
    if rounding == "floor":
        return floor(value)
    if rounding == "half_even":
        return round(value)
    return floor(value + Fraction(1, 2))


def _requantizations() -> Iterator[tuple[int, int, int]]:
    rng = np.random.default_rng(0)
    yield from ((x, 1 << 30, 0) for x in (1, 3, 5, -1, -3, -(2**31), 2**31 - 1))
    yield from ((x, 2**31 - 1, -3) for x in (4, 12, 20, -4, -12))
    for _ in range(200):
        yield int(rng.integers(-(2**20), 2**20)), int(rng.integers(2**30, 2**31)), int(rng.integers(-14, 2))


def _requantize() -> str | None:
    from bench.evaluate.requantize import requantize

    for rounding in ("half_up", "half_even", "floor", "double"):
        for x, multiplier, shift in _requantizations():
            exact = Fraction(x * multiplier, 2**31)
            if rounding == "double" and shift < 0:
                meant = _rounded(Fraction(_rounded(exact, "half_up"), 2**-shift), "half_up")
            else:
                meant = _rounded(exact * Fraction(2) ** shift, rounding)
            got = requantize(
                np.array([x], np.int32),
                np.array(multiplier, np.int32),
                np.array(shift, np.int32),
                axis=0,
                zero_point=3,
                rounding=rounding,
            )
            if int(got[0]) != max(-128, min(127, meant + 3)):
                return f"{rounding}: {x} · {multiplier} · 2^{shift - 31} + 3 is {got[0]}, not {meant + 3}"
    return None


MODEL_CHECKS = [
    Check("model-wmma", "every variant of simulators.wmma.mma against sums of Python's integers", _wmma),
    Check("model-wmma-chain", "a chain of 200 wmma, all operands -128", _wmma_chain),
    Check("model-vrmpy", "every form of simulators.hvx.vrmpy against the same", _vrmpy),
    Check("model-vdmpy", "simulators.hvx.vdmpyhvsat against the same", _vdmpy),
    Check("model-vta-gemm", "simulators.vta.models.gemm against the same", _vta_gemm),
    Check("model-vta-alu", "simulators.vta.models.alu against Python's operators", _vta_alu),
    Check("model-requantize", "bench.evaluate's requantize against fractions", _requantize),
]
