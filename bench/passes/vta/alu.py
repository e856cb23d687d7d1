"""What VTA's ALU computes behind a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
        if _is_store(binding.value):
            return chain[: index + 1]
        if not _is_step(binding.value):
            return ()
    return ()


def why_no_alu_chain(chain: Sequence[relax.VarBinding]) -> str | None:
    """Why VTA cannot finish a layer that this chain follows, in the integer graph; None where it can."""
    for binding in chain:
        call = binding.value
        if _is_store(call):
            return None
        if not _is_step(call):
            return f"{call.op.name} follows, which VTA's ALU does not compute; VTA can store int8 only"
        shape = tuple(int(extent) for extent in call.ty.shape)
        for constant in _constants(call):
            if constant.size > 1 and not is_per_channel(constant, shape):
                return (
                    f"{call.op.name} has a constant of shape {constant.shape}; "
                    "VTA's ALU takes one value, or one for each channel"
                )
    return "its int32 result is used; VTA can store int8 only"


def _is_store(call: relax.Call) -> bool:
    return bool(call.op.name == "relax.astype" and str(call.ty.dtype) == "int8")


def _is_step(call: relax.Call) -> bool:
    """Whether the call is one of the ALU's operators on one tensor of the graph and constants."""
    tensors = [argument for argument in call.args if isinstance(argument, relax.Var)]
    commutes = call.op.name in ("relax.add", "relax.multiply", "relax.maximum", "relax.minimum")
    return (
        call.op.name in ALU_OPERATORS
        and str(call.ty.dtype) == "int32"
        and len(tensors) == 1
        and (commutes or isinstance(call.args[0], relax.Var))
    )


def _constants(call: relax.Call) -> list[np.ndarray]:
    return [argument.value.numpy() for argument in call.args if isinstance(argument, GenericConst)]
