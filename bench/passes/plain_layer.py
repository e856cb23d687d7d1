"""Convolutions and dense layers as they stand in an integer graph, before any target's passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.layout import Layout

CONVOLUTIONS = {"relax.nn.conv2d": "OIHW", "relax.nn.conv2d_transpose": "IOHW"}
"""Operators that are convolutions, and the layout in which their weight is given to a target."""


@dataclass(frozen=True)
class PlainLayer:
    """One ``relax.nn.conv2d`` (not packed) or ``relax.matmul`` (data N×C, weight C×O), of whatever types.

    ``relax.nn.conv2d_transpose`` (NCHW, IOHW) is one too, so that it is counted and reported; and
    ``relax.matmul`` (data B×N×C, weight B×C×O), of which both operands may be data: then ``operand`` is the
    second.

    ``axes`` are those of data and result as they are stored, NCHW, HWNC …, NC of a dense layer or BNC;
    ``result_shape`` is in their order, ``data_shape`` and ``weight_shape`` are NCHW and OIHW. ``weight`` is
    OIHW for a convolution (IOHW for a transposed one), (O, C) for a dense layer and (B, O, C) for a batch of
    them, and None where it is no constant.
    ``padding`` is (top, left, bottom, right).
    """

    operator: str
    data: relax.Var
    weight: np.ndarray | None
    data_dtype: str
    weight_dtype: str
    data_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    result_shape: tuple[int, ...]
    result_dtype: str
    axes: str
    strides: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    operand: relax.Var | None = None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Batch or rows, input channels and output channels."""
        first = 1 if self.operator == "batch_matmul" else 0
        return self.data_shape[first], self.data_shape[first + 1], self.weight_shape[first]

    @property
    def shapes(self) -> str:
        """Shapes and window in short, as in ``256x1x8x8 * 24x1x3x3 s1 p1``."""
        text = f"{_times(self.data_shape)} * {_times(self.weight_shape)}"
        if self.operator not in ("dense", "batch_matmul"):
            text += f" s{_short(self.strides)} p{_short(self.padding)}"
            text += f" d{_short(self.dilation)}" if set(self.dilation) != {1} else ""
            text += f" g{self.groups}" if self.groups != 1 else ""
        return text

    def why_not(  # noqa: PLR0911 - one return for each reason
        self,
        *,
        data_dtypes: tuple[str, ...],
        weight_dtypes: tuple[str, ...],
        dilated: bool = False,
        grouped: bool = False,
        transposed: bool = False,
        batched: bool = False,
    ) -> str | None:
        """Why a kernel for these dtypes does not take this layer, or None where it does.

        ``dilated``, ``grouped`` and ``transposed`` say what the kernel can besides a plain convolution,
        ``batched`` that it takes several products of matrices, whose weights may be data.
        """
        if not batched and self.operator == "batch_matmul":
            return "it is a batch of products; the kernels take one"
        if self.weight is None and self.operator != "batch_matmul":
            return "its weight is not a constant"
        if not transposed and self.operator == "conv2d_transpose":
            return "it is a transposed convolution; the kernels take plain ones"
        if not grouped and self.groups != 1:
            return f"it has {self.groups} groups; the kernels take one"
        if not dilated and set(self.dilation) != {1}:
            return f"its dilation is {self.dilation}; the kernel takes (1, 1)"
        if self.data_dtype not in data_dtypes:
            return f"its data is {self.data_dtype}; the kernel takes {' or '.join(data_dtypes)}"
        if self.weight_dtype not in weight_dtypes:
            return f"its weight is {self.weight_dtype}; the kernel takes {' or '.join(weight_dtypes)}"
        if self.result_dtype != "int32":
            return f"its result is {self.result_dtype}; the kernels accumulate in int32"
        return None


Constants = Mapping[relax.Var, np.ndarray]
"""Values of variables that no input changes (:func:`bench.passes.constants.constant_bindings`)."""


def plain_layer(
    call: relax.Call, constants: Constants | None = None, *, any_layout: bool = False
) -> PlainLayer | None:
    """The layer that a call computes; None where it is no convolution or dense layer.

    A convolution counts if it is NCHW with OIHW, or with ``any_layout`` if it is not packed. ``constants``
    are variables whose value makes a constant weight.
    """
    if not isinstance(call.op, tvm.ir.Op):
        return None
    if call.op.name in CONVOLUTIONS:
        layouts = str(call.attrs.data_layout), str(call.attrs.kernel_layout)
        known = any_layout or layouts == ("NCHW", CONVOLUTIONS[call.op.name])
        return _convolution(call, constants or {}) if known else None
    if call.op.name == "relax.matmul" and len(call.ty.shape) == 2:
        return _dense(call, constants or {})
    if call.op.name == "relax.matmul" and len(call.ty.shape) == 3:
        return _batch_matmul(call, constants or {})
    return None


def _convolution(call: relax.Call, constants: Constants) -> PlainLayer | None:
    attributes = call.attrs
    axes, kernel_axes = str(attributes.data_layout), str(attributes.kernel_layout)
    if Layout.parse(axes).factors or Layout.parse(kernel_axes).factors or str(attributes.out_layout) != axes:
        return None
    data, weight = call.args
    values = _constant(weight, constants)
    order = [kernel_axes.index(axis) for axis in CONVOLUTIONS[call.op.name]]
    return PlainLayer(
        operator=call.op.name.removeprefix("relax.nn."),
        data=data,
        weight=None if values is None else values.transpose(order),
        data_dtype=str(data.ty.dtype),
        weight_dtype=str(weight.ty.dtype),
        data_shape=tuple(_shape(data)[axes.index(axis)] for axis in "NCHW"),
        weight_shape=tuple(_shape(weight)[position] for position in order),
        result_shape=_shape(call),
        result_dtype=str(call.ty.dtype),
        axes=axes,
        strides=tuple(int(step) for step in attributes.strides),
        padding=tuple(int(width) for width in attributes.padding),
        dilation=tuple(int(step) for step in attributes.dilation),
        groups=int(attributes.groups),
    )


def _dense(call: relax.Call, constants: Constants) -> PlainLayer:
    data, weight = call.args
    values = _constant(weight, constants)
    return PlainLayer(
        operator="dense",
        data=data,
        weight=None if values is None else values.T,
        data_dtype=str(data.ty.dtype),
        weight_dtype=str(weight.ty.dtype),
        data_shape=_shape(data),
        weight_shape=_shape(weight)[::-1],
        result_shape=_shape(call),
        result_dtype=str(call.ty.dtype),
        axes="NC",
    )


def _batch_matmul(call: relax.Call, constants: Constants) -> PlainLayer | None:
    data, weight = call.args
    if len(data.ty.shape) != 3 or len(weight.ty.shape) != 3 or not isinstance(data, relax.Var):
        return None
    batch, columns, units = _shape(weight)
    if batch != _shape(data)[0]:
        return None
    values = _constant(weight, constants)
    return PlainLayer(
        operator="batch_matmul",
        data=data,
        weight=None if values is None else values.swapaxes(1, 2),
        data_dtype=str(data.ty.dtype),
        weight_dtype=str(weight.ty.dtype),
        data_shape=_shape(data),
        weight_shape=(batch, units, columns),
        result_shape=_shape(call),
        result_dtype=str(call.ty.dtype),
        axes="BNC",
        operand=weight if values is None else None,
    )


def _constant(expression: relax.Expr, constants: Constants) -> np.ndarray | None:
    if isinstance(expression, GenericConst):
        return expression.value.numpy()
    return constants.get(expression) if isinstance(expression, relax.Var) else None


def _shape(expression: relax.Expr) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expression.ty.shape)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _short(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ",".join(map(str, values))
