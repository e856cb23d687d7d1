"""How a layer is cut into tiles: extents, what the memories hold, and what a tile costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from simulators.vta.config import Config

# Of the Pynq sample's memory port. A row takes GEMM a cycle and the ALU five, as VTA++ estimates.
BYTES_PER_CYCLE = 8
ALU_CYCLES = 5
# Instructions and micro-ops that a tile takes from DRAM, about: of equally large transfers, the longer.
TURN_BYTES = 128
# How much slower than the fastest a tile may be, if it loads less.
SLACK = 1 / 16
# Tiles of data and weights, and of accumulators, at a time; most first.
COPIES = ((2, 2), (2, 1), (1, 1))
T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """What a tile costs the whole layer.

    nbytes: data and weights loaded; first: of these, what the first product waits for. computing: cycles
    of GEMM and ALU. overlapped: whether the one goes on during the other. waiting: bytes stored while nothing
    is computed. turns: how many tiles there are.
    """

    nbytes: int
    first: int
    computing: int
    overlapped: bool
    waiting: int
    turns: int

    @property
    def moved(self) -> int:
        """About how many bytes come from DRAM, the program's own included."""
        return self.nbytes + TURN_BYTES * self.turns

    @property
    def cycles(self) -> int:
        """About how long it takes."""
        loading, alone = self.nbytes // BYTES_PER_CYCLE, (self.first + self.waiting) // BYTES_PER_CYCLE
        if not self.overlapped:
            return self.waiting // BYTES_PER_CYCLE + loading + self.computing
        return alone + max(loading - self.first // BYTES_PER_CYCLE, self.computing)


def cheapest(tiles: Sequence[T], cost: Callable[[T], Cost]) -> T:
    """Return the tile that loads the fewest bytes, of those that are about as fast as the fastest."""
    costs = [cost(each) for each in tiles]
    enough = min(each.cycles for each in costs) * (1 + SLACK)
    fast = [index for index, each in enumerate(costs) if each.cycles <= enough]
    return tiles[min(fast, key=lambda index: (costs[index].moved, costs[index].cycles))]


def pieces(extent: int, size: int) -> int:
    """Return how many tiles of a size an extent has."""
    return -(-extent // size)


def ceil_splits(extent: int) -> list[int]:
    """Return the tile sizes ceil(extent / n) for n = 1, 2, ..., largest first."""
    return sorted({pieces(extent, parts) for parts in range(1, extent + 1)}, reverse=True)


def limits(config: Config) -> dict[str, int]:
    """Return the elements that each memory holds."""
    return {"INP": config.inp_depth, "WGT": config.wgt_depth, "ACC": config.acc_depth}
