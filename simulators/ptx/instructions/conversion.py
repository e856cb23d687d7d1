"""cvt: between integers, between integers and float32."""

from types import SimpleNamespace as Form

import numpy as np

from simulators.ptx.forms import computes
from simulators.ptx.types import DTYPES

SECTION = "Data Movement and Conversion Instructions: cvt"
INTEGERS = "u8 s8 u16 s16 u32 s32 u64 s64"


@computes(
    "cvt.<sat?>.<to>.<type>", SECTION, result=lambda f: f.to, sources=lambda f: (f.type,), exact=False,
    sat="sat", to=INTEGERS, type=INTEGERS,
)  # fmt: skip
def cvt_integer(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a in the other type: extended by its sign, cut, or with .sat clamped to what the type holds."""
    dtype = DTYPES[form.to]
    if not form.sat:
        return a.astype(dtype)
    return _clamp(a, dtype).astype(dtype)


def _clamp(a: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clamped to what both the source's and the destination's type hold."""
    low = max(np.iinfo(dtype).min, np.iinfo(a.dtype).min)
    high = min(np.iinfo(dtype).max, np.iinfo(a.dtype).max)
    return np.clip(a, a.dtype.type(low), a.dtype.type(high))


@computes(
    "cvt.rn.f32.<type>",
    SECTION,
    result=lambda f: "f32",
    sources=lambda f: (f.type,),
    exact=False,
    type=INTEGERS,
)
def cvt_to_float(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = the float32 nearest to a, ties to even."""
    return a.astype(np.float32)


_ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@computes(
    "cvt.<round>.<ftz?>.<sat?>.<to>.f32", SECTION,
    result=lambda f: f.to, sources=lambda f: ("f32",), exact=False,
    round="rni rzi rmi rpi", ftz="ftz", sat="sat", to=INTEGERS,
)  # fmt: skip
def cvt_from_float(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a rounded to an integer as the mode says, clamped to what the type holds; NaN gives 0."""
    limits = np.iinfo(DTYPES[form.to])
    # In float64 the rounding and the limits up to 32 bits are exact; beyond, the comparisons decide.
    rounded = _ROUND[form.round](a.astype(np.float64))
    rounded = np.where(np.isnan(rounded), 0.0, rounded)
    inside = (rounded >= float(limits.min)) & (rounded < float(limits.max) + (limits.bits <= 32))
    exact = np.where(inside, rounded, 0.0).astype(DTYPES[form.to])
    return np.where(inside, exact, np.where(rounded < 0, limits.min, limits.max).astype(DTYPES[form.to]))


@computes("cvt.<round>.f32.<type>", SECTION, round="rni rzi rmi rpi", type="f32")
def cvt_round(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a rounded to an integral float32 as the mode says."""
    return _ROUND[form.round](a)
