"""What a kernel makes of its sums before they leave it: bias, requantisation, clipping, ReLU, a residual.

An epilogue is a sequence of steps on int32 values, in the order given, and the type of the result. A
4-bit result is packed to words of eight along the channels, as the next layer reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from kernels.tensorcore.operands import BITS, PER_WORD, check_dtype, is_packed, storage_dtype, unpacked

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}

Index = Sequence[Any]


@dataclass(frozen=True)
class Bias:
    """Add one int32 value for each output channel, wrapping; operand `bias`, shaped (1, ..., 1, channels)."""


@dataclass(frozen=True)
class Relu:
    """Replace what is negative by zero."""


@dataclass(frozen=True)
class Clip:
    """Limit values to least ... greatest."""

    least: int
    greatest: int


@dataclass(frozen=True)
class Requantize:
    """saturate(round(value * multiplier * 2^(shift - 31)) + zero_point), ties rounded up ("half_up").

    The arithmetic is that of `bitexact.requantize`: the product and its rounding in 64 bits, |shift| at
    most 31. `multiplier` and `shift` are numbers, or None for int32 operands of one value for each output
    channel, `multiplier` and `shift`, shaped (1, ..., 1, channels). Saturates to the range of `to`.
    """

    multiplier: int | None = None
    shift: int | None = None
    zero_point: int = 0
    to: str = "int8"


@dataclass(frozen=True)
class Residual:
    """Add a tensor of the output's shape, operand `residual`; wraps.

    `dtype` is the type of its elements (int32, or an operand type; 4-bit ones come as words);
    `requantize` rescales it first, and then saturates to int32 ("int32" as its `to`).
    """

    dtype: str = "int32"
    requantize: Requantize | None = None


Step = Bias | Relu | Clip | Requantize | Residual


@dataclass(frozen=True)
class Epilogue:
    """Steps, in order, and the type of the result; the empty one leaves int32 sums."""

    steps: tuple[Step, ...] = ()
    out_dtype: str = "int32"

    def __post_init__(self) -> None:
        """Raise ValueError for a result type that does not exist, and for steps that cannot be."""
        if self.out_dtype != "int32":
            check_dtype(self.out_dtype)
        for step in self.steps:
            if isinstance(step, Requantize):
                _check_requantize(step)
            if isinstance(step, Residual):
                if step.dtype != "int32":
                    check_dtype(step.dtype)
                if step.requantize:
                    _check_requantize(step.requantize)
            if isinstance(step, Clip) and step.least > step.greatest:
                raise ValueError(f"{step} leaves no value")

    @property
    def is_empty(self) -> bool:
        """Whether the sums stay as they are."""
        return not self.steps and self.out_dtype == "int32"

    def placeholders(self, shape: Sequence[int]) -> list[te.Tensor]:
        """Name the operands of all steps, in order, for an output of this shape (in elements).

        A second operand of one name gets a number: bias, bias_1.
        """
        channels = (*([1] * (len(shape) - 1)), shape[-1])
        count: dict[str, int] = {}

        def operand(name: str, shape: Sequence[int], dtype: str) -> te.Tensor:
            number = count.get(name, 0)
            count[name] = number + 1
            return te.placeholder(tuple(shape), dtype, name=f"{name}_{number}" if number else name)

        def factors(step: Requantize, prefix: str = "") -> list[te.Tensor]:
            names = ("multiplier", "shift") if step.multiplier is None else ()
            return [operand(f"{prefix}{name}", channels, "int32") for name in names]

        operands: list[te.Tensor] = []
        for step in self.steps:
            match step:
                case Bias():
                    operands.append(operand("bias", channels, "int32"))
                case Requantize():
                    operands += factors(step)
                case Residual():
                    packed = is_packed(step.dtype)
                    stored = (*shape[:-1], shape[-1] // PER_WORD) if packed else shape
                    dtype = step.dtype if step.dtype == "int32" else storage_dtype(step.dtype)
                    operands.append(operand("residual", stored, dtype))
                    if step.requantize:
                        operands += factors(step.requantize, "residual_")
        return operands

    def applied(self, value: tirx.PrimExpr, index: Index, operands: Sequence[te.Tensor]) -> tirx.PrimExpr:
        """Apply all steps to the int32 sum at one place of the output; `operands` are its `placeholders`."""
        waiting = list(operands)
        channel = (*([0] * (len(index) - 1)), index[-1])
        for step in self.steps:
            match step:
                case Bias():
                    value = _sum(value, waiting.pop(0)[channel])
                case Relu():
                    value = tirx.max(value, tirx.const(0, "int32"))
                case Clip(least, greatest):
                    value = tirx.min(
                        tirx.max(value, tirx.const(least, "int32")), tirx.const(greatest, "int32")
                    )
                case Requantize():
                    value = _requantized(value, step, channel, waiting)
                case Residual():
                    other = _residual(waiting.pop(0), index, step.dtype)
                    if step.requantize:
                        other = _requantized(other, step.requantize, channel, waiting)
                    value = _sum(value, other)
        return value


NO_EPILOGUE = Epilogue()


def _check_requantize(step: Requantize) -> None:
    if step.to not in (*BITS, "int32"):
        raise ValueError(f"{step} saturates to none of int32, {', '.join(BITS)}")
    if (step.multiplier is None) != (step.shift is None):
        raise ValueError(f"{step}: multiplier and shift are both numbers or both operands")
    if step.shift is not None and not -31 <= step.shift <= 31:
        raise ValueError(f"{step}: shift is outside -31..31")


def _sum(a: tirx.PrimExpr, b: tirx.PrimExpr) -> tirx.PrimExpr:
    # As unsigned numbers, which wrap: compilers take it that a signed sum does not overflow, and then
    # widen its terms to 64 bits where the sum is to be multiplied. Reinterpreted and not cast: TVM 0.27
    # bounds a cast of an unsigned number as if it were never negative, and drops a later lower limit.
    return tirx.reinterpret("int32", a.astype("uint32") + b.astype("uint32"))


def _residual(operand: te.Tensor, index: Index, dtype: str) -> tirx.PrimExpr:
    if is_packed(dtype):
        word = operand[(*index[:-1], index[-1] // PER_WORD)]
        return unpacked(word, index[-1], dtype).astype("int32")
    return operand[tuple(index)].astype("int32")


def _requantized(
    value: tirx.PrimExpr, step: Requantize, channel: Index, waiting: list[te.Tensor]
) -> tirx.PrimExpr:
    if step.multiplier is None:
        multiplier, shift = waiting.pop(0)[channel], waiting.pop(0)[channel]
        # TVM 0.27 takes a shift without a range for any, and then loses the lower end of the saturation.
        shift = tirx.min(tirx.max(shift, tirx.const(-31, "int32")), tirx.const(31, "int32"))
    else:
        multiplier, shift = tirx.const(step.multiplier, "int32"), tirx.const(step.shift, "int32")
    right = _int64(31) - shift.astype("int64")
    # Half of the divisor, and zero where nothing is shifted out.
    half = (_int64(1) << right) >> _int64(1)
    rounded = (value.astype("int64") * multiplier.astype("int64") + half) >> right
    least, greatest = RANGES.get(step.to, (-(2**31), 2**31 - 1))
    shifted = rounded + _int64(step.zero_point)
    return tirx.max(tirx.min(shifted, _int64(greatest)), _int64(least)).astype("int32")


def _int64(value: int) -> tirx.IntImm:
    return tirx.const(value, "int64")
