"""What VTA's ALU computes behind a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.passes.vta.constants import is_per_channel

ALU_OPERATORS = frozenset(
    {
        "relax.add",
        "relax.clip",
        "relax.left_shift",
        "relax.maximum",
        "relax.minimum",
        "relax.multiply",
        "relax.nn.relu",
        "relax.right_shift",
        "relax.subtract",
    }
)
IMMEDIATE = range(-(2**15), 2**15)
"""What fits the immediate of an ALU instruction."""


def alu_chain(chain: Sequence[relax.VarBinding]) -> Sequence[relax.VarBinding]:
    """The part of a chain that VTA's ALU computes, up to the cast to int8 that its STORE does; or nothing."""
    for index, binding in enumerate(chain):
        if _is_store(binding):
            return chain[: index + 1]
        if not _is_step(binding):
            return ()
    return ()


def why_no_alu_chain(chain: Sequence[relax.VarBinding], axes: str) -> str | None:
    """Why VTA cannot finish a layer that this chain follows, in the integer graph; None where it can.

    ``axes`` are those of the layer's result.
    """
    for binding in chain:
        operator = _operator(binding)
        if _is_store(binding):
            return None
        if not _is_step(binding):
            return f"{operator} follows, which VTA's ALU does not compute; VTA can store int8 only"
        shape = tuple(int(extent) for extent in binding.var.ty.shape)
        for constant in _constants(binding.value):
            if constant.size > 1 and not is_per_channel(constant, shape, axes):
                return (
                    f"{operator} has a constant of shape {constant.shape}; "
                    "VTA's ALU takes one value, or one for each channel"
                )
    return "its int32 result is used; VTA can store int8 only"


def _operator(binding: relax.VarBinding) -> str:
    operator = binding.value.op
    return str(operator.name if isinstance(operator, tvm.ir.Op) else operator)


def _is_store(binding: relax.VarBinding) -> bool:
    return _operator(binding) == "relax.astype" and str(binding.var.ty.dtype) == "int8"


def _is_step(binding: relax.VarBinding) -> bool:
    """Whether a binding is one of the ALU's operators on one tensor of the graph and constants."""
    name, arguments = _operator(binding), binding.value.args
    tensors = [argument for argument in arguments if isinstance(argument, relax.Var)]
    commutes = name in ("relax.add", "relax.multiply", "relax.maximum", "relax.minimum")
    return (
        name in ALU_OPERATORS
        and str(binding.var.ty.dtype) == "int32"
        and len(tensors) == 1
        and (commutes or isinstance(arguments[0], relax.Var))
    )


def _constants(call: relax.Call) -> list[np.ndarray]:
    return [argument.value.numpy() for argument in call.args if isinstance(argument, GenericConst)]
