"""`bitexact.requantize`: int32 to a quantised tensor by a fixed-point multiplication.

    out = saturate(round(x · multiplier · 2^-31 · 2^shift) + zero_point)

The convention of `multiplier` (31 fractional bits, normally in [2^30, 2^31)) and `shift` (to the left
where positive) is that of TVM's `q_multiply_shift`. The product is exact, in 64 bits, for every int32
operand and every shift in -31..31; TVM's builtin instead wraps its result to int32, and shifts by -1 for a
multiplier of 2^30 with shift 1. Where TVM's result fits int32, "half_up" equals it.

Roundings:

* `half_up`: to the nearest, ties towards +∞; one rounding of the exact product (TVM's reference).
* `half_even`: to the nearest, ties to the even neighbour.
* `double`: rounded half up twice where shift < 0: the product at 2^-31, then the right shift. This is what
  Hexagon's `vmpyowh:rnd:sat` followed by a rounding shift computes; that the first step saturates (only
  -2^31 times -2^31 can) is not seen after the second.
* `floor`: towards -∞.
"""

from __future__ import annotations

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Call, Expr, GenericConst

from bench.operators.registration import call, dtype_of, register, static_shape

ROUNDINGS = ("half_up", "half_even", "double", "floor")
OUT_DTYPES = ("int8", "uint8", "int4", "uint4", "int32")
SHIFTS = range(-31, 32)
_FRACTION_BITS = 31


def requantize(
    data: Expr,
    multiplier: Expr,
    shift: Expr,
    *,
    axis: int = 1,
    zero_point: int = 0,
    rounding: str = "half_up",
    out_dtype: str = "int8",
) -> Call:
    """Build `saturate(round(data · multiplier · 2^(shift - 31)) + zero_point)`.

    `data` is int32 of any shape. `multiplier` and `shift` are int32, both scalars (shape ()), both of shape
    (C,), one for each position of `axis` of the data, or both of the data's rank with each extent that of the
    data or 1, which broadcasts (per channel in a packed layout). The result has the shape of the data and
    `out_dtype` (int8, uint8, int4, uint4 or int32), at whose ends it saturates; a result of 4 bits can be
    evaluated, but TVM's runtime does not hold it. ValueError for anything else, and for a
    constant shift outside -31..31; such a shift that is no constant acts as the nearest end of that range.
    """
    return call(
        _OPERATOR,
        [data, multiplier, shift],
        axis=axis,
        zero_point=zero_point,
        rounding=rounding,
        out_dtype=out_dtype,
    )


def _infer(expression: Call) -> relax.TensorType:
    data, multiplier, shift = expression.args
    attributes = expression.attrs
    rounding, out_dtype = str(attributes["rounding"]), str(attributes["out_dtype"])
    if rounding not in ROUNDINGS:
        raise ValueError(f"bitexact.requantize: rounding {rounding!r} is none of {', '.join(ROUNDINGS)}")
    if out_dtype not in OUT_DTYPES:
        raise ValueError(f"bitexact.requantize: out_dtype {out_dtype!r} is none of {', '.join(OUT_DTYPES)}")
    for name, argument in (("data", data), ("multiplier", multiplier), ("shift", shift)):
        static_shape(argument, f"bitexact.requantize: {name}")
        if dtype_of(argument) != "int32":
            raise ValueError(f"bitexact.requantize: {name} must be int32, not {dtype_of(argument)}")
    shape = static_shape(data, "data")
    axis = int(attributes["axis"])
    factors = static_shape(multiplier, "multiplier"), static_shape(shift, "shift")
    if factors[0] != factors[1] or not _fits(factors[0], shape, axis):
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"bitexact.requantize: axis {axis} is outside data of shape {shape}")
        raise ValueError(
            f"bitexact.requantize: multiplier and shift of shapes {factors[0]} and {factors[1]} must both be "
            f"(), or ({shape[axis]},) for axis {axis} of data of shape {shape}, or broadcast in full rank"
        )
    if isinstance(shift, GenericConst):
        values = shift.value.numpy()
        if values.size and (values.min() < SHIFTS[0] or values.max() > SHIFTS[-1]):
            raise ValueError(
                f"bitexact.requantize: shift {values.min()}..{values.max()} "
                f"is outside {SHIFTS[0]}..{SHIFTS[-1]}"
            )
    return relax.TensorType(data.ty.shape, out_dtype)


def _fits(factor: tuple[int, ...], shape: tuple[int, ...], axis: int) -> bool:
    """Whether a multiplier's shape is one of the three forms that the operator takes."""
    if factor == ():
        return True
    if len(factor) == len(shape) and all(a in (1, b) for a, b in zip(factor, shape, strict=True)):
        return True
    return -len(shape) <= axis < len(shape) and factor == (shape[axis],)


def _legalize(builder: relax.BlockBuilder, expression: Call) -> Expr:
    attributes = expression.attrs
    axis, zero_point = int(attributes["axis"]), int(attributes["zero_point"])
    rounding, out_dtype = str(attributes["rounding"]), str(attributes["out_dtype"])

    def compute(data: te.Tensor, multiplier: te.Tensor, shift: te.Tensor) -> te.Tensor:
        factor = [int(extent) for extent in multiplier.shape]

        def element(*indices: tirx.Var) -> tirx.Expr:
            if len(factor) == 1:
                channel = [indices[axis]]
            else:
                channel = [
                    0 if extent == 1 else index for index, extent in zip(indices, factor, strict=False)
                ]
            product = data(*indices).astype("int64") * multiplier(*channel).astype("int64")
            # TVM 0.27 bounds `x >> n` by its corners, and takes a negative n modulo 64: without a range for
            # the shift its simplifier removes the lower end of the saturation.
            bits = tirx.min(tirx.max(shift(*channel), SHIFTS[0]), SHIFTS[-1]).astype("int64")
            value = round_shift(product, bits, rounding)
            return _saturate(value + _int64(zero_point), out_dtype)

        return te.compute(data.shape, element, name="requantize")

    return builder.call_te(compute, *expression.args, primfunc_name_hint="requantize")


def round_shift(product: tirx.Expr, shift: tirx.Expr, rounding: str) -> tirx.Expr:
    """TensorIR of `round(product · 2^(shift - 31))`, int64, for |product| ≤ 2^62 and shift in -31..31.

    The right shift is then 0..62 bits, and product plus half of its divisor stays within 2^62 + 2^61.
    """
    if rounding == "double":
        # A shift to the left comes before the multiplication and is exact: then there is one rounding.
        first = _half_up(product, _int64(_FRACTION_BITS) - tirx.max(shift, _int64(0)))
        return _half_up(first, tirx.max(-shift, _int64(0)))
    right = _int64(_FRACTION_BITS) - shift
    if rounding == "floor":
        return product >> right
    if rounding == "half_even":
        # Half minus one rounds ties down; adding the lowest kept bit turns the odd ones up.
        one = _int64(1)
        bias = ((one << right) >> one) - one + ((product >> right) & one)
        return tirx.Select(right > _int64(0), (product + bias) >> right, product)
    return _half_up(product, right)


def _half_up(value: tirx.Expr, right: tirx.Expr) -> tirx.Expr:
    # (1 << right) >> 1 is half of the divisor, and 0 where nothing is shifted out.
    return (value + ((_int64(1) << right) >> _int64(1))) >> right


def _saturate(value: tirx.Expr, dtype: str) -> tirx.Expr:
    limits = np.iinfo(dtype)
    return tirx.max(tirx.min(value, _int64(int(limits.max))), _int64(int(limits.min))).astype(dtype)


def _int64(value: int) -> tirx.IntImm:
    return tirx.const(value, "int64")


_OPERATOR = register(
    "bitexact.requantize",
    "Fixed-point rescaling of an int32 tensor with a named rounding, saturated to the result's type.",
    arguments=("data", "multiplier", "shift"),
    infer=_infer,
    legalize=_legalize,
)
