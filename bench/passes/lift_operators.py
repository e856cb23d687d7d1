"""Operators between the layers become private functions too, where a target has kernels for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.passes.lift_kernels import Group as Members
from bench.passes.lift_kernels import bindings_of, following_chain, lift_groups

Group = Callable[[relax.VarBinding, Sequence[relax.VarBinding]], int]
"""How many bindings one kernel computes, given the first of them and the chain of only readers behind it;
0 where there is no kernel."""


def lift_operators(mod: tvm.IRModule, group: Group) -> tuple[tvm.IRModule, tuple[str, ...]]:
    """Move operators of ``main`` to private functions; what has been lifted before stays as it is.

    Returns the module and the names of the new functions; operators that are alike share one. Their
    parameters are all tensors that the operators read, constants too, each constant with as many dimensions
    as the result and at least one.
    """
    bindings = bindings_of(mod["main"])
    groups: list[Members] = []
    inside: set[relax.Var] = set()
    for start, binding in enumerate(bindings):
        count = 0 if binding.var in inside else _count(binding, bindings, start, group)
        if count:
            members = [binding, *following_chain(bindings, start)[: count - 1]]
            inside.update(member.var for member in members)
            groups.append(Members(members, f"{binding.var.name}_kernel"))
    lifted, kernels = lift_groups(mod, groups, function_of=_function)
    return lifted, tuple(dict.fromkeys(kernel.kernel for kernel in kernels.values()))


def _count(binding: relax.VarBinding, bindings: Sequence[relax.VarBinding], start: int, group: Group) -> int:
    if not isinstance(binding.value, relax.Call) or not isinstance(binding.value.op, tvm.ir.Op):
        return 0
    return group(binding, following_chain(bindings, start))


def _function(members: Sequence[relax.VarBinding]) -> tuple[relax.Function, list[relax.Expr]]:
    """The private function that computes the members, and what it is called with."""
    inside = {member.var for member in members}
    rank = max(1, len(members[-1].value.ty.shape))
    arguments: list[relax.Expr] = []
    parameters: list[relax.Var] = []
    builder = relax.BlockBuilder()
    calls = []

    def parameter_for(operand: relax.Expr) -> relax.Expr:
        """What stands for an operand within the function."""
        if isinstance(operand, relax.Tuple):
            return relax.Tuple([parameter_for(field) for field in operand.fields])
        if operand in inside or not isinstance(operand, relax.Var | GenericConst):
            return operand
        argument = full_rank(operand, rank)
        parameter = relax.Var(f"argument{len(arguments)}", argument.ty)
        arguments.append(argument)
        parameters.append(parameter)
        return parameter

    for member in members:
        calls.append((member, [parameter_for(operand) for operand in member.value.args]))
    new: dict[relax.Expr, relax.Expr] = {}
    with builder.function("kernel", parameters, private=True):
        with builder.dataflow():
            for member, operands in calls:
                call = member.value
                expression = relax.Call(
                    call.op, [new.get(operand, operand) for operand in operands], call.attrs, call.ty_args
                )
                new[member.var] = builder.emit(expression, member.var.name)
            result = builder.emit_output(new[members[-1].var])
        builder.emit_func_output(result)
    return next(iter(builder.get().functions.values())), arguments


def full_rank(operand: relax.Expr, rank: int) -> relax.Expr:
    """A constant with leading dimensions of 1, up to ``rank``; a variable as it is."""
    if not isinstance(operand, GenericConst):
        return operand
    array = operand.value.numpy()
    shape = (1,) * (rank - array.ndim) + array.shape
    return relax.const(np.ascontiguousarray(array.reshape(shape)), str(array.dtype))
