"""float32 and float64 arithmetic. Without .ftz subnormals are kept; .rn, to nearest even, is the default."""

from types import SimpleNamespace as Form

import numpy as np

from simulators.ptx.forms import computes
from simulators.ptx.rounding import DIRECTIONS, flush, fma64, odd, saturate, to_float32, two_product, two_sum

SECTION = "Floating Point Instructions"


def _operands(form: Form, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(flush(v) for v in values) if form.ftz else values


def _finished(form: Form, value: np.ndarray) -> np.ndarray:
    if form.ftz:
        value = flush(value)
    return saturate(value) if form.sat else value


def _sum(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if form.round in ("", "rn"):
        return a + b
    exact = odd(*two_sum(a.astype(np.float64), b.astype(np.float64)))
    rounded = to_float32(exact, form.round)
    # An exact zero of two unlike signs is -0 only when rounding down.
    cancelled = (exact == 0) & (np.signbit(a) != np.signbit(b))
    return np.where(cancelled, np.float32(-0.0 if form.round == "rm" else 0.0), rounded)


@computes(
    "add.<round?>.<ftz?>.<sat?>.<type>", f"{SECTION}: add",
    round=DIRECTIONS, ftz="ftz", sat="sat", type="f32",
)  # fmt: skip
def add(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a + b."""
    return _finished(form, _sum(form, *_operands(form, a, b)))


@computes(
    "sub.<round?>.<ftz?>.<sat?>.<type>", f"{SECTION}: sub",
    round=DIRECTIONS, ftz="ftz", sat="sat", type="f32",
)  # fmt: skip
def sub(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a - b."""
    a, b = _operands(form, a, b)
    return _finished(form, _sum(form, a, -b))


@computes(
    "mul.<round?>.<ftz?>.<sat?>.<type>", f"{SECTION}: mul",
    round=DIRECTIONS, ftz="ftz", sat="sat", type="f32",
)  # fmt: skip
def mul(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a * b."""
    a, b = _operands(form, a, b)
    if form.round in ("", "rn"):
        return _finished(form, a * b)
    # The product of two float32 is exact in float64.
    return _finished(form, to_float32(a.astype(np.float64) * b.astype(np.float64), form.round))


@computes(
    "fma.<round>.<ftz?>.<sat?>.<type>", f"{SECTION}: fma",
    round=DIRECTIONS, ftz="ftz", sat="sat", type="f32",
)  # fmt: skip
def fma(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = a * b + c, rounded once."""
    a, b, c = _operands(form, a, b, c)
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    exact = odd(*two_sum(product, addend))
    rounded = to_float32(exact, form.round)
    if form.round != "rn":
        cancelled = (exact == 0) & (np.signbit(product) != np.signbit(addend))
        rounded = np.where(cancelled, np.float32(-0.0 if form.round == "rm" else 0.0), rounded)
    return _finished(form, rounded)


@computes("neg.<ftz?>.<type>", f"{SECTION}: neg", ftz="ftz", type="f32 f64")
def neg(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = -a."""
    return -flush(a) if form.ftz else -a


@computes("abs.<ftz?>.<type>", f"{SECTION}: abs", ftz="ftz", type="f32 f64")
def abs_(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = |a|."""
    return np.abs(flush(a) if form.ftz else a)


@computes("min.<ftz?>.<NaN?>.<type>", f"{SECTION}: min", ftz="ftz", NaN="NaN", type="f32 f64")
def min_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the smaller of a and b; the other where one is NaN (with .NaN: NaN), and -0 below +0."""
    a, b = _operands(form, a, b)
    smaller = np.minimum(a, b) if form.NaN else np.fmin(a, b)
    return np.where(_minus_zero_first(a, b), a, np.where(_minus_zero_first(b, a), b, smaller))


@computes("max.<ftz?>.<NaN?>.<type>", f"{SECTION}: max", ftz="ftz", NaN="NaN", type="f32 f64")
def max_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the larger of a and b; the other where one is NaN (with .NaN: NaN), and +0 above -0."""
    a, b = _operands(form, a, b)
    larger = np.maximum(a, b) if form.NaN else np.fmax(a, b)
    return np.where(_minus_zero_first(a, b), b, np.where(_minus_zero_first(b, a), a, larger))


def _minus_zero_first(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == 0) & (b == 0) & np.signbit(a) & ~np.signbit(b)


@computes("div.<round>.<ftz?>.<type>", f"{SECTION}: div", round=DIRECTIONS, ftz="ftz", type="f32")
def div(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a / b."""
    return _quotient(form, *_operands(form, a, b))


@computes("rcp.<round>.<ftz?>.<type>", f"{SECTION}: rcp", round=DIRECTIONS, ftz="ftz", type="f32")
def rcp(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = 1 / a."""
    (a,) = _operands(form, a)
    return _quotient(form, np.ones_like(a), a)


def _quotient(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if form.round == "rn":
        rounded = a / b
    else:
        wide, divisor = a.astype(np.float64), b.astype(np.float64)
        quotient = wide / divisor
        product, lost = two_product(quotient, divisor)
        # By infinity a quotient is an exact zero, and its product says nothing.
        rest = np.where(np.isinf(divisor), 0.0, (wide - product) - lost)
        rounded = to_float32(odd(quotient, rest * np.sign(divisor)), form.round)
    return flush(rounded) if form.ftz else rounded


@computes("sqrt.<round>.<ftz?>.<type>", f"{SECTION}: sqrt", round=DIRECTIONS, ftz="ftz", type="f32")
def sqrt(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = the square root of a."""
    (a,) = _operands(form, a)
    if form.round == "rn":
        return np.sqrt(a)
    wide = a.astype(np.float64)
    root = np.sqrt(wide)
    square, lost = two_product(root, root)
    return to_float32(odd(root, (wide - square) - lost), form.round)


@computes("div.rn.<type>", f"{SECTION}: div", type="f64")
def div_double(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a / b."""
    return a / b


@computes("rcp.rn.<type>", f"{SECTION}: rcp", type="f64")
def rcp_double(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = 1 / a."""
    return 1 / a


@computes("sqrt.rn.<type>", f"{SECTION}: sqrt", type="f64")
def sqrt_double(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = the square root of a."""
    return np.sqrt(a)


@computes("add.<round?>.<type>", f"{SECTION}: add", round="rn", type="f64")
def add_double(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a + b."""
    return a + b


@computes("sub.<round?>.<type>", f"{SECTION}: sub", round="rn", type="f64")
def sub_double(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a - b."""
    return a - b


@computes("mul.<round?>.<type>", f"{SECTION}: mul", round="rn", type="f64")
def mul_double(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a * b."""
    return a * b


@computes("fma.<round>.<type>", f"{SECTION}: fma", round="rn", type="f64")
def fma_double(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = a * b + c, rounded once."""
    return fma64(a, b, c)


@computes("copysign.<type>", f"{SECTION}: copysign", type="f32 f64")
def copysign(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = b with the sign of a."""
    return np.copysign(b, a)
