"""Sums of bytes by vdmpy, which make up for weights that were made unsigned: vrmpy is left for the products.

Source: Qualcomm Hexagon V66 HVX Programmer's Reference Manual (80-N2040-44), "Multiply with 2-wide
reduction".
`vdmpybus` multiplies unsigned bytes by the signed ones of a scalar register and adds two products to a
halfword; by ones that is at most 510. `vdmpyhb` adds two products of halfwords with signed bytes to a word;
neither saturates. Signed bytes x are taken as x + 128, which is their byte with the top bit flipped, and what
that adds to each word is taken away from the value the sums begin with.
"""

from tvm.ir import Expr

from kernels.hexagon.loop_nest import Register, intrinsic, word_vector
from kernels.hexagon.vrmpy import ONES, SIGN_BITS

_SHIFT_OF_A_WORD = 4 * 128


class ByteSums:
    """For each of 32 words, the sum of its 4 bytes over a known number of vectors of data."""

    def __init__(self, vectors: int, *, data_dtype: str) -> None:
        self._is_signed = data_dtype == "int8"
        self._sums = Register(word_vector(-_SHIFT_OF_A_WORD * vectors if self._is_signed else 0))

    def add(self, data: Expr) -> None:
        """Add one of the vectors, given as int32x32."""
        if self._is_signed:
            data = data ^ word_vector(SIGN_BITS)
        pairs = intrinsic("int32x32", "vdmpybus", data, ONES)
        self._sums.assign(intrinsic("int32x32", "vdmpyhb.acc", self._sums.value, pairs, ONES))

    @property
    def value(self) -> Expr:
        """The sums modulo 2^32, right once all vectors were added."""
        return self._sums.value
