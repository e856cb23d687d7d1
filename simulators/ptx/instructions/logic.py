"""Logic and shifts."""

from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.forms import Site, Step, computes, executes
from simulators.ptx.syntax import Immediate

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Logic and Shift Instructions"
BITS = "pred b16 b32 b64"


@computes("and.<type>", f"{SECTION}: and", type=BITS)
def and_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a & b."""
    return a & b


@computes("or.<type>", f"{SECTION}: or", type=BITS)
def or_(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a | b."""
    return a | b


@computes("xor.<type>", f"{SECTION}: xor", type=BITS)
def xor(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a ^ b."""
    return a ^ b


@computes("not.<type>", f"{SECTION}: not", type=BITS)
def not_(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = ~a."""
    return ~a


@executes("lop3.b32", f"{SECTION}: lop3")
def lop3(form: Form, site: Site) -> Step:
    """`d` = the bitwise function of a, b, c whose truth table is the immediate: bit 4a + 2b + c of it."""
    site.expect(5)
    table = site.operands[4]
    if not isinstance(table, Immediate) or not 0 <= table.value <= 255:
        raise site.fail("the truth table must be an immediate of 0 to 255")
    a, b, c = (site.read(o, "b32") for o in site.operands[1:4])
    write = site.write(site.operands[0], "b32")
    rows = [row for row in range(8) if table.value >> row & 1]

    def step(group: "Group") -> None:
        x, y, z = a(group), b(group), c(group)
        result = np.zeros((1, 1, 1), np.uint32)
        for row in rows:
            result = result | ((x if row & 4 else ~x) & (y if row & 2 else ~y) & (z if row & 1 else ~z))
        write(group, result)

    return step


def _shift(form: Form) -> tuple[str, str]:
    return form.type, "u32"


@computes("shl.<type>", f"{SECTION}: shl", sources=_shift, type="b16 b32 b64")
def shl(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a << b, 0 where b is the width or more."""
    width = 8 * a.dtype.itemsize
    if b.size == 1:
        count = int(b.item())
        return a << a.dtype.type(count) if count < width else np.zeros_like(a)
    return np.where(b >= width, a.dtype.type(0), a << np.minimum(b, width - 1).astype(a.dtype))


@computes("shr.<type>", f"{SECTION}: shr", sources=_shift, type="b16 b32 b64 u16 u32 u64 s16 s32 s64")
def shr(form: Form, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`d` = a >> b, filled with the sign (.s) or zeros; where b is the width or more, all fill."""
    width = 8 * a.dtype.itemsize
    # A shift by width - 1 leaves only the sign of a signed value: the fill.
    if a.dtype.kind == "i":
        return a >> np.minimum(b, width - 1).astype(a.dtype)
    if b.size == 1:
        count = int(b.item())
        return a >> a.dtype.type(count) if count < width else np.zeros_like(a)
    return np.where(b >= width, a.dtype.type(0), a >> np.minimum(b, width - 1).astype(a.dtype))


@computes(
    "shf.<direction>.<mode>.b32", f"{SECTION}: shf", sources=lambda f: ("b32", "b32", "u32"),
    result=lambda f: "b32", direction="l r", mode="clamp wrap",
)  # fmt: skip
def shf(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = upper half of [b:a] << n (.l) or lower half of [b:a] >> n (.r), n = min(c, 32) or c mod 32."""
    count = np.minimum(c, 32) if form.mode == "clamp" else c & np.uint32(31)
    both = b.astype(np.uint64) << np.uint64(32) | a
    if form.direction == "l":
        return (both << count.astype(np.uint64) >> np.uint64(32)).astype(np.uint32)
    return (both >> count.astype(np.uint64)).astype(np.uint32)


@computes(
    "prmt.b32.<mode?>", "Data Movement and Conversion Instructions: prmt",
    sources=lambda f: ("b32", "b32", "b32"),
    result=lambda f: "b32", mode="f4e b4e rc8 ecl ecr rc16",
)  # fmt: skip
def prmt(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = four bytes picked from [b:a] by the nibbles of c (top bit: its sign, spread); or by a mode."""
    both = b.astype(np.uint64) << np.uint64(32) | a
    result = np.zeros((1, 1, 1), np.uint32)
    for byte in range(4):
        if form.mode:
            chosen = _PICKS[form.mode](c & np.uint32(3), byte)
            spread = np.zeros((1, 1, 1), np.bool_)
        else:
            nibble = c >> np.uint32(4 * byte)
            chosen = nibble & np.uint32(7)
            spread = (nibble & np.uint32(8)) != 0
        picked = (both >> (chosen.astype(np.uint64) * np.uint64(8))).astype(np.uint8)
        sign = (picked.view(np.int8) >> np.int8(7)).view(np.uint8)
        result = result | np.where(spread, sign, picked).astype(np.uint32) << np.uint32(8 * byte)
    return result


# The source byte (0 to 3 of a, 4 to 7 of b) for each byte of the result, by the control value 0 to 3.
_PICKS = {
    "f4e": lambda control, byte: control + np.uint32(byte),
    "b4e": lambda control, byte: (control - np.uint32(byte)) & np.uint32(7),
    "rc8": lambda control, byte: control,
    "ecl": lambda control, byte: np.maximum(control, np.uint32(byte)),
    "ecr": lambda control, byte: np.minimum(control, np.uint32(byte)),
    "rc16": lambda control, byte: (control & np.uint32(1)) * np.uint32(2) + np.uint32(byte & 1),
}
