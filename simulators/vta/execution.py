"""One pass over a stream in a given order: what each instruction does, and what is noticed on the way."""

from dataclasses import dataclass, field

import numpy as np

from simulators.vta import kernel, memory
from simulators.vta.config import Config
from simulators.vta.hazards import Accesses, Rows, Span, Touched
from simulators.vta.isa import Alu, Gemm, Instruction, Load, Store
from simulators.vta.kernel import Kernel, kernel_of
from simulators.vta.memory import COUNTERS, Sram, Transfer
from simulators.vta.order import COMPUTE, STORE, Links
from simulators.vta.profiles import Profile

COUNTER_NAMES = (
    "inp_load_nbytes",
    "wgt_load_nbytes",
    "acc_load_nbytes",
    "uop_load_nbytes",
    "out_store_nbytes",
    "gemm_counter",
    "alu_counter",
)


@dataclass
class Tally:
    """Something noticed at many instructions: the first of them, how many they are, how many elements."""

    first: int
    instructions: int = 0
    elements: int = 0


@dataclass
class Plans:
    """What instructions mean, prepared once: by words without dependency flags, and micro-ops.

    The plans of one machine, so of one configuration and profile. They are given up where they would take
    more than `limit` bytes.
    """

    limit: int = 64 << 20
    nbytes: int = 0
    known: dict[tuple, Transfer | Kernel | None] = field(default_factory=dict)

    def keep(self, key: tuple, plan: Transfer | Kernel | None) -> None:
        """Remember a plan."""
        size = plan.nbytes if isinstance(plan, Kernel) else 512
        if self.nbytes + size > self.limit:
            self.known.clear()
            self.nbytes = 0
        self.known[key] = plan
        self.nbytes += size


@dataclass
class Execution:
    """The memories of a machine while a stream is executed."""

    config: Config
    profile: Profile
    sram: Sram
    dram: np.ndarray
    plans: Plans
    instructions: list[Instruction]
    names: list[tuple[int, int]]
    links: Links
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTER_NAMES, 0))
    accesses: Accesses = field(default_factory=dict)
    undefined: dict[str, Tally] = field(default_factory=dict)
    behaviours: dict[str, Tally] = field(default_factory=dict)
    lossy: Tally | None = None

    def execute(self, index: int) -> None:
        """Execute one legal instruction; TrapError where it cannot be: then nothing of it is done."""
        instruction = self.instructions[index]
        match instruction:
            case Load():
                self._load(index, instruction)
            case Store():
                self._store(index, instruction)
            case Gemm() | Alu():
                self._compute(index, instruction)

    # LOAD and STORE -----------------------------------------------------------------------------------

    def _transfer(self, index: int, instruction: Load | Store) -> Transfer | None:
        key = self.names[index]
        plans = self.plans
        if key in plans.known:
            found = plans.known[key]
            assert not isinstance(found, Kernel)
            transfer = found
        else:
            if isinstance(instruction, Load):
                transfer = memory.plan_load(instruction, self.config, self.profile)
            else:
                transfer = memory.plan_store(instruction, self.config, self.profile)
            plans.keep(key, transfer)
        if transfer is not None:
            memory.check_dram(transfer, self.dram)
        return transfer

    def _load(self, index: int, instruction: Load) -> None:
        transfer = self._transfer(index, instruction)
        if transfer is None:
            return
        if transfer.behaviour:
            self._note(self.behaviours, transfer.behaviour, index, 0)
        if transfer.sram.high > transfer.sram.low:
            memory.load(self.sram, self.dram, transfer, self.config)
            self.sram.defined[transfer.name][transfer.sram.low : transfer.sram.high] = True
            engine = self.links.engine[index]
            self._touch(transfer.name, engine, True, index, transfer.sram)
            if transfer.rows and transfer.dram is not None:
                self._touch("DRAM", engine, False, index, transfer.dram)
        self.counters[COUNTERS[transfer.memory]] += transfer.nbytes

    def _store(self, index: int, instruction: Store) -> None:
        transfer = self._transfer(index, instruction)
        if transfer is None:
            return
        self.counters[COUNTERS[transfer.memory]] += transfer.nbytes
        if not transfer.rows:
            return
        assert transfer.dram is not None
        self._read(transfer.name, STORE, index, transfer.sram)
        lost, stale = memory.store(self.sram, self.dram, transfer, self.config)
        self._touch("DRAM", STORE, True, index, transfer.dram)
        if lost:
            self.lossy = self.lossy or Tally(index)
            self.lossy.instructions += 1
            self.lossy.elements += lost
        if stale:
            self._note(self.behaviours, "stored", index, stale)

    # GEMM and ALU -------------------------------------------------------------------------------------

    def _kernel(self, index: int, instruction: Gemm | Alu) -> Kernel | None:
        uops = self.sram.uop[instruction.uop_bgn : instruction.uop_end]
        key = (*self.names[index], uops.tobytes())
        plans = self.plans
        if key in plans.known:
            found = plans.known[key]
            assert not isinstance(found, Transfer)
            return found
        made = kernel_of(instruction, self.sram.uop, self.config, self.profile)
        plans.keep(key, made)
        return made

    def _compute(self, index: int, instruction: Gemm | Alu) -> None:
        made = self._kernel(index, instruction)
        if made is None:
            return
        sram, config, profile = self.sram, self.config, self.profile
        self._define("UOP", index, Span(instruction.uop_bgn, instruction.uop_end))
        for name, span in made.reads:
            self._read(name, COMPUTE, index, span)
        if isinstance(instruction, Alu):
            self.counters["alu_counter"] += made.iterations
            for behaviour, lanes in kernel.run_alu(made, instruction, sram, config, profile).items():
                self._note(self.behaviours, behaviour, index, lanes)
        elif instruction.reset:
            kernel.run_reset(made, sram, config, profile)
        else:
            self.counters["gemm_counter"] += made.iterations
            narrow = kernel.run_gemm(made, sram, config, profile)
            if narrow:
                self._note(self.behaviours, "partial_sum", index, narrow)
        if made.uneven:
            self._note(self.behaviours, made.uneven, index, made.iterations)
        sram.defined["ACC"][made.result.key] = True
        self._touch("ACC", COMPUTE, True, index, made.result)
        if sram.out is not None:
            self._touch("OUT", COMPUTE, True, index, made.result)

    # What is noticed ----------------------------------------------------------------------------------

    def _read(self, name: str, engine: int, index: int, span: Span) -> None:
        self._define(name, index, span)
        self._touch(name, engine, False, index, span)

    def _define(self, name: str, index: int, span: Span) -> None:
        """Note where a set has elements that nobody wrote; they are noted once."""
        count = self.sram.undefined(name, span)
        if count:
            self._note(self.undefined, name, index, count)
            self.sram.defined[name][span.key] = True

    def _touch(self, name: str, engine: int, writes: bool, index: int, span: Span | Rows) -> None:
        key = (name, engine, writes)
        if key not in self.accesses:
            self.accesses[key] = Touched()
        self.accesses[key].add(index, span)

    @staticmethod
    def _note(tallies: dict[str, Tally], key: str, index: int, elements: int) -> None:
        tally = tallies.setdefault(key, Tally(index))
        tally.instructions += 1
        tally.elements += elements
