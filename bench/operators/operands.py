"""The operands of the packed tensor operators: 8-bit or 4-bit tensors, or words of eight 4-bit values."""

from __future__ import annotations

from tvm.ir import Call, Expr

from bench.int4 import HELD, PER_WORD
from bench.operators.registration import dtype_of, static_shape

OPERAND_DTYPES = ("int8", "uint8", "int4", "uint4")


def operand_shape(call: Call, name: str, argument: Expr) -> tuple[int, ...]:
    """Shape of the operand `name` ("data" or "weight") in values.

    Where the call has an attribute `data_dtype` or `weight_dtype` the operand is int32 words, and its last
    extent counts words. ValueError for an operand of a wrong type.
    """
    what = f"{call.op.name}: {name}"
    shape = static_shape(argument, what)
    packed_dtype = str(call.attrs[f"{name}_dtype"]) if f"{name}_dtype" in call.attrs else ""
    if not packed_dtype:
        if dtype_of(argument) not in OPERAND_DTYPES:
            raise ValueError(f"{what} of {dtype_of(argument)} must be one of {', '.join(OPERAND_DTYPES)}")
        return shape
    if packed_dtype not in HELD:
        raise ValueError(f"{what}_dtype {packed_dtype!r} is none of {', '.join(HELD)}")
    if dtype_of(argument) != "int32":
        raise ValueError(f"{what} of {packed_dtype} must be int32 words, not {dtype_of(argument)}")
    return (*shape[:-1], shape[-1] * PER_WORD)
