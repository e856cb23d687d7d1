"""What was multiplied or combined for one element of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.flows.transformed import Transformed
from bench.layout import unpack
from bench.passes.lift_kernels import bindings_of, is_packed_operator


@dataclass(frozen=True)
class Operands:
    """The operands of one element.

    For a convolution or dense layer ``data`` and ``weight`` are the two sides of its dot product, in the order
    kh, kw, input channel (without channels added as padding), and ``accumulator`` is their sum, mod 2^32.
    For other operators ``data`` holds the operands' values at that element, where they have the same shape.
    """

    data: list[int] = field(default_factory=list)
    weight: list[int] = field(default_factory=list)
    accumulator: int | None = None


def operands_of(
    transformed: Transformed,
    binding: relax.VarBinding,
    coordinate: dict[str, int],
    index: tuple[int, ...],
    values: Mapping[str, np.ndarray],
) -> Operands | None:
    """The operands of the element ``coordinate`` (packed: ``index``) of a binding of ``main``."""
    call = binding.value
    if not isinstance(call, relax.Call):
        return None
    arrays = [_array(argument, values) for argument in call.args]
    if not isinstance(call.op, relax.GlobalVar):
        same = [array for array in arrays if array is not None and array.shape == values[binding.var.name].shape]
        return Operands(data=[int(array[index]) for array in same]) if same else None
    operator = next(
        inner.value for inner in bindings_of(transformed.mod[call.op]) if is_packed_operator(inner.value)
    )
    data, weight = arrays[:2]
    if data is None or weight is None:
        return None
    compute = _dense if operator.op.name == "bitexact.dense" else _convolution
    return compute(attributes_of(operator), data, weight, coordinate)


def _array(argument: relax.Expr, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if isinstance(argument, GenericConst):
        return argument.value.numpy()
    if isinstance(argument, relax.Var):
        return values.get(argument.name)
    return None


def _dense(
    attributes: Mapping[str, Any], data: np.ndarray, weight: np.ndarray, coordinate: dict[str, int]
) -> Operands:
    weight_layout = attributes["weight_layout"]
    depth = "K" if "K" in weight_layout else "C"
    rows = unpack(data, attributes["data_layout"], target="NC")
    units = unpack(weight, weight_layout, target=f"N{depth}")
    return _dot(rows[coordinate["N"]], units[coordinate["C"]])


def _convolution(
    attributes: Mapping[str, Any], data: np.ndarray, weight: np.ndarray, coordinate: dict[str, int]
) -> Operands:
    image = unpack(data, attributes["data_layout"], target="NCHW")[coordinate["N"]]
    kernel = unpack(weight, attributes["kernel_layout"], target="OIHW")[coordinate["C"]]
    strides, padding, dilation = (attributes[name] for name in ("strides", "padding", "dilation"))
    top, left, bottom, right = padding
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    first_row, first_column = coordinate["H"] * strides[0], coordinate["W"] * strides[1]
    height, width = kernel.shape[1:]
    window = padded[
        :,
        first_row : first_row + dilation[0] * (height - 1) + 1 : dilation[0],
        first_column : first_column + dilation[1] * (width - 1) + 1 : dilation[1],
    ]
    return _dot(window.transpose(1, 2, 0).ravel(), kernel.transpose(1, 2, 0).ravel())


def _dot(data: np.ndarray, weight: np.ndarray) -> Operands:
    """Both sides, without the places where both are zero: padding, which says nothing."""
    kept = (data != 0) | (weight != 0)
    total = int(np.dot(data.astype(np.int64), weight.astype(np.int64)))
    wrapped = int(np.int64(total).astype(np.int32))
    return Operands([int(value) for value in data[kept]], [int(value) for value in weight[kept]], wrapped)
