"""Operators that only select or move values: the same ones, on quantised data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.ir import Call

from bench.evaluate.graph import attributes_of
from bench.passes.quantization.alignment import CONCATENATION
from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value, check_sign, data_bound, limits


@translates(
    "relax.nn.max_pool2d",
    "relax.reshape",
    "relax.flatten",
    "relax.permute_dims",
    "relax.repeat",
    "relax.image.resize2d",
)
def move(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate an operator whose results are among its operands.

    That of resizing is the nearest element: no other way of it has a NumPy evaluation to calibrate with.
    """
    value = translation.data(translation.operand(call.args[0]))
    moved = Call(call.op, [value.expression, *call.args[1:]], call.attrs, call.ty_args)
    return replace(value, name=variable.name, expression=translation.emit(variable.name, moved))


@translates("relax.nn.pad")
def pad(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a padding with a constant, in units of the data: nearest, saturated."""
    value = translation.data(translation.operand(call.args[0]))
    attributes = attributes_of(call)
    real = float(attributes["pad_value"])
    check_sign(variable.name, real >= 0, value.dtype)
    steps = float(np.clip(np.rint(real / float(value.scale)), *limits(value.dtype)))
    padded = relax.op.nn.pad(value.expression, list(attributes["pad_width"]), pad_value=steps)
    return replace(
        value,
        name=variable.name,
        expression=translation.emit(variable.name, padded),
        non_negative=value.non_negative and real >= 0,
    )


@translates(CONCATENATION)
def concat(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a concatenation: of data of one type and one scale, that of the whole."""
    values = [translation.operand(field) for field in call.args[0].fields]
    non_negative = all(value.non_negative for value in values)
    dtype = translation.options.data_type(non_negative=non_negative)
    scale = translation.data_scale(variable.name, dtype)
    parts = [translation.data_of(value, dtype, scale) for value in values]
    joined = relax.op.concat([part.expression for part in parts], axis=attributes_of(call)["axis"])
    return Value(
        name=variable.name,
        expression=translation.emit(variable.name, joined),
        scale=np.asarray(scale),
        bound=data_bound(dtype),
        quantized=True,
        non_negative=non_negative,
    )
