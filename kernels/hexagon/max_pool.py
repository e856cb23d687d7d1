"""Maximum over windows, on NCHW32c."""

from dataclasses import asdict, dataclass

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from kernels.hexagon.description import describe, described
from kernels.hexagon.image import pad_image
from kernels.hexagon.loop_nest import (
    VECTOR_BYTES,
    WORDS,
    LoopNest,
    Register,
    bind,
    parallel,
    round_up,
    serial,
    store_vector,
    vector,
)

DTYPES = ("int8", "uint8", "int32")
# Four bytes, or one word, of the least value.
_LEAST = {"int8": -0x7F7F7F80, "uint8": 0, "int32": -(2**31)}


@dataclass(frozen=True)
class MaxPool:
    """Shape, type and geometry of one max pool."""

    data_shape: tuple[int, ...]
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dtype: str = "uint8"

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(N, C/32, OH, OW, 32)."""
        top, left, bottom, right = self.padding
        images, blocks, height, width, _ = self.data_shape
        padded = (height + top + bottom, width + left + right)
        size = [
            (extent - window) // stride + 1
            for extent, window, stride in zip(padded, self.kernel, self.strides, strict=True)
        ]
        return (images, blocks, *size, WORDS)

    def check(self) -> None:
        """Raise ValueError where no kernel takes this."""
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.dtype} is none of {', '.join(DTYPES)}")
        if len(self.data_shape) != 5 or self.data_shape[4] != WORDS:
            raise ValueError(f"the data is NCHW32c of 5 dimensions, not {self.data_shape}")
        if min(*self.data_shape, *self.kernel, *self.strides) < 1 or len(self.padding) != 4:
            raise ValueError(
                f"dimensions, kernel and strides are at least 1, and the padding is of 4: {self}"
            )
        top, left, bottom, right = self.padding
        if min(self.padding) < 0 or max(top, bottom) >= self.kernel[0] or max(left, right) >= self.kernel[1]:
            raise ValueError(f"the padding {self.padding} is from 0 to less than the window {self.kernel}")
        if min(self.out_shape) < 1:
            raise ValueError(f"the window does not fit the padded image: {self}")


def max_pool_primfunc(
    data_shape: tuple[int, ...],
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dtype: str = "uint8",
) -> PrimFunc:
    """Describe a max pool: arguments data, out, both NCHW32c of int8, uint8 or int32.

    `padding` (top, left, bottom, right) takes part in no maximum. Raises ValueError for what no kernel takes.
    """
    pool = MaxPool(data_shape, kernel, strides, padding, dtype)
    pool.check()
    images, blocks, height, width, _ = pool.data_shape
    top, left, bottom, right = pool.padding
    data = te.placeholder(pool.data_shape, dtype, "data")
    least = tirx.const(int(np.iinfo(dtype).min), dtype)

    def pad(n: tirx.Var, c: tirx.Var, h: tirx.Var, w: tirx.Var, i: tirx.Var) -> Expr:
        inside = tirx.all(h >= top, h < height + top, w >= left, w < width + left)
        return tirx.if_then_else(inside, data[n, c, h - top, w - left, i], least)

    padded = te.compute((images, blocks, height + top + bottom, width + left + right, WORDS), pad, "padded")
    y = te.reduce_axis((0, pool.kernel[0]), "kernel_y")
    x = te.reduce_axis((0, pool.kernel[1]), "kernel_x")

    def largest(n: tirx.Var, c: tirx.Var, h: tirx.Var, w: tirx.Var, i: tirx.Var) -> Expr:
        return te.max(padded[n, c, h * pool.strides[0] + y, w * pool.strides[1] + x, i], axis=[y, x])

    out = te.compute(pool.out_shape, largest, "max_pool")
    return describe(te.create_prim_func([data, out]), "max_pool", asdict(pool))


def schedule_max_pool(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described by `max_pool_primfunc` for HVX.

    A vector is four neighbouring pixels of bytes, or one of words. The maxima of bytes are made at every
    column, and those at the strides are kept. Raises ValueError for any other function.
    """
    pool = MaxPool(**described(primfunc, "max_pool"))
    images, blocks, height, width, _ = pool.data_shape
    _, _, out_height, out_width, _ = pool.out_shape
    size = np.dtype(pool.dtype).itemsize
    lanes = VECTOR_BYTES // size
    pixels = lanes // WORDS  # of one vector
    words = WORDS * size // 4  # of one pixel
    with LoopNest() as nest:
        data, out = nest.tensors(("data", pool.data_shape, pool.dtype), ("out", pool.out_shape, pool.dtype))
        image = pad_image(
            nest,
            data,
            (images, blocks, height, width, WORDS * size),
            pool.padding,
            slack=(pool.kernel[1] + pixels) * WORDS * size,
            fill=_LEAST[pool.dtype],
        )
        columns = (out_width - 1) * pool.strides[1] + 1 if pixels > 1 else out_width
        step = 1 if pixels > 1 else pool.strides[1]
        row_words = round_up(columns * words, WORDS)
        rows = nest.scratch(images * blocks * row_words * 4)
        with parallel(images * blocks) as plane:
            source, kept, results = image.view(pool.dtype), rows.view("int32"), out.view("int32")
            with serial(out_height) as y:
                with serial(row_words // WORDS) as part:
                    first = image.position(0, plane, y * pool.strides[0], part * pixels * step)
                    first = bind(first // size)
                    largest = Register(T.reinterpret("int32x32", vector(source, first, lanes)))
                    with serial(pool.kernel[0]) as ky:
                        for kx in range(pool.kernel[1]):
                            at = first + ky * (image.offset(1, 0) // size) + image.offset(0, kx) // size
                            so_far = T.reinterpret(f"{pool.dtype}x{lanes}", largest.value)
                            both = tirx.max(so_far, vector(source, at, lanes))
                            largest.assign(T.reinterpret("int32x32", both))
                    store_vector(kept, plane * row_words + part * WORDS, largest.value)
                with serial(out_width) as x:
                    taken = bind(plane * row_words + x * (words * (pool.strides[1] if pixels > 1 else 1)))
                    into = bind(((plane * out_height + y) * out_width + x) * words)
                    if words == WORDS:
                        store_vector(results, into, vector(kept, taken))
                    else:
                        for word in range(words):
                            T.buffer_store(results, kept[taken + word], [into + word])
    return nest.function
