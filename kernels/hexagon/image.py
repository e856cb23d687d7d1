"""Images in NCHW{b}c: zero padding into a workspace, and sums over channels and windows."""

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script import builder as T  # noqa: N812

from kernels.hexagon.byte_sums import ByteSums
from kernels.hexagon.loop_nest import (
    VECTOR_BYTES,
    WORDS,
    LoopNest,
    Memory,
    bind,
    intrinsic,
    minus_128_times,
    parallel,
    round_up,
    serial,
    store_vector,
    vector,
    word_vector,
    wrapping_add,
)


@dataclass(frozen=True)
class Image:
    """Planes of pixels of `lanes` bytes, one plane a block of channels, in a tensor or a workspace."""

    memory: Memory
    images: int
    blocks: int
    height: int
    width: int
    lanes: int
    plane: int  # bytes from one plane to the next

    def view(self, dtype: str) -> tirx.Var:
        """Give the memory as a flat buffer."""
        return self.memory.view(dtype)

    def position(self, n: Expr, block: Expr, y: Expr, x: Expr) -> Expr:
        """Give the byte at which a pixel begins."""
        return (n * self.blocks + block) * self.plane + (y * self.width + x) * self.lanes

    def offset(self, dy: int, dx: int) -> int:
        """Give the distance in bytes of two pixels of a plane."""
        return (dy * self.width + dx) * self.lanes


def pad_image(
    nest: LoopNest,
    data: Memory,
    shape: tuple[int, ...],
    padding: tuple[int, ...],
    *,
    slack: int = 0,
    fill: int = 0,
) -> Image:
    """Copy images into a workspace with zeros around them, where there is padding.

    Also where a plane is no whole number of vectors, so that vectors can be read to its end; `slack` more
    bytes may be read past the end of each plane. `fill` are four bytes of what surrounds the images. Without
    need the images stay where they are.
    """
    images, blocks, height, width, lanes = shape
    top, left, bottom, right = padding
    padded_height, padded_width = height + top + bottom, width + left + right
    used = padded_height * padded_width * lanes
    plane = round_up(used + slack, VECTOR_BYTES)
    if plane == height * width * lanes and not any(padding):
        return Image(data, images, blocks, height, width, lanes, plane)
    memory = nest.scratch(images * blocks * plane)
    image = Image(memory, images, blocks, padded_height, padded_width, lanes, plane)
    row_words = width * lanes // 4
    with parallel(images * blocks) as block:
        to, source = image.view("int32"), data.view("int32")
        first = bind(block * (plane // 4))
        with serial(plane // VECTOR_BYTES) as index:
            store_vector(to, first + index * WORDS, word_vector(fill))
        # Without padding at the sides the rows lie one after the other on both sides.
        rows, words = (height, row_words) if left or right else (1, height * row_words)
        with serial(rows) as y:
            begin = bind(first + ((y + top) * padded_width + left) * lanes // 4)
            copy_words(to, begin, source, bind((block * height + y) * row_words), words)
    return image


def copy_words(to: tirx.Var, to_begin: Expr, source: tirx.Var, begin: Expr, words: int) -> None:
    """Copy a number of words by vectors, the last of which may overlap the one before."""
    if words < WORDS:
        with serial(words) as index:
            T.buffer_store(to, source[begin + index], [to_begin + index])
        return
    with serial(words // WORDS) as index:
        store_vector(to, to_begin + index * WORDS, vector(source, begin + index * WORDS))
    if words % WORDS:
        last = words - WORDS
        store_vector(to, to_begin + last, vector(source, begin + last))


class PixelSums:
    """The sum of all channels of a group over a window at each pixel, times -128, in a workspace.

    The sums have the layout of a plane of the image, one word for four channels; the first word of a pixel
    is its sum, and the others mean nothing.
    """

    def __init__(
        self,
        nest: LoopNest,
        image: Image,
        *,
        dtype: str,
        groups: int,
        kernel: tuple[int, int],
        dilation: tuple[int, int],
    ) -> None:
        self.image, self.groups = image, groups
        self.words = image.lanes // 4  # of a pixel
        vectors = image.plane // VECTOR_BYTES
        # What is read past the end of a plane of sums belongs to words that mean nothing.
        reach = (kernel[0] - 1) * dilation[0] * image.width + (kernel[1] - 1) * dilation[1] + 1
        self.plane = image.plane // 4 + round_up(reach * self.words, WORDS)
        size = image.images * groups * self.plane * 4
        self.memory = nest.scratch(size)
        self._add_channels(self.memory, dtype, vectors)
        if self.words not in (1, 8):
            self._slide(nest, size, vectors, self.words, 1)
        if kernel[1] > 1:
            self._slide(nest, size, vectors, kernel[1], dilation[1] * self.words)
        if kernel[0] > 1:
            self._slide(nest, size, vectors, kernel[0], dilation[0] * image.width * self.words)

    def view(self) -> tirx.Var:
        """Give the sums as words."""
        return self.memory.view("int32")

    def index(self, n: Expr, group: Expr, y: Expr, x: Expr) -> Expr:
        """Give the index of the word that holds the sum of the window that begins at a pixel."""
        return (n * self.groups + group) * self.plane + (y * self.image.width + x) * self.words

    def _add_channels(self, memory: Memory, dtype: str, vectors: int) -> None:
        image = self.image
        blocks = image.blocks // self.groups
        with parallel(vectors) as index, serial(image.images * self.groups) as part:
            data, sums = image.view("int32"), memory.view("int32")
            total = ByteSums(blocks, data_dtype=dtype)
            with serial(blocks) as block:
                begin = (part * blocks + block) * (image.plane // 4) + index * WORDS
                total.add(vector(data, begin))
            value = bind(total.value)
            if self.words == 8:  # Four pixels a vector: each adds up its eight words.
                for distance in (16, 8, 4):
                    value = bind(wrapping_add(value, intrinsic("int32x32", "vror", value, distance)))
            store_vector(sums, part * self.plane + index * WORDS, minus_128_times(value))

    def _slide(self, nest: LoopNest, size: int, vectors: int, count: int, distance: int) -> None:
        """Replace each word by the sum of `count` words, `distance` words apart."""
        source, self.memory = self.memory, nest.scratch(size)
        with parallel(vectors) as index, serial(self.image.images * self.groups) as part:
            words, sums = source.view("int32"), self.memory.view("int32")
            begin = bind(part * self.plane + index * WORDS)
            total = vector(words, begin)
            for i in range(1, count):
                total = bind(wrapping_add(total, vector(words, begin + i * distance)))
            store_vector(sums, begin, total)
