"""`bitexact.pack_int4` and `bitexact.unpack_int4`: single 4-bit values and words of eight (`bench.int4`)."""

from __future__ import annotations

from tvm import relax, te, tirx
from tvm.ir import Call, Expr

from bench.int4 import HELD, PER_WORD
from bench.operators.registration import call, dtype_of, register, static_shape


def pack_int4(data: Expr) -> Call:
    """Build the int32 words (..., n / 8) of int8 or uint8 values (..., n), the low four bits of each.

    ValueError for another type and where 8 does not divide n.
    """
    return call(_PACK, [data])


def unpack_int4(words: Expr, *, dtype: str = "int4") -> Call:
    """Build the values (..., 8·w) of int32 words (..., w): int8 in -8..7 for "int4", uint8 for "uint4".

    ValueError for another type.
    """
    return call(_UNPACK, [words], dtype=dtype)


def _infer_pack(expression: Call) -> relax.TensorType:
    (data,) = expression.args
    if dtype_of(data) not in HELD.values():
        raise ValueError(f"bitexact.pack_int4: data of {dtype_of(data)} must be int8 or uint8")
    *outer, innermost = static_shape(data, "bitexact.pack_int4: data")
    if innermost % PER_WORD:
        raise ValueError(f"bitexact.pack_int4: the last extent {innermost} is no multiple of {PER_WORD}")
    return relax.TensorType([*outer, innermost // PER_WORD], "int32")


def _infer_unpack(expression: Call) -> relax.TensorType:
    (words,) = expression.args
    dtype = str(expression.attrs["dtype"])
    if dtype not in HELD:
        raise ValueError(f"bitexact.unpack_int4: dtype {dtype!r} is none of {', '.join(HELD)}")
    if dtype_of(words) != "int32":
        raise ValueError(f"bitexact.unpack_int4: words of {dtype_of(words)} must be int32")
    *outer, innermost = static_shape(words, "bitexact.unpack_int4: words")
    return relax.TensorType([*outer, innermost * PER_WORD], HELD[dtype])


def _legalize_pack(builder: relax.BlockBuilder, expression: Call) -> Expr:
    def compute(data: te.Tensor) -> te.Tensor:
        def word(*indices: tirx.Var) -> tirx.Expr:
            *outer, innermost = indices
            nibbles = (
                (data(*outer, innermost * PER_WORD + position).astype("int32") & 15) << (4 * position)
                for position in range(PER_WORD)
            )
            value = next(nibbles)
            for nibble in nibbles:
                value = value | nibble
            return value

        return te.compute([*data.shape[:-1], data.shape[-1] // PER_WORD], word, name="pack_int4")

    return builder.call_te(compute, *expression.args, primfunc_name_hint="pack_int4")


def _legalize_unpack(builder: relax.BlockBuilder, expression: Call) -> Expr:
    dtype = str(expression.attrs["dtype"])

    def compute(words: te.Tensor) -> te.Tensor:
        def value(*indices: tirx.Var) -> tirx.Expr:
            *outer, innermost = indices
            nibble = (words(*outer, innermost // PER_WORD) >> (4 * (innermost % PER_WORD))) & 15
            # Not by shifting to the top of the word and back: TVM 0.27 simplifies (x << n) >> 28 as if no
            # bits were lost at the top.
            return (nibble if dtype == "uint4" else (nibble ^ 8) - 8).astype(HELD[dtype])

        return te.compute([*words.shape[:-1], words.shape[-1] * PER_WORD], value, name="unpack_int4")

    return builder.call_te(compute, *expression.args, primfunc_name_hint="unpack_int4")


_PACK = register(
    "bitexact.pack_int4",
    "Eight 4-bit values to a 32-bit word, element 0 in the least significant nibble.",
    arguments=("data",),
    infer=_infer_pack,
    legalize=_legalize_pack,
)
_UNPACK = register(
    "bitexact.unpack_int4",
    "The eight 4-bit values of each 32-bit word.",
    arguments=("words",),
    infer=_infer_unpack,
    legalize=_legalize_unpack,
)
