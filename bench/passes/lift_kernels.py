"""Each tensor operator on packed tensors becomes a private function: the unit that a kernel implements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.layout import Layout
from bench.passes.packing import function_attributes

Absorb = Callable[[Sequence[relax.VarBinding]], Sequence[relax.VarBinding]]
"""Which of the bindings that follow a tensor operator, each the only reader of the one before, the kernel
computes with it."""


@dataclass(frozen=True)
class Lifted:
    """A kernel: the name of its private function, and the binding of ``main`` that receives its result."""

    kernel: str
    result: str


def absorb_nothing(_: Sequence[relax.VarBinding]) -> Sequence[relax.VarBinding]:
    """A kernel that computes the tensor operator alone."""
    return ()


def is_packed_operator(value: relax.Expr) -> bool:
    """Whether an expression is a convolution or dense whose weight is in a packed layout."""
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return False
    if value.op.name == "relax.nn.conv2d":
        return bool(Layout.parse(str(value.attrs.kernel_layout)).factors)
    return value.op.name in ("bitexact.conv2d", "bitexact.dense")


def bindings_of(function: relax.Function) -> list[relax.VarBinding]:
    """All bindings of a function, in order."""
    return [binding for block in function.body.blocks for binding in block.bindings]


def following_chain(bindings: Sequence[relax.VarBinding], start: int) -> list[relax.VarBinding]:
    """The bindings after ``start`` in which each reads the one before and is its only reader."""
    readers: dict[relax.Var, list[relax.VarBinding]] = {}
    for binding in bindings:
        for variable in _read(binding.value):
            readers.setdefault(variable, []).append(binding)
    chain: list[relax.VarBinding] = []
    last = bindings[start]
    while len(readers.get(last.var, [])) == 1 and isinstance(last.var, relax.DataflowVar):
        last = readers[last.var][0]
        if not isinstance(last.value, relax.Call):
            break
        chain.append(last)
    return chain


def lift_kernels(
    mod: tvm.IRModule, *, absorb: Absorb = absorb_nothing
) -> tuple[tvm.IRModule, dict[str, Lifted]]:
    """Move each packed tensor operator, and what ``absorb`` takes with it, to a private function.

    Returns the module and what was lifted, by the binding of the operator. Parameters of a kernel are its
    data, then its constants of more than one element, in the order in which they are first used; scalar
    constants stay inside.
    """
    main = mod["main"]
    bindings = bindings_of(main)
    absorbed: set[relax.Var] = set()
    kernels: dict[relax.Var, list[relax.VarBinding]] = {}
    for start, binding in enumerate(bindings):
        if is_packed_operator(binding.value):
            # Two layers may lead to one addition: it belongs to the kernel that comes first.
            own = takewhile(lambda member: member.var not in absorbed, following_chain(bindings, start))
            group = [binding, *absorb(list(own))]
            kernels[group[-1].var] = group
            absorbed.update(member.var for member in group)
    builder = relax.BlockBuilder()
    new: dict[relax.Var, relax.Expr] = {}
    results: dict[str, Lifted] = {}
    parameters = [relax.Var(parameter.name, parameter.ty) for parameter in main.params]
    new.update(zip(main.params, parameters, strict=True))
    with builder.function("main", parameters, attrs=function_attributes(main)):
        with builder.dataflow():
            for binding in bindings:
                if binding.var in kernels:
                    group = kernels[binding.var]
                    function, arguments = _kernel(group)
                    variable = builder.add_func(function, f"{group[0].var.name}_kernel")
                    call = relax.Call(variable, [_substitute(argument, new) for argument in arguments])
                    new[binding.var] = builder.emit(call, binding.var.name)
                    results[group[0].var.name] = Lifted(variable.name_hint, new[binding.var].name)
                elif binding.var not in absorbed:
                    new[binding.var] = builder.emit(_substitute(binding.value, new), binding.var.name)
            output = builder.emit_output(_substitute(main.body.body, new), "output")
        builder.emit_func_output(output)
    return builder.finalize(), results


def _kernel(group: Sequence[relax.VarBinding]) -> tuple[relax.Function, list[relax.Expr]]:
    """The private function that computes a group, and the arguments that ``main`` gives it."""
    inside = {member.var for member in group}
    arguments: list[relax.Expr] = []
    for member in group:
        for argument in member.value.args:
            is_tensor = isinstance(argument, relax.Var) and argument not in inside
            is_array = isinstance(argument, GenericConst) and argument.value.numpy().size > 1
            if (is_tensor or is_array) and not any(argument.same_as(seen) for seen in arguments):
                arguments.append(argument)
    parameters = [relax.Var(f"argument{index}", argument.ty) for index, argument in enumerate(arguments)]
    replaced = list(zip(arguments, parameters, strict=True))
    new: dict[relax.Var, relax.Expr] = {}
    builder = relax.BlockBuilder()
    with builder.function("kernel", parameters, private=True):
        with builder.dataflow():
            for member in group:
                call = member.value
                operands = [_operand(operand, replaced, new) for operand in call.args]
                new[member.var] = builder.emit(
                    relax.Call(call.op, operands, call.attrs, call.ty_args), member.var.name
                )
            result = builder.emit_output(new[group[-1].var])
        builder.emit_func_output(result)
    return next(iter(builder.get().functions.values())), arguments


def _operand(
    operand: relax.Expr,
    replaced: Sequence[tuple[relax.Expr, relax.Var]],
    new: dict[relax.Var, relax.Expr],
) -> relax.Expr:
    """An operand as the kernel's body has it: the parameter that stands for it, or its own form."""
    for argument, parameter in replaced:
        if argument.same_as(operand):
            return parameter
    return _substitute(operand, new)


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


def _substitute(expression: relax.Expr, new: dict[relax.Var, relax.Expr]) -> relax.Expr:
    if isinstance(expression, relax.Var):
        return new[expression]
    if isinstance(expression, relax.Tuple):
        return relax.Tuple([_substitute(field, new) for field in expression.fields])
    if isinstance(expression, relax.TupleGetItem):
        return relax.TupleGetItem(_substitute(expression.tuple_value, new), expression.index)
    if isinstance(expression, relax.Call):
        arguments = [_substitute(argument, new) for argument in expression.args]
        return relax.Call(expression.op, arguments, expression.attrs, expression.ty_args)
    return expression
