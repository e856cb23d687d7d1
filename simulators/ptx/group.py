"""A group of blocks in lockstep: registers as arrays, program counters, barriers.

A register is one array over (blocks, warps, lanes). An axis along which its value is known not to vary has
length 1, and NumPy's broadcasting carries that through arithmetic: what depends on the lane alone is computed
once for all blocks. Arrays in registers are never changed in place, so that moves and remembered results may
share them.

Threads that agree run without masks. Where a branch divides them, each thread gets a place of its own, and
the threads at the lowest rank (control_flow.py) run until they reach others: so they meet where their paths
join. Threads that keep looking at memory while others are held back give way after a while: what they wait
for may be what another one writes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.async_copies import AsyncCopies
from simulators.ptx.errors import InstructionBudgetError
from simulators.ptx.findings import Findings
from simulators.ptx.local_memory import LocalMemory
from simulators.ptx.memory import GlobalMemory, SharedMemory
from simulators.ptx.races import Races
from simulators.ptx.types import storage

if TYPE_CHECKING:
    from simulators.ptx.access import Port
    from simulators.ptx.fragments import Fragment
    from simulators.ptx.program import Program

# What a step returns where threads no longer agree on where to go on.
RESCHEDULE = -1
END = np.iinfo(np.int32).max
# How often threads may look at memory that others may change, while others who could run are held back.
PATIENCE = 1 << 10


# What a barrier does when it is complete: with the votes of its threads, and who they are.
Finish = Callable[["Group", np.ndarray, np.ndarray], None]


@dataclass
class Counts:
    """What a launch has done so far."""

    issued: int = 0
    budget: int = 0
    warps_at: list[int] = field(default_factory=list)
    traffic: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What all groups of a launch share."""

    program: "Program"
    memory: GlobalMemory
    parameters: dict[str, np.ndarray]
    findings: Findings
    counts: Counts


@dataclass
class _Barrier:
    """A barrier of each block: who waits and who has arrived, where they go on, what they vote."""

    waiting: np.ndarray
    arrived: np.ndarray
    resume: np.ndarray
    votes: np.ndarray
    expected: int | None = None
    pc: int = -1
    finish: "Finish | None" = None


class Group:
    """Some blocks of a launch, from their first instruction to their last."""

    def __init__(
        self,
        run: Run,
        shape: tuple[int, int, int],
        shared: SharedMemory,
        local: LocalMemory,
        special: dict[str, np.ndarray],
        *,
        live: np.ndarray | None,
        races: Races | None,
    ) -> None:
        self.program = run.program
        self.memory = run.memory
        self.parameters = run.parameters
        self.findings = run.findings
        self.counts = run.counts
        self.shape = shape
        self.shared = shared
        self.local = local
        self.special = special
        zero = {t: np.zeros((1, 1, 1), t) for t in {storage(r.type) for r in run.program.kernel.registers}}
        self.registers: list[np.ndarray] = [zero[storage(r.type)] for r in run.program.kernel.registers]
        # Matrices of the fragments that registers hold, by the slot of each register (fragments.py).
        self.fragments: dict[int, Fragment] = {}
        # Watches the accesses of these blocks, with checks on.
        self.races = races
        # Copies that go on while instructions run.
        self.copies = AsyncCopies()
        # The last resolved access of an instruction, with the address it was resolved for.
        self.accesses: dict[Port, tuple] = {}
        # Who runs the current instruction: None is everybody.
        self.mask: np.ndarray | None = live
        # While threads differ: the rank of the next instruction of each, END for those that have left or
        # wait at a barrier.
        self._ranks: np.ndarray | None = None
        # Barriers that some threads have arrived at and that are not complete, by number.
        self._barriers: dict[int, _Barrier] = {}
        # The running threads go on together while they rank below this: there others are.
        self._stop = END
        self._running = 0
        self._patience = PATIENCE

    def everybody(self) -> np.ndarray:
        """Say which threads run the current instruction, as a mask of all three axes."""
        return np.broadcast_to(np.ones((1, 1, 1), np.bool_) if self.mask is None else self.mask, self.shape)

    def active(self) -> int:
        """How many threads run the current instruction."""
        if self.mask is None:
            return self.shape[0] * self.shape[1] * self.shape[2]
        return int(np.count_nonzero(self.everybody()))

    def active_warps(self) -> int:
        """How many warps issue the current instruction."""
        if self.mask is None:
            return self.shape[0] * self.shape[1]
        return int(np.count_nonzero(self.everybody().any(axis=2)))

    def count(self, name: str, size: int) -> None:
        """Add bytes moved."""
        self.counts.traffic[name] += size

    def run(self) -> None:
        """Execute until every thread has left."""
        steps, instructions, counts = self.program.steps, self.program.instructions, self.counts
        findings, warps_at = self.findings, counts.warps_at
        rank = self.program.rank
        pc, warps = 0, self.active_warps()
        while pc != END:
            findings.instruction = instructions[pc]
            warps_at[pc] += warps
            counts.issued += warps
            target = steps[pc](self)
            if target is None:
                pc += 1
                if rank[pc] < self._stop:
                    continue
                target = pc
            elif counts.issued > counts.budget:
                raise InstructionBudgetError(
                    f"{findings.place()}: more than {counts.budget} warp instructions, "
                    "and the kernel still runs"
                )
            pc = target
            if self._ranks is not None:
                before = self.mask
                pc = self._reschedule(pc)
                if self.mask is not before:
                    warps = self.active_warps()

    def split(self, taken: np.ndarray, target: int, following: int) -> int:
        """Send the active threads where `taken` to `target` and the others to the following instruction."""
        return self._send(np.where(taken, self._rank_of(target), self._rank_of(following)))

    def scatter(self, places: np.ndarray) -> int:
        """Send each active thread to its place, the number of an instruction."""
        return self._send(np.array(self.program.rank)[places])

    def _send(self, ranks: np.ndarray) -> int:
        if self._ranks is None:
            self._ranks = np.full(self.shape, END, np.int32)
        here = self.everybody()
        self._ranks[here] = np.broadcast_to(ranks, self.shape)[here]
        return RESCHEDULE

    def _passed(self, blocks: np.ndarray | None) -> None:
        """Some blocks, or all, have passed a barrier."""
        if self.races is None:
            return
        everywhere = blocks is None or bool(blocks.all())
        self.races.barrier(None if everywhere else blocks)
        if everywhere:
            self.shared.new_interval()
            self.copies.mark(self)

    def _rank_of(self, pc: int) -> int:
        return END if pc == END else self.program.rank[pc]

    def _reschedule(self, pc: int) -> int:
        """Choose who runs next: the threads with the lowest rank."""
        assert self._ranks is not None
        if pc != RESCHEDULE:
            rank = self._rank_of(pc)
            if rank < self._stop and self._patience > 0:
                return pc
            self._ranks[self.everybody()] = self._running = rank
        if self._barriers:
            self._complete_barriers()
        low = int(self._ranks.min())
        if low == END:
            self._note_deadlocks()
            return END
        others = int(np.where(self._ranks == low, END, self._ranks).min())
        if self._patience <= 0:
            # Those that were held back run in turn.
            later = np.where(self._ranks > self._running, self._ranks, END)
            low, others = int(later.min()) if (later != END).any() else low, END
        self._patience = PATIENCE
        mask = self._ranks == low
        self.mask = None if mask.all() else mask
        self._stop, self._running = others, low
        if (mask | (self._ranks == END)).all() and not self._barriers:
            self._ranks, self._stop = None, END
        return self.program.at_rank[low]

    def polled(self) -> None:
        """Say that the running threads looked at memory that others may change."""
        self._patience -= 1

    def barrier(
        self, following: int, number: int, count: int | None, *, waits: bool = True,
        votes: np.ndarray | None = None, finish: Finish | None = None,
    ) -> int | None:  # fmt: skip
        """Arrive at a barrier of the block, and wait there unless told otherwise.

        It is complete when `count` threads have arrived, or all that have not left. `finish` then gets the
        votes of all and who waited.
        """
        if self._ranks is None and waits and count in (None, self.active() // self.shape[0]):
            if finish is not None and votes is not None:
                finish(self, votes, self.everybody())
            self._passed(None)
            return None
        here = self.everybody()
        if self._ranks is None:
            self._ranks = np.where(here, self.program.rank[following], END).astype(np.int32)
        others = (self._ranks != END) & ~here
        for known in self._barriers.values():
            others |= known.waiting & ~here
        divided = here.any(axis=2) & others.any(axis=2)
        if divided.any():
            self.findings.note("barrier-divergence", here & divided[:, :, None], None, 0, "")
        barrier = self._barriers.get(number)
        if barrier is None:
            none = np.zeros(self.shape, np.bool_)
            barrier = self._barriers[number] = _Barrier(none, none, np.zeros(self.shape, np.int32), none)
        barrier.expected, barrier.pc = count, following - 1
        barrier.arrived = barrier.arrived | here
        if votes is not None:
            barrier.votes = np.where(here, votes, barrier.votes)
            barrier.finish = finish
        self._ranks[here] = self.program.rank[following]
        if waits:
            barrier.waiting = barrier.waiting | here
            barrier.resume[here] = self.program.rank[following]
            self._ranks[here] = END
        return RESCHEDULE

    def _note_deadlocks(self) -> None:
        """Find threads that wait where nobody is left to come."""
        for number, barrier in self._barriers.items():
            if not barrier.waiting.any():
                continue
            block, warp, lane = np.unravel_index(int(np.argmax(barrier.waiting)), self.shape)
            where, thread = self.findings.geometry.locate(
                self.findings.first_block + int(block), int(warp), int(lane)
            )
            self.findings.add(
                "deadlock",
                f"thread {thread} of block {where} waits at barrier {number} and nobody is left to come",
                pc=barrier.pc,
                count=int(np.count_nonzero(barrier.waiting)),
            )

    def _complete_barriers(self) -> None:
        """Let blocks go on for which nobody is missing at a barrier."""
        assert self._ranks is not None
        waiting = np.logical_or.reduce([b.waiting for b in self._barriers.values()])
        for number, barrier in list(self._barriers.items()):
            present = barrier.arrived.sum(axis=(1, 2), keepdims=True)
            if barrier.expected is None:
                # All threads that have not left.
                needed = ((self._ranks != END) | waiting).sum(axis=(1, 2), keepdims=True)
            else:
                needed = np.full_like(present, barrier.expected)
            blocks = (present >= needed) & (present > 0)
            if not blocks.any():
                continue
            complete = barrier.waiting & blocks
            if barrier.finish is not None:
                barrier.finish(self, barrier.votes, complete)
            self._ranks[complete] = barrier.resume[complete]
            barrier.waiting, barrier.arrived = barrier.waiting & ~blocks, barrier.arrived & ~blocks
            if not barrier.arrived.any():
                del self._barriers[number]
            self._passed(blocks)
