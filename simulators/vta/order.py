"""The three engines, the token queues between them, and the orders that tokens permit.

Each engine executes its instructions in the order of the stream. A queue has one engine that puts tokens
into it and one that takes them, so the n-th token taken is always the n-th put, whatever the order: which
instruction must have finished before which other begins follows from the stream alone (`Order.before`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simulators.vta.isa import Instruction, Load, Memory, Opcode, Store

ENGINES = ("load", "compute", "store")
LOAD, COMPUTE, STORE = range(3)

Queue = tuple[str, str]
"""A queue of tokens, by the engines that fill and empty it."""
QUEUES: tuple[Queue, ...] = (
    ("load", "compute"),
    ("compute", "load"),
    ("compute", "store"),
    ("store", "compute"),
)

Choice = Callable[[list[int]], int]
"""Chooses one of the stream indices that may go next; there is at least one."""

# For each engine, what pop_prev, pop_next, push_prev and push_next do: a queue's number, or nothing.
_NONE = -1
_FLAGS = ((_NONE, 1, _NONE, 0), (0, 3, 1, 2), (2, _NONE, 3, _NONE))


def engine_of(instruction: Instruction) -> str:
    """Return the engine that executes an instruction."""
    if isinstance(instruction, Store):
        return ENGINES[STORE]
    if isinstance(instruction, Load) and instruction.memory_type in (Memory.INP, Memory.WGT):
        return ENGINES[LOAD]
    return ENGINES[COMPUTE]


def names_no_engine(instruction: Instruction) -> bool:
    """Whether a dependency flag names a neighbour that the instruction's engine has not."""
    if isinstance(instruction, Store):
        return instruction.pop_next or instruction.push_next
    if isinstance(instruction, Load) and instruction.memory_type in (Memory.INP, Memory.WGT):
        return instruction.pop_prev or instruction.push_prev
    return False


def _tokens_of(engine: int, flags: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Queues that an instruction takes from and puts into, by its four flags as a number."""
    named = [queue if flags >> bit & 1 else _NONE for bit, queue in enumerate(_FLAGS[engine])]
    return tuple(q for q in named[:2] if q != _NONE), tuple(q for q in named[2:] if q != _NONE)


_TOKENS = [[_tokens_of(engine, flags) for flags in range(16)] for engine in range(3)]


@dataclass(frozen=True)
class Links:
    """What a stream says about order: each instruction's engine and tokens, each engine's instructions."""

    engine: list[int]
    pops: list[tuple[int, ...]]
    pushes: list[tuple[int, ...]]
    queue: tuple[list[int], list[int], list[int]]
    place: np.ndarray

    @classmethod
    def of(cls, words: np.ndarray) -> "Links":
        """Read the links of uint64[n, 2] legal instruction words."""
        low = words[:, 0].astype(np.int64)
        opcode, memory = low & 7, low >> 7 & 7
        moves = (opcode == Opcode.LOAD) & ((memory == Memory.INP) | (memory == Memory.WGT))
        engine = np.where(opcode == Opcode.STORE, STORE, np.where(moves, LOAD, COMPUTE))
        place = np.zeros(len(words), np.int64)
        members: list[list[int]] = []
        for each in (LOAD, COMPUTE, STORE):
            mine = np.flatnonzero(engine == each)
            place[mine] = np.arange(mine.size)
            members.append(mine.tolist())
        engines = engine.tolist()
        tokens = [_TOKENS[each][flags] for each, flags in zip(engines, (low >> 3 & 15).tolist(), strict=True)]
        return cls(
            engine=engines,
            pops=[each[0] for each in tokens],
            pushes=[each[1] for each in tokens],
            queue=(members[LOAD], members[COMPUTE], members[STORE]),
            place=place,
        )


@dataclass(frozen=True)
class Order:
    """One order in which a stream can be executed.

    sequence: stream indices as they are executed. before int64[n, 3]: how many instructions of each engine
    have surely finished when an instruction begins, in every order. producers: the instructions whose tokens
    each takes (tokens of an earlier run have none). waiting: heads of the queues that never got their
    tokens, with the queues (numbers) these are missing from. tokens: what is left in each queue.
    """

    sequence: list[int]
    before: np.ndarray
    producers: list[tuple[int, ...]]
    waiting: dict[int, tuple[int, ...]]
    tokens: list[int]


def order_of(links: Links, tokens: Sequence[int], choose: Choice | None = None) -> Order:
    """Let the engines take turns until none can go on.

    choose picks among the instructions that may go; without it that is the first of the stream.
    """
    count = len(links.engine)
    left = list(tokens)
    put: tuple[deque[int], ...] = tuple(deque() for _ in QUEUES)
    old = list(tokens)
    heads = [0, 0, 0]
    last: list[list[int]] = [[0, 0, 0] for _ in ENGINES]
    before: list[tuple[int, int, int]] = [(0, 0, 0)] * count
    producers: list[tuple[int, ...]] = [()] * count
    sequence: list[int] = []
    engine_at, pops_at, pushes_at, queue = links.engine, links.pops, links.pushes, links.queue
    candidates = [members[0] if members else count for members in queue]
    while True:
        ready = []
        for head in sorted(candidates):
            if head < count and all(map(left.__getitem__, pops_at[head])):
                ready.append(head)
                if choose is None:
                    break
        if not ready:
            break
        index = ready[0] if choose is None or len(ready) == 1 else choose(ready)
        engine = engine_at[index]
        clock = last[engine]
        if pops_at[index]:
            found = []
            for each in pops_at[index]:
                left[each] -= 1
                if old[each]:
                    old[each] -= 1
                    continue
                maker = put[each].popleft()
                found.append(maker)
                theirs = before[maker]
                for other in range(3):
                    clock[other] = max(clock[other], theirs[other])
                clock[engine_at[maker]] = max(clock[engine_at[maker]], theirs[engine_at[maker]] + 1)
            producers[index] = tuple(found)
        before[index] = (clock[0], clock[1], clock[2])
        clock[engine] += 1
        for each in pushes_at[index]:
            left[each] += 1
            put[each].append(index)
        sequence.append(index)
        heads[engine] += 1
        members = queue[engine]
        candidates[engine] = members[heads[engine]] if heads[engine] < len(members) else count
    waiting = {i: tuple(q for q in pops_at[i] if not left[q]) for i in candidates if i < count}
    return Order(sequence, np.array(before, np.int64).reshape(-1, 3), producers, waiting, left)


def engine_first(links: Links, priority: Sequence[int]) -> Choice:
    """Let the engine that stands first in `priority` run as far as it can before the next one."""

    def choose(ready: list[int]) -> int:
        return min(ready, key=lambda index: priority.index(links.engine[index]))

    return choose


def at_random(seed: int) -> Choice:
    """Draw the next instruction; the same seed gives the same order."""
    rng = np.random.default_rng(seed)

    def choose(ready: list[int]) -> int:
        return ready[int(rng.integers(len(ready)))]

    return choose
