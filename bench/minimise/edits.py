"""Smaller graphs made from a graph: cut behind or before a binding, a step left out, extents reduced.

Every function returns a new graph, or raises: TVM's type inference and the evaluation say what makes no
sense, and whoever tries an edit takes any exception for "not so".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate import evaluate_all
from bench.evaluate.graph import attributes_of
from bench.fuzz.graphs import Graph
from bench.passes.lift_kernels import bindings_of, substitute
from bench.passes.packing import function_attributes

Rewrite = Callable[[relax.Call, relax.Expr], relax.Expr]
"""What a call becomes: given the call as it was, and as it is on the new operands."""


def bindings(graph: Graph) -> list[relax.VarBinding]:
    """The bindings of ``main``, in order, without those that only give a tensor another name."""
    return [each for each in _all_bindings(graph) if not isinstance(each.value, relax.Var)]


def _all_bindings(graph: Graph) -> list[relax.VarBinding]:
    return bindings_of(graph.module["main"])


def ending_with(graph: Graph, var: relax.Var) -> Graph:
    """The graph up to one of its bindings, which becomes the result."""
    return _rebuilt(graph, result=var)


def beginning_with(graph: Graph, var: relax.Var) -> Graph:
    """The graph with one of its tensors as an input, with the values that it has."""
    values = evaluate_all(graph.module, graph.inputs)
    return _rebuilt(graph, inputs={var: values[var.name]})


def without(graph: Graph, binding: relax.VarBinding, operand: relax.Var) -> Graph:
    """The graph with a step left out: what read its result reads one of its operands."""
    return _rebuilt(graph, replaced={binding.var: operand})


@dataclass(frozen=True)
class Extents:
    """Smaller extents: of the parameters, axis by axis, and of weights, by the binding that reads them."""

    parameters: Mapping[str, tuple[int, ...]]
    weights: Mapping[str, tuple[int, ...]]
    windows: Mapping[str, Mapping[str, Any]]
    """Other attributes of convolutions, by their bindings."""


def resized(graph: Graph, extents: Extents) -> Graph:
    """The graph with the first elements of its tensors, and of its constants as many as fit them."""
    inputs = {
        name: np.ascontiguousarray(array[_first(extents.parameters.get(name, array.shape))])
        for name, array in graph.inputs.items()
    }
    return _rebuilt(graph, arrays=inputs, extents=extents)


def with_values(graph: Graph, inputs: Mapping[str, np.ndarray], constants: Sequence[np.ndarray]) -> Graph:
    """The graph with other inputs and constants, in the order of :func:`constants_of`."""
    return _rebuilt(graph, arrays=inputs, constants=constants)


def constants_of(graph: Graph) -> list[np.ndarray]:
    """The constants that calls of ``main`` read, in order."""
    return [
        argument.value.numpy()
        for binding in bindings(graph)
        if isinstance(binding.value, relax.Call)
        for argument in binding.value.args
        if isinstance(argument, GenericConst)
    ]


def elements(graph: Graph) -> int:
    """How many numbers a graph consists of: of its inputs, constants and tensors."""
    tensors = [binding.var for binding in bindings(graph) if isinstance(binding.var.ty, relax.TensorType)]
    return (
        sum(array.size for array in graph.inputs.values())
        + sum(array.size for array in constants_of(graph))
        + sum(int(np.prod([int(extent) for extent in tensor.ty.shape])) for tensor in tensors)
    )


def size(graph: Graph) -> tuple[int, int, int, int, int]:
    """By what one graph is smaller than another, the first that differs.

    Bindings; strides, dilations and paddings that a convolution need not have; numbers; those that are
    neither zero nor one; those that are not zero.
    """
    windows = [
        attributes_of(binding.value)
        for binding in bindings(graph)
        if isinstance(binding.value, relax.Call)
        and getattr(binding.value.op, "name", "") == "relax.nn.conv2d"
    ]
    changed = sum(
        sum(step != 1 for name in ("strides", "dilation") for step in window[name])
        + sum(width != 0 for width in window["padding"])
        for window in windows
    )
    arrays = [*graph.inputs.values(), *constants_of(graph)]
    odd = sum(int(np.count_nonzero((array != 0) & (array != 1))) for array in arrays)
    other = sum(int(np.count_nonzero(array)) for array in arrays)
    return len(bindings(graph)), changed, elements(graph), odd, other


def _rebuilt(
    graph: Graph,
    *,
    result: relax.Var | None = None,
    inputs: Mapping[relax.Var, np.ndarray] | None = None,
    replaced: Mapping[relax.Var, relax.Var] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    extents: Extents | None = None,
    constants: Sequence[np.ndarray] | None = None,
) -> Graph:
    """The graph with edits, without what its result does not need any more."""
    main = graph.module["main"]
    result = result if result is not None else main.body.body
    replaced = replaced or {}
    inputs = inputs or {}
    arrays = dict(arrays if arrays is not None else graph.inputs)
    needed = _needed(_all_bindings(graph), result, {*inputs}, replaced)
    new: dict[relax.Var, relax.Expr] = {}
    parameters = []
    for parameter in [*main.params, *inputs]:
        if parameter in needed:
            array = inputs[parameter] if parameter in inputs else arrays[parameter.name]
            arrays[parameter.name] = array
            new[parameter] = relax.Var(parameter.name, relax.TensorType(array.shape, str(array.dtype)))
            parameters.append(new[parameter])

    def emit_all(emit: Callable[[relax.Expr, str], relax.Var], to: dict[relax.Var, relax.Expr]) -> None:
        rest = iter(constants) if constants is not None else None
        for binding in _all_bindings(graph):
            value = binding.value
            if rest is not None and isinstance(value, relax.Call):
                value = _with_constants(value, rest)
            if binding.var not in needed or binding.var in inputs:
                continue
            value = replaced.get(binding.var, value)
            value = substitute(value, to)
            if not isinstance(value, relax.Var):
                if extents is not None and isinstance(value, relax.Call):
                    value = _fitted(binding.var.name, value, extents)
                value = emit(_fresh(value), binding.var.name)
            to[binding.var] = value

    # A builder that an error leaves behind unfinished complains: types are inferred beforehand.
    check = relax.BlockBuilder()
    checked = dict(new)
    emit_all(lambda value, name: relax.Var(name, check.normalize(value).ty), checked)
    if any(checked[result].same_as(parameter) for parameter in parameters):
        raise ValueError("nothing is left to compute")
    builder = relax.BlockBuilder()
    with builder.function("main", parameters, attrs=function_attributes(main)):
        with builder.dataflow():
            emit_all(builder.emit, new)
            output = builder.emit_output(new[result], "result")
        builder.emit_func_output(output)
    names = [parameter.name for parameter in parameters]
    return Graph(builder.finalize(), {name: arrays[name] for name in names})


def _needed(
    all_bindings: Sequence[relax.VarBinding],
    result: relax.Var,
    given: set[relax.Var],
    replaced: Mapping[relax.Var, relax.Var],
) -> set[relax.Var]:
    needed = {result}
    for binding in reversed(all_bindings):
        if binding.var not in needed or binding.var in given:
            continue
        if binding.var in replaced:
            needed.add(replaced[binding.var])
        else:
            needed.update(relax.analysis.free_vars(binding.value))
    return needed


def _fresh(value: relax.Expr) -> relax.Expr:
    """The expression without a type of its own: it is inferred from the new operands."""
    if isinstance(value, relax.Call):
        return relax.Call(value.op, value.args, value.attrs, value.ty_args)
    return value


def _with_constants(call: relax.Call, values: Any) -> relax.Call:
    arguments = [
        relax.const(next(values)) if isinstance(argument, GenericConst) else argument
        for argument in call.args
    ]
    return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def _first(shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(extent) for extent in shape)


def _fitted(name: str, call: relax.Call, extents: Extents) -> relax.Call:
    """A call whose constants are cut to what is left of its tensors."""
    operator = call.op.name
    if operator in ("relax.nn.conv2d", "relax.matmul"):
        return _fitted_layer(name, call, extents)
    if operator == "relax.reshape":
        return relax.op.reshape(call.args[0], [int(call.args[0].ty.shape[0]), -1])
    tensors = [argument for argument in call.args if isinstance(argument, relax.Var)]
    if not tensors:
        return call
    shape = [int(extent) for extent in tensors[0].ty.shape]
    axis = int(attributes_of(call).get("axis", 1)) if operator == "bitexact.requantize" else None
    arguments = []
    for argument in call.args:
        if isinstance(argument, GenericConst):
            array = argument.value.numpy()
            if axis is not None and array.ndim == 1:
                array = array[: shape[axis]].copy()
            elif array.ndim:
                array = array[_first(shape[len(shape) - array.ndim :])].copy()
            argument = relax.const(array)  # noqa: PLW2901
        arguments.append(argument)
    return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def _fitted_layer(name: str, call: relax.Call, extents: Extents) -> relax.Call:
    data, weight = call.args
    if not isinstance(weight, GenericConst):
        return call
    array = weight.value.numpy()
    wanted = list(extents.weights.get(name, array.shape))
    shape = [int(extent) for extent in data.ty.shape]
    if call.op.name == "relax.matmul":
        wanted[-2] = shape[-1]
        cut = relax.const(np.ascontiguousarray(array[_first(wanted)]))
        return relax.op.matmul(data, cut, out_dtype=str(call.attrs.out_dtype))
    attributes = {**attributes_of(call), **extents.windows.get(name, {})}
    kernel_axes = attributes["kernel_layout"]
    channels = shape[attributes["data_layout"].index("C")]
    groups = attributes["groups"]
    if groups > 1:
        if array.shape[kernel_axes.index("I")] != 1:
            raise ValueError("the groups of a layer are cut only where each has one channel")
        # As many groups as there are channels left, each with as many outputs as before.
        each = array.shape[kernel_axes.index("O")] // groups
        wanted[kernel_axes.index("O")] = channels * each
        attributes["groups"] = channels
    else:
        wanted[kernel_axes.index("I")] = channels
    cut = relax.const(np.ascontiguousarray(array[_first(wanted)]))
    return relax.op.nn.conv2d(data, cut, **attributes)
