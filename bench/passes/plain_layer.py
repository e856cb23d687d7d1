"""Convolutions and dense layers as they stand in an integer graph, before any target's passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst


@dataclass(frozen=True)
class PlainLayer:
    """One ``relax.nn.conv2d`` (NCHW, OIHW) or ``relax.matmul`` (data N×C, weight C×O) with int32 results.

    ``relax.nn.conv2d_transpose`` (NCHW, IOHW) is one too, so that it is counted and reported.

    ``weight`` is OIHW for a convolution (IOHW for a transposed one) and (O, C) for a dense layer, and None
    where it is no constant.
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
    strides: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0, 0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    @property
    def shapes(self) -> str:
        """Shapes and window in short, as in ``256x1x8x8 * 24x1x3x3 s1 p1``."""
        text = f"{_times(self.data_shape)} * {_times(self.weight_shape)}"
        if self.operator != "dense":
            text += f" s{_short(self.strides)} p{_short(self.padding)}"
            text += f" d{_short(self.dilation)}" if set(self.dilation) != {1} else ""
            text += f" g{self.groups}" if self.groups != 1 else ""
        return text

    def why_not(  # noqa: PLR0911 - one return for each reason
        self, *, data_dtypes: tuple[str, ...], weight_dtypes: tuple[str, ...], dilated: bool = False
    ) -> str | None:
        """Why a kernel for these dtypes does not take this layer, or None where it does.

        ``dilated`` says whether the kernel can dilate.
        """
        if self.weight is None:
            return "its weight is not a constant"
        if self.operator == "conv2d_transpose":
            return "it is a transposed convolution; the kernels take plain ones"
        if self.groups != 1:
            return f"it has {self.groups} groups; the kernels take one"
        if not dilated and set(self.dilation) != {1}:
            return f"its dilation is {self.dilation}; the kernel takes (1, 1)"
        if self.data_dtype not in data_dtypes:
            return f"its data is {self.data_dtype}; the kernel takes {' or '.join(data_dtypes)}"
        if self.weight_dtype not in weight_dtypes:
            return f"its weight is {self.weight_dtype}; the kernel takes {' or '.join(weight_dtypes)}"
        return None


def plain_layer(call: relax.Call) -> PlainLayer | None:
    """The layer that a call computes; None where it is no convolution or dense layer."""
    if not isinstance(call.op, tvm.ir.Op) or str(call.ty.dtype) != "int32":
        return None
    if call.op.name in ("relax.nn.conv2d", "relax.nn.conv2d_transpose"):
        return _convolution(call)
    if call.op.name == "relax.matmul" and len(call.ty.shape) == 2:
        return _dense(call)
    return None


def _convolution(call: relax.Call) -> PlainLayer | None:
    attributes = call.attrs
    transposed = call.op.name == "relax.nn.conv2d_transpose"
    layouts = (str(attributes.data_layout), str(attributes.kernel_layout))
    if layouts != ("NCHW", "IOHW" if transposed else "OIHW"):
        return None
    data, weight = call.args
    return PlainLayer(
        operator="conv2d_transpose" if transposed else "conv2d",
        data=data,
        weight=weight.value.numpy() if isinstance(weight, GenericConst) else None,
        data_dtype=str(data.ty.dtype),
        weight_dtype=str(weight.ty.dtype),
        data_shape=_shape(data),
        weight_shape=_shape(weight),
        result_shape=_shape(call),
        strides=tuple(int(step) for step in attributes.strides),
        padding=tuple(int(width) for width in attributes.padding),
        dilation=tuple(int(step) for step in attributes.dilation),
        groups=int(attributes.groups),
    )


def _dense(call: relax.Call) -> PlainLayer:
    data, weight = call.args
    constant = weight.value.numpy().T if isinstance(weight, GenericConst) else None
    return PlainLayer(
        operator="dense",
        data=data,
        weight=constant,
        data_dtype=str(data.ty.dtype),
        weight_dtype=str(weight.ty.dtype),
        data_shape=_shape(data),
        weight_shape=_shape(weight)[::-1],
        result_shape=_shape(call),
    )


def _shape(expression: relax.Expr) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expression.ty.shape)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _short(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ",".join(map(str, values))
