"""How the bench adds an operator to Relax from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm_ffi
from tvm import relax
from tvm.ir import Call, Expr, Op, make_node

InferType = Callable[[Call], relax.TensorType]
Legalize = Callable[[relax.BlockBuilder, Call], Expr]


def register(
    name: str,
    description: str,
    *,
    arguments: Sequence[str],
    infer: InferType,
    legalize: Legalize | None = None,
) -> Op:
    """Register a pure Relax operator whose attributes are a dictionary, and return it.

    `infer` gives the type of a call from its arguments and attributes; where it raises, building the call
    raises. Without `legalize` the operator must be replaced before `LegalizeOps`.
    """
    tvm_ffi.get_global_func("ir.RegisterOp")(name, description)
    operator = Op.get(name)
    operator.set_num_inputs(len(arguments))
    for argument in arguments:
        operator.add_argument(argument, "Tensor", argument)
    operator.set_attr("FInferType", lambda call, _builder: infer(call))
    operator.set_attr("FPurity", True)
    if legalize is not None:
        operator.set_attr("FLegalize", legalize)
    return operator


def call(operator: Op, arguments: Sequence[Expr], **attributes: Any) -> Call:
    """Build a call of a registered operator."""
    return Call(operator, list(arguments), attrs=make_node("ir.DictAttrs", **attributes))


def static_shape(expression: Expr, what: str) -> tuple[int, ...]:
    """Shape of a tensor as integers; ValueError naming `what` where it is no tensor or not static."""
    tensor = expression.ty
    if not isinstance(tensor, relax.TensorType) or tensor.shape is None:
        raise ValueError(f"{what} must be a tensor of known shape, not {tensor}")
    try:
        return tuple(int(extent) for extent in tensor.shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must have a static shape, not {tensor}") from error


def dtype_of(expression: Expr) -> str:
    """Element type of a tensor expression, as in NumPy."""
    return str(expression.ty.dtype)
