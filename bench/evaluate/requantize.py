"""NumPy model of `bitexact.requantize`.

Written from the definition in exact rational arithmetic, quotient and remainder, and not from the shifts
and biases of the TensorIR that the operator legalises to: the two are compared in the tests.
"""

from __future__ import annotations

import numpy as np

from bench.evaluate.dtypes import limits, numpy_dtype
from bench.evaluate.registry import OperatorCall, evaluates


def requantize(
    data: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
    *,
    axis: int = 1,
    zero_point: int = 0,
    rounding: str = "half_up",
    dtype: str = "int8",
) -> np.ndarray:
    """Compute saturate(round(data · multiplier / 2^(31 - shift)) + zero_point) exactly.

    `data` is int32; `multiplier` and `shift` (-31..31) are int32: scalars, of shape (C,) along
    `axis`, or of the data's rank, where they broadcast.
    The roundings are those of `bench.operators.requantize`; ValueError for another one.
    """
    multiplier, shift = (
        _along(np.asarray(factor, np.int64), axis, data.ndim) for factor in (multiplier, shift)
    )
    if np.any(np.abs(shift) > 31):
        raise ValueError(f"requantize: shift {shift.min()}..{shift.max()} is outside -31..31")
    # |product| ≤ 2^62 and divisors are at most 2^62: twice a remainder still fits int64.
    exact = data.astype(np.int64) * multiplier
    if rounding == "double":
        once = _divide(exact, np.int64(1) << (31 - np.maximum(shift, 0)), "half_up")
        rounded = _divide(once, np.int64(1) << np.maximum(-shift, 0), "half_up")
    else:
        rounded = _divide(exact, np.int64(1) << (31 - shift), rounding)
    target = numpy_dtype(dtype)
    return np.clip(rounded + zero_point, *limits(target)).astype(target)


def _divide(numerator: np.ndarray, divisor: np.ndarray, rounding: str) -> np.ndarray:
    quotient, remainder = np.divmod(numerator, divisor)
    if rounding == "floor":
        return quotient
    twice = 2 * remainder
    if rounding == "half_up":
        return quotient + (twice >= divisor)
    if rounding == "half_even":
        return quotient + ((twice > divisor) | ((twice == divisor) & (quotient % 2 == 1)))
    raise ValueError(f"requantize: rounding {rounding!r} is none of half_up, half_even, double, floor")


def _along(factor: np.ndarray, axis: int, rank: int) -> np.ndarray:
    if factor.ndim == 0 or factor.ndim == rank != 1:
        return factor
    return factor.reshape([-1 if position == axis % rank else 1 for position in range(rank)])


@evaluates("bitexact.requantize")
def evaluate_requantize(call: OperatorCall) -> np.ndarray:
    """Evaluate the operator."""
    data, multiplier, shift = call.arguments
    attributes = call.attributes
    return requantize(
        data,
        multiplier,
        shift,
        axis=attributes["axis"],
        zero_point=attributes["zero_point"],
        rounding=attributes["rounding"],
        dtype=attributes["out_dtype"],
    )
