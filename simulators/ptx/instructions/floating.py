"""float32 arithmetic, rounded to nearest even; subnormals are kept (no .ftz)."""

from types import SimpleNamespace as Form

import numpy as np

from simulators.ptx.forms import computes

SECTION = "Floating Point Instructions"


@computes("add.<rn?>.<type>", f"{SECTION}: add", rn="rn", type="f32")
def add(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a + b."""
    return a + b


@computes("sub.<rn?>.<type>", f"{SECTION}: sub", rn="rn", type="f32")
def sub(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a - b."""
    return a - b


@computes("mul.<rn?>.<type>", f"{SECTION}: mul", rn="rn", type="f32")
def mul(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a * b."""
    return a * b


@computes("fma.rn.<type>", f"{SECTION}: fma", type="f32")
def fma(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = a * b + c, rounded once."""
    # The product of two float32 is exact in float64. Their sum with c is rounded to odd there, which leaves
    # the second rounding, to float32, as if it were the only one (float64 has more than twice its bits plus
    # two).
    product = a.astype(np.float64) * b.astype(np.float64)
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    bits = total.view(np.int64)
    inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    # Step to the odd neighbour on the error's side: away from zero where error and total have one sign.
    away = (error > 0) == (total > 0)
    return np.where(inexact, bits + np.where(away, 1, -1), bits).view(np.float64).astype(np.float32)


@computes("neg.<type>", f"{SECTION}: neg", type="f32")
def neg(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = -a."""
    return -a


@computes("abs.<type>", f"{SECTION}: abs", type="f32")
def abs_(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = |a|."""
    return np.abs(a)


@computes("min.<type>", f"{SECTION}: min", type="f32")
def min_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the smaller of a and b; the other where one is NaN, and -0 below +0."""
    return np.where(_minus_zero_first(a, b), a, np.where(_minus_zero_first(b, a), b, np.fmin(a, b)))


@computes("max.<type>", f"{SECTION}: max", type="f32")
def max_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the larger of a and b; the other where one is NaN, and +0 above -0."""
    return np.where(_minus_zero_first(a, b), b, np.where(_minus_zero_first(b, a), a, np.fmax(a, b)))


def _minus_zero_first(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == 0) & (b == 0) & np.signbit(a) & ~np.signbit(b)


@computes("div.rn.<type>", f"{SECTION}: div", type="f32")
def div(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a / b."""
    return a / b
