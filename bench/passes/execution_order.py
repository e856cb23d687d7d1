"""The operator calls of a Relax function in the order of execution, and what each one reads.

Functions that are called are followed, tuples are looked through field by field: what is left is a graph of
operator calls, from which lengths of chains and indices of layers are read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm.ir import Call, GlobalVar, Op, Tuple, TupleGetItem

INDICES = ("order", "depth")


class LayerIndexError(IndexError, ValueError):
    """An index of a layer that the network does not have; the message names the range."""


@dataclass(frozen=True)
class Executed:
    """One execution of an operator call.

    `variable` is what the call is bound to: a function that is called twice gives two of these with one
    variable. `reads` are the positions, in the list of all, of the calls whose results it uses, directly
    or through tuples and functions. `dataflow` says whether the binding stands in a dataflow block.
    """

    operator: str
    variable: relax.Var
    call: Call
    reads: frozenset[int]
    dataflow: bool


@dataclass(frozen=True)
class _Closure:
    function: relax.Function
    environment: dict[Any, Any]


# What an expression stands for: the positions of the calls it comes from, a tuple of such, or a function.
_NOTHING: frozenset[int] = frozenset()


def executed_calls(mod: tvm.IRModule | relax.Function) -> list[Executed]:
    """Every operator call that running `main` (or the function) executes, in order.

    Both branches of an `if` count as executed. ValueError where a module has no Relax function `main`, for
    a function that calls itself, and for expressions that are not in A-normal form.
    """
    walker = _Walker(mod if isinstance(mod, tvm.IRModule) else None)
    if isinstance(mod, relax.Function):
        function = mod
    else:
        functions = {variable.name_hint: body for variable, body in mod.functions.items()}
        if not isinstance(functions.get("main"), relax.Function):
            raise ValueError(f"the module has no Relax function 'main'; it has {sorted(functions)}")
        function = functions["main"]
    walker.function(function, [_NOTHING] * len(function.params), {}, "main")
    return walker.executed


def longest_chain(executed: Sequence[Executed], operators: Collection[str]) -> int:
    """Largest number of listed operators on one path from a definition to its uses."""
    return max(_depths(executed, operators), default=0)


def layer_indices(
    executed: Sequence[Executed], operators: Collection[str], *, index_by: str = "order"
) -> dict[relax.Var, int]:
    """Index of every layer, a listed call, by the variable it is bound to.

    "order" counts from 0 in the order of (first) execution. "depth" is the index of TVM's PR #6748: with N
    the longest chain, N - 1 for a layer on whose result no other depends, and one less for each layer on the
    longest way from there to the output; parallel layers share indices.
    """
    if index_by not in INDICES:
        raise ValueError(f"index_by {index_by!r} is none of {', '.join(INDICES)}")
    listed = [call for call in executed if call.operator in operators]
    if index_by == "order":
        indices: dict[relax.Var, int] = {}
        for call in listed:
            indices.setdefault(call.variable, len(indices))
        return indices
    length = longest_chain(executed, operators)
    below = _depths_below(executed, operators)
    indices = {}
    for position, call in enumerate(executed):
        if call.operator in operators:
            index = length - 1 - below[position]
            indices[call.variable] = min(index, indices.get(call.variable, index))
    return indices


def selected_layers(
    indices: dict[relax.Var, int], skip_layers: Collection[int] | None, *, what: str
) -> list[relax.Var]:
    """The layers whose index is not among `skip_layers`; negative ones count from the end.

    LayerIndexError, beginning with `what`, names an index that is out of range and the range.
    """
    count = max(indices.values(), default=-1) + 1
    skipped = set()
    for index in skip_layers or ():
        if not -count <= index < count:
            valid = f"{-count}..{count - 1}" if count else "empty, there is no such layer"
            raise LayerIndexError(f"{what}: layer {index} is out of range; the range is {valid}")
        skipped.add(index % count)
    return [variable for variable, index in indices.items() if index not in skipped]


def _depths(executed: Sequence[Executed], operators: Collection[str]) -> list[int]:
    depths: list[int] = []
    for call in executed:
        above = max((depths[position] for position in call.reads), default=0)
        depths.append(above + (call.operator in operators))
    return depths


def _depths_below(executed: Sequence[Executed], operators: Collection[str]) -> list[int]:
    """For each call the most listed operators on a path from its result on."""
    below = [0] * len(executed)
    for position in reversed(range(len(executed))):
        call = executed[position]
        for read in call.reads:
            below[read] = max(below[read], below[position] + (call.operator in operators))
    return below


class _Walker:
    def __init__(self, module: tvm.IRModule | None) -> None:
        self.module = module
        self.executed: list[Executed] = []
        self.running: list[relax.Function] = []

    def function(
        self, function: relax.Function, arguments: Sequence[Any], outer: dict[Any, Any], name: str
    ) -> Any:
        if any(function.same_as(outer_function) for outer_function in self.running):
            raise ValueError(f"function {name!r} calls itself: its layers cannot be counted")
        self.running.append(function)
        environment = {**outer, **dict(zip(function.params, arguments, strict=True))}
        result = self.body(function.body, environment)
        self.running.pop()
        return result

    def body(self, body: relax.Expr, environment: dict[Any, Any]) -> Any:
        if not isinstance(body, relax.SeqExpr):
            return self.expression(body, environment)
        for block in body.blocks:
            dataflow = isinstance(block, relax.DataflowBlock)
            for binding in block.bindings:
                environment[binding.var] = self.bound(binding.var, binding.value, environment, dataflow)
        return self.expression(body.body, environment)

    def bound(
        self, variable: relax.Var, value: relax.Expr, environment: dict[Any, Any], dataflow: bool
    ) -> Any:
        if isinstance(value, Call):
            return self.call(variable, value, environment, dataflow)
        if isinstance(value, relax.If):
            condition = self.expression(value.cond, environment)
            branches = [self.body(value.true_branch, environment), self.body(value.false_branch, environment)]
            return _sources(condition, *branches)
        return self.expression(value, environment)

    def call(self, variable: relax.Var, call: Call, environment: dict[Any, Any], dataflow: bool) -> Any:
        arguments = [self.expression(argument, environment) for argument in call.args]
        if not isinstance(call.op, Op):
            callee = self.expression(call.op, environment)
            if isinstance(callee, _Closure):
                name = call.op.name_hint if isinstance(call.op, GlobalVar) else variable.name
                return self.function(callee.function, arguments, callee.environment, name)
        operator = call.op.name if isinstance(call.op, Op) else ""
        self.executed.append(Executed(operator, variable, call, _sources(*arguments), dataflow))
        return frozenset({len(self.executed) - 1})

    def expression(self, expression: relax.Expr, environment: dict[Any, Any]) -> Any:
        """What an expression that is no call stands for."""
        result: Any = _NOTHING
        if isinstance(expression, relax.Var):
            result = environment[expression]
        elif isinstance(expression, Tuple):
            result = tuple(self.expression(field, environment) for field in expression.fields)
        elif isinstance(expression, TupleGetItem):
            whole = self.expression(expression.tuple_value, environment)
            result = whole[expression.index] if isinstance(whole, tuple) else whole
        elif isinstance(expression, relax.Function):
            result = _Closure(expression, environment)
        elif isinstance(expression, GlobalVar) and self.module is not None:
            function = self.module[expression]
            result = _Closure(function, {}) if isinstance(function, relax.Function) else _NOTHING
        elif isinstance(expression, Call | relax.If):
            raise ValueError(
                f"the graph is not in A-normal form ({type(expression).__name__} as an operand): "
                "run relax.transform.Normalize first"
            )
        return result


def _sources(*values: Any) -> frozenset[int]:
    """All calls that values come from."""
    found: frozenset[int] = frozenset()
    for value in values:
        if isinstance(value, tuple):
            found |= _sources(*value)
        elif isinstance(value, frozenset):
            found |= value
    return found
