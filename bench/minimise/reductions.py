"""The smaller graphs that are tried, in the order in which they promise most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.fuzz.graphs import Graph
from bench.minimise import edits
from bench.minimise.edits import Extents

Candidate = Callable[[], Graph]
"""Makes a smaller graph, or raises where it cannot be."""

HELD_AS_THEY_ARE = ("int8", "uint8", "int32")
"""Types that a parameter can have."""


def structure(graph: Graph) -> Iterator[Candidate]:
    """Fewer bindings: ends early, begins late, leaves a step out."""
    bindings = [each for each in edits.bindings(graph) if _is_tensor(each.var)]
    for binding in bindings[:-1]:
        yield partial(edits.ending_with, graph, binding.var)
    for binding in reversed(bindings[:-1]):
        if str(binding.var.ty.dtype) in HELD_AS_THEY_ARE:
            yield partial(edits.beginning_with, graph, binding.var)
    for binding in bindings:
        for operand in _alike(binding):
            yield partial(edits.without, graph, binding, operand)


def extents(graph: Graph) -> Iterator[Candidate]:
    """Smaller tensors: of each input one axis at a time, then the layers' outputs and windows."""
    for name, array in graph.inputs.items():
        for axis, size in enumerate(array.shape):
            for smaller in _smaller(size):
                shape = (*array.shape[:axis], smaller, *array.shape[axis + 1 :])
                yield partial(edits.resized, graph, Extents({name: shape}, {}, {}))
    if len(graph.inputs) > 1:
        yield from _alike_inputs(graph)
    for binding in edits.bindings(graph):
        yield from _layer(graph, binding)


def _alike_inputs(graph: Graph) -> Iterator[Candidate]:
    """Inputs of one rank, cut alike: two branches that meet have one shape."""
    ranks = {array.ndim for array in graph.inputs.values()}
    for rank in ranks:
        arrays = {name: array for name, array in graph.inputs.items() if array.ndim == rank}
        for axis in range(rank):
            for smaller in _smaller(max(array.shape[axis] for array in arrays.values())):
                shapes = {
                    name: (
                        *array.shape[:axis],
                        min(smaller, array.shape[axis]),
                        *array.shape[axis + 1 :],
                    )
                    for name, array in arrays.items()
                }
                yield partial(edits.resized, graph, Extents(shapes, {}, {}))


def _layer(graph: Graph, binding: relax.VarBinding) -> Iterator[Candidate]:
    call = binding.value
    if not isinstance(call, relax.Call) or not isinstance(call.args[-1], GenericConst):
        return
    name = binding.var.name
    weight = tuple(int(extent) for extent in call.args[-1].ty.shape)
    if getattr(call.op, "name", "") == "relax.matmul":
        for smaller in _smaller(weight[-1]):
            shape = (*weight[:-1], smaller)
            yield partial(edits.resized, graph, Extents({}, {name: shape}, {}))
    if getattr(call.op, "name", "") != "relax.nn.conv2d":
        return
    attributes = attributes_of(call)
    kernel_axes = attributes["kernel_layout"]
    for axis in "OHW":
        position = kernel_axes.index(axis)
        for smaller in _smaller(weight[position]):
            shape = (*weight[:position], smaller, *weight[position + 1 :])
            yield partial(edits.resized, graph, Extents({}, {name: shape}, {}))
    for change in _windows(attributes):
        yield partial(edits.resized, graph, Extents({}, {}, {name: change}))


def _windows(attributes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Simpler windows of a convolution."""
    for name in ("strides", "dilation"):
        if set(attributes[name]) != {1}:
            yield {name: (1, 1)}
    padding = attributes["padding"]
    if any(padding):
        yield {"padding": (0, 0, 0, 0)}
        for position, width in enumerate(padding):
            if width:
                yield {"padding": (*padding[:position], 0, *padding[position + 1 :])}


def values(graph: Graph) -> Iterator[Candidate]:
    """Plainer numbers: arrays of zeros or ones, then parts of them zero."""
    arrays = [*graph.inputs.values(), *edits.constants_of(graph)]
    for position, array in enumerate(arrays):
        for plain in (np.zeros_like(array), np.ones_like(array)):
            if not np.array_equal(plain, array):
                yield _with(graph, arrays, position, plain)
    for parts in (2, 4, 8, 16):
        for position, array in enumerate(arrays):
            places = np.flatnonzero(array)
            if array.ndim and len(places) >= parts:
                for part in np.array_split(places, parts):
                    changed = array.copy()
                    changed.reshape(-1)[part] = 0
                    yield _with(graph, arrays, position, changed)


def _with(graph: Graph, arrays: list[np.ndarray], position: int, array: np.ndarray) -> Candidate:
    changed = [*arrays[:position], array, *arrays[position + 1 :]]
    inputs = dict(zip(graph.inputs, changed, strict=False))
    return partial(edits.with_values, graph, inputs, changed[len(inputs) :])


def _alike(binding: relax.VarBinding) -> list[relax.Var]:
    """The operands of a call that have the type of its result."""
    if not isinstance(binding.value, relax.Call):
        return []
    return [
        argument
        for argument in binding.value.args
        if isinstance(argument, relax.Var)
        and _is_tensor(argument)
        and (_shape(argument), str(argument.ty.dtype)) == (_shape(binding.var), str(binding.var.ty.dtype))
    ]


def _smaller(size: int) -> list[int]:
    """Extents to try: one, then half, then one less."""
    return sorted({each for each in (1, size // 2, size - 1) if 0 < each < size})


def _is_tensor(var: relax.Var) -> bool:
    return isinstance(var.ty, relax.TensorType)


def _shape(var: relax.Var) -> tuple[int, ...]:
    return tuple(int(extent) for extent in var.ty.shape)
