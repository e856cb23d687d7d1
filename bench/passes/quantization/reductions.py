"""Means: sums in int32, whose scale takes the number of their terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.ir import Call, Expr

from bench.evaluate.graph import attributes_of
from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value, within_int32


@translates("relax.mean")
def mean(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a mean: an int32 sum over the axes."""
    value = translation.data(translation.operand(call.args[0]))
    attributes = attributes_of(call)
    axes = attributes["axis"] if attributes["axis"] is not None else tuple(range(len(value.shape)))
    count = int(np.prod([value.shape[axis] for axis in axes]))
    wide = translation.emit(f"{variable.name}_int32", relax.op.astype(value.expression, "int32"))
    total = relax.op.sum(wide, axis=list(axes), keepdims=bool(attributes["keepdims"]))
    return _divided(translation, replace(value, name=variable.name), total, count)


@translates("relax.nn.avg_pool2d")
def average_pool(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate an average over windows: a depthwise convolution by ones is their sum."""
    value = translation.data(translation.operand(call.args[0]))
    attributes = attributes_of(call)
    padded = any(attributes["padding"]) and not attributes["count_include_pad"]
    if padded or attributes["ceil_mode"] or attributes["layout"] != "NCHW":
        raise ValueError(
            f"quantize: {variable.name!r} averages windows of different sizes, or not in NCHW; what is "
            "quantised has no padding or counts it, and no ceil_mode"
        )
    channels, kernel = value.shape[1], tuple(attributes["pool_size"])
    total = relax.op.nn.conv2d(
        value.expression,
        relax.const(np.ones((channels, 1, *kernel), np.int8)),
        strides=attributes["strides"],
        padding=attributes["padding"],
        dilation=attributes["dilation"],
        groups=channels,
        out_dtype="int32",
    )
    return _divided(translation, replace(value, name=variable.name), total, int(np.prod(kernel)))


def _divided(translation: Translation, value: Value, total: Expr, count: int) -> Value:
    """Sums of `count` data, emitted as the mean: the scale is divided.

    Scheme "pow2" cannot divide a scale by any number: there the sum is first multiplied by 2^n / count, with
    as many bits as leave int32 half empty, for the rounding of the shift.
    """
    bound = within_int32(value.name, value.bound * count)
    factor, scale = 1, value.scale / count
    if translation.options.power_of_two and count & (count - 1):
        bits = (2**30 * count // bound).bit_length() - 1
        factor, scale = int(np.rint(2**bits / count)), value.scale / 2**bits
        total = relax.op.multiply(translation.emit(f"{value.name}_sum", total), relax.const(factor, "int32"))
    return replace(
        value,
        expression=translation.emit(value.name, total),
        scale=scale,
        bound=within_int32(value.name, bound * factor),
        quantized=False,
    )
