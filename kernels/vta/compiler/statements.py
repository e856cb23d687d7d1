"""Statements of a lowered PrimFunc: one assignment and the loops and conditions around it alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx
from tvm.ir import TensorLoad

from kernels.vta.compiler.affine import Affine, Box, Conditions, NotAffineError, affine, conditions, constant

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


def address(buffer: tirx.Buffer, indices: list[tirx.Expr]) -> Affine:
    """Return the place of an access in numbers of the buffer's dtype, row by row."""
    place = constant(0)
    for extent, index in zip(buffer.shape, indices, strict=True):
        place = place.scaled(int(extent)) + affine(index)
    return place


def statement_of(root: tirx.Stmt) -> Statement | None:
    """Return the statement where the loops and conditions at `root` lead to a single assignment, or None."""
    loops: Box = {}
    where: Conditions = ()
    here = root
    while True:
        match here:
            case tirx.For():
                if not isinstance(here.extent, tirx.IntImm) or not isinstance(here.min, tirx.IntImm):
                    return None
                first = int(here.min.value)
                loops[here.loop_var] = range(first, first + int(here.extent.value))
                here = here.body
            case tirx.IfThenElse() if here.else_case is None:
                try:
                    where += conditions(here.condition)
                except NotAffineError:
                    return None
                here = here.then_case
            case tirx.BufferStore():
                return Statement(here, loops, where)
            case _:
                return None


def lanes(place: Affine, box: Box, element: int) -> dict[tirx.Var, int] | None:
    """Return the loops that walk through one element of a memory, with their factors; None where none do.

    Together they reach each of the element's numbers once, and the address is otherwise whole elements.
    """
    within = {
        each: factor for each, factor in place.factors.items() if factor % element and len(box[each]) > 1
    }
    reached = 1
    for variable, factor in sorted(within.items(), key=lambda each: each[1]):
        if factor != reached:
            return None
        reached *= len(box[variable])
    return within if reached == element else None


def elements(place: Affine, box: Box, element: int, within: dict[tirx.Var, int]) -> Affine | None:
    """Return an address in elements, over the loops that are no lanes; None where it does not walk the lanes.

    The address is at the box's corner: its variables count from zero.
    """
    if any(place.factors.get(variable, 0) != factor for variable, factor in within.items()):
        return None
    corner = place.constant + sum(factor * box[each].start for each, factor in place.factors.items())
    outside = {
        each: factor for each, factor in place.factors.items() if each not in within and len(box[each]) > 1
    }
    return Affine(corner, outside).divided(element)
