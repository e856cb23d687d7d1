"""How a layer is divided among blocks, warps and tensor instructions.

A layer is a grid of output tiles: output places (height by width of a convolution, one for a dense layer)
by `rows` (tiles of the batch) by `columns` (tiles of the output channels). Every factor divides its
extent, so that no tile is cut and any legal shape, however small, has a tiling.

The knobs are those of TVM's HWNC schedule (PR #6121), under its names; that schedule gave one block the
tiles of one output place at a time, here a block takes a rectangle of places.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.tensorcore.operands import is_packed
from kernels.tensorcore.problem import Extents, Problem

WARP = 32
MAX_THREADS = 1024
# Static shared memory that a block gets on every architecture without asking for more.
MAX_SHARED_BYTES = 48 * 1024
# Of the 255 registers that a thread can have, what its accumulators may take.
MAX_ACCUMULATORS = 128

STAGES = ("kernel", "row", "position")
REORDER_INNER = (("ko", "kh"), ("kh", "ko"))
VECTOR_BYTES = (4, 8, 16)
AUTO_UNROLL = (0, 512, 1500)


@dataclass(frozen=True)
class Tiling:
    """The knobs of one schedule.

    A block has `block_height_warps * block_width_warps * block_row_warps` warps along threadIdx.y and
    `block_col_warps` along threadIdx.z; each warp computes `warp_height_tiles * warp_width_tiles` places
    by `warp_row_tiles` by `warp_col_tiles` output tiles, and does so for `split_block_k_nums` rectangles
    of places, one after another.

    `chunk` k steps are staged in shared memory between two barriers: for the whole kernel, for one of its
    rows, or for one position (`stage`). `reorder_inner` is the order of the loops over chunks (ko) and
    over kernel rows (kh), outer first. `vector_as` and `vector_ws` are the bytes that a thread moves at a
    time when data (as) and weights (ws) are staged; `as_double_buffer` and `ws_double_buffer` keep two of
    these buffers. `auto_unroll_max_step` lets TVM unroll any loop of at most so many steps.
    """

    block_height_warps: int = 1
    block_width_warps: int = 1
    block_row_warps: int = 1
    block_col_warps: int = 1
    warp_height_tiles: int = 1
    warp_width_tiles: int = 1
    warp_row_tiles: int = 1
    warp_col_tiles: int = 1
    chunk: int = 1
    split_block_k_nums: int = 1
    stage: str = "row"
    reorder_inner: tuple[str, str] = ("ko", "kh")
    vector_as: int = 16
    vector_ws: int = 16
    as_double_buffer: bool = False
    ws_double_buffer: bool = False
    auto_unroll_max_step: int = 512

    @property
    def threads_y(self) -> int:
        """Warps along threadIdx.y."""
        return self.block_height_warps * self.block_width_warps * self.block_row_warps

    @property
    def warps(self) -> int:
        """Warps of one block."""
        return self.threads_y * self.block_col_warps

    @property
    def rectangle(self) -> tuple[int, int]:
        """Output places, (height, width), that a block computes at a time."""
        return (
            self.block_height_warps * self.warp_height_tiles,
            self.block_width_warps * self.warp_width_tiles,
        )

    @property
    def warp_tiles(self) -> int:
        """Output tiles that a warp accumulates at a time."""
        return self.warp_height_tiles * self.warp_width_tiles * self.warp_row_tiles * self.warp_col_tiles

    def staged_kernel(self, extents: Extents) -> tuple[int, int]:
        """Kernel positions, (rows, columns), that are staged at a time."""
        height, width = extents.kernel
        return {"kernel": (height, width), "row": (1, width), "position": (1, 1)}[self.stage]

    def window(self, extents: Extents) -> tuple[int, int]:
        """Image places, (height, width), that a block stages at a time."""
        staged = self.staged_kernel(extents)
        height, width = (
            (places - 1) * stride + (kernel - 1) * dilation + 1
            for places, stride, kernel, dilation in zip(
                self.rectangle, extents.stride, staged, extents.dilation, strict=True
            )
        )
        return height, width

    def staged_bytes(self, problem: Problem) -> tuple[int, int]:
        """Bytes of data and of weights that a block stages between two barriers."""
        height, width = self.window(problem.extents)
        kernel_height, kernel_width = self.staged_kernel(problem.extents)
        a_tiles = height * width * self.block_row_warps * self.warp_row_tiles
        b_tiles = kernel_height * kernel_width * self.block_col_warps * self.warp_col_tiles
        step = problem.step_bytes(self.chunk)
        return a_tiles * problem.tile.m * step, b_tiles * problem.tile.n * step

    def result_bytes(self, problem: Problem) -> int:
        """Bytes of the shared memory through which sums pass to an epilogue: of every warp a row of tiles.

        Along an axis that warps divide, TVM 0.27 cannot tell one tile of a warp from the others, and keeps
        room for all of them.
        """
        if not problem.fused:
            return 0
        tile = problem.tile
        lines, words = (tile.n, tile.m) if is_packed(problem.out_dtype) else (tile.m, tile.n)
        words *= self.block_col_warps * self.warp_col_tiles
        factor, offset = result_alignment(problem)
        kept = 1
        for warps, tiles in (
            (self.block_height_warps, self.warp_height_tiles),
            (self.block_width_warps, self.warp_width_tiles),
            (self.block_row_warps, self.warp_row_tiles),
        ):
            kept *= tiles if warps > 1 else 1
        return kept * self.threads_y * lines * (words + (offset - words) % factor) * 4

    def shared_bytes(self, problem: Problem) -> int:
        """Shared memory of one block, in bytes."""
        a_bytes, b_bytes = self.staged_bytes(problem)
        operands = a_bytes * (1 + self.as_double_buffer) + b_bytes * (1 + self.ws_double_buffer)
        return operands + self.result_bytes(problem)

    def check(self, problem: Problem) -> None:
        """Raise ValueError naming the factor that does not divide its extent, or the limit exceeded."""
        extents = problem.extents
        for what, values, allowed in (
            ("stage", self.stage, STAGES),
            ("reorder_inner", self.reorder_inner, REORDER_INNER),
            ("vector_as", self.vector_as, VECTOR_BYTES),
            ("vector_ws", self.vector_ws, VECTOR_BYTES),
        ):
            if values not in allowed:
                raise ValueError(f"{what} = {values!r} is none of {', '.join(map(str, allowed))}")
        if self.stage == "kernel" and self.reorder_inner == ("kh", "ko"):
            raise ValueError("stage = 'kernel' stages all kernel rows at once: ko must be outside kh")
        height, width = self.rectangle
        if height > 1 and not extents.shared_weights:
            raise ValueError(
                f"a block takes {height} rows at a time, which have weights of their own: {self}"
            )
        for what, extent, factor in (
            ("output rows", extents.height, height),
            ("output columns", extents.width, width),
            ("row tiles", extents.rows, self.block_row_warps * self.warp_row_tiles),
            ("column tiles", extents.columns, self.block_col_warps * self.warp_col_tiles),
            ("k steps", extents.steps, self.chunk),
        ):
            if factor < 1 or extent % factor:
                raise ValueError(f"{extent} {what} cannot be divided by {factor}: {self}")
        rectangles = (extents.height // height) * (extents.width // width)
        if self.split_block_k_nums < 1 or rectangles % self.split_block_k_nums:
            raise ValueError(
                f"{rectangles} rectangles cannot be divided by split_block_k_nums = {self.split_block_k_nums}"
            )
        if self.warps * WARP > MAX_THREADS:
            raise ValueError(f"{self.warps} warps are more than {MAX_THREADS} threads: {self}")
        needed = self.shared_bytes(problem)
        if needed > MAX_SHARED_BYTES:
            raise ValueError(f"{needed} bytes of shared memory exceed {MAX_SHARED_BYTES}: {self}")


def result_alignment(problem: Problem) -> tuple[int, int]:
    """Say how the lines of the shared memory are laid out through which sums pass to an epilogue.

    4-bit results are read along the rows of the tiles, eight channels a thread: a line is then one channel.
    Others are read along the channels. The words of a line are `offset` modulo `factor`, so that lines
    begin at different banks, and neither the store of a tile nor the threads that read it meet in one. A
    store takes four neighbouring lines at a time, save that of mma by channels, which takes every other.
    """
    every_other = is_packed(problem.out_dtype) and problem.tile.instruction == "mma"
    return 32, 4 if every_other else 8


def largest_divisor(extent: int, limit: int) -> int:
    """Find the largest divisor of `extent` that is at most `limit`."""
    return max(d for d in range(1, min(extent, limit) + 1) if extent % d == 0)


def divisors(extent: int, limit: int) -> list[int]:
    """List the divisors of `extent` that are at most `limit`, in rising order."""
    return [d for d in range(1, min(extent, limit) + 1) if extent % d == 0]
