"""How a layer is divided among blocks, warps and tensor instructions.

A layer is a grid of output tiles: `positions` (output columns of a convolution, 1 for a dense layer) by
`rows` (tiles of the batch) by `columns` (tiles of the output channels). Every factor divides its extent,
so that no tile is cut and any legal shape, however small, has a tiling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernels.tensorcore.intrinsics import Tile

WARP = 32
MAX_THREADS = 1024
# Static shared memory that a block gets on every architecture without asking for more.
MAX_SHARED_BYTES = 48 * 1024


@dataclass(frozen=True)
class Extents:
    """What there is to divide: tiles of the output, k steps, and how a kernel row touches the input.

    positions, rows, columns count output tiles in one output row of the layer; steps counts the k steps
    of one kernel position. kernel_columns, stride and dilation are those along the image width. A dense
    layer has 1 for the first and for the last three.
    """

    rows: int
    columns: int
    steps: int
    positions: int = 1
    kernel_columns: int = 1
    stride: int = 1
    dilation: int = 1


@dataclass(frozen=True)
class Tiling:
    """Factors of one schedule: warps of a block, output tiles of a warp, k steps staged at a time.

    A block has `position_warps * row_warps * column_warps` warps; each computes
    `position_tiles * row_tiles * column_tiles` output tiles. `chunk` k steps are staged in shared memory
    between two barriers, for a whole kernel row if `stage_kernel_row`, else for one kernel position.
    """

    position_warps: int = 1
    row_warps: int = 1
    column_warps: int = 1
    position_tiles: int = 1
    row_tiles: int = 1
    column_tiles: int = 1
    chunk: int = 1
    stage_kernel_row: bool = True

    @property
    def warps(self) -> int:
        """Warps of one block."""
        return self.position_warps * self.row_warps * self.column_warps

    def image_columns(self, extents: Extents, kernel_columns: int) -> int:
        """Input columns that a block reads for so many neighbouring kernel columns."""
        span = (self.position_warps * self.position_tiles - 1) * extents.stride
        return span + (kernel_columns - 1) * extents.dilation + 1

    def shared_bytes(self, extents: Extents, tile: Tile) -> int:
        """Shared memory of one block, in bytes, for operands of one byte."""
        kernel_columns = extents.kernel_columns if self.stage_kernel_row else 1
        a_tiles = self.image_columns(extents, kernel_columns) * self.row_warps * self.row_tiles
        b_tiles = kernel_columns * self.column_warps * self.column_tiles
        return self.chunk * tile.k * (a_tiles * tile.m + b_tiles * tile.n)

    def check(self, extents: Extents, tile: Tile) -> None:
        """Raise ValueError naming the factor that does not divide its extent, or the limit exceeded."""
        for what, extent, factor in (
            ("output columns", extents.positions, self.position_warps * self.position_tiles),
            ("row tiles", extents.rows, self.row_warps * self.row_tiles),
            ("column tiles", extents.columns, self.column_warps * self.column_tiles),
            ("k steps", extents.steps, self.chunk),
        ):
            if factor < 1 or extent % factor:
                raise ValueError(f"{extent} {what} cannot be divided by {factor}: {self}")
        if self.warps * WARP > MAX_THREADS:
            raise ValueError(f"{self.warps} warps are more than {MAX_THREADS} threads: {self}")
        needed = self.shared_bytes(extents, tile)
        if needed > MAX_SHARED_BYTES:
            raise ValueError(f"{needed} bytes of shared memory exceed {MAX_SHARED_BYTES}: {self}")


def largest_divisor(extent: int, limit: int) -> int:
    """Find the largest divisor of `extent` that is at most `limit`."""
    return max(d for d in range(1, min(extent, limit) + 1) if extent % d == 0)


def _candidates(extents: Extents) -> Iterator[Tiling]:
    """Tilings from the largest to the smallest need of shared memory."""
    for tiles, warps in ((8, 4), (8, 2), (4, 2), (2, 1), (1, 1)):
        column_tiles = largest_divisor(extents.columns, 2 if tiles > 1 else 1)
        row_tiles = largest_divisor(extents.rows, tiles // column_tiles)
        # Where the batch is small, neighbouring output columns fill the warp: they share the weights.
        position_tiles = largest_divisor(extents.positions, tiles // column_tiles // row_tiles)
        column_warps = largest_divisor(extents.columns // column_tiles, 2 if warps > 2 else 1)
        row_warps = largest_divisor(extents.rows // row_tiles, warps // column_warps)
        position_warps = largest_divisor(
            extents.positions // position_tiles, warps // (column_warps * row_warps)
        )
        # Five or seven steps have no divisor up to 4: better all at once than one by one.
        all_at_once = [extents.steps] if extents.steps in (5, 7) else []
        for chunk in (*all_at_once, 4, 2, 1):
            for stage_kernel_row in (True, False):
                yield Tiling(
                    position_warps=position_warps,
                    row_warps=row_warps,
                    column_warps=column_warps,
                    position_tiles=position_tiles,
                    row_tiles=row_tiles,
                    column_tiles=column_tiles,
                    chunk=largest_divisor(extents.steps, chunk),
                    stage_kernel_row=stage_kernel_row,
                )


def _worth_a_row(tiling: Tiling, extents: Extents) -> bool:
    """Whether staging a kernel row reads no more input than staging its positions one by one."""
    one_by_one = extents.kernel_columns * tiling.image_columns(extents, 1)
    return tiling.image_columns(extents, extents.kernel_columns) <= one_by_one


def default_tiling(extents: Extents, tile: Tile) -> Tiling:
    """Choose a tiling for any extents: up to 8 tiles a warp, 4 warps a block, 4 (5, 7) k steps a chunk.

    A warp with 4 x 2 tiles issues 8 tensor instructions for 6 fragment loads and keeps 64 accumulator
    registers per thread; where the channels fill one column only, it has 8 x 1. What is larger than
    shared memory is divided further.
    """
    for tiling in _candidates(extents):
        if tiling.stage_kernel_row and not _worth_a_row(tiling, extents):
            continue
        if tiling.shared_bytes(extents, tile) <= MAX_SHARED_BYTES:
            return tiling
    raise ValueError(f"no tiling of {extents} fits {MAX_SHARED_BYTES} bytes of shared memory")
