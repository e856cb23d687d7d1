"""Comparison and selection."""

from collections.abc import Callable
from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.forms import Site, Step, computes, executes
from simulators.ptx.rounding import flush
from simulators.ptx.syntax import Operand, Pair, Sink

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Comparison and Selection Instructions"
TYPES = "b16 b32 b64 u16 u32 u64 s16 s32 s64 f32 f64"

_ORDERED = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    # Unsigned comparison by its old names.
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _compare(name: str, type_: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Give the comparison as a function; at a NaN, .ltu and its like are true, .lt and its like false."""
    if name == "num":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if name == "nan":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if name in ("equ", "neu", "ltu", "leu", "gtu", "geu"):
        ordered = _ORDERED[name[:2]]
        return lambda a, b: ordered(a, b) | np.isnan(a) | np.isnan(b)
    if name == "ne" and type_[0] == "f":
        return lambda a, b: (a != b) & ~(np.isnan(a) | np.isnan(b))
    return _ORDERED[name]


@executes(
    "setp.<compare>.<combine?>.<ftz?>.<type>",
    f"{SECTION}: setp",
    compare="eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan",
    combine="and or xor",
    ftz="ftz",
    type=TYPES,
)
def setp(form: Form, site: Site) -> Step:
    """`p` = (a compared to b) combined with c; q = (not that) combined with c."""
    site.expect(4 if form.combine else 3)
    floating = form.type[0] == "f"
    if form.compare in ("equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan") and not floating:
        raise site.fail(f".{form.compare} compares floats")
    if form.type[0] == "b" and form.compare not in ("eq", "ne"):
        raise site.fail(f".{form.compare} is not defined for .{form.type}")
    if form.compare in ("lo", "ls", "hi", "hs") and form.type[0] != "u":
        raise site.fail(f".{form.compare} compares unsigned integers")
    targets = site.operands[0]
    p, q = (targets.first, targets.second) if isinstance(targets, Pair) else (targets, Sink())
    write_p, write_q = _writer(site, p), _writer(site, q)
    a, b = (site.read(o, form.type) for o in site.operands[1:3])
    compare = _compare(form.compare, form.type)
    if form.ftz:
        exact = compare

        def compare(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return exact(flush(x), flush(y))

    if not form.combine and write_q is None and write_p is not None:
        return lambda group: write_p(group, compare(a(group), b(group)))
    combine = _COMBINE[form.combine] if form.combine else lambda x, c: x
    other = (
        site.read(site.operands[3], "pred") if form.combine else lambda group: np.ones((1, 1, 1), np.bool_)
    )

    def step(group: "Group") -> None:
        holds, c = compare(a(group), b(group)), other(group)
        if write_p is not None:
            write_p(group, combine(holds, c))
        if write_q is not None:
            write_q(group, combine(~holds, c))

    return step


def _writer(site: Site, operand: Operand) -> Callable | None:
    if isinstance(operand, Sink):
        return None
    return site.write(operand, "pred")


@computes("selp.<type>", f"{SECTION}: selp", sources=lambda f: (f.type, f.type, "pred"), type=TYPES)
def selp(form: Form, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """`d` = a where c, else b."""
    if c.size == 1:
        return a if c.item() else b
    return np.where(c, a, b)
