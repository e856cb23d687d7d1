"""Biases and residual additions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.ir import Call, Expr

from bench.passes.quantization.registry import translates
from bench.passes.quantization.rescaling import rescale, shift_left
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value, along, constant, within_int32

# Bits below a quantised step in which the two sides of a residual addition meet ("fixed").
ALIGNMENT_BITS = 8
_STEPS = 127


@translates("relax.add")
def add(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a bias or a residual addition."""
    left, right = call.args
    if constant(left) is not None:
        left, right = right, left
    bias = constant(right)
    if bias is not None:
        return _bias(translation, variable, translation.accumulator(translation.operand(left)), bias)
    return _residual(translation, variable, *(_residual_side(translation, side) for side in (left, right)))


def _residual_side(translation: Translation, expression: Expr) -> Value:
    """Give one side of an addition: what others use as well is stored as data, and added as such.

    Of scheme "pow2" with int8 every side is: a machine that stores 8 bits of an accumulator, as VTA
    does, can then compute the layer before the addition.
    """
    value = translation.operand(expression)
    if translation.options.power_of_two and translation.options.data_dtype != "uint8":
        return translation.data(value)
    return value if translation.uses(expression) == 1 else translation.data(value)


def _bias(translation: Translation, variable: relax.Var, value: Value, bias: np.ndarray) -> Value:
    """Add a constant in units of the accumulator."""
    value = translation.settle(value)
    steps = np.rint(bias.astype(np.float64) / along(value.scale, value.axis, len(value.shape)))
    bound = within_int32(variable.name, value.bound + int(np.abs(steps).max(initial=0)))
    total = relax.op.add(value.expression, relax.const(steps.astype(np.int32)))
    expression = translation.emit(variable.name, total)
    result = replace(value, name=variable.name, expression=expression, bound=bound, non_negative=False)
    if result.shape != value.shape:
        raise ValueError(f"quantize: the constant of {variable.name!r} changes the shape of {value.name!r}")
    return result


def _residual(translation: Translation, variable: relax.Var, left: Value, right: Value) -> Value:
    """Add two tensors of one shape as integers of one scale, that of finer steps than the result's."""
    if left.shape != right.shape:
        raise ValueError(f"quantize: {variable.name!r} adds tensors of different shapes")
    sides = [translation.settle(translation.accumulator(side)) for side in (left, right)]
    non_negative = all(side.non_negative for side in sides)
    if translation.options.power_of_two:
        # Both to the finer of the two scales: a shift to the left loses nothing.
        scale = min(float(side.scale) for side in sides)
        aligned = [shift_left(translation, side, scale) for side in sides]
    else:
        step = np.abs(translation.floats[variable.name]).max() / _STEPS or 1.0
        scale = step / 2**ALIGNMENT_BITS
        aligned = [rescale(translation, side, scale) for side in sides]
    bound = within_int32(variable.name, sum(side.bound for side in aligned))
    total = relax.op.add(*(side.expression for side in aligned))
    return Value(
        name=variable.name,
        expression=translation.emit(variable.name, total),
        scale=np.asarray(scale),
        bound=bound,
        quantized=False,
        non_negative=non_negative,
    )
