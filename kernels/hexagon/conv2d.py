"""conv2d on packed tensors, in vrmpy.

Layouts (those of TVM's PR #12911): data NCHW{b}c with b = min(IC, 32), weights OIHW{b/4}i32o4i,
result NCHW32c in int32.
"""

from dataclasses import asdict, dataclass
from functools import cached_property, partial

from tvm import te, tirx
from tvm.ir import Expr
from tvm.tirx import PrimFunc

from kernels.hexagon.description import describe, described
from kernels.hexagon.image import PixelSums, pad_image
from kernels.hexagon.loop_nest import (
    WORDS,
    LoopNest,
    Memory,
    Register,
    bind,
    even_parts,
    parallel,
    rolled_or_not,
    serial,
    store_vector,
    word_vector,
)
from kernels.hexagon.tile import ACCUMULATORS, accumulate, loaded_type
from kernels.hexagon.vrmpy import check_dtypes, is_compensated, multiply_add, unsigned_weights

_MAX_BODY = 400  # vrmpy in the innermost loop: LLVM takes more than twice as long for twice as many


@dataclass(frozen=True)
class Convolution:
    """Shapes, types and geometry of one convolution on packed tensors."""

    data_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    data_dtype: str = "uint8"
    weight_dtype: str = "int8"

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the window, without dilation."""
        return self.weight_shape[2], self.weight_shape[3]

    @property
    def group_blocks(self) -> int:
        """Blocks of input channels in one group."""
        return self.data_shape[1] // self.groups

    @cached_property
    def padded(self) -> tuple[int, int]:
        """Height and width of the image with its padding."""
        top, left, bottom, right = self.padding
        return self.data_shape[2] + top + bottom, self.data_shape[3] + left + right

    @cached_property
    def out_shape(self) -> tuple[int, ...]:
        """(N, O/32, OH, OW, 32)."""
        size = [
            (extent - (window - 1) * dilation - 1) // stride + 1
            for extent, window, dilation, stride in zip(
                self.padded, self.kernel, self.dilation, self.strides, strict=True
            )
        ]
        return (self.data_shape[0], self.weight_shape[0], *size, 32)

    @property
    def vrmpy(self) -> int:
        """Multiply-accumulates of the padded shapes, in vrmpy of 128: so many are executed."""
        images, blocks, height, width, _ = self.out_shape
        window = self.kernel[0] * self.kernel[1]
        return images * blocks * height * width * self.group_blocks * window * (self.data_shape[4] // 4)

    def check(self) -> None:
        """Raise ValueError where no kernel takes this."""
        check_dtypes(self.data_dtype, self.weight_dtype)
        if len(self.data_shape) != 5 or len(self.weight_shape) != 7:
            raise ValueError(
                "conv2d takes data NCHW{b}c of 5 dimensions and weights OIHW{b/4}i32o4i of 7, "
                f"not {self.data_shape} and {self.weight_shape}"
            )
        numbers = (*self.data_shape, *self.weight_shape, *self.strides, *self.dilation, self.groups)
        if min(numbers) < 1 or len(self.padding) != 4 or min(self.padding) < 0:
            raise ValueError(
                "dimensions, strides, dilation and groups are at least 1 and the padding is 4 numbers from 0 "
                f"(top, left, bottom, right): {self}"
            )
        blocks, lanes = self.data_shape[1], self.data_shape[4]
        if lanes % 4 or not 4 <= lanes <= 32 or (blocks > 1 and lanes != 32):
            raise ValueError(
                f"{blocks} blocks of {lanes} input channels: one block holds a multiple of 4 up to 32, "
                "and more than one block holds 32 each"
            )
        if blocks % self.groups or self.weight_shape[0] % self.groups:
            raise ValueError(
                f"{self.groups} groups of {blocks} blocks of input and {self.weight_shape[0]} of output "
                "channels: each group takes whole blocks of both"
            )
        expected = (self.group_blocks, lanes // 4, 32, 4)
        if (self.weight_shape[1], *self.weight_shape[4:]) != expected:
            raise ValueError(
                f"weights {self.weight_shape} do not fit data {self.data_shape}: "
                f"they would be (O/32, {self.group_blocks}, KH, KW, {lanes // 4}, 32, 4)"
            )
        if min(self.out_shape) < 1:
            raise ValueError(
                f"a kernel of {self.kernel} with dilation {self.dilation} does not fit a padded image of "
                f"{self.padded}"
            )


def conv2d_primfunc(
    data_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    data_dtype: str = "uint8",
    weight_dtype: str = "int8",
) -> PrimFunc:
    """Describe a packed convolution: arguments data, weight, out.

    data (N, IC/b, H, W, b) uint8 or int8; weight (O/32, IC/groups/b, KH, KW, b/4, 32, 4) int8 or uint8; out
    (N, O/32, OH, OW, 32) int32, sums wrapping mod 2^32. `padding` is (top, left, bottom, right) of zeros. A
    group takes whole blocks of input and of output channels. TVM compiles the description as it is for any
    CPU; `schedule_conv2d` writes the same function for HVX.

    Raises ValueError for shapes, dtypes, strides or paddings that no kernel takes.
    """
    convolution = Convolution(
        tuple(data_shape),
        tuple(weight_shape),
        tuple(strides),  # type: ignore[arg-type]
        tuple(padding),  # type: ignore[arg-type]
        tuple(dilation),  # type: ignore[arg-type]
        groups,
        data_dtype,
        weight_dtype,
    )
    convolution.check()
    images, blocks, height, width, lanes = convolution.data_shape
    top, left, _, _ = convolution.padding

    data = te.placeholder(convolution.data_shape, data_dtype, "data")
    weight = te.placeholder(convolution.weight_shape, weight_dtype, "weight")

    def pad(n: tirx.Var, c: tirx.Var, h: tirx.Var, w: tirx.Var, i: tirx.Var) -> Expr:
        inside = tirx.all(h >= top, h < height + top, w >= left, w < width + left)
        return tirx.if_then_else(inside, data[n, c, h - top, w - left, i], tirx.const(0, data_dtype))

    source = data
    if any(convolution.padding):
        source = te.compute((images, blocks, *convolution.padded, lanes), pad, "padded")

    block = te.reduce_axis((0, convolution.group_blocks), "block")
    y = te.reduce_axis((0, convolution.kernel[0]), "kernel_y")
    x = te.reduce_axis((0, convolution.kernel[1]), "kernel_x")
    word = te.reduce_axis((0, lanes // 4), "word")
    byte = te.reduce_axis((0, 4), "byte")
    group_outputs = convolution.weight_shape[0] // groups

    def products(n: tirx.Var, o: tirx.Var, h: tirx.Var, w: tirx.Var, lane: tirx.Var) -> Expr:
        row = h * convolution.strides[0] + y * convolution.dilation[0]
        column = w * convolution.strides[1] + x * convolution.dilation[1]
        first_block = o // group_outputs * convolution.group_blocks
        pixel = source[n, first_block + block, row, column, word * 4 + byte]
        factor = weight[o, block, y, x, word, lane, byte]
        return te.sum(pixel.astype("int32") * factor.astype("int32"), axis=[block, y, x, word, byte])

    out = te.compute(convolution.out_shape, products, "conv2d")
    return describe(te.create_prim_func([data, weight, out]), "conv2d", asdict(convolution))


def schedule_conv2d(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described by `conv2d_primfunc` for HVX.

    Raises ValueError for any other function.
    """
    return convolve(Convolution(**described(primfunc, "conv2d")))


def convolve(convolution: Convolution) -> PrimFunc:
    """Write a convolution for HVX.

    A tile of up to 8 pixels by 64 channels, or 16 by 32, is one vector register for each pixel and 32
    channels, for the whole reduction. Where the weights are signed, the accumulators begin with -128 times
    the sum of the data in the window: channel sums are made once a pixel, windows of them by adding shifted
    vectors.
    """
    with LoopNest() as nest:
        data, weight, out = nest.tensors(
            ("data", convolution.data_shape, convolution.data_dtype),
            ("weight", convolution.weight_shape, convolution.weight_dtype),
            ("out", convolution.out_shape, "int32"),
        )
        _Writer(nest, convolution, data, weight, out).write()
    return nest.function


class _Writer:
    """Writes the stages of one convolution."""

    def __init__(
        self, nest: LoopNest, convolution: Convolution, data: Memory, weight: Memory, out: Memory
    ) -> None:
        self.c = convolution
        self.weight = unsigned_weights(nest, weight, convolution.weight_shape, convolution.weight_dtype)
        self.out = out
        self.image = pad_image(nest, data, convolution.data_shape, convolution.padding)
        self.sums: PixelSums | None = None
        if is_compensated(convolution.weight_dtype):
            self.sums = PixelSums(
                nest,
                self.image,
                dtype=convolution.data_dtype,
                groups=convolution.groups,
                kernel=convolution.kernel,
                dilation=convolution.dilation,
            )

    def write(self) -> None:
        images, out_blocks, out_height, out_width, _ = self.c.out_shape
        group_outputs = out_blocks // self.c.groups
        for begin, blocks, count in even_parts(group_outputs, 2):
            pixels = ACCUMULATORS // blocks
            columns = even_parts(out_width, pixels)
            rows = even_parts(out_height, max(1, pixels // out_width))
            with parallel(count) as part, serial(images) as n, serial(self.c.groups) as group:
                first = bind(group * group_outputs + begin + part * blocks)
                for y_begin, height, y_count in rows:
                    for x_begin, part_width, x_count in columns:
                        with serial(x_count) as x, serial(y_count) as y:
                            self.tile(
                                n,
                                group,
                                [first + i for i in range(blocks)],
                                (y * height + y_begin, x * part_width + x_begin),
                                (height, part_width),
                            )

    def tile(
        self,
        n: Expr,
        group: Expr,
        out_blocks: list[Expr],
        begin: tuple[Expr, Expr],
        size: tuple[int, int],
    ) -> None:
        """Write one tile: its accumulators, the reduction, and the stores."""
        c, image = self.c, self.image
        _, _, out_height, out_width, _ = c.out_shape
        pixels = [(dy, dx) for dy in range(size[0]) for dx in range(size[1])]
        # Position of the first pixel's window in the image.
        top, left = bind(begin[0] * c.strides[0]), bind(begin[1] * c.strides[1])
        tile_sums = self.initial_values(n, group, top, left, pixels)
        registers = [[Register(value) for value in tile_sums] for _ in out_blocks]

        kernel_height, kernel_width = c.kernel
        lanes = c.data_shape[4]
        vectors = lanes // 4  # of weights for one tap
        loaded, loaded_bytes = loaded_type(vectors)
        words, weights = image.view(loaded), self.weight.view("int32")
        unroll = vectors * len(pixels) * len(out_blocks) * kernel_width <= _MAX_BODY
        offsets = [image.offset(dy * c.strides[0], dx * c.strides[1]) for dy, dx in pixels]
        across = image.offset(0, c.dilation[1])  # bytes from tap to tap

        with (
            serial(c.group_blocks) as block,
            serial(kernel_height) as y,
            rolled_or_not(kernel_width, unroll=unroll) as taps,
        ):
            row = image.position(n, group * c.group_blocks + block, top + y * c.dilation[0], left)
            first = bind((row + taps[0] * across) // loaded_bytes)
            rows = [(o * c.group_blocks + block) * kernel_height + y for o in out_blocks]
            begins = [bind((r * kernel_width + taps[0]) * (vectors * WORDS)) for r in rows]
            for tap in range(len(taps)):
                accumulate(
                    registers,
                    weights=weights,
                    weight_begins=[begin + tap * vectors * WORDS for begin in begins],
                    data=words,
                    data_begin=first,
                    data_offsets=[offset + tap * across for offset in offsets],
                    loaded_bytes=loaded_bytes,
                    words=vectors,
                    multiply_add=partial(multiply_add, data_dtype=c.data_dtype),
                )
        results = self.out.view("int32")
        for i, o in enumerate(out_blocks):
            to = bind(((n * c.out_shape[1] + o) * out_height + begin[0]) * out_width + begin[1])
            for p, (dy, dx) in enumerate(pixels):
                store_vector(results, (to + (dy * out_width + dx)) * WORDS, registers[i][p].value)

    def initial_values(
        self, n: Expr, group: Expr, top: Expr, left: Expr, pixels: list[tuple[int, int]]
    ) -> list[Expr]:
        """Give the value with which the accumulators of each pixel begin."""
        if self.sums is None:
            return [word_vector(0)] * len(pixels)
        sums = self.sums.view()
        first = bind(self.sums.index(n, group, top, left))
        offsets = [
            self.image.offset(dy * self.c.strides[0], dx * self.c.strides[1]) // 4 for dy, dx in pixels
        ]
        return [bind(word_vector(sums[first + offset])) for offset in offsets]
