"""Which operators of a transformed graph the host computes, and why."""

from __future__ import annotations

import tvm
from tvm import relax

from bench.compare.verdict import HostOperator
from bench.flows.transformed import Transformed
from bench.passes.lift_kernels import bindings_of

SHAPES = frozenset(
    {
        "relax.expand_dims",
        "relax.flatten",
        "relax.permute_dims",
        "relax.reshape",
        "relax.squeeze",
        "relax.strided_slice",
    }
)
"""Operators by which tensors are packed, unpacked and cropped."""


def host_operators(transformed: Transformed) -> list[HostOperator]:
    """Every operator of ``main`` that is no kernel, in order, with the reason.

    That is the target's own (`Transformed.on_host`), or what is said of a layer; of any other operator it is
    that it changes a shape or a layout, or that no kernel computes it.
    """
    layers = {layer.result: layer.why_not for layer in transformed.report if layer.why_not}
    known = {**layers, **transformed.on_host}
    found = []
    for binding in bindings_of(transformed.mod["main"]):
        call = binding.value
        if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.Op):
            continue
        name, operator = binding.var.name, str(call.op.name)
        short = operator.removeprefix("relax.").removeprefix("bitexact.")
        found.append(HostOperator(name, short, known.get(name) or _why(transformed.target, call)))
    return found


def _why(target: str, call: relax.Call) -> str:
    if call.op.name in SHAPES:
        return "it changes a shape or a layout"
    if call.op.name == "relax.nn.pad" and any(len(each.ty.shape) < 5 for each in call.args[:1]):
        return "it fills a tensor up to whole blocks, or pads a plain one"
    return f"no kernel of {target} computes it"
