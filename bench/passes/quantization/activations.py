"""Activations: bounds of real values, that a rescaling takes over where it can."""

from __future__ import annotations

from dataclasses import replace

from tvm import relax
from tvm.ir import Call

from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import RELU, Bounds, Value, limits


@translates("relax.nn.relu")
def relu(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a ReLU: into the rescaling that follows where that bounds its result anyway.

    A rounding keeps the order of its operands and 0, so that it does not matter which comes first.
    """
    value = _bounded(translation.operand(call.args[0]), variable.name, RELU)
    options = translation.options
    if not value.quantized:
        folds = options.power_of_two or options.data_type(non_negative=True).startswith("uint")
        return value if folds or value.pending != RELU else translation.settle(value)
    if value.dtype.startswith("uint"):
        return replace(value, pending=None)
    result = translation.emit(variable.name, relax.op.nn.relu(value.expression))
    return replace(value, expression=result, pending=None)


@translates("relax.clip")
def clip(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a clip, ReLU6 for instance: into the rescaling that follows."""
    source, low, high = call.args
    bounds = Bounds(float(low.value), float(high.value))
    value = _bounded(translation.operand(source), variable.name, bounds)
    if not value.quantized:
        return value
    steps = bounds.steps(float(value.scale), value.dtype)
    value = replace(value, pending=None)
    if steps == limits(value.dtype):
        return value
    return replace(value, expression=translation.emit(variable.name, relax.op.clip(value.expression, *steps)))


def _bounded(value: Value, name: str, bounds: Bounds) -> Value:
    """The value under the name of the activation, its bounds still to be carried out."""
    return replace(
        value,
        name=name,
        pending=bounds.within(value.pending),
        non_negative=value.non_negative or bounds.low >= 0,
    )
