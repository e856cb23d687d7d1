"""Convolutions and dense layers: weights quantised, int32 accumulators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Call, Expr

from bench.evaluate.graph import attributes_of
from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value, along, constant, within_int32
from bench.passes.scales import choose_channel_scales, choose_scale

WEIGHT_LIMIT = 127


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
    weight_axis: int,
    axis: int,
) -> Value:
    """Quantise the weight of a convolution or dense layer and emit it on quantised data."""
    name, options = variable.name, translation.options
    data, weight = translation.data(translation.operand(call.args[0])), constant(call.args[1])
    if weight is None:
        raise ValueError(f"quantize: the weight of {name!r} must be a constant")
    if call.op.name == "relax.matmul" and weight.ndim != 2:
        raise ValueError(f"quantize: the weight of {name!r} has shape {weight.shape}; it must be (K, N)")
    one_scale = not options.per_channel or (variable == translation.last_layer)
    choice: dict[str, Any] = {
        "low": -WEIGHT_LIMIT,
        "high": WEIGHT_LIMIT,
        "power_of_two": options.power_of_two,
        "method": options.weight_scale,
    }
    if one_scale:
        scale = np.asarray(choose_scale(weight, **choice))
    else:
        scale = choose_channel_scales(weight, weight_axis, **choice)
    steps = np.rint(weight / along(scale, weight_axis, weight.ndim))
    integers = np.clip(steps, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
    taps = np.abs(np.moveaxis(integers.astype(np.int64), weight_axis, 0)).reshape(
        weight.shape[weight_axis], -1
    )
    return Value(
        name=name,
        expression=translation.emit(name, build(data.expression, relax.const(integers))),
        scale=scale * data.scale,
        bound=within_int32(name, int(taps.sum(axis=1).max()) * data.bound),
        quantized=False,
        non_negative=False,
        axis=axis,
    )
