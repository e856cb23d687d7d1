"""Statements of a lowered PrimFunc: one assignment and the loops and conditions around it alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Call, TensorLoad

from kernels.vta.compiler.affine import (
    Affine,
    Box,
    Conditions,
    NotAffineError,
    Variable,
    affine,
    bound,
    conditions,
    constant,
    reach,
    variable,
)

SRAM = ("local.inp", "local.wgt", "local.acc", "local.out")

Access: TypeAlias = TensorLoad | tirx.BufferStore


class UncompilableError(ValueError):
    """A statement that VTA cannot execute."""


@dataclass(frozen=True)
class Statement:
    """buffer[address] = value, in all of its own loops, where no condition is negative."""

    source: tirx.BufferStore
    loops: Box
    where: Conditions

    def refuse(self, reason: str) -> UncompilableError:
        """Return the error that names this statement."""
        text = str(self.source).strip().splitlines()[-1]
        return UncompilableError(f"{reason}: {text}")


def buffer_of(access: Access) -> tirx.Buffer:
    """Return the buffer that is read or written."""
    return access.source if isinstance(access, TensorLoad) else access.buffer


def nodes_of(root: tirx.Stmt | tirx.Expr) -> Iterator[tirx.Stmt | tirx.Expr]:
    """Yield a statement or an expression and all within it; TVM 0.27 has no such visitor in Python."""
    yield root
    for part in ("body", "then_case", "else_case", "condition", "value", "a", "b", "seq", "args", "indices"):
        child = getattr(root, part, None)
        if child is None:
            continue
        for each in child if part in ("seq", "args", "indices") else (child,):
            yield from nodes_of(each)


def reads_of(value: tirx.Expr) -> list[TensorLoad]:
    """Return every load in an expression."""
    return [each for each in nodes_of(value) if isinstance(each, TensorLoad)]


def scope_of(buffer: tirx.Buffer) -> str:
    """Return the memory that a buffer lies in; DRAM is "global"."""
    return str(buffer.scope()) or "global"


def indices_of(access: Access) -> tuple[Affine, ...]:
    """Return the indices of an access."""
    return tuple(affine(each) for each in access.indices)


@dataclass(frozen=True)
class Use:
    """An access in its loops, where no condition is negative."""

    indices: tuple[Affine, ...]
    loops: Box
    where: Conditions


def uses_of(body: Sequence[tirx.Stmt]) -> dict[tirx.Buffer, list[Use]]:
    """Return every access to each buffer, with the loops of `body` around it."""
    found: dict[tirx.Buffer, list[Use]] = {}

    def visit(here: tirx.Stmt, loops: Box, where: Conditions) -> None:
        match here:
            case tirx.SeqStmt():
                for each in here.seq:
                    visit(each, loops, where)
            case tirx.For():
                visit(here.body, {**loops, variable(here.loop_var): turns_of(here)}, where)
            case tirx.IfThenElse():
                visit(here.then_case, loops, where + conditions(here.condition))
            case tirx.BufferStore():
                store, inside = without_guard(here)
                for access in (store, *reads_of(store.value)):
                    use = Use(indices_of(access), loops, where + inside)
                    found.setdefault(buffer_of(access), []).append(use)

    for each in body:
        visit(each, {}, ())
    return found


def region(uses: Sequence[Use], values: Mapping[Variable, int]) -> tuple[range, ...]:
    """Return the indices that accesses reach in each dimension, at these values of the loops around."""
    reached: list[tuple[int, int]] | None = None
    for use in uses:
        box, _ = bound(use.loops, [each.at(values) for each in use.where])
        if box is None:
            continue
        spans = [reach(each.at(values), box) for each in use.indices]
        if reached is None:
            reached = spans
        else:
            reached = [
                (min(old[0], new[0]), max(old[1], new[1])) for old, new in zip(reached, spans, strict=True)
            ]
    return tuple(range(low, high + 1) for low, high in reached or ())


def address(indices: Sequence[Affine], extents: Sequence[int]) -> Affine:
    """Return a place in an array of these extents, row by row."""
    place = constant(0)
    for index, extent in zip(indices, extents, strict=True):
        place = place.scaled(extent) + index
    return place


def without_guard(store: tirx.BufferStore) -> tuple[tirx.BufferStore, Conditions]:
    """Return a sum to which a term is added only where conditions hold as the sum, and the conditions."""
    value = store.value
    if not isinstance(value, tirx.Add) or not isinstance(value.b, Call):
        return store, ()
    if value.b.op.name != "prim.if_then_else":
        return store, ()
    condition, term, other = value.b.args
    if not isinstance(other, tirx.IntImm) or int(other.value):
        return store, ()
    try:
        inside = conditions(condition)
    except NotAffineError:
        return store, ()
    return tirx.BufferStore(store.buffer, value.a + term, list(store.indices)), inside


def turns_of(loop: tirx.For) -> range:
    """Return the values of a loop's variable; UncompilableError where they are not constant."""
    if not isinstance(loop.extent, tirx.IntImm) or not isinstance(loop.min, tirx.IntImm):
        raise UncompilableError(f"VTA has no loops, and the extent of this one is not constant: {loop}")
    first = int(loop.min.value)
    return range(first, first + int(loop.extent.value))


def statement_of(root: tirx.Stmt) -> Statement | None:
    """Return the statement where the loops and conditions at `root` lead to a single assignment, or None."""
    loops: Box = {}
    where: Conditions = ()
    here = root
    while True:
        match here:
            case tirx.For():
                loops[variable(here.loop_var)] = turns_of(here)
                here = here.body
            case tirx.IfThenElse() if here.else_case is None:
                try:
                    where += conditions(here.condition)
                except NotAffineError:
                    return None
                here = here.then_case
            case tirx.BufferStore():
                store, inside = without_guard(here)
                return Statement(store, loops, where + inside)
            case _:
                return None


def lanes(place: Affine, box: Box, element: int) -> dict[Variable, int] | None:
    """Return the loops that walk through one element of a memory, with their factors; None where none do.

    Together they reach each of the element's numbers once, and the address is otherwise whole elements.
    """
    within = {
        each: factor for each, factor in place.factors.items() if factor % element and len(box[each]) > 1
    }
    reached = 1
    for name, factor in sorted(within.items(), key=lambda each: each[1]):
        if factor != reached:
            return None
        reached *= len(box[name])
    return within if reached == element else None


def elements(place: Affine, box: Box, element: int, within: dict[Variable, int]) -> Affine | None:
    """Return an address in elements, over the loops that are no lanes; None where it does not walk the lanes.

    The address is at the box's corner: its variables count from zero.
    """
    if any(place.factors.get(name, 0) != factor for name, factor in within.items()):
        return None
    corner = place.constant + sum(factor * box[each].start for each, factor in place.factors.items())
    outside = {
        each: factor for each, factor in place.factors.items() if each not in within and len(box[each]) > 1
    }
    return Affine(corner, outside).divided(element)
