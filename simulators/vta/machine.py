"""The VTA machine: three engines that execute real instruction words, and the tokens between them."""

from collections.abc import Iterable

import numpy as np

from simulators.report import Finding, Report
from simulators.vta import compute, memory
from simulators.vta.compute import Operand, Operands, Product, Step
from simulators.vta.config import PYNQ, Config
from simulators.vta.isa import (
    Alu,
    AluOpcode,
    Finish,
    Gemm,
    Illegal,
    Instruction,
    Load,
    Memory,
    Store,
    checked_words,
    decode,
    text,
    uop_columns,
)
from simulators.vta.memory import COUNTERS, Sram, TrapError

PROFILES = ("fsim",)
ENGINES = ("load", "compute", "store")
COUNTER_NAMES = (
    "inp_load_nbytes",
    "wgt_load_nbytes",
    "acc_load_nbytes",
    "uop_load_nbytes",
    "out_store_nbytes",
    "gemm_counter",
    "alu_counter",
)
_PLAN_BYTES = 64 << 20

Queue = tuple[str, str]


def engine_of(instruction: Instruction) -> str:
    """Return the engine that executes an instruction."""
    if isinstance(instruction, Store):
        return "store"
    if isinstance(instruction, Load) and instruction.memory_type in (Memory.INP, Memory.WGT):
        return "load"
    return "compute"


def queues_of(instruction: Instruction) -> tuple[list[Queue], list[Queue]]:
    """Return the queues (from, to) that an instruction takes tokens from, and those it puts one into.

    A neighbour that does not exist is named "none".
    """
    line = ("none", *ENGINES, "none")
    here = engine_of(instruction)
    place = line.index(here)
    before, after = line[place - 1], line[place + 1]
    pops = [
        (each, here) for each, flag in ((before, instruction.pop_prev), (after, instruction.pop_next)) if flag
    ]
    pushes = [
        (here, each)
        for each, flag in ((before, instruction.push_prev), (after, instruction.push_next))
        if flag
    ]
    return pops, pushes


def why_illegal(instruction: Instruction) -> str | None:
    """Say what makes an instruction one that no machine may execute, or None. Needs no machine state."""
    if isinstance(instruction, Illegal):
        return f"no instruction has opcode {instruction.opcode}"
    pops, pushes = queues_of(instruction)
    if any("none" in queue for queue in pops + pushes):
        return f"a dependency flag names a neighbour that the {engine_of(instruction)} engine has not"
    if isinstance(instruction, Load | Store) and instruction.x_size:
        return _why_illegal_transfer(instruction)
    if isinstance(instruction, Gemm | Alu) and instruction.uop_end < instruction.uop_bgn:
        return f"uop_end {instruction.uop_end} lies before uop_bgn {instruction.uop_bgn}"
    if isinstance(instruction, Alu) and instruction.alu_opcode not in tuple(AluOpcode):
        return f"no ALU operation has opcode {instruction.alu_opcode}"
    return None


def _why_illegal_transfer(instruction: Load | Store) -> str | None:
    """Do the part of `why_illegal` for a LOAD or STORE that moves something; one that does not is a NOP."""
    kind, name = instruction.memory_type, type(instruction).__name__.upper()
    if kind not in COUNTERS:
        return f"{name} with memory {kind}, which does not exist"
    if isinstance(instruction, Load):
        return "LOAD to OUT, which is only stored" if kind == Memory.OUT else None
    if kind != Memory.OUT:
        return f"STORE from {Memory(kind).name}, and only OUT is stored"
    if any((instruction.y_pad_0, instruction.y_pad_1, instruction.x_pad_0, instruction.x_pad_1)):
        return "STORE with padding"
    return None


class Machine:
    """A VTA. SRAM and dependency tokens persist from one run to the next, as on a board.

    config: the machine's sizes. profile: whose semantics, of PROFILES; ValueError names what is supported.
    """

    def __init__(self, config: Config = PYNQ, profile: str = "fsim") -> None:
        if profile not in PROFILES:
            raise ValueError(f"no VTA profile {profile!r}; supported: {', '.join(PROFILES)}")
        self.config = config
        self.profile = profile
        self._plans: dict[tuple, list[Product] | list[Step]] = {}
        self._plan_bytes = 0
        self.reset()

    def reset(self) -> None:
        """Clear SRAM to zeros and take all tokens away."""
        self.sram = Sram.cleared(self.config)
        self.tokens: dict[Queue, int] = {
            ("load", "compute"): 0,
            ("compute", "load"): 0,
            ("compute", "store"): 0,
            ("store", "compute"): 0,
        }

    def run(self, insns: np.ndarray, dram: np.ndarray) -> Report:
        """Execute a stream and change dram in place.

        insns: uint64[n, 2], low word first. dram: uint8[bytes], byte k is physical address k. Of the
        instructions whose tokens are there, the one that stands first in the stream goes next, so a run
        is the same every time. An error stops the machine where it is found; nothing raises but an
        argument that is not what it should be (ValueError).
        """
        checked_words(insns)
        if not isinstance(dram, np.ndarray) or dram.dtype != np.uint8 or dram.ndim != 1:
            raise ValueError("dram is a one-dimensional uint8 array")
        if not dram.flags.writeable or not dram.flags.c_contiguous:
            raise ValueError("dram is a contiguous array that can be written")
        return _Run(self, decode(insns, self.config), dram).report()

    # What a run needs of the machine ------------------------------------------------------------------

    def _operands(self, instruction: Gemm | Alu) -> Operands | None:
        """Where dst, src and wgt of an instruction's iterations lie; None where there is no iteration."""
        if instruction.iter_out * instruction.iter_in * (instruction.uop_end - instruction.uop_bgn) == 0:
            return None
        if instruction.uop_end > self.config.uop_depth:
            raise TrapError(
                "sram-out-of-range",
                f"micro-op {instruction.uop_end - 1} of UOP, which holds {self.config.uop_depth}",
            )
        words = self.sram.uop[instruction.uop_bgn : instruction.uop_end]
        dst, src, wgt = uop_columns(words, self.config)
        factors = (instruction.wgt_out, instruction.wgt_in) if isinstance(instruction, Gemm) else (0, 0)
        return (
            Operand(dst, instruction.dst_out, instruction.dst_in),
            Operand(src, instruction.src_out, instruction.src_in),
            Operand(wgt, *factors),
        )

    def _check(self, memory_name: str, operand: Operand, instruction: Gemm | Alu) -> None:
        depth = len(self.sram.of(Memory[memory_name]))
        highest = operand.highest(instruction.iter_out, instruction.iter_in)
        if highest >= depth:
            raise TrapError("sram-out-of-range", f"element {highest} of {memory_name}, which holds {depth}")

    def _plan(self, instruction: Gemm | Alu, operands: Operands, *loops: int) -> list:
        """Return the plan of a piece of an instruction, made when it first comes with these micro-ops."""
        dst, src, wgt = operands
        iter_out, iter_in = loops
        kind = (type(instruction), instruction.reset, isinstance(instruction, Alu) and instruction.use_imm)
        key = (*kind, *loops, *((each.base.tobytes(), each.out, each.inner) for each in operands))
        if key not in self._plans:
            plan: list[Product] | list[Step]
            if isinstance(instruction, Alu):
                plan = compute.plan_alu(dst, None if instruction.use_imm else src, iter_out, iter_in)
            elif instruction.reset:
                plan = [Step(compute.span(np.unique(dst.indices(iter_out, iter_in))), None)]
            else:
                plan = compute.plan_gemm(dst, src, wgt, iter_out, iter_in)
            size = sum(each.nbytes + 256 for each in plan) + 3 * dst.base.nbytes
            if self._plan_bytes + size > _PLAN_BYTES:
                self._plans.clear()
                self._plan_bytes = 0
            self._plans[key] = plan
            self._plan_bytes += size
        return self._plans[key]

    def execute(
        self, instruction: Instruction, dram: np.ndarray, counters: dict[str, int]
    ) -> tuple[int, int]:
        """Execute one legal instruction; TrapError where it cannot be.

        Returns how many stored elements lost bits and how many lanes were shifted by 32 or more.
        """
        lost = far = 0
        match instruction:
            case Load() if instruction.x_size:
                moved = memory.load(self.sram, dram, instruction, self.config)
                counters[COUNTERS[Memory(instruction.memory_type)]] += moved
            case Store() if instruction.x_size:
                moved, lost = memory.store(self.sram, dram, instruction, self.config)
                counters[COUNTERS[Memory.OUT]] += moved
            case Gemm() | Alu():
                operands = self._operands(instruction)
                if operands is not None:
                    far = self._compute(instruction, operands, counters)
        return lost, far

    def _compute(self, instruction: Gemm | Alu, operands: Operands, counters: dict[str, int]) -> int:
        """Execute GEMM or ALU with at least one iteration; return the lanes shifted by 32 or more."""
        dst, src, wgt = operands
        loops = (instruction.iter_out, instruction.iter_in)
        iterations = loops[0] * loops[1] * (instruction.uop_end - instruction.uop_bgn)
        self._check("ACC", dst, instruction)
        if isinstance(instruction, Alu):
            # As in the functional simulator, src is checked even where an immediate takes its place.
            self._check("ACC", src, instruction)
            counters["alu_counter"] += iterations
        elif not instruction.reset:
            self._check("INP", src, instruction)
            self._check("WGT", wgt, instruction)
            counters["gemm_counter"] += iterations
        far, sram = 0, self.sram
        for piece in compute.pieces(operands, *loops):
            plan = self._plan(instruction, *piece)
            if isinstance(instruction, Alu):
                far += compute.run_alu(plan, instruction.alu_opcode, instruction.imm, sram.acc)
            elif instruction.reset:
                compute.clear(plan, sram.acc)
            else:
                compute.run_gemm(plan, sram.acc, sram.inp, sram.wgt)
        return far


class _Run:
    """One run: which instruction goes next, and what was noticed."""

    def __init__(self, machine: Machine, instructions: list[Instruction], dram: np.ndarray) -> None:
        self.machine = machine
        self.instructions = instructions
        self.dram = dram
        self.counters = dict.fromkeys(COUNTER_NAMES, 0)
        self.findings: list[Finding] = []
        self.waiting: dict[str, list[int]] = {engine: [] for engine in ENGINES}
        for index, instruction in enumerate(instructions):
            self.waiting[engine_of(instruction)].append(index)
        for queue in self.waiting.values():
            queue.reverse()
        self.queues = [queues_of(each) for each in instructions]
        self.lossy: list[tuple[int, int]] = []
        self.far: list[tuple[int, int]] = []

    def report(self) -> Report:
        """Run the stream, and report."""
        illegal = [(index, why_illegal(each)) for index, each in enumerate(self.instructions)]
        for index, reason in illegal:
            if reason is not None:
                self._error("illegal-instruction", index, reason)
        if not self.findings:
            self._execute()
            self._warn_of_elements()
        return Report(self.counters, self.findings)

    def _where(self, index: int) -> str:
        return f"instruction {index}: {text(self.instructions[index])}"

    def _error(self, kind: str, index: int, message: str) -> None:
        self.findings.append(Finding(kind, "error", self._where(index), message))

    def _ready(self) -> Iterable[int]:
        """Yield the heads of the three queues whose tokens are all there."""
        for queue in self.waiting.values():
            if queue and all(self.machine.tokens[each] for each in self.queues[queue[-1]][0]):
                yield queue[-1]

    def _next(self) -> int | None:
        """Choose which instruction goes next: of those that may, the first of the stream."""
        return min(self._ready(), default=None)

    def _execute(self) -> None:
        last = None
        tokens = self.machine.tokens
        while (index := self._next()) is not None:
            instruction = self.instructions[index]
            pops, pushes = self.queues[index]
            self.waiting[engine_of(instruction)].pop()
            for queue in pops:
                tokens[queue] -= 1
            try:
                lost, far = self.machine.execute(instruction, self.dram, self.counters)
            except TrapError as trap:
                self._error(trap.kind, index, str(trap))
                return
            if lost:
                self.lossy.append((index, lost))
            if far:
                self.far.append((index, far))
            for queue in pushes:
                tokens[queue] += 1
            last = index
        if any(self.waiting.values()):
            self._explain_deadlock()
        elif last is None or not isinstance(self.instructions[last], Finish):
            self._explain_no_finish(last)
        else:
            self._warn_of_tokens(last)

    def _explain_deadlock(self) -> None:
        states = []
        for engine, queue in self.waiting.items():
            if not queue:
                states.append(f"{engine} has nothing left to execute")
                continue
            missing = [
                f"{pop[0]}→{pop[1]}" for pop in self.queues[queue[-1]][0] if not self.machine.tokens[pop]
            ]
            states.append(f"{engine} waits at {self._where(queue[-1])} for a token {' and '.join(missing)}")
        first = min(queue[-1] for queue in self.waiting.values() if queue)
        self._error("deadlock", first, "; ".join(states))

    def _explain_no_finish(self, last: int | None) -> None:
        finishes = [index for index, each in enumerate(self.instructions) if isinstance(each, Finish)]
        if last is None:
            self.findings.append(
                Finding("no-finish", "error", "the stream", "the stream has no instructions")
            )
        elif finishes:
            self._error("no-finish", last, f"executed after the FINISH at instruction {finishes[-1]}")
        else:
            self._error("no-finish", last, "the stream ends here, and has no FINISH")

    def _warn_of_tokens(self, last: int) -> None:
        for (source, target), count in self.machine.tokens.items():
            if count:
                message = f"{count} left in {source}→{target}, where the next program finds them"
                self.findings.append(Finding("surplus-token", "warning", self._where(last), message))

    def _warn_of_elements(self) -> None:
        for kind, places, what in (
            ("lossy-store", self.lossy, "elements do not fit int8 and lose their high bits"),
            ("backend-dependent", self.far, "lanes are shifted by 32 or more, where backends differ"),
        ):
            if places:
                index, _ = places[0]
                elements = sum(count for _, count in places)
                message = f"{elements} {what}, in {len(places)} instructions of which this is the first"
                self.findings.append(Finding(kind, "warning", self._where(index), message))
