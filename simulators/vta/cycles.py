"""How long a stream takes, as an estimate: what each instruction costs, and how the three engines overlap.

The costs are those of the cycle estimate in VTA++'s functional simulator (arXiv 2111.15024). An engine begins
an instruction when it has finished the one before and the tokens are there; what the engines do to one
another on the bus to DRAM is not looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from simulators.vta.config import Config
from simulators.vta.isa import Alu, Gemm, Instruction, Load, Store
from simulators.vta.memory import element_bytes
from simulators.vta.order import ENGINES, Links, Order

CYCLES: Mapping[str, int] = MappingProxyType(
    {
        "instruction": 4,
        "burst": 4,
        "pulse": 1,
        "gemm": 6,
        "gemm_row": 1,
        "alu": 1,
        "alu_row": 5,
    }
)
"""Cycles: of any instruction; of starting a burst of a transfer, and of a pulse in it; of starting a GEMM or
ALU instruction, and of one row (there are BATCH) of one of its iterations."""
PULSE_BYTES = 8
BURST_PULSES = 16


def cycles_of(instruction: Instruction, config: Config) -> int:
    """Return the cycles that an instruction keeps its engine busy."""
    cost = CYCLES["instruction"]
    match instruction:
        case Load() | Store() if instruction.x_size:
            width = instruction.x_size * element_bytes(instruction.memory_type, config)
            rows = instruction.y_size
            if instruction.x_stride == instruction.x_size or rows == 1:
                width, rows = width * rows, 1
            pulses = -(-width // PULSE_BYTES)
            bursts = -(-pulses // BURST_PULSES)
            cost += rows * (bursts * CYCLES["burst"] + pulses * CYCLES["pulse"])
        case Gemm():
            cost += CYCLES["gemm"] + CYCLES["gemm_row"] * iterations(instruction) * config.batch
        case Alu():
            cost += CYCLES["alu"] + CYCLES["alu_row"] * iterations(instruction) * config.batch
    return cost


def iterations(instruction: Gemm | Alu) -> int:
    """Return how many times a micro-op of an instruction is executed."""
    return instruction.iter_out * instruction.iter_in * (instruction.uop_end - instruction.uop_bgn)


@dataclass(frozen=True)
class Estimate:
    """Cycles from the first instruction to the last; of these, how many each engine and each unit is busy.

    gemm counts GEMM instructions with their overhead, and tiles the cycles in which the GEMM core multiplies:
    one row of one tile a cycle.
    """

    cycles: int
    load: int
    compute: int
    store: int
    gemm: int
    alu: int
    tiles: int

    @property
    def utilisation(self) -> float:
        """Part of all cycles in which the GEMM core multiplies, 0 to 1."""
        return self.tiles / self.cycles if self.cycles else 0.0

    @property
    def serial(self) -> int:
        """Cycles if the engines took turns."""
        return self.load + self.compute + self.store


def estimate(instructions: Sequence[Instruction], links: Links, order: Order, config: Config) -> Estimate:
    """Estimate the cycles of the instructions that the order executes."""
    finished = [0] * len(instructions)
    free, busy = [0, 0, 0], [0, 0, 0]
    gemm = alu = tiles = 0
    for index in order.sequence:
        instruction = instructions[index]
        engine = links.engine[index]
        cost = cycles_of(instruction, config)
        begin = max(free[engine], *(finished[each] for each in order.producers[index]), 0)
        finished[index] = free[engine] = begin + cost
        busy[engine] += cost
        if isinstance(instruction, Gemm):
            gemm += cost
            tiles += 0 if instruction.reset else iterations(instruction) * config.batch
        elif isinstance(instruction, Alu):
            alu += cost
    named = dict(zip(ENGINES, busy, strict=True))
    return Estimate(cycles=max(free), **named, gemm=gemm, alu=alu, tiles=tiles)
