"""Convolutions and dense layers: weights quantised, int32 accumulators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call, Expr

from bench.evaluate.graph import attributes_of
from bench.passes.quantization.options import Options
from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value, along, constant, limits, within_int32
from bench.passes.scales import choose_channel_scales, choose_scale

# Of a layer that is left out of the 8 bits.
WIDE_LIMIT = 2**15 - 1


@translates("relax.nn.conv2d")
def convolution(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a convolution, NCHW by OIHW: int32 accumulators."""
    attributes = attributes_of(call)
    if (attributes["data_layout"], attributes["kernel_layout"]) != ("NCHW", "OIHW"):
        raise ValueError(f"quantize: convolution {variable.name!r} must be NCHW by OIHW")
    options = {name: attributes[name] for name in ("strides", "padding", "dilation", "groups")}

    def build(data: Expr, weight: Expr) -> Call:
        return relax.op.nn.conv2d(data, weight, out_dtype="int32", **options)

    return _layer(translation, variable, call, build, weight_axis=0, axis=1)


@translates("relax.nn.conv2d_transpose")
def transposed_convolution(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a transposed convolution, NCHW by IOHW: int32 accumulators."""
    attributes = attributes_of(call)
    if (attributes["data_layout"], attributes["kernel_layout"]) != ("NCHW", "IOHW"):
        raise ValueError(f"quantize: transposed convolution {variable.name!r} must be NCHW by IOHW")
    names = ("strides", "padding", "output_padding", "dilation", "groups")
    options = {name: attributes[name] for name in names}

    def build(data: Expr, weight: Expr) -> Call:
        return relax.op.nn.conv2d_transpose(data, weight, out_dtype="int32", **options)

    # The weight of several groups counts the output channels of one of them: no axis is that of the result.
    weight_axis = 1 if attributes["groups"] == 1 else None
    return _layer(translation, variable, call, build, weight_axis=weight_axis, axis=1)


@translates("relax.matmul")
def dense(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a product by a constant matrix (K, N): int32 accumulators."""

    def build(data: Expr, weight: Expr) -> Call:
        return relax.op.matmul(data, weight, out_dtype="int32")

    axis = len(call.args[0].ty.shape) - 1
    return _layer(translation, variable, call, build, weight_axis=1, axis=axis)


def _layer(
    translation: Translation,
    variable: relax.Var,
    call: Call,
    build: Callable[[Expr, Expr], Call],
    *,
    weight_axis: int | None,
    axis: int,
) -> Value:
    """Quantise the weight of a convolution or dense layer and emit it on quantised data.

    `weight_axis` is the axis of the output channels, None where there is none that could have scales.
    """
    name, options = variable.name, translation.options
    skipped = name in translation.skipped
    bits = 8 if skipped or name in translation.eight_bit else options.bits
    data, weight = translation.data(translation.operand(call.args[0]), bits=bits), constant(call.args[1])
    if weight is None:
        raise ValueError(f"quantize: the weight of {name!r} must be a constant")
    if call.op.name == "relax.matmul" and weight.ndim != 2:
        raise ValueError(f"quantize: the weight of {name!r} has shape {weight.shape}; it must be (K, N)")
    one_scale = variable == translation.last_layer or not options.per_channel
    expression, dtype = data.expression, f"int{bits}"
    ends = limits(dtype)
    if skipped:
        # Left out of the 8 bits: in the arithmetic of int32, which no accelerator's kernel takes.
        widest = _widest_limit(weight, weight_axis, data.bound)
        dtype, ends = "int32", (-widest, widest)
        expression = translation.emit(f"{name}_data", relax.op.astype(expression, "int32"))
    integers, scale = _quantized(weight, None if one_scale else weight_axis, ends, options)
    parameter = translation.constant(f"{name}_weight", integers, dtype)
    return Value(
        name=name,
        expression=translation.emit(name, build(expression, parameter)),
        scale=scale * data.scale,
        bound=within_int32(name, int(_magnitudes(integers, weight_axis).max()) * data.bound),
        quantized=False,
        non_negative=False,
        axis=axis,
    )


def _quantized(
    weight: np.ndarray, axis: int | None, ends: tuple[int, int], options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """A weight in integers between two ends, and its scale (for each channel)."""
    low, high = ends
    choice: dict[str, Any] = {
        "low": low,
        "high": high,
        "power_of_two": options.power_of_two,
        "method": options.weight_scale,
    }
    if axis is None:
        scale = np.asarray(choose_scale(weight, **choice))
        steps = np.rint(weight / scale)
    else:
        scale = choose_channel_scales(weight, axis, **choice)
        steps = np.rint(weight / along(scale, axis, weight.ndim))
    return np.clip(steps, low, high).astype(np.int32), scale


def _magnitudes(weight: np.ndarray, axis: int | None) -> np.ndarray:
    """Sum of the magnitudes of the weights of each output channel: how far data of 1 can take a sum."""
    magnitudes = np.abs(weight.astype(np.float64))
    if axis is None:
        return magnitudes.sum(keepdims=True)
    return magnitudes.sum(axis=tuple(index for index in range(weight.ndim) if index != axis))


def _widest_limit(weight: np.ndarray, axis: int | None, bound: int) -> int:
    """The largest magnitude of 16-bit weights with which no sum leaves half of int32."""
    magnitudes = _magnitudes(weight, axis)
    largest = np.abs(weight).max(initial=0)
    if axis is not None:
        largest = np.abs(weight).max(axis=tuple(index for index in range(weight.ndim) if index != axis))
    ratio = float(np.max(magnitudes / np.where(largest > 0, largest, 1)))
    return int(min(WIDE_LIMIT, 2**30 / (bound * max(ratio, 1))))
