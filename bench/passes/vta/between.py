"""What VTA does between the layers: pooling, chains of ALU operators on int8 tensors, and moves of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import tvm
from tvm import relax

from bench.evaluate.graph import attributes_of
from bench.passes.lift_kernels import Group, bindings_of, kernel_function, leaves_of, lift_groups, own_chain
from bench.passes.vta.alu import ALU_OPERATORS, is_widening, steps_behind

HEIGHT_AND_WIDTH = [2, 3]
"""Of a packed tensor (N/b, C/c, H, W, b, c)."""

SINGLE = frozenset(
    {"relax.concat", "relax.image.resize2d", "relax.nn.max_pool2d", "relax.nn.pad", "relax.repeat"}
)
"""Operators that are a kernel of their own, of int8."""

_LAYOUT = frozenset({"relax.permute_dims", "relax.reshape", "relax.strided_slice"})

Refusal = Callable[[str, relax.Function], str | None]
"""Why a kernel cannot be, given its name and function; None where it can."""


def lift_between(
    mod: tvm.IRModule, packed: Container[str], refusal: Refusal
) -> tuple[tvm.IRModule, tuple[str, ...], dict[str, str]]:
    """Move to private functions what kernels of VTA compute behind and between the layers of a packed graph.

    Such a function is a max pooling, padding, upsampling or concatenation of int8; or a widening of int8 with
    ALU operators up to the cast back, residual additions among them, and before them perhaps a sum over all
    of height and width. ``packed`` has the names of the tensors that are laid out for VTA.

    Returns the module, the names of the new functions, and of each operator on packed tensors that stays on
    the host, by the name of its binding, why.
    """
    refused: dict[str, str] = {}
    packed = _with_results(mod, packed)
    groups = _groups(mod, packed)
    while True:
        accepted = [group for group in groups if group.bindings[0].var.name not in refused]
        lifted, kernels = lift_groups(mod, accepted, function_of=kernel_function(tensors_last=True))
        reasons = {
            first: reason
            for first, kernel in kernels.items()
            if (reason := refusal(kernel.kernel, lifted[kernel.kernel]))
        }
        if not reasons:
            names = tuple(dict.fromkeys(each.kernel for each in kernels.values()))
            return lifted, names, _left(lifted, packed, refused)
        refused.update(reasons)


def packed_images(mod: tvm.IRModule, batch: int, block: int) -> set[str]:
    """The images of ``main`` in VTA's layout, (N/b, C/c, H, W, b, c), with gaps between channels too."""
    tensors = [each.var for each in bindings_of(mod["main"]) if isinstance(each.var.ty, relax.TensorType)]
    shapes = {each.name: tuple(int(extent) for extent in each.ty.shape) for each in tensors}
    return {name for name, shape in shapes.items() if len(shape) == 6 and shape[-2:] == (batch, block)}


def _with_results(mod: tvm.IRModule, packed: Container[str]) -> set[str]:
    """The names of packed tensors with those of what is made of them, of which no layout may be known."""
    found: set[str] = set()
    for binding in bindings_of(mod["main"]):
        arguments = binding.value.args if isinstance(binding.value, relax.Call) else []
        reads = any(each.name in found for each in leaves_of(arguments) if isinstance(each, relax.Var))
        if binding.var.name in packed or (reads and getattr(binding.value.op, "name", "") not in _LAYOUT):
            found.add(binding.var.name)
    return found


def _left(mod: tvm.IRModule, packed: Container[str], refused: Mapping[str, str]) -> dict[str, str]:
    reasons = {}
    for binding in bindings_of(mod["main"]):
        operator = getattr(getattr(binding.value, "op", None), "name", None)
        if operator is None or operator in _LAYOUT or binding.var.name not in packed:
            continue
        reason = f"VTA has no kernel of {operator.removeprefix('relax.')}"
        if operator in SINGLE:
            reason = f"VTA moves int8, and this is {binding.var.ty.dtype}"
        if operator in ALU_OPERATORS | {"relax.astype", "relax.sum"}:
            reason = "it is in no chain from int8 to int8 with numbers, values a channel or int8 tensors"
        reasons[binding.var.name] = refused.get(binding.var.name, reason)
    return reasons


def _groups(mod: tvm.IRModule, packed: Container[str]) -> list[Group]:
    bindings = bindings_of(mod["main"])
    groups: list[Group] = []
    taken: set[relax.Var] = set()
    for start, binding in enumerate(bindings):
        members = [] if binding.var in taken else _members(bindings, start, taken, packed)
        if members:
            taken.update(member.var for member in members)
            groups.append(Group(members, f"{binding.var.name}_kernel"))
    return groups


def _members(
    bindings: Sequence[relax.VarBinding], start: int, taken: set[relax.Var], packed: Container[str]
) -> Sequence[relax.VarBinding]:
    """The bindings of a kernel that begins here; none where there is no such kernel."""
    first = bindings[start]
    if not isinstance(first.value, relax.Call) or not isinstance(first.value.op, tvm.ir.Op):
        return ()
    tensors = [each for each in leaves_of(first.value.args) if isinstance(each, relax.Var)]
    if not tensors or tensors[0].name not in packed:
        return ()
    if first.value.op.name in SINGLE:
        return [first] if str(first.var.ty.dtype) == "int8" else ()
    if not is_widening(first):
        return ()
    before, chain = [first], own_chain(bindings, start, taken)
    if chain and is_global_sum(chain[0].value, first.var):
        before.append(chain.pop(0))
    steps = steps_behind(bindings, before[-1], chain, taken)
    # A cast there and back computes nothing.
    return [*before, *steps] if len([*before, *steps]) > 2 else ()


def is_global_sum(value: relax.Expr, data: relax.Var) -> bool:
    """Whether an expression adds up a packed tensor over all of its height and width."""
    return (
        isinstance(value, relax.Call)
        and getattr(value.op, "name", "") == "relax.sum"
        and value.args[0].same_as(data)
        and sorted(int(axis) for axis in attributes_of(value)["axis"] or ()) == HEIGHT_AND_WIDTH
        and len(data.ty.shape) == len("NCHWnc")
    )
