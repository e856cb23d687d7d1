"""What was multiplied or combined for one element of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.flows.transformed import Transformed
from bench.int4 import unpack_int4
from bench.layout import unpack
from bench.operators.depthwise import unpack_taps
from bench.passes.lift_kernels import bindings_of, is_packed_operator
from bench.passes.vta.transposed import outputs_first


@dataclass(frozen=True)
class Operands:
    """The operands of one element.

    For a convolution or dense layer ``data`` and ``weight`` are the two sides of its dot product, in the
    order kh, kw, input channel, without the channels that were added as padding; ``accumulator`` is the sum
    of their products mod 2^32, before anything that the kernel adds to it. For other operators ``data`` holds
    the value of each tensor operand that this element depends on.
    """

    data: list[int] = field(default_factory=list)
    weight: list[int] = field(default_factory=list)
    accumulator: int | None = None


def operands_of(
    transformed: Transformed,
    binding: relax.VarBinding,
    coordinate: Mapping[str, int],
    index: tuple[int, ...],
    values: Mapping[str, np.ndarray],
) -> Operands | None:
    """The operands of the element ``coordinate`` (packed: ``index``) of a binding of ``main``.

    None for an operator that moves data: which element it read is not known here.
    """
    call = binding.value
    if not isinstance(call, relax.Call):
        return None
    arrays = [_array(argument, values) for argument in call.args]
    if isinstance(call.op, tvm.ir.Op):
        return _elements(arrays, values[binding.var.name].shape, index)
    inside = (inner.value for inner in bindings_of(transformed.mod[call.op]))
    operator = next((value for value in inside if is_packed_operator(value)), None)
    if operator is None:
        return _elements(arrays, values[binding.var.name].shape, index)
    data, weight = arrays[:2]
    if data is None or weight is None:
        return None
    entry = transformed.correspondence(call.args[0].name) if isinstance(call.args[0], relax.Var) else None
    channels = entry.shape[entry.axes.index("C")] if entry else None
    attributes = attributes_of(operator)
    data, weight = (
        unpack_int4(array, attributes[option]) if attributes.get(option) else array
        for array, option in ((data, "data_dtype"), (weight, "weight_dtype"))
    )
    if operator.op.name in _COMPUTE:
        return _COMPUTE[operator.op.name](attributes, data, weight, coordinate, channels)
    image = unpack(data, attributes["data_layout"], target="NCHW")[coordinate["N"]]
    if operator.op.name == "bitexact.depthwise_conv2d":
        kernel = unpack_taps(weight, attributes["kernel"], dilation=attributes["dilation"][1])
        groups = len(kernel)
    else:
        groups = int(attributes.get("groups", 1))
        if operator.op.name == "relax.nn.conv2d_transpose":
            kernel = outputs_first(unpack(weight, attributes["kernel_layout"], target="IOHW"), groups)
        else:
            kernel = unpack(weight, attributes["kernel_layout"], target="OIHW")
    first = coordinate["C"] // (len(kernel) // groups) * (len(image) // groups)
    count = len(image) // groups if groups > 1 else channels
    last = None if count is None else first + count
    compute = _transposed if operator.op.name == "relax.nn.conv2d_transpose" else _convolution
    return compute(attributes, image[first:last], kernel[coordinate["C"], :count], coordinate)


def _elements(
    arrays: list[np.ndarray | None], shape: tuple[int, ...], index: tuple[int, ...]
) -> Operands | None:
    """The elements of operands that broadcast to the result's shape; None where one of them does not."""
    elements = [_broadcast_element(array, shape, index) for array in arrays]
    present = [element for element in elements if element is not None]
    return Operands(data=present) if present and len(present) == len(arrays) else None


def _array(argument: relax.Expr, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if isinstance(argument, GenericConst):
        return argument.value.numpy()
    if isinstance(argument, relax.Var):
        return values.get(argument.name)
    return None


def _broadcast_element(
    array: np.ndarray | None, shape: tuple[int, ...], index: tuple[int, ...]
) -> int | None:
    """The element of an operand that broadcasts to ``shape``, for one index of the result."""
    if array is None:
        return None
    try:
        return int(np.broadcast_to(array, shape)[index])
    except ValueError:
        return None


def _dense(
    attributes: Mapping[str, Any],
    data: np.ndarray,
    weight: np.ndarray,
    coordinate: Mapping[str, int],
    channels: int | None,
) -> Operands:
    depth = "K" if "K" in attributes["weight_layout"] else "C"
    rows = unpack(data, attributes["data_layout"], target="NC")
    units = unpack(weight, attributes["weight_layout"], target=f"N{depth}")
    return _dot(rows[coordinate["N"], :channels], units[coordinate["C"], :channels])


def _batch_matmul(
    attributes: Mapping[str, Any],
    data: np.ndarray,
    weight: np.ndarray,
    coordinate: Mapping[str, int],
    channels: int | None,
) -> Operands:
    units = unpack(weight, attributes["weight_layout"], target="BNK")[coordinate["B"], coordinate["C"]]
    return _dot(data[coordinate["B"], coordinate["N"], :channels], units[:channels])


def _convolution(
    attributes: Mapping[str, Any], image: np.ndarray, kernel: np.ndarray, coordinate: Mapping[str, int]
) -> Operands:
    strides, padding, dilation = (attributes[name] for name in ("strides", "padding", "dilation"))
    top, left, bottom, right = padding
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    window = padded[
        :,
        _taps(coordinate["H"] * strides[0], kernel.shape[1], dilation[0]),
        _taps(coordinate["W"] * strides[1], kernel.shape[2], dilation[1]),
    ]
    return _dot(window.transpose(1, 2, 0).ravel(), kernel.transpose(1, 2, 0).ravel())


def _transposed(
    attributes: Mapping[str, Any], image: np.ndarray, kernel: np.ndarray, coordinate: Mapping[str, int]
) -> Operands:
    pairs = []
    for axis, letter in enumerate("HW"):
        place = coordinate[letter] + attributes["padding"][axis]
        reached = [(place - tap, tap) for tap in range(kernel.shape[1 + axis])]
        stride, extent = attributes["strides"][axis], image.shape[1 + axis]
        pairs.append(
            [(at // stride, tap) for at, tap in reached if at % stride == 0 and at // stride in range(extent)]
        )
    terms = [((y, x), (ky, kx)) for y, ky in pairs[0] for x, kx in pairs[1]]
    data = [image[:, *datum] for datum, _ in terms]
    weights = [kernel[:, *tap] for _, tap in terms]
    none = np.empty(0, image.dtype)
    return _dot(np.concatenate([none, *data]), np.concatenate([none, *weights]))


def _taps(first: int, count: int, dilation: int) -> slice:
    return slice(first, first + dilation * (count - 1) + 1, dilation)


def _dot(data: np.ndarray, weight: np.ndarray) -> Operands:
    total = np.dot(data.astype(np.int64), weight.astype(np.int64))
    return Operands(data.tolist(), weight.tolist(), int(total.astype(np.int32)))


_COMPUTE = {"bitexact.dense": _dense, "bitexact.batch_matmul": _batch_matmul}
