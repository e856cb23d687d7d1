"""Group a packed graph into the functions that a VTA runtime is given, after TVM's pattern tables for VTA.

The patterns are regular expressions over the operators of a chain, in which each reads the one before and is
its only reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.layout import Layout, logical_shape
from bench.passes.lift_kernels import Group, bindings_of, following_chain, kernel_function, lift_groups
from bench.passes.packing import tensor_shape

_INTEGER_STEPS = "add|clip|left_shift|maximum|minimum|multiply|nn.relu|requantize|right_shift|subtract"
_CASTS = "astype:int32|astype:int64"

PATTERNS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern + r"(?= |$)")
    for name, pattern in {
        # Floats to int8.
        "vta_preprocessing": r"multiply round clip astype:int8",
        # Plain tensors to blocks of channels.
        "vta_reshape_transpose": r"(nn\.pad )?(reshape )?permute_dims( broadcast_to)?",
        # A layer, up to the int8 data that leave it, or as far as its arithmetic goes.
        "vta_conv2d": r"nn\.conv2d(_transpose)?"
        rf"(( ({_INTEGER_STEPS}|{_CASTS}))* astype:int8|( ({_INTEGER_STEPS}))*)",
        # Integers to floats.
        "vta_output": r"astype:float32 multiply",
    }.items()
}
"""Name of each composite and the operators that it consists of, ``relax.`` and ``bitexact.`` left out."""


def fuse_vta(mod: tvm.IRModule) -> tvm.IRModule:
    """Move each match of a pattern in ``main`` of a packed graph to a function of the module.

    Constants are folded first. The composites are vta_preprocessing (multiply, round, clip, cast to int8),
    vta_reshape_transpose (pad, reshape, transpose to blocks of channels), vta_conv2d (a packed convolution
    with what follows it) and vta_output (cast to float, multiply). Functions are named ``<composite>__<n>``,
    n counting from 0 in the order of ``main``, with the attributes ``Composite``, ``PartitionedFromPattern``,
    ``Result`` (the binding that it computes) and, for a convolution, ``ConvAttrs``. Their parameters are
    tensors and constants of more than one element; scalar constants stay inside. What no pattern matches,
    such as the unpacking at the end of a region, stays in ``main``.
    """
    mod = relax.transform.FoldConstant()(mod)
    bindings = bindings_of(mod["main"])
    taken: set[relax.Var] = set()
    matches: list[tuple[str, Sequence[relax.VarBinding]]] = []
    for start, binding in enumerate(bindings):
        if binding.var in taken:
            continue
        # Two layers may meet in one operator: it belongs to the first of them.
        own = takewhile(lambda each: each.var not in taken, following_chain(bindings, start))
        found = _match([binding, *own])
        if found:
            matches.append(found)
            taken.update(member.var for member in found[1])
    order = {binding.var: place for place, binding in enumerate(bindings)}
    matches.sort(key=lambda match: order[match[1][-1].var])
    groups = [
        Group(members, f"{composite}__{number}", _attributes(composite, members))
        for number, (composite, members) in enumerate(matches)
    ]
    return lift_groups(mod, groups, function_of=kernel_function())[0]


def _match(chain: Sequence[relax.VarBinding]) -> tuple[str, Sequence[relax.VarBinding]] | None:
    """The composite that a chain begins with, and the bindings that it takes."""
    first = chain[0].value
    if not isinstance(first, relax.Call) or not isinstance(first.op, tvm.ir.Op):
        return None
    operators = " ".join(_operator(member.value) for member in chain)
    for composite, pattern in PATTERNS.items():
        match = pattern.match(operators)
        if not match:
            continue
        members = chain[: len(match.group().split())]
        if _holds(composite, members):
            return composite, members
    return None


def _operator(value: relax.Expr) -> str:
    """An operator as the patterns name it: a cast with the type it casts to."""
    if not isinstance(value.op, tvm.ir.Op):
        return "call"
    name = value.op.name.removeprefix("relax.").removeprefix("bitexact.")
    return f"{name}:{value.ty.dtype}" if name == "astype" else name


def _holds(composite: str, members: Sequence[relax.VarBinding]) -> bool:
    """What the names of the operators do not say of a composite."""
    first, last = members[0].value, members[-1].value
    if composite == "vta_conv2d":
        return bool(Layout.parse(str(first.attrs.kernel_layout)).factors)
    if composite == "vta_reshape_transpose":
        return len(last.ty.shape) > len(first.args[0].ty.shape)
    scales = [member.value.args[1] for member in members if _operator(member.value) == "multiply"]
    return all(isinstance(scale, GenericConst) for scale in scales)


def _attributes(composite: str, members: Sequence[relax.VarBinding]) -> dict[str, Any]:
    operators = "".join(f"{_operator(member.value).partition(':')[0]}_" for member in members)
    attributes: dict[str, Any] = {
        "Composite": composite,
        "PartitionedFromPattern": operators,
        # Also keeps two equal functions apart, which TVM would otherwise make one.
        "Result": members[-1].var.name,
    }
    if composite == "vta_conv2d":
        attributes["ConvAttrs"] = _convolution_attributes(members[0].value)
    return attributes


def _convolution_attributes(call: relax.Call) -> dict[str, Any]:
    """A convolution's attributes, with the channels and the kernel of its weight."""
    attributes = {name: value for name, value in attributes_of(call).items() if value is not None}
    weight = logical_shape(attributes["kernel_layout"], tensor_shape(call.args[1]))
    channels, kernel = weight["O"], [weight["H"], weight["W"]]
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in attributes.items()}
    return {**listed, "channels": channels, "kernel_size": kernel}
