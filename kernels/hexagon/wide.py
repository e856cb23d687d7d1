"""64-bit integers in pairs of vector registers: exact products, additions, shifts, rounding, saturation.

HVX multiplies words by halfwords. `vmpye` with the low, unsigned halfword and then `vmpyo` with the high one,
both in the forms with a 64-bit result, leave the exact product of two int32 in a pair of registers (Hexagon
HVX Programmer's Reference Manual, 80-N2040). What follows is made of 32-bit operations.

Words are uint32x32 throughout, so that comparisons and right shifts are unsigned unless it is said.
"""

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script import builder as T  # noqa: N812

from kernels.hexagon.loop_nest import WORDS, Register, intrinsic

SIGNED, UNSIGNED = "int32x32", "uint32x32"


def words(value: int) -> Expr:
    """Give a vector of 32 equal words, of any integer taken modulo 2^32."""
    return T.broadcast(tirx.const(value % 2**32, "uint32"), WORDS)


def signed(value: Expr) -> Expr:
    """See words as int32."""
    return T.reinterpret(SIGNED, value)


def unsigned(value: Expr) -> Expr:
    """See words as uint32."""
    return T.reinterpret(UNSIGNED, value)


def keep(value: Expr) -> Expr:
    """Compute words once, here: in a register, as nested bindings take TVM's simplifier exponential time."""
    return unsigned(Register(signed(value)).value)


def add(left: Expr, right: Expr) -> Expr:
    """Add words modulo 2^32: TVM lets LLVM assume that its own additions, unsigned too, do not overflow."""
    return unsigned(intrinsic(SIGNED, "vaddw", signed(left), signed(right)))


def choose(condition: Expr, one: Expr, other: Expr) -> Expr:
    """Choose lane by lane."""
    return tirx.Select(condition, one, other)


def arithmetic_shift(value: Expr, amount: Expr) -> Expr:
    """Shift words right, 0 to 31 places, as signed ones."""
    return unsigned(signed(value) >> signed(amount))


@dataclass(frozen=True)
class Wide:
    """32 integers of 64 bits, as their high and low words."""

    high: Expr
    low: Expr

    @classmethod
    def product(cls, left: Expr, right: Expr) -> "Wide":
        """Multiply int32x32 by int32x32, exactly."""
        low_part = intrinsic("int32x64", "vmpyewuh.64", left, right)
        pair = T.Bind(intrinsic("int32x64", "vmpyowh.64.acc", low_part, left, right))
        return cls(
            keep(unsigned(intrinsic(SIGNED, "hi", pair))), keep(unsigned(intrinsic(SIGNED, "lo", pair)))
        )

    @classmethod
    def extend(cls, word: Expr) -> "Wide":
        """Take words as signed ones."""
        return cls(arithmetic_shift(word, words(31)), word)

    def __add__(self, other: "Wide") -> "Wide":
        low = keep(add(self.low, other.low))
        carry = choose(low < other.low, words(1), words(0))
        return Wide(keep(add(add(self.high, other.high), carry)), low)

    def shift_right(self, amount: Expr) -> "Wide":
        """Shift right by 0 to 63 places, towards minus infinity."""
        within = keep(amount & words(31))
        whole = amount >= words(32)  # TVM 0.27 cannot bind vectors of booleans
        high = keep(arithmetic_shift(self.high, within))
        crossing = (self.high << words(1)) << (words(31) - within)
        low = (self.low >> within) | crossing
        sign = arithmetic_shift(self.high, words(31))
        return Wide(keep(choose(whole, sign, high)), keep(choose(whole, high, low)))

    def saturate(self) -> Expr:
        """Give the nearest int32, as words."""
        fits = self.high == arithmetic_shift(self.low, words(31))
        end = choose(signed(self.high) < signed(words(0)), words(2**31), words(2**31 - 1))
        return choose(fits, self.low, end)


def half(amount: Expr) -> Wide:
    """Give half of 2^amount for amounts of 0 to 62, and 0 for 0."""
    one = words(1)
    in_low = (amount >= one) & (amount <= words(32))
    low = choose(in_low, one << ((amount - one) & words(31)), words(0))
    high = choose(amount >= words(33), one << ((amount - words(33)) & words(31)), words(0))
    return Wide(keep(high), keep(low))


def rounded_shift(value: Wide, amount: Expr, rounding: str) -> Wide:
    """Shift right by 0 to 62 places, rounded `half_up`, `half_even` or `floor`."""
    if rounding == "floor":
        return value.shift_right(amount)
    bias = half(amount)
    if rounding == "half_up":
        return (value + bias).shift_right(amount)
    # Half minus one rounds ties down; the lowest bit that stays turns the odd ones up.
    odd = value.shift_right(amount).low & words(1)
    rounded = (value + bias + Wide.extend(keep(add(odd, words(-1))))).shift_right(amount)
    kept = amount == words(0)
    return Wide(keep(choose(kept, value.high, rounded.high)), keep(choose(kept, value.low, rounded.low)))
