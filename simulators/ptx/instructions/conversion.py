"""cvt: between integers, between integers and floats, between floats."""

from types import SimpleNamespace as Form

import numpy as np

from simulators.ptx.forms import computes
from simulators.ptx.rounding import DIRECTIONS, flush, odd_integer, saturate, to_float32
from simulators.ptx.types import DTYPES

SECTION = "Data Movement and Conversion Instructions: cvt"
INTEGERS = "u8 s8 u16 s16 u32 s32 u64 s64"
_WHOLE = "rni rzi rmi rpi"


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
    "cvt.pack.sat.<to>.<type>.b32", f"{SECTION}.pack", result=lambda f: "b32",
    sources=lambda f: (f.type, f.type, "b32"), to="u8 s8 u4 s4 u2 s2", type="s32",
)  # fmt: skip
def cvt_pack(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = c moved up, with a and b, clamped to the narrow type, in the lowest places: b lowest."""
    bits = int(form.to[1:])
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if form.to[0] == "s" else (0, (1 << bits) - 1)
    first, second = (np.clip(v, low, high).view(np.uint32) & np.uint32((1 << bits) - 1) for v in (b, a))
    return c << np.uint32(2 * bits) | second << np.uint32(bits) | first


@computes(
    "cvt.pack.sat.<to>.<type>", f"{SECTION}.pack", result=lambda f: "b32",
    sources=lambda f: (f.type, f.type), to="u16 s16", type="s32",
)  # fmt: skip
def cvt_pack_halves(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a and b, clamped to 16 bits, a in the upper half."""
    limits = np.iinfo(DTYPES[form.to])
    upper, lower = (np.clip(v, limits.min, limits.max).view(np.uint32) & np.uint32(0xFFFF) for v in (a, b))
    return upper << np.uint32(16) | lower


@computes(
    "cvt.<round>.<sat?>.f32.<type>", SECTION, result=lambda f: "f32", sources=lambda f: (f.type,),
    exact=False, round=DIRECTIONS, sat="sat", type=INTEGERS,
)  # fmt: skip
def cvt_to_float(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a as float32, rounded as the mode says."""
    value = a.astype(np.float32) if form.round == "rn" else to_float32(odd_integer(a), form.round)
    return saturate(value) if form.sat else value


@computes(
    "cvt.rn.f64.<type>", SECTION, result=lambda f: "f64", sources=lambda f: (f.type,), exact=False,
    type=INTEGERS,
)  # fmt: skip
def cvt_to_double(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a as float64, rounded to nearest even."""
    return a.astype(np.float64)


_ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@computes(
    "cvt.<round>.<ftz?>.<sat?>.<to>.<type>", SECTION,
    result=lambda f: f.to, sources=lambda f: (f.type,), exact=False,
    round=_WHOLE, ftz="ftz", sat="sat", to=INTEGERS, type="f32 f64",
)  # fmt: skip
def cvt_from_float(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a rounded to an integer as the mode says, clamped to what the type holds; NaN gives 0."""
    limits = np.iinfo(DTYPES[form.to])
    if form.ftz and form.type == "f32":
        a = flush(a)
    # In float64 the rounding and the limits up to 32 bits are exact; beyond, the comparisons decide.
    rounded = _ROUND[form.round](a.astype(np.float64))
    rounded = np.where(np.isnan(rounded), 0.0, rounded)
    inside = (rounded >= float(limits.min)) & (rounded < float(limits.max) + (limits.bits <= 32))
    exact = np.where(inside, rounded, 0.0).astype(DTYPES[form.to])
    return np.where(inside, exact, np.where(rounded < 0, limits.min, limits.max).astype(DTYPES[form.to]))


@computes("cvt.<round?>.<ftz?>.<sat?>.f32.<type>", SECTION, round=_WHOLE, ftz="ftz", sat="sat", type="f32")
def cvt_float(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a, rounded to an integral float32 where there is a mode."""
    value = flush(a) if form.ftz else a
    value = _ROUND[form.round](value) if form.round else value
    return saturate(value) if form.sat else value


@computes("cvt.<round>.<sat?>.f64.<type>", SECTION, round=_WHOLE, sat="sat", type="f64")
def cvt_double(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a rounded to an integral float64 as the mode says."""
    value = _ROUND[form.round](a)
    return saturate(value) if form.sat else value


@computes(
    "cvt.<ftz?>.f64.<type>", SECTION, result=lambda f: "f64", sources=lambda f: (f.type,), ftz="ftz",
    type="f32",
)  # fmt: skip
def cvt_widen(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a as float64."""
    return (flush(a) if form.ftz else a).astype(np.float64)


@computes(
    "cvt.<round>.<ftz?>.<sat?>.f32.<type>", SECTION, result=lambda f: "f32", sources=lambda f: (f.type,),
    round=DIRECTIONS, ftz="ftz", sat="sat", type="f64",
)  # fmt: skip
def cvt_narrow(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a as float32, rounded as the mode says."""
    value = to_float32(a, form.round)
    value = flush(value) if form.ftz else value
    return saturate(value) if form.sat else value
