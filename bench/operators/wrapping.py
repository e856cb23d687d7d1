"""Sums, differences and products of int32 that wrap on the host, whatever they are fused with.

TVM 0.27 marks signed arithmetic as free of overflow ("nsw" in LLVM), so that a compiler may widen a sum to 64
bits where it is then cast to int64, as a requantisation casts it: it does so for a constant addend of -2^31.
Unsigned arithmetic wraps by definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Call, Expr, Op

Legalize = Callable[[relax.BlockBuilder, Call], Expr]


def _wrapping(name: str, compute: Callable[[Any, Any], Any]) -> tuple[str, Legalize]:
    """The operator `relax.NAME` and its legalisation: of int32 without a sign, of all else TVM's own."""
    operator = f"relax.{name}"
    default = _default(operator)

    def legalize(builder: relax.BlockBuilder, call: Call) -> Expr:
        if str(call.ty.dtype) != "int32" or call.ty.shape is None:
            return default(builder, call)

        def operation(left: te.Tensor, right: te.Tensor) -> te.Tensor:
            def element(*indices: tirx.Var) -> tirx.Expr:
                a, b = (_at(operand, indices).astype("uint32") for operand in (left, right))
                # Not by a cast, whose result TVM takes to be never negative.
                return tirx.reinterpret("int32", compute(a, b))

            return te.compute(list(call.ty.shape), element, name=name)

        return builder.call_te(operation, *call.args, primfunc_name_hint=name)

    return operator, legalize


def _default(operator: str) -> Legalize:
    """TVM's own legalisation of an operator."""
    legalize: Legalize = Op.get(operator).get_attr("FLegalize")
    return legalize


def _at(operand: te.Tensor, indices: tuple[tirx.Var, ...]) -> tirx.Expr:
    """The element of an operand that broadcasts."""
    own = indices[len(indices) - len(operand.shape) :]
    return operand(*(0 if extent == 1 else index for index, extent in zip(own, operand.shape, strict=True)))


WRAPPING: Mapping[str, Legalize] = dict(
    (
        _wrapping("add", lambda a, b: a + b),
        _wrapping("subtract", lambda a, b: a - b),
        _wrapping("multiply", lambda a, b: a * b),
    )
)
"""For `relax.transform.LegalizeOps`, by operator."""
