"""What a program does, without running its arithmetic: bytes by memory, cycles, and how full memories get."""

from dataclasses import dataclass

import numpy as np

from simulators.vta.config import Config
from simulators.vta.cycles import Estimate, cycles_of, estimate, iterations
from simulators.vta.hazards import Span
from simulators.vta.isa import Alu, AluOpcode, Gemm, Instruction, Load, Memory, Store, decode
from simulators.vta.kernel import kernel_of
from simulators.vta.legality import why_illegal
from simulators.vta.memory import TrapError, plan_load, plan_store
from simulators.vta.order import QUEUES, Links, order_of
from simulators.vta.profiles import PROFILES
from simulators.vta.program import Program

_FSIM = PROFILES["fsim"]


@dataclass(frozen=True)
class MemoryUse:
    """One SRAM: bytes moved to or from DRAM, bytes of zeros written, instructions, and elements in use."""

    memory: str
    direction: str
    instructions: int
    nbytes: int
    zeros: int
    elements: int
    depth: int

    @property
    def occupancy(self) -> float:
        """Part of the memory that the program ever touches, 0 to 1."""
        return self.elements / self.depth


@dataclass(frozen=True)
class OpcodeUse:
    """One kind of compute instruction: how many, their micro-op iterations, and their cycles."""

    operation: str
    instructions: int
    iterations: int
    cycles: int


@dataclass(frozen=True)
class Explanation:
    """What a program does; estimate is of the order in which the first instruction that may go goes.

    unfinished: instructions that never get their tokens. problem: why the walk stopped, or "".
    """

    config: Config
    instructions: int
    uops: int
    memories: list[MemoryUse]
    operations: list[OpcodeUse]
    estimate: Estimate
    unfinished: int
    problem: str

    @property
    def nbytes(self) -> int:
        """All bytes between DRAM and the SRAMs."""
        return sum(each.nbytes for each in self.memories)


class _Walk:
    """The tallies of a walk through a program."""

    def __init__(self, config: Config) -> None:
        depths = {
            "UOP": config.uop_depth,
            "INP": config.inp_depth,
            "WGT": config.wgt_depth,
            "ACC": config.acc_depth,
            "OUT": config.acc_depth,
        }
        self.touched = {name: np.zeros(depth, np.bool_) for name, depth in depths.items()}
        self.moved = {name: [0, 0, 0] for name in depths}
        self.operations: dict[str, list[int]] = {}
        self.config = config
        self.uop = np.zeros(config.uop_depth, np.uint32)

    def touch(self, name: str, span: Span) -> None:
        """Mark elements as in use."""
        self.touched[name][span.key] = True

    def step(self, instruction: Instruction, table: np.ndarray, base: int) -> None:
        """Note one instruction; table: the program's micro-ops, which lie at micro-op `base` of DRAM."""
        match instruction:
            case Load():
                self._load(instruction, table, base)
            case Store():
                transfer = plan_store(instruction, self.config, _FSIM)
                if transfer is not None:
                    self._move("OUT", transfer.sram, transfer.nbytes, 0)
            case Gemm() | Alu():
                self._compute(instruction)

    def _load(self, load: Load, table: np.ndarray, base: int) -> None:
        transfer = plan_load(load, self.config, _FSIM)
        if transfer is None:
            return
        elements = transfer.sram.high - transfer.sram.low
        zeros = (elements - transfer.rows * transfer.columns) * transfer.element
        self._move(transfer.name, transfer.sram, transfer.nbytes, zeros)
        if load.memory_type != Memory.UOP:
            return
        high, wide, top, left = transfer.box
        inside = self.uop[transfer.sram.low : transfer.sram.high].reshape(high, wide)
        inside[:] = 0
        for row in range(transfer.rows):
            begin = load.dram_base - base + row * load.x_stride
            if begin < 0 or begin + load.x_size > len(table):
                raise TrapError("dram-out-of-range", "a LOAD reads micro-ops where the program has none")
            inside[top + row, left : left + transfer.columns] = table[begin : begin + load.x_size]

    def _move(self, name: str, span: Span, nbytes: int, zeros: int) -> None:
        self.touch(name, span)
        for place, more in enumerate((1, nbytes, zeros)):
            self.moved[name][place] += more

    def _compute(self, instruction: Gemm | Alu) -> None:
        if isinstance(instruction, Alu):
            name = "ALU " + AluOpcode(instruction.alu_opcode).name
        else:
            name = "GEMM reset" if instruction.reset else "GEMM"
        tally = self.operations.setdefault(name, [0, 0, 0])
        for place, more in enumerate((1, iterations(instruction), cycles_of(instruction, self.config))):
            tally[place] += more
        made = kernel_of(instruction, self.uop, self.config, _FSIM)
        if made is not None:
            self.touch("ACC", made.result)
            for memory, span in made.reads:
                self.touch(memory, span)


def explain(program: Program) -> Explanation:
    """Walk through a program in the order of its stream; ValueError where it has an illegal instruction."""
    config = program.config
    instructions = decode(program.insns, config)
    problems = [
        f"instruction {index}: {reason}"
        for index, each in enumerate(instructions)
        if (reason := why_illegal(each, config, _FSIM)) is not None
    ]
    if problems:
        raise ValueError(f"not a program that can be executed: {problems[0]}")
    links = Links.of(program.insns)
    order = order_of(links, [0] * len(QUEUES))
    walk, problem = _Walk(config), ""
    base = next((each.address // 4 for each in program.buffers if each.role == "uop"), 0)
    for index in order.sequence:
        try:
            walk.step(instructions[index], program.uops, base)
        except TrapError as trap:
            problem = f"instruction {index}: {trap}"
            break
    return Explanation(
        config=config,
        instructions=len(instructions),
        uops=len(program.uops),
        memories=[
            MemoryUse(
                memory=name,
                direction="stored" if name == "OUT" else "loaded",
                instructions=walk.moved[name][0],
                nbytes=walk.moved[name][1],
                zeros=walk.moved[name][2],
                elements=int(np.count_nonzero(touched)),
                depth=touched.size,
            )
            for name, touched in walk.touched.items()
        ],
        operations=[OpcodeUse(name, *tally) for name, tally in sorted(walk.operations.items())],
        estimate=estimate(instructions, links, order, config),
        unfinished=len(instructions) - len(order.sequence),
        problem=problem,
    )
