"""Loops of one instruction: what two operands or three add a turn, fused where they count on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod

from kernels.vta.builder import ONCE, Loop, loop
from simulators.vta.config import LOOP_BITS
from simulators.vta.isa import Uop

# HLS wants two iterations between two that write the same element; it is the backend that wants most.
SPACING = 3


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


@lru_cache(maxsize=4096)
def fold(
    turns: tuple[Turns, ...], base: tuple[int, ...], limits: tuple[int, ...], uop_depth: int
) -> tuple[Folded, ...]:
    """Return instructions that execute loops in any order.

    base: where each operand begins. limits: a factor of each operand is less. Two loops go into the
    instruction, the others become micro-ops: as few as possible, but so that an iteration writes no element
    that one of the two before it wrote, which some backends do not wait for. Where that cannot be, loops
    that stay at an element become instructions of their own; where the micro-ops are more than UOP holds,
    the largest loop is cut.
    """
    return tuple(_folded(fused(turns), base, limits, uop_depth))


def _folded(
    left: Sequence[Turns], base: tuple[int, ...], limits: tuple[int, ...], uop_depth: int
) -> Iterator[Folded]:
    choices = [each for loops in _splits(left) for each in _choices(loops, limits) if each.spacing >= SPACING]
    if not choices:
        yield from _cut(
            next(each for each in left if not each.steps[0]),
            1,
            left,
            base=base,
            limits=limits,
            uop_depth=uop_depth,
        )
        return
    chosen = min(choices, key=lambda each: prod(turn.count for turn in each.rest))
    if prod(each.count for each in chosen.rest) > uop_depth:
        largest = max(chosen.rest, key=lambda each: each.count)
        yield from _cut(largest, -(-largest.count // 2), left, base=base, limits=limits, uop_depth=uop_depth)
        return
    kernel = tuple(
        Uop(
            *(
                place + sum(turn * each.steps[operand] for turn, each in zip(at, chosen.rest, strict=True))
                for operand, place in enumerate(base)
            )
        )
        for at in product(*(range(each.count) for each in chosen.rest))
    )
    outer, inner = (ONCE if each is None else loop(each.count, *each.steps) for each in chosen.loops)
    yield Folded(outer, inner, kernel)


@dataclass(frozen=True)
class _Choice:
    """Which loops go into the instruction, outer and inner, and which become micro-ops, outermost first."""

    loops: tuple[Turns | None, Turns | None]
    rest: tuple[Turns, ...]

    @property
    def spacing(self) -> int:
        """Return the iterations from one that writes an element to the next that does."""
        distance = 1
        for each in reversed([turn for turn in (*self.loops, *self.rest) if turn is not None]):
            if not each.steps[0]:
                return distance
            distance *= each.count
        return SPACING


def _splits(left: Sequence[Turns]) -> Iterator[Sequence[Turns]]:
    """Yield the loops, and the loops with one that moves dst split, for its inner part to make a distance."""
    yield left
    for each in left:
        for count in range(2, min(each.count, SPACING + 2)):
            if each.steps[0] and each.count % count == 0:
                outer = Turns(each.count // count, tuple(count * step for step in each.steps))
                yield [*(one for one in left if one is not each), outer, Turns(count, each.steps)]


def _choices(left: Sequence[Turns], limits: tuple[int, ...]) -> Iterator[_Choice]:
    """Yield the choices of two loops, those that move dst further in than those that do not."""
    foldable = [
        index
        for index, each in enumerate(left)
        if each.count < 1 << LOOP_BITS
        and all(0 <= step < limit for step, limit in zip(each.steps, limits, strict=True))
    ]
    for count in (2, 1, 0):
        for chosen in combinations(foldable, min(count, len(foldable))):
            loops = sorted((left[index] for index in chosen), key=lambda each: each.steps[0] != 0)
            rest = [each for index, each in enumerate(left) if index not in chosen]
            rest.sort(key=lambda each: each.steps[0] != 0)
            outer, inner = [None] * (2 - len(loops)) + loops
            yield _Choice((outer, inner), tuple(rest))


def _cut(
    cut: Turns,
    size: int,
    left: Sequence[Turns],
    *,
    base: tuple[int, ...],
    limits: tuple[int, ...],
    uop_depth: int,
) -> Iterator[Folded]:
    """Fold the loops with one of them cut into pieces of a size."""
    for first in range(0, cut.count, size):
        moved = tuple(place + first * step for place, step in zip(base, cut.steps, strict=True))
        part = Turns(min(size, cut.count - first), cut.steps)
        loops = fused(part if each is cut else each for each in left)
        yield from _folded(loops, moved, limits, uop_depth)
