"""Loops of one instruction: what two operands or three add a turn, fused where they count on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from kernels.vta.builder import ONCE, Loop, loop
from simulators.vta.config import LOOP_BITS
from simulators.vta.isa import Uop


@dataclass(frozen=True)
class Turns:
    """A loop: how often it turns, and what each turn adds to every operand."""

    count: int
    steps: tuple[int, ...]


def fused(turns: Iterable[Turns]) -> list[Turns]:
    """Leave out loops that turn once, and join an outer with an inner one that it continues."""
    left = [each for each in turns if each.count > 1]
    while True:
        pair = next(
            (
                (outer, inner)
                for outer in left
                for inner in left
                if outer is not inner
                and outer.steps == tuple(inner.count * step for step in inner.steps)
                and any(inner.steps)
            ),
            None,
        )
        if pair is None:
            return left
        outer, inner = pair
        joined = Turns(outer.count * inner.count, inner.steps)
        left = [joined if each is inner else each for each in left if each is not outer]


@dataclass(frozen=True)
class Folded:
    """One instruction: two loops, and micro-ops for all others. Steps are dst, src and wgt."""

    outer: Loop
    inner: Loop
    kernel: tuple[Uop, ...]


def fold(
    turns: Sequence[Turns], base: tuple[int, ...], limits: tuple[int, ...], uop_depth: int
) -> Iterable[Folded]:
    """Yield instructions that execute loops in any order.

    base: where each operand begins. limits: a factor of each operand is less. The two loops that save the
    most micro-ops go into the instruction. Micro-ops that write other elements come next to one another,
    since some backends need a distance between two that write the same. Where the micro-ops are more than
    UOP holds the largest loop is cut.
    """
    left = fused(turns)
    foldable = [
        each
        for each in left
        if each.count < 1 << LOOP_BITS
        and all(0 <= step < limit for step, limit in zip(each.steps, limits, strict=True))
    ]
    chosen = sorted(foldable, key=lambda each: (each.count, each.steps[0] != 0), reverse=True)[:2]
    # The inner loop is one that moves dst, if there is one.
    chosen.sort(key=lambda each: each.steps[0] != 0)
    rest = [each for each in left if not any(each is one for one in chosen)]
    rest.sort(key=lambda each: each.steps[0] != 0)
    if prod(each.count for each in rest) > uop_depth:
        largest = max(rest, key=lambda each: each.count)
        half = largest.count // 2
        for first, count in ((0, half), (half, largest.count - half)):
            moved = tuple(place + first * step for place, step in zip(base, largest.steps, strict=True))
            part = [each if each is not largest else Turns(count, each.steps) for each in left]
            yield from fold(part, moved, limits, uop_depth)
        return
    kernel = tuple(
        Uop(
            *(
                place + sum(turn * each.steps[operand] for turn, each in zip(at, rest, strict=True))
                for operand, place in enumerate(base)
            )
        )
        for at in product(*(range(each.count) for each in rest))
    )
    outer, inner = [ONCE] * (2 - len(chosen)) + [loop(each.count, *each.steps) for each in chosen]
    yield Folded(outer, inner, kernel)
