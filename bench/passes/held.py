"""Operators on 4-bit tensors as operators on the 8-bit ones that hold their values.

TVM's runtime has no 4-bit tensors on a CPU. int4 is held in int8 and uint4 in uint8, always within the range
of the 4-bit type: selecting values keeps them there, sums and products are wrapped, and a conversion keeps
the low four bits, all as the evaluation of the 4-bit operators does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.flows.flow import Unsupported
from bench.int4 import HELD, limits
from bench.operators import requantize

Emit = Callable[[relax.Expr], relax.Var]

# Their results are values that they read (or a zero of padding).
SELECTING = frozenset(
    {
        "relax.broadcast_to",
        "relax.clip",
        "relax.concat",
        "relax.expand_dims",
        "relax.flatten",
        "relax.maximum",
        "relax.minimum",
        "relax.nn.max_pool2d",
        "relax.nn.pad",
        "relax.nn.relu",
        "relax.permute_dims",
        "relax.reshape",
        "relax.split",
        "relax.squeeze",
        "relax.strided_slice",
    }
)
# Their low four bits depend on the low four bits of their operands alone.
MODULAR = frozenset({"relax.add", "relax.multiply", "relax.negative", "relax.subtract"})


def is_clipped_to(value: relax.Expr | None, dtype: str) -> bool:
    """Whether an expression is a clip to bounds that an integer type of up to 32 bits holds."""
    if not isinstance(value, relax.Call) or getattr(value.op, "name", "") != "relax.clip":
        return False
    if dtype not in ("int8", "uint8", "int16", "uint16", "int32"):
        return False
    low, high = (float(bound.value) for bound in value.args[1:])
    return np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max


def four_bit_type(expression: relax.Expr) -> str | None:
    """Find the 4-bit type, int4 or uint4, of a tensor or of a field of a tuple; None where there is none."""
    types = expression.ty.fields if isinstance(expression.ty, relax.TupleType) else [expression.ty]
    dtypes = [str(tensor.dtype) for tensor in types if isinstance(tensor, relax.TensorType)]
    return next((dtype for dtype in dtypes if dtype in HELD), None)


def held_call(
    call: relax.Call, arguments: Sequence[relax.Expr], emit: Emit, *, clipped: bool = False
) -> relax.Expr:
    """A call of an operator on `arguments`, which hold what the call's own are; its result is held.

    `emit` binds what is computed on the way. `clipped` says that a conversion finds its operand within the
    range of the new type. Raises Unsupported for an operator whose 4-bit result is
    not known to be computed by the same operator on 8 bits.
    """
    dtype, operator = four_bit_type(call), call.op.name
    if operator == "relax.astype":
        if dtype:
            return _low_bits(arguments[0], dtype, emit)
        return (
            relax.op.astype(arguments[0], call.ty.dtype) if clipped else _converted(arguments[0], call, emit)
        )
    if operator == "bitexact.requantize" and dtype:
        attributes = {**attributes_of(call), "out_dtype": HELD[dtype]}
        return relax.op.clip(emit(requantize(*arguments, **attributes)), *limits(dtype))
    same = relax.Call(call.op, list(arguments), call.attrs, call.ty_args)
    if not dtype or operator in SELECTING:
        return same
    if operator in MODULAR:
        return _low_bits(emit(same), dtype, emit)
    raise Unsupported(f"{operator} of {dtype} has no equal on the host, which holds {dtype} in {HELD[dtype]}")


def _converted(data: relax.Expr, call: relax.Call, emit: Emit) -> relax.Expr:
    """A conversion of which every step is defined: a float to 8 bits saturates or wraps as LLVM likes."""
    target = str(call.ty.dtype)
    if str(data.ty.dtype).startswith("float") and target in HELD.values():
        data = emit(relax.op.astype(data, "int32"))
    return relax.op.astype(data, target)


def _low_bits(data: relax.Expr, dtype: str, emit: Emit) -> relax.Expr:
    """The low four bits of integers, or of floats truncated towards zero, in the type that holds `dtype`."""
    wide = data if str(data.ty.dtype) == "int32" else emit(relax.op.astype(data, "int32"))
    low = emit(relax.op.bitwise_and(wide, _int32(15)))
    if dtype == "int4":
        low = emit(relax.op.bitwise_xor(low, _int32(8)))
        low = emit(relax.op.subtract(low, _int32(8)))
    return relax.op.astype(low, HELD[dtype])


def _int32(value: int) -> GenericConst:
    return relax.const(np.int32(value))
