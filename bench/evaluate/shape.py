"""Operators that move values without changing them."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from bench.evaluate.dtypes import is_integer, limits
from bench.evaluate.registry import OperatorCall, evaluates


@evaluates("relax.permute_dims")
def permute_dims(call: OperatorCall) -> np.ndarray:
    """Evaluate a transposition (a reversal of the axes where none are given)."""
    return np.ascontiguousarray(call.arguments[0].transpose(call.attributes["axes"]))


@evaluates("relax.reshape")
def reshape(call: OperatorCall) -> np.ndarray:
    """Evaluate a reshape to the shape given as the second argument."""
    data, shape = call.arguments
    return data.reshape(shape)


@evaluates("relax.flatten")
def flatten(call: OperatorCall) -> np.ndarray:
    """Evaluate a reshape to one axis."""
    return call.arguments[0].reshape(-1)


@evaluates("relax.expand_dims")
def expand_dims(call: OperatorCall) -> np.ndarray:
    """Evaluate the insertion of axes of extent 1."""
    return np.expand_dims(call.arguments[0], tuple(call.attributes["axis"]))


@evaluates("relax.squeeze")
def squeeze(call: OperatorCall) -> np.ndarray:
    """Evaluate the removal of axes of extent 1."""
    axis = call.attributes["axis"]
    return np.squeeze(call.arguments[0], None if axis is None else tuple(axis))


@evaluates("relax.broadcast_to")
def broadcast_to(call: OperatorCall) -> np.ndarray:
    """Evaluate a broadcast to the shape given as the second argument."""
    data, shape = call.arguments
    return np.ascontiguousarray(np.broadcast_to(data, shape))


@evaluates("relax.concat")
def concat(call: OperatorCall) -> np.ndarray:
    """Evaluate the concatenation of a tuple of arrays."""
    return np.concatenate(call.arguments[0], axis=call.attributes["axis"])


@evaluates("relax.repeat")
def repeat(call: OperatorCall) -> np.ndarray:
    """Evaluate the repetition of each element along an axis (of the flattened data where none is given)."""
    return np.repeat(call.arguments[0], call.attributes["repeats"], axis=call.attributes["axis"])


@evaluates("relax.split")
def split(call: OperatorCall) -> tuple[np.ndarray, ...]:
    """Evaluate a split at indices, or into a number of equal sections."""
    where = call.attributes["indices_or_sections"]
    return tuple(np.split(call.arguments[0], where, axis=call.attributes["axis"]))


@evaluates("relax.strided_slice")
def strided_slice(call: OperatorCall) -> np.ndarray:
    """Evaluate a slice along some axes; as in Python, negative positions count from the end."""
    data, axes, begin, end, *rest = call.arguments
    steps = rest[0] if rest else (1,) * len(axes)
    chosen = [slice(None)] * data.ndim
    for axis, first, last, step in zip(axes, begin, end, steps, strict=True):
        chosen[axis] = slice(first, last, step)
    return np.ascontiguousarray(data[tuple(chosen)])


@evaluates("relax.nn.pad")
def pad(call: OperatorCall) -> np.ndarray:
    """Evaluate a constant padding; of integers, the value must be one of their type."""
    (data,) = call.arguments
    mode, value = call.attributes["pad_mode"], call.attributes["pad_value"]
    if mode != "constant":
        raise ValueError(f"relax.nn.pad in {call.name!r}: mode {mode!r} is not evaluated, only 'constant'")
    if is_integer(data.dtype):
        smallest, largest = limits(data.dtype)
        if value % 1 or not smallest <= value <= largest:
            raise ValueError(f"relax.nn.pad in {call.name!r}: {value} is not a value of {data.dtype}")
    widths = np.reshape(call.attributes["pad_width"], (data.ndim, 2))
    return np.pad(data, widths, constant_values=data.dtype.type(value))


@evaluates("relax.layout_transform")
def layout_transform(call: OperatorCall) -> np.ndarray:
    """Evaluate a transformation by an index map; positions that no element moves to take the pad value."""
    (data,) = call.arguments
    if call.shape is None:
        raise ValueError(f"relax.layout_transform in {call.name!r}: the shape of the result is not static")
    index_map, value = call.attributes["index_map"], call.attributes["pad_value"]
    result = np.full(call.shape, 0 if value is None else value, call.result_dtype)
    positions = dict(zip(index_map.initial_indices, np.indices(data.shape, sparse=True), strict=True))
    result[tuple(_index(expression, positions) for expression in index_map.final_indices)] = data
    return result


_INDEX_ARITHMETIC = {
    tirx.Add: np.add,
    tirx.Sub: np.subtract,
    tirx.Mul: np.multiply,
    tirx.FloorDiv: np.floor_divide,
    tirx.FloorMod: np.mod,
}


def _index(expression: Any, positions: dict[Any, np.ndarray]) -> Any:
    if expression in positions:
        return positions[expression]
    if isinstance(expression, tirx.IntImm):
        return int(expression.value)
    for kind, function in _INDEX_ARITHMETIC.items():
        if isinstance(expression, kind):
            return function(_index(expression.a, positions), _index(expression.b, positions))
    raise NotImplementedError(f"relax.layout_transform: index {expression} is not evaluated")
