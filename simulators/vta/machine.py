"""The VTA machine: three engines that execute real instruction words, and the tokens between them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations

import numpy as np

from simulators.report import Finding, Report
from simulators.vta.config import PYNQ, Config
from simulators.vta.cycles import Estimate, estimate
from simulators.vta.execution import COUNTER_NAMES, Execution, Plans, Tally
from simulators.vta.hazards import Hazard, hazards
from simulators.vta.isa import Finish, Instruction, checked_words, decode, text
from simulators.vta.legality import why_illegal
from simulators.vta.memory import Sram, TrapError
from simulators.vta.order import (
    COMPUTE,
    ENGINES,
    QUEUES,
    Choice,
    Links,
    Order,
    Queue,
    at_random,
    engine_first,
    order_of,
)
from simulators.vta.profiles import profile_of

SCHEDULES = ("stream", "random", "adversarial")
# Orders drawn at random by the schedule "adversarial", besides each engine first, second and third.
DRAWN = 4
# Instructions of streams that a machine keeps decoded.
_KEPT_INSTRUCTIONS = 1 << 18
_FLAG_BITS = 0b1111000


@dataclass(frozen=True)
class _Stream:
    """A stream, decoded: what does not change from run to run."""

    instructions: list[Instruction]
    names: list[tuple[int, int]]
    links: Links
    illegal: list[tuple[int, str]]
    orders: dict[tuple[int, ...], Order] = field(default_factory=dict)

    def order(self, tokens: tuple[int, ...]) -> Order:
        """The order in which, of the instructions that may go, the first of the stream goes."""
        if tokens not in self.orders:
            self.orders.clear()
            self.orders[tokens] = order_of(self.links, tokens)
        return self.orders[tokens]


@dataclass
class RunReport(Report):
    """What a VTA reports: counters and findings, and when asked an estimate of the cycles."""

    stream: _Stream | None = field(default=None, repr=False, compare=False)
    order: Order | None = field(default=None, repr=False, compare=False)
    config: Config = PYNQ

    @cached_property
    def estimate(self) -> Estimate:
        """Cycles of the stream with the engines overlapping; ValueError where nothing was executed."""
        if self.stream is None or self.order is None:
            raise ValueError("a stream with illegal instructions is not executed, and has no cycles")
        return estimate(self.stream.instructions, self.stream.links, self.order, self.config)


class Machine:
    """A VTA. SRAM and dependency tokens persist from one run to the next, as on a board.

    config: the machine's sizes. profile: whose semantics, of `profiles.PROFILES`. schedule: which order of
    those that the tokens permit is executed: "stream" (of the instructions that may go, the first of the
    stream), "random" (drawn, by the seed), or "adversarial" (as "stream", but extreme and drawn orders are
    executed as well, and must give the same). ValueError names what is supported.
    """

    def __init__(
        self, config: Config = PYNQ, profile: str = "fsim", *, schedule: str = "stream", seed: int = 0
    ) -> None:
        self._profile = profile_of(profile)
        if schedule not in SCHEDULES:
            raise ValueError(f"no VTA schedule {schedule!r}; supported: {', '.join(SCHEDULES)}")
        if self._profile.partial_sum == "20-bit" and config.block not in (16, 32):
            raise ValueError(f"{profile} has BLOCK 16 or 32, and the configuration {config.block}")
        self.config = config
        self.profile = profile
        self.schedule = schedule
        self.seed = seed
        self._plans = Plans()
        self._streams: dict[bytes, _Stream] = {}
        self.reset()

    def reset(self) -> None:
        """Clear SRAM to zeros that count as written by nobody, and take all tokens away."""
        self.sram = Sram.cleared(self.config, output_memory=self._profile.stored == "out")
        self.tokens: dict[Queue, int] = dict.fromkeys(QUEUES, 0)

    def run(self, insns: np.ndarray, dram: np.ndarray) -> RunReport:
        """Execute a stream and change dram in place.

        insns: uint64[n, 2], low word first. dram: uint8[bytes], byte k is physical address k. A run is the
        same every time. An instruction that cannot be executed stops the machine; nothing raises but an
        argument that is not what it should be (ValueError).
        """
        checked_words(insns)
        if not isinstance(dram, np.ndarray) or dram.dtype != np.uint8 or dram.ndim != 1:
            raise ValueError("dram is a one-dimensional uint8 array")
        if not dram.flags.writeable or not dram.flags.c_contiguous:
            raise ValueError("dram is a contiguous array that can be written")
        stream = self._decoded(insns)
        if stream.illegal:
            findings = [
                Finding("illegal-instruction", "error", _where(stream, index), reason)
                for index, reason in stream.illegal
            ]
            return RunReport(dict.fromkeys(COUNTER_NAMES, 0), findings)
        return _Run(self, stream, dram).report()

    def _decoded(self, insns: np.ndarray) -> _Stream:
        """Decode a stream, or remember that it was."""
        key = insns.tobytes()
        if key not in self._streams:
            instructions = decode(insns, self.config)
            reasons = [why_illegal(each, self.config, self._profile) for each in instructions]
            names = [(low & ~_FLAG_BITS, high) for low, high in insns.tolist()]
            illegal = [(index, reason) for index, reason in enumerate(reasons) if reason is not None]
            kept = sum(len(each.names) for each in self._streams.values())
            if kept + len(names) > _KEPT_INSTRUCTIONS:
                self._streams.clear()
            self._streams[key] = _Stream(instructions, names, Links.of(insns), illegal)
        return self._streams[key]

    # What a run needs of the machine ------------------------------------------------------------------

    def execution(self, stream: _Stream, sram: Sram, dram: np.ndarray) -> Execution:
        """Return an execution of a stream on some memories."""
        return Execution(
            self.config,
            self._profile,
            sram,
            dram,
            self._plans,
            stream.instructions,
            stream.names,
            stream.links,
        )

    def order(self, stream: _Stream, choose: Choice) -> Order:
        """Return the order of a stream, from the tokens that are there."""
        return order_of(stream.links, list(self.tokens.values()), choose)

    def says(self, behaviour: str) -> str:
        """Say what the profile does, with its name."""
        return f"{self.profile}: {self._profile.says(behaviour)}"


def _where(stream: _Stream, index: int) -> str:
    return f"instruction {index}: {text(stream.instructions[index])}"


class _Run:
    """One run: the order, the execution, and what was noticed."""

    def __init__(self, machine: Machine, stream: _Stream, dram: np.ndarray) -> None:
        self.machine = machine
        self.stream = stream
        self.dram = dram
        self.findings: list[Finding] = []

    def report(self) -> RunReport:
        """Run the stream, and report: errors first, then warnings."""
        machine, stream = self.machine, self.stream
        if machine.schedule == "random":
            order = machine.order(stream, at_random(machine.seed))
        else:
            order = stream.order(tuple(machine.tokens.values()))
        others = machine.schedule == "adversarial"
        before = (machine.sram.copy(), self.dram.copy()) if others else None
        execution = machine.execution(stream, machine.sram, self.dram)
        done = self._execute(execution, order.sequence)
        if done == len(order.sequence):
            tokens = order.tokens
            self._judge_end(order)
            self._judge_finish(order)
        else:
            tokens = self._tokens_at(order.sequence, done)
        self._judge_order(execution, order)
        self._judge_memories(execution)
        if before is not None and done == len(order.sequence):
            self._try_others(order, *before)
        machine.tokens = dict(zip(QUEUES, tokens, strict=True))
        if done == len(order.sequence) and not order.waiting and self._ends(order):
            self._warn_of_tokens(order.sequence[-1])
        self._warn_of_elements(execution)
        return RunReport(execution.counters, self.findings, stream, order, machine.config)

    def _execute(self, execution: Execution, sequence: list[int]) -> int:
        """Execute the instructions in an order; return how many it were before one could not be."""
        for done, index in enumerate(sequence):
            try:
                execution.execute(index)
            except TrapError as trap:
                self._error(trap.kind, index, str(trap))
                return done
        return len(sequence)

    def _tokens_at(self, sequence: list[int], stopped: int) -> list[int]:
        """The tokens that are left where an instruction took its own and then could not be executed."""
        tokens, links = list(self.machine.tokens.values()), self.stream.links
        for place, index in enumerate(sequence[: stopped + 1]):
            for each in links.pops[index]:
                tokens[each] -= 1
            for each in links.pushes[index] if place < stopped else ():
                tokens[each] += 1
        return tokens

    def _where(self, index: int) -> str:
        return _where(self.stream, index)

    def _error(self, kind: str, index: int, message: str) -> None:
        self.findings.append(Finding(kind, "error", self._where(index), message))

    # The end of a stream ------------------------------------------------------------------------------

    def _judge_end(self, order: Order) -> None:
        instructions = self.stream.instructions
        if order.waiting:
            self._explain_deadlock(order)
            return
        if not order.sequence:
            message = "the stream has no instructions"
            self.findings.append(Finding("no-finish", "error", "the stream", message))
            return
        if self._ends(order):
            return
        last = order.sequence[-1]
        finishes = [index for index, each in enumerate(instructions) if isinstance(each, Finish)]
        if finishes:
            self._error("no-finish", last, f"executed after the FINISH at instruction {finishes[-1]}")
        else:
            self._error("no-finish", last, "the stream ends here, and has no FINISH")

    def _ends(self, order: Order) -> bool:
        """Whether what is executed last is FINISH."""
        return bool(order.sequence) and isinstance(self.stream.instructions[order.sequence[-1]], Finish)

    def _explain_deadlock(self, order: Order) -> None:
        states, executed = [], set(order.sequence)
        for engine, members in zip(ENGINES, self.stream.links.queue, strict=True):
            head = next((index for index in members if index not in executed), None)
            if head is None:
                states.append(f"{engine} has nothing left to execute")
                continue
            missing = " and ".join("→".join(QUEUES[each]) for each in order.waiting[head])
            states.append(f"{engine} waits at {self._where(head)} for a token {missing}")
        self._error("deadlock", min(order.waiting), "; ".join(states))

    # Order --------------------------------------------------------------------------------------------

    def _judge_order(self, execution: Execution, order: Order) -> None:
        for each in hazards(execution.accesses, order, self.stream.links.place):
            self._explain_hazard(each)

    def _judge_finish(self, order: Order) -> None:
        """Say where the program may have ended before another engine has."""
        links = self.stream.links
        if order.waiting or not self._ends(order):
            return
        finish = order.sequence[-1]
        for engine, members in enumerate(links.queue):
            finished = int(order.before[finish, engine])
            if engine != COMPUTE and finished < len(members):
                self._error(
                    "hazard",
                    members[finished],
                    f"no token orders it before {self._where(finish)}, which may end the program "
                    "while it is still to be executed",
                )

    def _explain_hazard(self, hazard: Hazard) -> None:
        does = {False: "reads", True: "writes"}
        more = f" ({hazard.pairs} such pairs in the stream)" if hazard.pairs > 1 else ""
        self._error(
            "hazard",
            hazard.second,
            f"it {does[hazard.second_writes]} what {self._where(hazard.first)} {does[hazard.first_writes]} "
            f"in {hazard.memory}, and no token says which of them goes first{more}",
        )

    def _other_orders(self) -> Iterator[tuple[str, Order]]:
        """Yield orders that try to go wrong, in words."""
        machine, links = self.machine, self.stream.links
        for priority in permutations(range(len(ENGINES))):
            words = " before ".join(ENGINES[each] for each in priority)
            yield words, machine.order(self.stream, engine_first(links, priority))
        for drawn in range(machine.seed, machine.seed + DRAWN):
            yield f"drawn with seed {drawn}", machine.order(self.stream, at_random(drawn))

    def _try_others(self, order: Order, sram: Sram, dram: np.ndarray) -> None:
        """Execute other orders from the same state; the first that gives another result is an error."""
        tried = {tuple(order.sequence)}
        for words, other in self._other_orders():
            if tuple(other.sequence) in tried:
                continue
            tried.add(tuple(other.sequence))
            memories, bytes_ = sram.copy(), dram.copy()
            execution = self.machine.execution(self.stream, memories, bytes_)
            found = len(self.findings)
            self._execute(execution, other.sequence)
            if len(self.findings) > found:
                self.findings[found:] = [
                    Finding("hazard", "error", each.where, f"in the order {words}: {each.message}")
                    for each in self.findings[found:]
                ]
                return
            ends = [("DRAM", self.dram, bytes_)]
            ends += [
                (name, ours, theirs)
                for (name, ours), (_, theirs) in zip(self.machine.sram.items(), memories.items(), strict=True)
            ]
            for name, ours, theirs in ends:
                if not np.array_equal(ours, theirs):
                    place = int(np.argwhere(ours != theirs)[0][0])
                    what = f"{name} differs from element {place} on"
                    self.findings.append(Finding("hazard", "error", f"the order {words}", what))
                    return

    # Elements -----------------------------------------------------------------------------------------

    def _judge_memories(self, execution: Execution) -> None:
        for name, tally in execution.undefined.items():
            self._error(
                "uninitialised",
                tally.first,
                f"{_counted(tally, 'elements')} of {name} are read that nothing wrote since the machine was "
                f"reset{_first_of(tally)}",
            )
        for behaviour in ("gemm_distance", "alu_distance"):
            if behaviour in execution.behaviours:
                tally = execution.behaviours.pop(behaviour)
                self._error("hazard", tally.first, self.machine.says(behaviour) + _first_of(tally))

    def _warn_of_tokens(self, last: int) -> None:
        for (source, target), count in self.machine.tokens.items():
            if count:
                message = f"{count} left in {source}→{target}, where the next program finds them"
                self.findings.append(Finding("surplus-token", "warning", self._where(last), message))

    def _warn_of_elements(self, execution: Execution) -> None:
        if execution.lossy:
            words = f"do not fit int{self.machine.config.inp_width} and lose their high bits"
            self._warn("lossy-store", execution.lossy, f"{_counted(execution.lossy, 'elements')} {words}")
        for behaviour, tally in execution.behaviours.items():
            if behaviour == "shift" and self.machine.profile == "fsim":
                words = (
                    f"{tally.elements} lanes are shifted by {self.machine.config.acc_width} or more, "
                    "where backends differ"
                )
            else:
                lanes = f"{_counted(tally, 'elements')}: " if tally.elements else ""
                words = lanes + self.machine.says(behaviour)
            self._warn("backend-dependent", tally, words)

    def _warn(self, kind: str, tally: Tally, words: str) -> None:
        where = self._where(tally.first)
        self.findings.append(Finding(kind, "warning", where, words + _first_of(tally)))


def _counted(tally: Tally, what: str) -> str:
    return f"{tally.elements} {what}"


def _first_of(tally: Tally) -> str:
    return (
        f", in {tally.instructions} instructions of which this is the first" if tally.instructions > 1 else ""
    )
