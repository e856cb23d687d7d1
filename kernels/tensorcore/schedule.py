"""The steps that the schedules of all tensor-core layers have in common.

Data flows global memory -> shared memory -> fragments -> accumulators -> global memory. A layer's own
module (conv2d, dense) describes the arithmetic and orders its loops; the steps here act on one block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule

from kernels.tensorcore.intrinsics import Tile
from kernels.tensorcore.tiling import WARP, Tiling

# A schedule hands out opaque references to blocks and loops.
Block = Any
Loop = Any


@dataclass(frozen=True)
class OutputLoops:
    """Loops over the output tiles of one warp, and where its accumulation goes."""

    warp: Loop
    unrolled: tuple[Loop, ...]
    tile_row: Loop


def extent(sch: Schedule, loop: Loop) -> int:
    """Return the constant extent of a loop."""
    return int(sch.get(loop).extent)


def bind_output(
    sch: Schedule,
    *,
    spatial: list[Loop],
    position: Loop,
    row: Loop,
    column: Loop,
    tile_loops: tuple[Loop, Loop],
    tiling: Tiling,
) -> OutputLoops:
    """Divide the output among blocks (x: places, y: batch, z: channels) and warps (threadIdx.y, .z)."""
    position_block, position_warp, position_tile = sch.split(
        position, [None, tiling.position_warps, tiling.position_tiles]
    )
    row_block, row_warp, row_tile = sch.split(row, [None, tiling.row_warps, tiling.row_tiles])
    column_block, column_warp, column_tile = sch.split(
        column, [None, tiling.column_warps, tiling.column_tiles]
    )
    inner = (position_tile, row_tile, column_tile)
    sch.reorder(
        *spatial, position_block, row_block, column_block, position_warp, row_warp, column_warp, *inner
    )
    sch.reorder(column_tile, *tile_loops)
    sch.bind(sch.fuse(*spatial, position_block), "blockIdx.x")
    sch.bind(row_block, "blockIdx.y")
    sch.bind(column_block, "blockIdx.z")
    sch.bind(sch.fuse(position_warp, row_warp), "threadIdx.y")
    sch.bind(column_warp, "threadIdx.z")
    return OutputLoops(warp=column_warp, unrolled=inner, tile_row=tile_loops[0])


def stage_in_shared(
    sch: Schedule, block: Block, at: Loop, *, dimensions: int, tiling: Tiling, contiguous: bool
) -> None:
    """Let all threads of a block fill a shared buffer, 16 bytes each at a time.

    `block` writes a buffer of so many dimensions: the last four are tiles, k steps, rows of a tile, and
    one k step, which is 16 contiguous bytes in global as in shared memory. `contiguous` says that the
    tiles lie in global memory as they do in shared memory.
    """
    sch.compute_at(block, at, preserve_unit_loops=True)
    *outer, vector = sch.get_loops(block)[-dimensions:]
    tiles, steps, rows = outer[-3:]
    rows_fill_the_block = (extent(sch, tiles) * extent(sch, rows)) % (tiling.warps * WARP) == 0
    if not contiguous and rows_fill_the_block and not _is_power_of_two(extent(sch, steps)):
        # Threads are numbered along the rows of one k step: none then divides its number by 3.
        sch.reorder(steps, tiles, rows)
        outer[-3:] = steps, tiles, rows
    _, z, y, x = sch.split(
        sch.fuse(*outer), [None, tiling.column_warps, tiling.position_warps * tiling.row_warps, WARP]
    )
    sch.bind(z, "threadIdx.z")
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    sch.vectorize(vector)


def _is_power_of_two(value: int) -> bool:
    return value & (value - 1) == 0


def tensorize_last_two(sch: Schedule, block: Block, intrinsic: str) -> None:
    """Replace the two innermost loops of a block, one tile, by an instruction."""
    sch.tensorize(sch.get_loops(block)[-2], intrinsic)


def check_tile(tile: Tile, extents: list[tuple[str, int, int]]) -> None:
    """Raise ValueError naming the first extent (name, value, multiple) that the tile does not divide."""
    for what, value, multiple in extents:
        if value < 1 or value % multiple:
            raise ValueError(f"{what} = {value} is not a positive multiple of {multiple}, as {tile} requires")
