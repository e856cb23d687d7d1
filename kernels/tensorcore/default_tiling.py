"""The tiling that a layer gets without tuning: the cheapest of many, by an estimate and not by trial.

The estimate has three parts, each as a share of what the bench asks of a kernel: instructions around each
tensor instruction, bytes of global memory over those that must move, and blocks to occupy a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from kernels.tensorcore.operands import PER_WORD, is_packed
from kernels.tensorcore.problem import Extents, Problem
from kernels.tensorcore.tiling import MAX_SHARED_BYTES, WARP, Tiling, divisors, largest_divisor

# Accumulator registers of one thread, warps of one block, output places of one block.
ACCUMULATORS = 64
MOST_WARPS = 16
MOST_PLACES = 128

# What the bench asks of a tuned kernel: warp instructions for each tensor instruction, global bytes over
# those that must move. Their shares are squared, so that neither is bought with much of the other.
INSTRUCTIONS = 4.0
BYTES = 2.0
# Blocks below which multiprocessors stand idle, and what an idle device costs beside the other two.
BLOCKS = 64
IDLE = 0.4

# Instructions, as counted in the PTX of these schedules: one vector staged in shared memory, one output
# tile begun and stored, one block begun.
STAGING = 24.0
STORING = 3.0
BEGINNING = 60.0
# One channel of an epilogue: the load of its sum, a requantisation, a residual.
FINISHING = 15.0


def _rows(extents: Extents) -> int:
    """Output rows that a block may take together."""
    return extents.height if extents.shared_weights else 1


def _shares(extents: Extents, most_tiles: int) -> Iterator[dict[str, int]]:
    """Divide the output: tiles of a warp, then warps of a block."""
    for columns, rows in product(divisors(extents.columns, most_tiles), divisors(extents.rows, most_tiles)):
        left = most_tiles // (columns * rows)
        if not left:
            continue
        for width in divisors(extents.width, left):
            for height in divisors(_rows(extents), left // width):
                yield from (
                    {
                        "warp_col_tiles": columns,
                        "warp_row_tiles": rows,
                        "warp_width_tiles": width,
                        "warp_height_tiles": height,
                        **warps,
                    }
                    for warps in _warps(extents, columns=columns, rows=rows, width=width, height=height)
                )


def _warps(extents: Extents, *, columns: int, rows: int, width: int, height: int) -> Iterator[dict[str, int]]:
    for col_warps in divisors(extents.columns // columns, 4):
        for row_warps in divisors(extents.rows // rows, MOST_WARPS // col_warps):
            left = MOST_WARPS // (col_warps * row_warps)
            for width_warps in divisors(extents.width // width, left):
                for height_warps in divisors(_rows(extents) // height, left // width_warps):
                    if width * width_warps * height * height_warps * rows * row_warps <= MOST_PLACES:
                        yield {
                            "block_col_warps": col_warps,
                            "block_row_warps": row_warps,
                            "block_width_warps": width_warps,
                            "block_height_warps": height_warps,
                        }


def _stagings(extents: Extents) -> Iterator[dict[str, object]]:
    """Choose what is staged at a time: the largest piece first."""
    all_at_once = [extents.steps] if extents.steps in (3, 5, 7) else []
    for stage in ("kernel", "row", "position"):
        for chunk in dict.fromkeys([*all_at_once, *(largest_divisor(extents.steps, c) for c in (4, 2, 1))]):
            yield {"stage": stage, "chunk": chunk}


def global_bytes(tiling: Tiling, problem: Problem) -> float:
    """Estimate the bytes of global memory that a kernel moves."""
    extents = problem.extents
    a_bytes, b_bytes = tiling.staged_bytes(problem)
    staged_height, staged_width = tiling.staged_kernel(extents)
    times = extents.kernel[0] // staged_height * (extents.kernel[1] // staged_width)
    times *= extents.steps // tiling.chunk
    return blocks(tiling, extents) * times * (a_bytes + b_bytes) + problem.result_bytes


def compulsory_bytes(problem: Problem) -> float:
    """Estimate the bytes that must move: every operand that is used, and every result, once."""
    extents, tile = problem.extents, problem.tile
    touched = [
        min((places - 1) * stride + (kernel - 1) * dilation + 1, places * kernel)
        for places, stride, kernel, dilation in zip(
            (extents.height, extents.width), extents.stride, extents.kernel, extents.dilation, strict=True
        )
    ]
    step = problem.step_bytes(extents.steps)
    data = touched[0] * touched[1] * extents.rows * tile.m * step
    weights = 1 if extents.shared_weights else extents.height
    weight = weights * extents.kernel[0] * extents.kernel[1] * extents.columns * tile.n * step
    return data + weight + problem.result_bytes


def blocks(tiling: Tiling, extents: Extents) -> int:
    """Rectangles by rows by columns: the blocks of a launch, as long as each takes one rectangle."""
    height, width = tiling.rectangle
    return (
        (extents.height // height)
        * (extents.width // width)
        * (extents.rows // (tiling.block_row_warps * tiling.warp_row_tiles))
        * (extents.columns // (tiling.block_col_warps * tiling.warp_col_tiles))
    )


def instructions_per_product(tiling: Tiling, problem: Problem) -> float:
    """Estimate the warp instructions for each tensor instruction."""
    extents = problem.extents
    places = tiling.warp_height_tiles * tiling.warp_width_tiles
    a_loads, b_loads = places * tiling.warp_row_tiles, tiling.warp_col_tiles
    tiles = tiling.warp_tiles
    staged_height, staged_width = tiling.staged_kernel(extents)
    products = tiles * tiling.chunk * staged_height * staged_width
    a_bytes, b_bytes = tiling.staged_bytes(problem)
    vectors = sum(-(-size // (16 * WARP * tiling.warps)) for size in (a_bytes, b_bytes))
    times = extents.kernel[0] // staged_height * (extents.kernel[1] // staged_width)
    times *= extents.steps // tiling.chunk
    once = tiles * STORING + BEGINNING + _finishing(tiling, problem)
    return 1 + 2 * (a_loads + b_loads) / tiles + (vectors * STAGING + once / times) / products


def _finishing(tiling: Tiling, problem: Problem) -> float:
    """Instructions of the epilogue of one warp: the results of a row of tiles are divided among its lanes."""
    if not problem.fused:
        return 0.0
    channels = PER_WORD if is_packed(problem.out_dtype) else 1
    items = tiling.warp_col_tiles * problem.tile.m * problem.tile.n // channels
    rows = tiling.warp_tiles // tiling.warp_col_tiles
    return rows * -(-items // WARP) * (FINISHING * channels + STAGING)


@dataclass(frozen=True)
class Estimate:
    """A tiling and what the estimates of this module say it costs; only their order has a meaning."""

    cost: float
    tiling: Tiling


def estimates(problem: Problem) -> Iterator[Estimate]:
    """List the tilings among which the default is chosen, in no order.

    Accumulators take up to 64 registers of a thread, a block has up to 16 warps, its operands lie in
    static shared memory.
    """
    extents, tile = problem.extents, problem.tile
    least = compulsory_bytes(problem)
    stagings = list(_stagings(extents))
    for shares in _shares(extents, max(1, ACCUMULATORS * WARP // (tile.m * tile.n))):
        for staging in stagings:
            tiling = Tiling(**shares, **staging)  # type: ignore[arg-type]
            if tiling.shared_bytes(problem) > MAX_SHARED_BYTES:
                continue
            cost = (
                (instructions_per_product(tiling, problem) / INSTRUCTIONS) ** 2
                + (global_bytes(tiling, problem) / least / BYTES) ** 2
                + IDLE * max(0.0, 1 - blocks(tiling, extents) / BLOCKS)
            )
            yield Estimate(cost, tiling)


@cache
def default_tiling(problem: Problem) -> Tiling:
    """Choose a tiling for any extents, the cheapest by the estimates of this module.

    Raises ValueError where not even one tile fits.
    """
    best = min(estimates(problem), key=lambda estimate: estimate.cost, default=None)
    if best is None:
        raise ValueError(f"no tiling of {problem} fits {MAX_SHARED_BYTES} bytes of shared memory")
    return best.tiling
