"""The reduction that conv2d and dense share: a tile of accumulators that stays in vector registers."""

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir import Expr

from kernels.hexagon.loop_nest import WORDS, Register, bind, vector

ACCUMULATORS = 16  # of 32 vector registers: with many more LLVM spills some

MultiplyAdd = Callable[[Expr, Expr, Expr], Expr]
"""From sums, a vector of weights and a word of data to the new sums."""


def loaded_type(words: int) -> tuple[str, int]:
    """Give the type, and its bytes, to load a pixel of `words` words: two at once where they are even."""
    return ("int64", 8) if words % 2 == 0 else ("int32", 4)


def accumulate(
    registers: Sequence[Sequence[Register]],
    *,
    weights: tirx.Var,
    weight_begins: Sequence[Expr],
    data: tirx.Var,
    data_begin: Expr,
    data_offsets: Sequence[int],
    loaded_bytes: int,
    words: int,
    multiply_add: MultiplyAdd,
) -> None:
    """Write the products of `words` words of each pixel with the weights of each block of 32 channels.

    `registers[block][pixel]` are the accumulators. `weights` are words, a vector for each word of data,
    beginning at `weight_begins[block]`; `data` has elements of `loaded_bytes` (see `loaded_type`), and the
    words of a pixel begin `data_offsets[pixel]` bytes after its element `data_begin`.
    """
    at_once = loaded_bytes // 4
    for word in range(0, words, at_once):
        factors = [
            [bind(vector(weights, begin + (word + part) * WORDS)) for begin in weight_begins]
            for part in range(at_once)
        ]
        for pixel, offset in enumerate(data_offsets):
            loaded = bind(data[data_begin + (offset + word * 4) // loaded_bytes])
            parts = [loaded]
            if at_once == 2:
                parts = [loaded.astype("int32"), (loaded >> tirx.const(32, "int64")).astype("int32")]
            for part, of_blocks in zip(parts, factors, strict=True):
                for block, factor in enumerate(of_blocks):
                    register = registers[block][pixel]
                    register.assign(multiply_add(register.value, factor, part))
