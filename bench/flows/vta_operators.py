"""The operators between the layers as VTA's ALU programs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from tvm import relax

from bench.evaluate.graph import attributes_of
from bench.flows.vta_epilogue import steps_of
from bench.passes.lift_kernels import bindings_of
from bench.passes.vta.between import is_global_sum
from kernels.vta.elementwise import elementwise
from kernels.vta.pool2d import pool2d
from kernels.vta.tensorir import elementwise_primfunc, pool2d_primfunc


class Generators(NamedTuple):
    """What makes pooling and elementwise kernels, from the same description."""

    pool2d: Callable[..., Any]
    elementwise: Callable[..., Any]


PROGRAMS = Generators(pool2d, elementwise)
PLAIN = Generators(pool2d_primfunc, elementwise_primfunc)


def described(
    function: relax.Function, generators: Generators
) -> tuple[Callable[..., Any], tuple[int, ...], dict[str, Hashable]]:
    """The generator of a function of `bench.passes.vta.between`, the shape of its data, and its options.

    Raises ValueError for a window or an operand that VTA's ALU cannot have.
    """
    bindings = [each for each in bindings_of(function) if isinstance(each.value, relax.Call)]
    first = bindings[0]
    shape = tuple(int(extent) for extent in first.value.args[0].ty.shape)
    if first.value.op.name == "relax.nn.max_pool2d":
        return generators.pool2d, shape, _max_pool(first.value)
    if len(bindings) > 1 and is_global_sum(bindings[1].value, first.var):
        window = {"kind": "sum", "window": shape[2:4]}
        return generators.pool2d, shape, {**window, "epilogue": tuple(steps_of(function, bindings[2:]))}
    image = shape if len(shape) == 6 else (*shape[:2], 1, 1, *shape[2:])
    return generators.elementwise, image, {"epilogue": tuple(steps_of(function, bindings[1:]))}


def _max_pool(call: relax.Call) -> dict[str, Hashable]:
    attributes = attributes_of(call)
    if set(attributes["dilation"]) != {1} or attributes["ceil_mode"]:
        raise ValueError("VTA's pooling has neither dilation nor ceil_mode")
    strides, padding = tuple(attributes["strides"]), tuple(attributes["padding"])
    return {"kind": "max", "window": tuple(attributes["pool_size"]), "strides": strides, "padding": padding}
