"""Activations: bounds that a rescaling takes over where it can."""

from __future__ import annotations

from dataclasses import replace

from tvm import relax
from tvm.ir import Call

from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value


@translates("relax.nn.relu")
def relu(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a ReLU: into the rescaling that follows where that bounds its result anyway.

    A rounding keeps the order of its operands and 0, so that it does not matter which comes first.
    """
    value = replace(translation.operand(call.args[0]), name=variable.name, non_negative=True)
    if not value.quantized:
        value = replace(value, pending_relu=True)
        folds = translation.options.power_of_two or translation.options.data_dtype == "uint8"
        return value if folds else translation.settle(value)
    if value.dtype == "uint8":
        return value
    return replace(value, expression=translation.emit(variable.name, relax.op.nn.relu(value.expression)))
