"""Each tensor operator on packed tensors becomes a private function: the unit that a kernel implements."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any

import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.layout import Layout
from bench.passes.packing import function_attributes

Absorb = Callable[[Sequence[relax.VarBinding], int, Container[relax.Var]], Sequence[relax.VarBinding]]
"""Which bindings a kernel computes with its tensor operator, the last of them the kernel's result: given all
bindings, the operator's position, and what belongs to other kernels already. All but the last are read by the
kernel alone."""


@dataclass(frozen=True)
class Lifted:
    """A kernel: the name of its private function, and the binding of ``main`` that receives its result."""

    kernel: str
    result: str


def absorb_nothing(
    _bindings: Sequence[relax.VarBinding], _start: int, _taken: Container[relax.Var]
) -> Sequence[relax.VarBinding]:
    """A kernel that computes the tensor operator alone."""
    return ()


def is_packed_operator(value: relax.Expr) -> bool:
    """Whether an expression is a convolution or dense whose weight is in a packed layout."""
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return False
    if value.op.name in ("relax.nn.conv2d", "relax.nn.conv2d_transpose"):
        return bool(Layout.parse(str(value.attrs.kernel_layout)).factors)
    return value.op.name in (
        "bitexact.conv2d",
        "bitexact.depthwise_conv2d",
        "bitexact.dense",
        "bitexact.batch_matmul",
    )


def bindings_of(function: relax.Function) -> list[relax.VarBinding]:
    """All bindings of a function, in order."""
    return [binding for block in function.body.blocks for binding in block.bindings]


Readers = Mapping[relax.Var, Sequence[relax.VarBinding]]


def readers_of(bindings: Sequence[relax.VarBinding]) -> dict[relax.Var, list[relax.VarBinding]]:
    """The bindings that read each variable, once for each time they read it."""
    readers: dict[relax.Var, list[relax.VarBinding]] = {}
    for binding in bindings:
        for variable in _read(binding.value):
            readers.setdefault(variable, []).append(binding)
    return readers


def following_chain(
    bindings: Sequence[relax.VarBinding], start: int, *, readers: Readers | None = None
) -> list[relax.VarBinding]:
    """The bindings after ``start`` in which each reads the one before and is its only reader.

    ``readers`` are those of all variables, where they are known already.
    """
    readers = readers or readers_of(bindings)
    chain: list[relax.VarBinding] = []
    last = bindings[start]
    while len(readers.get(last.var, [])) == 1 and isinstance(last.var, relax.DataflowVar):
        last = readers[last.var][0]
        if not isinstance(last.value, relax.Call):
            break
        chain.append(last)
    return chain


def own_chain(
    bindings: Sequence[relax.VarBinding],
    start: int,
    taken: Container[relax.Var],
    *,
    readers: Readers | None = None,
) -> list[relax.VarBinding]:
    """What follows an operator up to what belongs to another kernel: two layers may lead to one addition."""
    chain = following_chain(bindings, start, readers=readers)
    return list(takewhile(lambda each: each.var not in taken, chain))


@dataclass(frozen=True)
class Group:
    """Bindings of ``main`` that become one private function, whose result is that of the last.

    The others are read within the group alone.
    """

    bindings: Sequence[relax.VarBinding]
    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


def lift_kernels(
    mod: tvm.IRModule, *, absorb: Absorb = absorb_nothing, tensors_last: bool = False
) -> tuple[tvm.IRModule, dict[str, Lifted]]:
    """Move each packed tensor operator, and what ``absorb`` takes with it, to a private function.

    Returns the module and what was lifted, by the binding of the operator.
    """
    bindings = bindings_of(mod["main"])
    groups = []
    taken: set[relax.Var] = set()
    for start, binding in enumerate(bindings):
        if is_packed_operator(binding.value):
            members = [binding, *absorb(bindings, start, taken)]
            taken.update(member.var for member in members)
            groups.append(Group(members, f"{binding.var.name}_kernel"))
    return lift_groups(mod, groups, function_of=kernel_function(tensors_last=tensors_last))


FunctionOf = Callable[[Sequence[relax.VarBinding]], tuple[relax.Function, list[relax.Expr]]]
"""The private function that computes some bindings, and the arguments that ``main`` gives it."""


def kernel_function(*, tensors_last: bool = False) -> FunctionOf:
    """Functions whose parameters are tensors, and constants of more than one element.

    They are in the order in which they are first used, but with ``tensors_last`` all tensors but the first
    come after the constants; scalar constants stay inside. A tensor that the first binding reads and others
    too is two parameters.
    """
    return partial(_kernel, tensors_last=tensors_last)


def lift_groups(
    mod: tvm.IRModule, groups: Sequence[Group], *, function_of: FunctionOf
) -> tuple[tvm.IRModule, dict[str, Lifted]]:
    """Move each group of bindings of ``main`` to a private function; other functions stay as they are.

    Returns the module and what was lifted, by the first binding of each group.
    """
    main = mod["main"]
    last = {group.bindings[-1].var: group for group in groups}
    absorbed = {member.var for group in groups for member in group.bindings}
    others = {name: function for name, function in mod.functions_items() if name.name_hint != "main"}
    builder = relax.BlockBuilder(tvm.IRModule(others))
    new: dict[relax.Var, relax.Expr] = {}
    results: dict[str, Lifted] = {}
    parameters = [relax.Var(parameter.name, parameter.ty) for parameter in main.params]
    new.update(zip(main.params, parameters, strict=True))
    with builder.function("main", parameters, attrs=function_attributes(main)):
        with builder.dataflow():
            for binding in bindings_of(main):
                if binding.var in last:
                    group = last[binding.var]
                    function, arguments = function_of(group.bindings)
                    if group.attributes:
                        function = function.with_attrs(dict(group.attributes))
                    variable = builder.add_func(function, group.name)
                    call = relax.Call(variable, [substitute(argument, new) for argument in arguments])
                    new[binding.var] = builder.emit(call, binding.var.name)
                    results[group.bindings[0].var.name] = Lifted(variable.name_hint, new[binding.var].name)
                elif binding.var not in absorbed:
                    new[binding.var] = builder.emit(substitute(binding.value, new), binding.var.name)
            output = builder.emit_output(substitute(main.body.body, new), "output")
        builder.emit_func_output(output)
    return builder.finalize(), results


def _kernel(
    group: Sequence[relax.VarBinding], *, tensors_last: bool
) -> tuple[relax.Function, list[relax.Expr]]:
    """A :data:`FunctionOf`."""
    inside = {member.var for member in group}
    # What the first binding reads is its own, though others may read the same.
    own, others = (
        [(each, members) for each in _tensors(members, inside)] for members in (group[:1], group[1:])
    )
    rest = [*own[1:], *others]
    if tensors_last:
        rest.sort(key=lambda entry: not isinstance(entry[0], GenericConst))
    ordered = [*own[:1], *rest]
    arguments = [argument for argument, _ in ordered]
    parameters = [relax.Var(f"argument{index}", argument.ty) for index, argument in enumerate(arguments)]
    new: dict[relax.Var, relax.Expr] = {}
    builder = relax.BlockBuilder()
    with builder.function("kernel", parameters, private=True):
        with builder.dataflow():
            for member in group:
                call = member.value
                known = [
                    (argument, parameter)
                    for (argument, readers), parameter in zip(ordered, parameters, strict=True)
                    if member in readers
                ]
                operands = [_operand(operand, known, new) for operand in call.args]
                new[member.var] = builder.emit(
                    relax.Call(call.op, operands, call.attrs, call.ty_args), member.var.name
                )
            result = builder.emit_output(new[group[-1].var])
        builder.emit_func_output(result)
    return next(iter(builder.get().functions.values())), arguments


def _tensors(members: Sequence[relax.VarBinding], inside: Container[relax.Var]) -> list[relax.Expr]:
    """The tensors and constants of more than one element that some bindings read, each once."""
    found: list[relax.Expr] = []
    for member in members:
        for argument in leaves_of(member.value.args):
            is_tensor = isinstance(argument, relax.Var) and argument not in inside
            is_array = isinstance(argument, GenericConst) and argument.value.numpy().size > 1
            if (is_tensor or is_array) and not any(argument.same_as(seen) for seen in found):
                found.append(argument)
    return found


def leaves_of(arguments: Sequence[relax.Expr]) -> list[relax.Expr]:
    """The arguments of a call, the fields of a tuple one by one."""
    nested = [list(each.fields) if isinstance(each, relax.Tuple) else [each] for each in arguments]
    return [each for fields in nested for each in fields]


def _operand(
    operand: relax.Expr,
    replaced: Sequence[tuple[relax.Expr, relax.Var]],
    new: dict[relax.Var, relax.Expr],
) -> relax.Expr:
    """An operand as the kernel's body has it: the parameter that stands for it, or its own form."""
    if isinstance(operand, relax.Tuple):
        return relax.Tuple([_operand(each, replaced, new) for each in operand.fields])
    for argument, parameter in replaced:
        if argument.same_as(operand):
            return parameter
    return substitute(operand, new)


def _read(expression: relax.Expr) -> list[relax.Var]:
    """The variables that an expression reads, once for each time it reads them."""
    if isinstance(expression, relax.Var):
        return [expression]
    if isinstance(expression, relax.Tuple):
        return [variable for field in expression.fields for variable in _read(field)]
    if isinstance(expression, relax.TupleGetItem):
        return _read(expression.tuple_value)
    if isinstance(expression, relax.Call):
        return [variable for argument in expression.args for variable in _read(argument)]
    return []


def substitute(expression: relax.Expr, new: dict[relax.Var, relax.Expr]) -> relax.Expr:
    """The expression with each variable replaced by what ``new`` has for it."""
    if isinstance(expression, relax.Var):
        return new[expression]
    if isinstance(expression, relax.Tuple):
        return relax.Tuple([substitute(field, new) for field in expression.fields])
    if isinstance(expression, relax.TupleGetItem):
        return relax.TupleGetItem(substitute(expression.tuple_value, new), expression.index)
    if isinstance(expression, relax.Call):
        arguments = [substitute(argument, new) for argument in expression.args]
        return relax.Call(expression.op, arguments, expression.attrs, expression.ty_args)
    return expression
