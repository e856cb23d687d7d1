"""Depthwise conv2d and sums over windows, on NCHW32c: a word of vrmpy is a channel, its products are taps.

Four neighbouring pixels are a vector of 4 times 32 bytes. Two byte shuffles turn it into 32 times 4, and one
vrmpy of two vectors then adds four taps of one row of the window to each of 32 channels. Every pair of
signednesses has such a form, so nothing is compensated.
"""

from dataclasses import asdict, dataclass

from tvm import te, tirx
from tvm.ir import Expr
from tvm.tirx import PrimFunc

from kernels.hexagon.description import describe, described
from kernels.hexagon.image import pad_image
from kernels.hexagon.loop_nest import (
    WORDS,
    LoopNest,
    Register,
    bind,
    even_parts,
    intrinsic,
    parallel,
    rolled_or_not,
    serial,
    store_vector,
    vector,
    word_vector,
)
from kernels.hexagon.vrmpy import ONES, check_dtypes

TAPS = 4  # of one vrmpy
_PIXELS = 8  # of a tile
_MAX_BODY = 128  # vrmpy in the innermost loop

# (data dtype, weight dtype) -> instruction, and whether the weights are its first, unsigned operand.
_FORMS = {
    ("uint8", "uint8"): ("vrmpyubv.acc", False),
    ("uint8", "int8"): ("vrmpybusv.acc", False),
    ("int8", "uint8"): ("vrmpybusv.acc", True),
    ("int8", "int8"): ("vrmpybv.acc", False),
}


def taps_of(dilation: int) -> int:
    """How many taps of a row one vrmpy takes: four neighbours, or one where there are gaps between them."""
    return TAPS if dilation == 1 else 1


@dataclass(frozen=True)
class Depthwise:
    """Shapes, types and geometry of a depthwise convolution, or of a sum over windows (no weights)."""

    data_shape: tuple[int, ...]
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    data_dtype: str = "uint8"
    weight_dtype: str | None = "int8"

    @property
    def groups_of_taps(self) -> int:
        """How many vrmpy a row of the window takes."""
        return -(-self.kernel[1] // taps_of(self.dilation[1]))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(C/32, KH, groups of taps, 32, 4)."""
        return (self.data_shape[1], self.kernel[0], self.groups_of_taps, WORDS, TAPS)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(N, C/32, OH, OW, 32)."""
        top, left, bottom, right = self.padding
        images, blocks, height, width, _ = self.data_shape
        size = [
            (extent - (window - 1) * dilation - 1) // stride + 1
            for extent, window, dilation, stride in zip(
                (height + top + bottom, width + left + right),
                self.kernel,
                self.dilation,
                self.strides,
                strict=True,
            )
        ]
        return (images, blocks, *size, WORDS)

    @property
    def vrmpy(self) -> int:
        """How many vrmpy the kernel executes."""
        images, blocks, height, width, _ = self.out_shape
        return images * blocks * height * width * self.kernel[0] * self.groups_of_taps

    def check(self) -> None:
        """Raise ValueError where no kernel takes this."""
        check_dtypes(self.data_dtype, self.weight_dtype or "uint8")
        if len(self.data_shape) != 5 or self.data_shape[4] != WORDS:
            raise ValueError(f"the data is NCHW32c of 5 dimensions, not {self.data_shape}")
        numbers = (*self.data_shape, *self.kernel, *self.strides, *self.dilation)
        if min(numbers) < 1 or len(self.padding) != 4 or min(self.padding) < 0:
            raise ValueError(
                "dimensions, kernel, strides and dilation are at least 1 and the padding is 4 numbers from 0 "
                f"(top, left, bottom, right): {self}"
            )
        if min(self.out_shape) < 1:
            raise ValueError(f"the window does not fit the padded image: {self}")


def _describe(depthwise: Depthwise) -> PrimFunc:
    depthwise.check()
    images, blocks, height, width, _ = depthwise.data_shape
    top, left, bottom, right = depthwise.padding
    dtype, taps = depthwise.data_dtype, taps_of(depthwise.dilation[1])
    data = te.placeholder(depthwise.data_shape, dtype, "data")
    arguments = [data]
    if depthwise.weight_dtype:
        arguments.append(te.placeholder(depthwise.weight_shape, depthwise.weight_dtype, "weight"))

    def pad(n: tirx.Var, c: tirx.Var, h: tirx.Var, w: tirx.Var, i: tirx.Var) -> Expr:
        inside = tirx.all(h >= top, h < height + top, w >= left, w < width + left)
        return tirx.if_then_else(inside, data[n, c, h - top, w - left, i], tirx.const(0, dtype))

    padded = te.compute((images, blocks, height + top + bottom, width + left + right, WORDS), pad, "padded")
    y = te.reduce_axis((0, depthwise.kernel[0]), "kernel_y")
    x = te.reduce_axis((0, depthwise.kernel[1]), "kernel_x")

    def products(n: tirx.Var, c: tirx.Var, h: tirx.Var, w: tirx.Var, lane: tirx.Var) -> Expr:
        row = h * depthwise.strides[0] + y * depthwise.dilation[0]
        column = w * depthwise.strides[1] + x * depthwise.dilation[1]
        value = padded[n, c, row, column, lane].astype("int32")
        if depthwise.weight_dtype:
            value = value * arguments[1][c, y, x // taps, lane, x % taps].astype("int32")
        return te.sum(value, axis=[y, x])

    out = te.compute(depthwise.out_shape, products, "depthwise")
    return describe(te.create_prim_func([*arguments, out]), "depthwise", asdict(depthwise))


def depthwise_primfunc(
    data_shape: tuple[int, ...],
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    data_dtype: str = "uint8",
    weight_dtype: str = "int8",
) -> PrimFunc:
    """Describe a depthwise convolution: arguments data, weight, out.

    data (N, C/32, H, W, 32) uint8 or int8; weight (C/32, KH, ceil(KW / t), 32, 4) int8 or uint8, where
    weight[c // 32, y, x // t, c % 32, x % t] is the factor of tap (y, x) of channel c, and what is left over
    is 0; t is 4, or 1 where the horizontal dilation is not 1 (`taps_of`). out (N, C/32, OH, OW, 32) int32.

    Raises ValueError for what no kernel takes.
    """
    return _describe(Depthwise(data_shape, kernel, strides, padding, dilation, data_dtype, weight_dtype))


def sum_pool_primfunc(
    data_shape: tuple[int, ...],
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    data_dtype: str = "uint8",
) -> PrimFunc:
    """Describe sums over windows: arguments data, out.

    data (N, C/32, H, W, 32) uint8 or int8; out (N, C/32, OH, OW, 32) int32. A window of the whole image is
    the global sum; divided by a requantise it is an average. Raises ValueError for what no kernel takes.
    """
    return _describe(Depthwise(data_shape, kernel, strides, padding, (1, 1), data_dtype, None))


def schedule_depthwise(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described by `depthwise_primfunc` or `sum_pool_primfunc` for HVX.

    A tile is up to 8 pixels of 32 channels. Raises ValueError for any other function.
    """
    d = Depthwise(**described(primfunc, "depthwise"))
    images, blocks, out_height, out_width, _ = d.out_shape
    taps, groups = taps_of(d.dilation[1]), d.groups_of_taps
    name, weights_first = _FORMS[d.data_dtype, d.weight_dtype or d.data_dtype]
    with LoopNest() as nest:
        data, *weight, out = nest.tensors(
            ("data", d.data_shape, d.data_dtype),
            *([("weight", d.weight_shape, d.weight_dtype)] if d.weight_dtype else []),
            ("out", d.out_shape, "int32"),
        )
        # The last pixels of a row are read with what lies behind them, times zero.
        image = pad_image(nest, data, d.data_shape, d.padding, slack=(groups * TAPS + TAPS) * WORDS)

        def ones(group: int) -> Expr:
            left = min(taps, d.kernel[1] - group * taps)
            return word_vector(ONES & (256**left - 1))

        def tile(n: Expr, block: Expr, y: Expr, x: Expr, width: int) -> None:
            source, results = image.view("int32"), out.view("int32")
            registers = [Register(word_vector(0)) for _ in range(width)]
            with (
                serial(d.kernel[0]) as ky,
                rolled_or_not(groups, unroll=groups * width <= _MAX_BODY or not weight) as parts,
            ):
                row = image.position(n, block, y * d.strides[0] + ky * d.dilation[0], x * d.strides[1])
                across = image.offset(0, taps * d.dilation[1])
                first = bind((row + parts[0] * across) // 4)
                for part in range(len(parts)):
                    if weight:
                        at = ((block * d.kernel[0] + ky) * groups + parts[part]) * WORDS
                        factors = bind(vector(weight[0].view("int32"), at))
                    else:
                        factors = ones(part)
                    for pixel in range(width):
                        offset = image.offset(0, pixel * d.strides[1]) + part * across
                        pixels = vector(source, first + offset // 4)
                        for _ in range(2):
                            pixels = intrinsic("int32x32", "vshuffb", pixels)
                        operands = (factors, pixels) if weights_first else (pixels, factors)
                        register = registers[pixel]
                        register.assign(intrinsic("int32x32", name, register.value, *operands))
            to = bind(((n * blocks + block) * out_height + y) * out_width + x)
            for pixel, register in enumerate(registers):
                store_vector(results, (to + pixel) * WORDS, register.value)

        with parallel(blocks) as block, serial(images) as n:
            for begin, width, count in even_parts(out_width, _PIXELS):
                with serial(count) as part, serial(out_height) as y:
                    tile(n, block, y, bind(begin + part * width), width)
    return nest.function
