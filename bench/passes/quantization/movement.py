"""Operators that only select or move values: the same ones, on quantised data."""

from __future__ import annotations

from dataclasses import replace

from tvm import relax
from tvm.ir import Call

from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value


@translates("relax.nn.max_pool2d", "relax.reshape", "relax.flatten", "relax.permute_dims")
def move(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate an operator whose results are among its operands."""
    value = translation.data(translation.operand(call.args[0]))
    moved = Call(call.op, [value.expression, *call.args[1:]], call.attrs, call.ty_args)
    return replace(value, name=variable.name, expression=translation.emit(variable.name, moved))
