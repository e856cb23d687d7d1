"""Elementwise arithmetic, reductions and the matrix product. Integers wrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.evaluate.dtypes import is_integer, limits, wrap
from bench.evaluate.int4 import operands
from bench.evaluate.products import product
from bench.evaluate.registry import OPERATORS, OperatorCall, evaluates
from bench.layout import pack, unpack


def _elementwise(function: Callable[..., np.ndarray]) -> Callable[[OperatorCall], np.ndarray]:
    def evaluate(call: OperatorCall) -> np.ndarray:
        # A NumPy scalar warns where an array wraps silently; wrapping is what is meant.
        with np.errstate(over="ignore"):
            return np.asarray(function(*call.arguments), call.result_dtype)

    return evaluate


for _name, _function in (
    ("add", np.add),
    ("subtract", np.subtract),
    ("multiply", np.multiply),
    ("divide", np.divide),
    ("maximum", np.maximum),
    ("minimum", np.minimum),
    ("negative", np.negative),
    ("bitwise_and", np.bitwise_and),
    ("bitwise_or", np.bitwise_or),
    ("bitwise_xor", np.bitwise_xor),
):
    OPERATORS[f"relax.{_name}"] = _elementwise(_function)


@evaluates("relax.nn.relu")
def relu(call: OperatorCall) -> np.ndarray:
    """Evaluate max(x, 0)."""
    (data,) = call.arguments
    # Extrema of 4-bit values come out of NumPy as int8, in this operator and the next.
    return np.maximum(data, data.dtype.type(0)).astype(data.dtype, copy=False)


@evaluates("relax.clip")
def clip(call: OperatorCall) -> np.ndarray:
    """Evaluate min(max(x, low), high); of integers, the bounds must be values of their type."""
    data, low, high = call.arguments
    if is_integer(data.dtype):
        smallest, largest = limits(data.dtype)
        if not (smallest <= low <= largest and smallest <= high <= largest) or low % 1 or high % 1:
            raise ValueError(
                f"{call.operator} in {call.name!r}: {low}..{high} is not a range of {data.dtype}"
            )
        low, high = int(low), int(high)
    clipped = np.minimum(np.maximum(data, data.dtype.type(low)), data.dtype.type(high))
    return clipped.astype(data.dtype, copy=False)


@evaluates("relax.right_shift", "relax.left_shift")
def shift(call: OperatorCall) -> np.ndarray:
    """Evaluate an arithmetic shift; the amount must be less than the width of the shifted type."""
    data, amount = call.arguments
    width = 8 * data.dtype.itemsize
    if np.any((amount < 0) | (amount >= width)):
        raise ValueError(
            f"{call.operator} in {call.name!r}: a shift of {data.dtype} must be in 0..{width - 1}"
        )
    function = np.right_shift if call.operator == "relax.right_shift" else np.left_shift
    return np.asarray(function(data, amount), call.result_dtype)


@evaluates("relax.astype")
def astype(call: OperatorCall) -> np.ndarray:
    """Evaluate a conversion: integers keep their low bits, floats are first truncated towards zero.

    A float beyond int32 has no defined integer, here or on a machine.
    """
    (data,) = call.arguments
    dtype = call.result_dtype
    if is_integer(dtype):
        if not is_integer(data.dtype) and dtype.itemsize < 4:
            data = data.astype(np.int32)
        return wrap(data.astype(np.int64), dtype)
    return data.astype(dtype)


@evaluates("relax.sum")
def total(call: OperatorCall) -> np.ndarray:
    """Evaluate a sum over axes (all where none is given)."""
    (data,) = call.arguments
    integer = is_integer(data.dtype)
    result = data.sum(
        axis=call.attributes["axis"],
        keepdims=bool(call.attributes["keepdims"]),
        dtype=np.int64 if integer else data.dtype,
    )
    result = np.asarray(result)
    return wrap(result, call.result_dtype) if integer else result


@evaluates("relax.mean")
def mean(call: OperatorCall) -> np.ndarray:
    """Evaluate a mean over axes, of floats only: how an integer one rounds is not defined."""
    (data,) = call.arguments
    if is_integer(data.dtype):
        raise ValueError(f"relax.mean in {call.name!r}: not of {data.dtype}; use a sum and a requantisation")
    return np.asarray(data.mean(axis=call.attributes["axis"], keepdims=bool(call.attributes["keepdims"])))


@evaluates("relax.matmul")
def matmul(call: OperatorCall) -> np.ndarray:
    """Evaluate a matrix product."""
    left, right = call.arguments
    return product(left, right, call.result_dtype)


@evaluates("bitexact.dense")
def dense(call: OperatorCall) -> np.ndarray:
    """Evaluate a packed dense layer on the unpacked operands, all padding included."""
    data, weight = operands(call)
    rows = unpack(data, call.attributes["data_layout"], target=_rows_first(call.attributes["data_layout"]))
    units = unpack(
        weight, call.attributes["weight_layout"], target=_rows_first(call.attributes["weight_layout"])
    )
    out_layout = call.attributes["out_layout"]
    return pack(product(rows, units.T, call.result_dtype), out_layout, source=_rows_first(out_layout))


@evaluates("bitexact.batch_matmul")
def batch_matmul(call: OperatorCall) -> np.ndarray:
    """Evaluate packed products of matrices on the unpacked operands, all padding included."""
    data, weight = operands(call)
    return product(data, unpack(weight, call.attributes["weight_layout"], target="BKN"), call.result_dtype)


def _rows_first(layout: str) -> str:
    return "NC" if "C" in layout else "NK"
