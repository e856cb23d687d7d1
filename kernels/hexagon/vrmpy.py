"""vrmpy with the weights in a vector register and four bytes of data in a scalar one.

Two of these fit a packet, and weights of 32 output channels by 4 input channels are 128 consecutive bytes in
the packed layouts. The vector operand of the scalar forms is unsigned. So unsigned weights are used as they
are, whatever the sign of the data (`vrmpyub`, `vrmpybus`), and signed weights w as w + 128, which is their
byte with the top bit flipped; the product is then too large by 128 times the sum of the data:

    sum x * w  =  sum x * (w + 128)  -  128 * sum x      (modulo 2^32)

The last sum does not depend on the output channel. The kernels compute it once a pixel, or row, without vrmpy
(`kernels.hexagon.byte_sums`), and begin with it as the value of the accumulators.
"""

from collections.abc import Sequence
from math import prod
from types import MappingProxyType

from tvm.ir import Expr

from kernels.hexagon.loop_nest import (
    VECTOR_BYTES,
    WORDS,
    LoopNest,
    Memory,
    intrinsic,
    parallel,
    store_vector,
    vector,
    word_vector,
)

# (data dtype, weight dtype) -> form with the data in the scalar register, accumulating.
SCALAR_FORMS: MappingProxyType[tuple[str, str], str] = MappingProxyType(
    {
        ("uint8", "uint8"): "vrmpyub.acc",
        ("uint8", "int8"): "vrmpyub.acc",
        ("int8", "uint8"): "vrmpybus.acc",
        ("int8", "int8"): "vrmpybus.acc",
    }
)
SIGN_BITS = -0x7F7F7F80  # 0x80808080 as int32
ONES = 0x01010101

# Signed weights as they are, by four bytes of data that were copied to every word of a vector. These fill
# both multipliers of a packet.
_VECTOR_FORMS = {"uint8": "vrmpybusv.acc", "int8": "vrmpybv.acc"}


def check_dtypes(data_dtype: str, weight_dtype: str) -> None:
    """Raise ValueError, with the supported pairs, unless a kernel takes these operands."""
    if (data_dtype, weight_dtype) not in SCALAR_FORMS:
        valid = ", ".join(f"{data} x {weight}" for data, weight in SCALAR_FORMS)
        raise ValueError(f"no vrmpy kernel for {data_dtype} x {weight_dtype}; there are {valid}")


def is_compensated(weight_dtype: str) -> bool:
    """Whether weights of this type are shifted to unsigned, and the sum of the data is subtracted."""
    return weight_dtype == "int8"


def unsigned_weights(nest: LoopNest, weights: Memory, shape: Sequence[int], weight_dtype: str) -> Memory:
    """Write the stage that makes weights unsigned, into a workspace; unsigned ones stay where they are.

    The weights of one tap and word are 128 bytes, so they are a whole number of vectors.
    """
    if not is_compensated(weight_dtype):
        return weights
    size = prod(shape)
    memory = nest.scratch(size)
    per_task = next(n for n in (8, 4, 2, 1) if size // VECTOR_BYTES % n == 0)
    with parallel(size // VECTOR_BYTES // per_task) as task:
        source, shifted = weights.view("int32"), memory.view("int32")
        for i in range(per_task):
            begin = (task * per_task + i) * WORDS
            store_vector(shifted, begin, vector(source, begin) ^ word_vector(SIGN_BITS))
    return memory


def multiply_add(sums: Expr, weights: Expr, word: Expr, *, data_dtype: str) -> Expr:
    """Add to each of 32 words the products of its 4 unsigned weights with the 4 bytes of a word of data."""
    return intrinsic("int32x32", SCALAR_FORMS[data_dtype, "uint8"], sums, weights, word)


def multiply_add_signed(sums: Expr, weights: Expr, word: Expr, *, data_dtype: str) -> Expr:
    """Do the same with weights of int8, without compensation."""
    return intrinsic("int32x32", _VECTOR_FORMS[data_dtype], sums, word_vector(word), weights)
