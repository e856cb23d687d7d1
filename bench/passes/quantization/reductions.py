"""Means: sums in int32, whose scale takes the number of their terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.ir import Call

from bench.evaluate.graph import attributes_of
from bench.passes.quantization.registry import translates
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import Value, within_int32


@translates("relax.mean")
def mean(translation: Translation, variable: relax.Var, call: Call) -> Value:
    """Translate a mean: an int32 sum, whose scale takes the number of its terms."""
    value = translation.data(translation.operand(call.args[0]))
    attributes = attributes_of(call)
    axes = attributes["axis"] if attributes["axis"] is not None else tuple(range(len(value.shape)))
    count = int(np.prod([value.shape[axis] for axis in axes]))
    if translation.options.power_of_two and count & (count - 1):
        raise ValueError(
            f"quantize: {variable.name!r} is a mean of {count} values; "
            "scheme 'pow2' only divides by powers of two"
        )
    wide = translation.emit(f"{variable.name}_int32", relax.op.astype(value.expression, "int32"))
    total = relax.op.sum(wide, axis=list(axes), keepdims=bool(attributes["keepdims"]))
    return replace(
        value,
        name=variable.name,
        expression=translation.emit(variable.name, total),
        scale=value.scale / count,
        bound=within_int32(variable.name, value.bound * count),
        quantized=False,
    )
