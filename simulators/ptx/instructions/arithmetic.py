"""Integer arithmetic. Everything wraps at the width of its type, as NumPy's fixed-width integers do."""

from collections.abc import Callable
from types import SimpleNamespace as Form
from typing import Any

import numpy as np

from simulators.ptx.forms import computes
from simulators.ptx.types import DTYPES

SECTION = "Integer Arithmetic Instructions"
ALL = "u16 s16 u32 s32 u64 s64"
NARROW = "u16 s16 u32 s32"
_DOUBLE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}


def _double(form: Form) -> str:
    return _DOUBLE[form.type]


def _wide(a: np.ndarray, b: np.ndarray, type_: str) -> np.ndarray:
    dtype = DTYPES[_DOUBLE[type_]]
    return a.astype(dtype) * b.astype(dtype)


def _high_64(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Give the upper 64 of the 128 bits of a product, from the four products of halves."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    other = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> half) + (other >> half)
    if a.dtype.kind == "u":
        return high
    # A negative factor counts as 2^64 too much of the other one.
    high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(np.int64)


def _high(a: np.ndarray, b: np.ndarray, type_: str) -> np.ndarray:
    if type_ in ("u64", "s64"):
        return _high_64(a, b)
    bits = 8 * DTYPES[type_].itemsize
    wide = _wide(a, b, type_)
    return (wide >> wide.dtype.type(bits)).astype(DTYPES[type_])


@computes("add.<type>", f"{SECTION}: add", type=ALL)
def add(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a + b."""
    return a + b


@computes("sub.<type>", f"{SECTION}: sub", type=ALL)
def sub(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a - b."""
    return a - b


def _clamped(wide: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int32)
    return np.clip(wide, limits.min, limits.max).astype(np.int32)


@computes("add.sat.<type>", f"{SECTION}: add", type="s32")
def add_sat(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a + b, clamped to int32."""
    return _clamped(a.astype(np.int64) + b)


@computes("sub.sat.<type>", f"{SECTION}: sub", type="s32")
def sub_sat(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a - b, clamped to int32."""
    return _clamped(a.astype(np.int64) - b)


@computes("sad.<type>", f"{SECTION}: sad", type=ALL)
def sad(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = c + |a - b|."""
    return c + np.where(a < b, b - a, a - b)


def _low_24(a: np.ndarray) -> np.ndarray:
    """Take the low 24 bits as an integer, signed as its type is."""
    if a.dtype.kind == "i":
        return a << np.int32(8) >> np.int32(8)
    return a & np.uint32(0xFFFFFF)


@computes("mul24.lo.<type>", f"{SECTION}: mul24", type="u32 s32")
def mul24(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the low half of the product of the low 24 bits of a and b."""
    return _low_24(a) * _low_24(b)


@computes("mul.lo.<type>", f"{SECTION}: mul", type=ALL)
def mul_lo(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = lower half of a * b."""
    return a * b


@computes("mul.hi.<type>", f"{SECTION}: mul", type=ALL)
def mul_hi(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = upper half of a * b."""
    return _high(a, b, form.type)


@computes("mul.wide.<type>", f"{SECTION}: mul", result=_double, type=NARROW)
def mul_wide(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a * b, of twice the width."""
    return _wide(a, b, form.type)


@computes("mad.lo.<type>", f"{SECTION}: mad", type=ALL)
def mad_lo(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = lower half of a * b, plus c."""
    return a * b + c


@computes("mad.hi.<type>", f"{SECTION}: mad", type=ALL)
def mad_hi(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = upper half of a * b, plus c."""
    return _high(a, b, form.type) + c


def _two_narrow_one_wide(form: Form) -> tuple[str, str, str]:
    return form.type, form.type, _double(form)


@computes("mad.wide.<type>", f"{SECTION}: mad", sources=_two_narrow_one_wide, result=_double, type=NARROW)
def mad_wide(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = a * b + c, of twice the width."""
    return _wide(a, b, form.type) + c


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Towards zero. By zero, all bits set: what devices give for a result the manual leaves open."""
    if a.dtype.kind == "u":
        quotient = a // b
    else:
        # NumPy rounds down: one too low where the signs differ and something remains.
        quotient = a // b
        quotient = quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)
    return np.where(b == 0, np.array(-1).astype(a.dtype), quotient)


@computes("div.<type>", f"{SECTION}: div", type=ALL)
def div(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a / b, towards zero; all ones where b is 0 (the manual leaves it open)."""
    return _quotient(a, b)


@computes("rem.<type>", f"{SECTION}: rem", type=ALL)
def rem(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a - b * (a / b); a where b is 0 (the manual leaves it open)."""
    return np.where(b == 0, a, a - b * _quotient(a, b))


@computes("abs.<type>", f"{SECTION}: abs", type="s16 s32 s64")
def abs_(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = |a|; the lowest value stays."""
    return np.abs(a)


@computes("neg.<type>", f"{SECTION}: neg", type="s16 s32 s64")
def neg(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = -a."""
    return -a


@computes("min.<type>", f"{SECTION}: min", type=ALL)
def min_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the smaller of a and b."""
    return np.minimum(a, b)


@computes("max.<type>", f"{SECTION}: max", type=ALL)
def max_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the larger of a and b."""
    return np.maximum(a, b)


_HALVES = "u16x2 s16x2"


def _by_halves(form: Form, function: Callable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    dtype = np.uint16 if form.type == "u16x2" else np.int16
    x, y = (np.ascontiguousarray(v).view(dtype).reshape(*v.shape, 2) for v in (a, b))
    return np.ascontiguousarray(function(x, y)).view(np.uint32)[..., 0]


def _two_words(form: Form) -> tuple[str, str]:
    return "b32", "b32"


def _to_b32(form: Form) -> str:
    return "b32"


@computes("add.<type>", f"{SECTION}: add", sources=_two_words, result=_to_b32, type=_HALVES)
def add_halves(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the sums of the two halves of a and b."""
    return _by_halves(form, np.add, a, b)


@computes("min.<type>", f"{SECTION}: min", sources=_two_words, result=_to_b32, type=_HALVES)
def min_halves(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the smaller of each of the two halves of a and b."""
    return _by_halves(form, np.minimum, a, b)


@computes("max.<type>", f"{SECTION}: max", sources=_two_words, result=_to_b32, type=_HALVES)
def max_halves(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the larger of each of the two halves of a and b."""
    return _by_halves(form, np.maximum, a, b)


_CLAMPING = "s32 s16x2"


def _words(form: Form) -> tuple[str, str]:
    return (form.type, form.type) if form.type == "s32" else ("b32", "b32")


def _word(form: Form) -> str:
    return form.type if form.type == "s32" else "b32"


# The manual has .relu in front of the type, NVRTC writes it behind.
@computes("min.relu.<type>", f"{SECTION}: min", sources=_words, result=_word, type=_CLAMPING)
@computes("min.<type>.relu", f"{SECTION}: min", sources=_words, result=_word, type=_CLAMPING)
def min_relu(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the smaller of a and b, or of each of their halves, and 0 where that is negative."""
    if form.type == "s32":
        return np.maximum(np.minimum(a, b), np.int32(0))
    return _by_halves(form, lambda x, y: np.maximum(np.minimum(x, y), np.int16(0)), a, b)


@computes("max.relu.<type>", f"{SECTION}: max", sources=_words, result=_word, type=_CLAMPING)
@computes("max.<type>.relu", f"{SECTION}: max", sources=_words, result=_word, type=_CLAMPING)
def max_relu(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = the larger of a and b, or of each of their halves, and 0 where that is negative."""
    if form.type == "s32":
        return np.maximum(np.maximum(a, b), np.int32(0))
    return _by_halves(form, lambda x, y: np.maximum(np.maximum(x, y), np.int16(0)), a, b)


def _three_words(form: Form) -> tuple[str, str, str]:
    return "u32", "u32", "u32"


def _differences(lane: Any, form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    x, y = (np.ascontiguousarray(v).view(lane).reshape(*v.shape, -1) for v in (a, b))
    apart = np.where(x < y, y - x, x - y)
    if form.add:
        return c + apart.sum(axis=-1, dtype=np.uint32)
    return np.ascontiguousarray(apart).view(np.uint32)[..., 0]


_VIDEO = "SIMD Video Instructions"


@computes(
    "vabsdiff4.u32.u32.u32.<add?>", f"{_VIDEO}: vabsdiff4", sources=_three_words, result=_to_b32, add="add"
)
def vabsdiff4(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = |a - b| of each byte; with .add: c + their sum."""
    return _differences(np.uint8, form, a, b, c)


@computes(
    "vabsdiff2.u32.u32.u32.<add?>", f"{_VIDEO}: vabsdiff2", sources=_three_words, result=_to_b32, add="add"
)
def vabsdiff2(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = |a - b| of each half; with .add: c + their sum."""
    return _differences(np.uint16, form, a, b, c)


def _to_u32(form: Form) -> str:
    return "u32"


@computes("popc.<type>", f"{SECTION}: popc", result=_to_u32, type="b32 b64")
def popc(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = number of one bits in a."""
    return np.bitwise_count(a).astype(np.uint32)


def _bit_length(a: np.ndarray) -> np.ndarray:
    """Position of the highest one bit plus one, 0 where there is none."""
    length = np.zeros(a.shape, np.uint32)
    rest = a
    for step in (32, 16, 8, 4, 2, 1):
        if step >= 8 * a.dtype.itemsize:
            continue
        high = rest >> a.dtype.type(step)
        length += np.where(high != 0, np.uint32(step), np.uint32(0))
        rest = np.where(high != 0, high, rest)
    return length + (rest != 0)


@computes("clz.<type>", f"{SECTION}: clz", result=_to_u32, type="b32 b64")
def clz(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = number of zero bits above the highest one bit."""
    return np.uint32(8 * a.dtype.itemsize) - _bit_length(a)


@computes(
    "bfind.<shiftamt?>.<type>",
    f"{SECTION}: bfind",
    result=_to_u32,
    shiftamt="shiftamt",
    type="u32 s32 u64 s64",
)
def bfind(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = position of the highest bit that is no sign, or how far below the top it is; all ones if none."""
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    length = _bit_length(np.where(a < 0, ~a, a).view(unsigned))
    position = np.uint32(8 * a.dtype.itemsize) - length if form.shiftamt else length - np.uint32(1)
    return np.where(length == 0, np.uint32(0xFFFFFFFF), position)


@computes("brev.<type>", f"{SECTION}: brev", type="b32 b64")
def brev(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = a with its bits in reverse order."""
    reversed_bits = np.zeros_like(a)
    one = a.dtype.type(1)
    for bit in range(width := 8 * a.dtype.itemsize):
        reversed_bits |= (a >> a.dtype.type(bit) & one) << a.dtype.type(width - 1 - bit)
    return reversed_bits


def _field(form: Form) -> tuple[str, str, str]:
    return form.type, "u32", "u32"


@computes("bfe.<type>", f"{SECTION}: bfe", sources=_field, type="u32 s32 u64 s64")
def bfe(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = the c bits of a from bit b on, extended by the highest of them (.s) or by zeros (.u)."""
    top = 8 * a.dtype.itemsize - 1
    unsigned = np.dtype(f"u{a.dtype.itemsize}").type
    position, length = b & 0xFF, c & 0xFF
    bits = _shift_right(a.view(unsigned), position) & _ones(length, unsigned)
    if a.dtype.kind == "u":
        return bits
    # The sign is the field's highest bit, and a's own where the field reaches beyond it.
    sign_at = np.minimum(position + length - 1, top).astype(unsigned)
    sign = (a.view(unsigned) >> sign_at & unsigned(1)).astype(np.bool_) & (length != 0)
    return np.where(
        sign,
        bits | ~_ones(np.minimum(length, np.maximum(top + 1 - position.astype(np.int64), 0)), unsigned),
        bits,
    ).view(a.dtype)


@computes("bfi.<type>", f"{SECTION}: bfi", sources=lambda f: (f.type, f.type, "u32", "u32"), type="b32 b64")
def bfi(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """`f` = b with its d bits from bit c on replaced by the lowest bits of a."""
    dtype = a.dtype.type
    position, length = c & 0xFF, d & 0xFF
    field = _shift_left(_ones(length, dtype), position)
    return (_shift_left(a, position) & field) | (b & ~field)


def _ones(count: np.ndarray, dtype: type) -> np.ndarray:
    """Give that many one bits, lowest first, all of them where count is the width or more."""
    width = 8 * np.dtype(dtype).itemsize
    below = dtype(1) << np.minimum(count, width - 1).astype(dtype)
    return np.where(count >= width, ~dtype(0), below - dtype(1))


def _shift_right(a: np.ndarray, count: np.ndarray) -> np.ndarray:
    width = 8 * a.dtype.itemsize
    return np.where(count >= width, a.dtype.type(0), a >> np.minimum(count, width - 1).astype(a.dtype))


def _shift_left(a: np.ndarray, count: np.ndarray) -> np.ndarray:
    width = 8 * a.dtype.itemsize
    return np.where(count >= width, a.dtype.type(0), a << np.minimum(count, width - 1).astype(a.dtype))


def _accumulator(form: Form) -> str:
    return "u32" if form.atype == form.btype == "u32" else "s32"


@computes(
    "dp4a.<atype>.<btype>",
    f"{SECTION}: dp4a",
    sources=lambda f: ("b32", "b32", _accumulator(f)),
    result=_accumulator,
    atype="u32 s32",
    btype="u32 s32",
)
def dp4a(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = c + sum of the products of the four bytes of a and of b, signed or unsigned as the types say."""
    return (c.astype(np.int64) + (_bytes(a, form.atype) * _bytes(b, form.btype)).sum(axis=-1)).astype(c.dtype)


@computes(
    "dp2a.<half>.<atype>.<btype>",
    f"{SECTION}: dp2a",
    sources=lambda f: ("b32", "b32", _accumulator(f)),
    result=_accumulator,
    half="lo hi",
    atype="u32 s32",
    btype="u32 s32",
)
def dp2a(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = c + sum of the products of the two halves of a and the two lower (.lo) or upper bytes of b."""
    chosen = _bytes(b, form.btype)[..., 0:2] if form.half == "lo" else _bytes(b, form.btype)[..., 2:4]
    return (c.astype(np.int64) + (_halves(a, form.atype) * chosen).sum(axis=-1)).astype(c.dtype)


def _halves(a: np.ndarray, type_: str) -> np.ndarray:
    dtype = np.int16 if type_ == "s32" else np.uint16
    return np.ascontiguousarray(a).view(dtype).reshape(*a.shape, 2).astype(np.int64)


def _bytes(a: np.ndarray, type_: str) -> np.ndarray:
    dtype = np.int8 if type_ == "s32" else np.uint8
    return np.ascontiguousarray(a).view(dtype).reshape(*a.shape, 4).astype(np.int64)
