"""What a kernel multiplies: extents in tiles, the tensor instruction, and what becomes of the sums."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.tensorcore.operands import BITS, row_bytes
from kernels.tensorcore.tile import Tile


@dataclass(frozen=True)
class Extents:
    """What there is to divide: tiles of the output, k steps, and how the kernel touches the input.

    rows and columns count output tiles of one place; steps counts the k steps of one kernel position.
    height, width are those of the output in places; kernel, stride and dilation are (rows, columns).
    A dense layer has 1 for all of these. Where weights are not shared, each output row has weights of its
    own (batched products).
    """

    rows: int
    columns: int
    steps: int
    height: int = 1
    width: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    shared_weights: bool = True


@dataclass(frozen=True)
class Problem:
    """A product of tiles: see `kernels.tensorcore.product`.

    `dtype` is the type of the data, `weight_dtype` that of the weights, of as many bits. `out_dtype` is
    the type of a result. Without an epilogue it is int32 and accumulators go to global memory as they
    are; with one (`fused`) they pass through shared memory, where threads find them.
    """

    extents: Extents
    tile: Tile
    dtype: str
    weight_dtype: str
    out_dtype: str = "int32"
    fused: bool = False

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the padded image, as far as the kernel reaches."""
        e = self.extents
        height, width = (
            (places - 1) * stride + (kernel - 1) * dilation + 1
            for places, stride, kernel, dilation in zip(
                (e.height, e.width), e.stride, e.kernel, e.dilation, strict=True
            )
        )
        return height, width

    @property
    def tensor_instructions(self) -> int:
        """Tensor instructions that multiply all tiles."""
        e = self.extents
        return e.height * e.width * e.rows * e.columns * e.steps * e.kernel[0] * e.kernel[1]

    @property
    def result_bytes(self) -> float:
        """Bytes of the output."""
        e, tile = self.extents, self.tile
        bits = 32 if self.out_dtype == "int32" else BITS[self.out_dtype]
        return e.height * e.width * e.rows * e.columns * tile.m * tile.n * bits / 8

    def step_bytes(self, steps: int) -> int:
        """Bytes of so many k steps of one row of an operand."""
        return row_bytes(steps * self.tile.k, self.dtype)
