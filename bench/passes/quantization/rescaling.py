"""Integers of one scale to integers of another: by a multiplication ("fixed") or a shift ("pow2")."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from tvm import relax

from bench.operators import requantize
from bench.passes.quantization.value import RELU, Value, limits, within_int32
from bench.passes.scales import fixed_point

if TYPE_CHECKING:
    from bench.passes.quantization.translation import Translation


def multiply(translation: Translation, value: Value, name: str, scale: float, dtype: str) -> relax.Var:
    """Emit the rescaling of "fixed"."""
    multiplier, shift = fixed_point(value.scale / scale)
    call = requantize(
        value.expression,
        relax.const(multiplier),
        relax.const(shift),
        axis=value.axis,
        rounding=translation.options.rounding,
        out_dtype=dtype,
    )
    return translation.emit(name, call)


def multiply_and_clip(
    translation: Translation, value: Value, name: str, scale: float, dtype: str
) -> relax.Var:
    """Emit the rescaling of "fixed" to data, which saturates; and bounds that are narrower than the type.

    A rounding keeps the order of its operands, so that bounds that are integers of the new scale may come
    after it.
    """
    if value.pending == RELU and not dtype.startswith("uint"):
        value = translation.settle(value)
    if value.pending is None or value.pending.steps(scale, dtype) == limits(dtype):
        return multiply(translation, value, name, scale, dtype)
    rescaled = multiply(translation, value, f"{value.name}_rescaled", scale, dtype)
    return translation.emit(name, relax.op.clip(rescaled, *value.pending.steps(scale, dtype)))


def rescale(translation: Translation, value: Value, scale: float) -> Value:
    """Rescale an int32 tensor to another scale, in int32."""
    expression = multiply(translation, value, f"{value.name}_aligned", scale, "int32")
    bound = int(np.ceil(value.bound * np.max(value.scale / scale))) + 1
    return replace(value, expression=expression, scale=np.asarray(scale), bound=bound)


def shift_and_clip(translation: Translation, value: Value, name: str, scale: float, dtype: str) -> relax.Var:
    """Emit the rescaling of "pow2": add half, shift, clip (a ReLU is its lower bound), convert."""
    expression, bits = value.expression, _bits(scale, float(value.scale))
    stem = value.name
    if bits > 0:
        if translation.options.rounding == "half_up":
            within_int32(stem, value.bound + (1 << (bits - 1)))
            half = relax.const(1 << (bits - 1), "int32")
            expression = translation.emit(f"{stem}_rounded", relax.op.add(expression, half))
        expression = translation.emit(
            f"{stem}_shifted", relax.op.right_shift(expression, relax.const(bits, "int32"))
        )
    elif bits < 0:
        shifted = shift_left(translation, replace(value, expression=expression), scale)
        expression = shifted.expression
    low, high = value.pending.steps(scale, dtype) if value.pending else limits(dtype)
    expression = translation.emit(f"{stem}_clipped", relax.op.clip(expression, low, high))
    return translation.emit(name, relax.op.astype(expression, dtype))


def shift_left(translation: Translation, value: Value, scale: float) -> Value:
    """Shift an int32 tensor to a scale that is as fine or finer, a power of two away."""
    bits = _bits(float(value.scale), scale)
    if bits == 0:
        return value
    if bits > 31:
        raise ValueError(f"quantize: {value.name!r} would have to be shifted by {bits} bits")
    bound = within_int32(value.name, value.bound << bits)
    shifted = relax.op.left_shift(value.expression, relax.const(bits, "int32"))
    expression = translation.emit(f"{value.name}_aligned", shifted)
    return replace(value, expression=expression, scale=np.asarray(scale), bound=bound)


def _bits(coarse: float, fine: float) -> int:
    return round(np.log2(coarse / fine))
