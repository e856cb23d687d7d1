"""Which instructions touch the same data with no token between them.

Each instruction's reads and writes of the SRAMs and of DRAM are sets; two of different engines that share an
element, of which at least one writes, need an order. `Order.before` says which pairs have one in every
execution that the tokens permit. So what is found is exactly what some permitted order could get wrong,
even where the order that was executed gave the right numbers.

For one instruction the other engine's unordered instructions are neighbours in that engine's queue: a
window, found by bisection. Within it the extents are compared, and where those overlap the sets.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np

from simulators.vta.order import Order

# Pairs that are compared at a time: bounds the memory.
CHUNK = 1 << 18


class Span(NamedTuple):
    """A set of elements (of an SRAM) or bytes (of DRAM): [start, start + width) for each of starts.

    low is the smallest and high one more than the largest. starts, ascending, is None where nothing between
    the two is missing.
    """

    low: int
    high: int
    starts: np.ndarray | None = None
    width: int = 1

    @property
    def key(self) -> slice | np.ndarray:
        """What selects the elements of an SRAM."""
        return slice(self.low, self.high) if self.starts is None else self.starts


class Rows(NamedTuple):
    """As `Span`, a set of bytes: [start, start + width), the starts `pitch` apart."""

    low: int
    high: int
    pitch: int
    width: int

    @property
    def starts(self) -> np.ndarray:
        """Where each row begins: rarely asked for, since few extents meet."""
        return np.arange(self.low, self.high - self.width + 1, self.pitch)


def span_of(touched: np.ndarray) -> Span:
    """Give the set of the elements that are marked, bool[depth]; there is at least one."""
    found = np.flatnonzero(touched)
    low, high = int(found[0]), int(found[-1]) + 1
    return Span(low, high) if high - low == found.size else Span(low, high, found)


def overlap(first: Span | Rows, second: Span | Rows) -> bool:
    """Whether two sets have an element in common."""
    if first.low >= second.high or second.low >= first.high:
        return False
    starts = first.starts, second.starts
    if starts[0] is None and starts[1] is None:
        return True
    ours, theirs = (
        (np.array([each.low]), each.high - each.low) if begins is None else (begins, each.width)
        for each, begins in zip((first, second), starts, strict=True)
    )
    # The first of ours that ends behind the start of each of theirs: they meet if it begins before their end.
    place = np.searchsorted(ours[0] + ours[1], theirs[0], side="right")
    inside = place < ours[0].size
    return bool((ours[0][place[inside]] < theirs[0][inside] + theirs[1]).any())


@dataclass
class Touched:
    """What one engine reads, or writes, of one memory: stream indices and sets, in the engine's order."""

    index: list[int] = field(default_factory=list)
    spans: list[Span | Rows] = field(default_factory=list)

    def add(self, index: int, span: Span | Rows) -> None:
        """Note one access."""
        self.index.append(index)
        self.spans.append(span)

    @cached_property
    def indices(self) -> np.ndarray:
        """Stream indices, int64[n]; to be read when all is noted."""
        return np.array(self.index, np.int64)

    @cached_property
    def extents(self) -> np.ndarray:
        """Low and high of each set, int64[n, 2]."""
        return np.array([each[:2] for each in self.spans], np.int64).reshape(-1, 2)


Accesses = dict[tuple[str, int, bool], Touched]
"""By memory, engine, and whether it is written."""


@dataclass(frozen=True)
class Hazard:
    """Two instructions (stream indices) that nothing orders; the first stands earlier in the stream."""

    memory: str
    first: int
    second: int
    first_writes: bool
    second_writes: bool
    pairs: int


def hazards(accesses: Accesses, order: Order, place: np.ndarray) -> list[Hazard]:
    """Return for each memory, pair of engines and direction the first pair of instructions without an order.

    place int64[n]: where each instruction stands in its engine's queue.
    """
    found = []
    for one, other in combinations(accesses, 2):
        memory, engine, writes = one
        if memory != other[0] or engine == other[1] or not (writes or other[2]):
            continue
        pairs = _conflicts(accesses[one], accesses[other], (engine, other[1]), order, place)
        if len(pairs):
            flags = {engine: writes, other[1]: other[2]}
            earlier, later = np.minimum(*pairs.T), np.maximum(*pairs.T)
            at = int(np.lexsort((later, earlier))[0])
            swapped = earlier[at] != pairs[at, 0]
            sides = (other[1], engine) if swapped else (engine, other[1])
            found.append(
                Hazard(
                    memory=memory,
                    first=int(earlier[at]),
                    second=int(later[at]),
                    first_writes=flags[sides[0]],
                    second_writes=flags[sides[1]],
                    pairs=len(pairs),
                )
            )
    return sorted(found, key=lambda each: (each.first, each.second, each.memory))


def _conflicts(
    ours: Touched, theirs: Touched, engines: tuple[int, int], order: Order, place: np.ndarray
) -> np.ndarray:
    """Return the unordered pairs (of ours, of theirs) that share an element, stream indices int64[m, 2]."""
    engine, other = engines
    mine, yours = ours.indices, theirs.indices
    begin = np.searchsorted(place[yours], order.before[mine, other], side="left")
    end = np.searchsorted(order.before[yours, engine], place[mine], side="right")
    known: dict[tuple[int, int], bool] = {}
    conflicts = []
    for left, right in _expanded(begin, np.maximum(end - begin, 0)):
        meets = (ours.extents[left, 0] < theirs.extents[right, 1]) & (
            theirs.extents[right, 0] < ours.extents[left, 1]
        )
        for a, b in zip(left[meets].tolist(), right[meets].tolist(), strict=True):
            spans = ours.spans[a], theirs.spans[b]
            # Instructions in a loop share their sets: an equal pair is compared once.
            names = id(spans[0]), id(spans[1])
            if names not in known:
                known[names] = overlap(*spans)
            if known[names]:
                conflicts.append((int(mine[a]), int(yours[b])))
    return np.array(conflicts, np.int64).reshape(-1, 2)


def _expanded(begin: np.ndarray, count: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Turn windows [begin, begin + count) into pairs (window, member), at most about CHUNK at a time."""
    total = np.cumsum(count)
    first = 0
    while first < begin.size:
        done = int(total[first - 1]) if first else 0
        last = max(int(np.searchsorted(total, done + CHUNK, side="right")), first + 1)
        some = count[first:last]
        if some.any():
            left = np.repeat(np.arange(first, last), some)
            offsets = np.arange(left.size) - np.repeat(np.cumsum(some) - some, some)
            yield left, begin[left] + offsets
        first = last
