"""The operators between the layers as VTA's programs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from tvm import relax

from bench.evaluate.graph import attributes_of
from bench.flows.vta_epilogue import steps_of
from bench.passes.lift_kernels import bindings_of
from bench.passes.vta.between import HEIGHT_AND_WIDTH, is_global_sum
from kernels.vta import concatenate, elementwise, pad, pool2d, upsample
from kernels.vta.concatenate import concatenate_primfunc
from kernels.vta.tensorir import elementwise_primfunc, pad_primfunc, pool2d_primfunc
from kernels.vta.upsample import upsample_primfunc


class Generators(NamedTuple):
    """What makes kernels of the operators between the layers, from the same description."""

    pool2d: Callable[..., Any]
    elementwise: Callable[..., Any]
    concatenate: Callable[..., Any]
    upsample: Callable[..., Any]
    pad: Callable[..., Any]


PROGRAMS = Generators(pool2d, elementwise, concatenate, upsample, pad)
PLAIN = Generators(
    pool2d_primfunc, elementwise_primfunc, concatenate_primfunc, upsample_primfunc, pad_primfunc
)

Shape = tuple[int, ...]
Described = tuple[Callable[..., Any], tuple[Shape, ...], dict[str, Hashable]]
"""A generator, the shapes of its tensors, and its options."""


def described(function: relax.Function, generators: Generators) -> Described:
    """The generator of a function of `bench.passes.vta.between`, the shapes of its tensors, and its options.

    Raises ValueError for a window, a size or an operand that VTA cannot have.
    """
    bindings = [each for each in bindings_of(function) if isinstance(each.value, relax.Call)]
    first = bindings[0]
    if first.value.op.name in _SINGLE:
        return _SINGLE[first.value.op.name](function, first.value, generators)
    image = _image(first.value.args[0])
    if len(bindings) > 1 and is_global_sum(bindings[1].value, first.var):
        epilogue = tuple(steps_of(function, bindings[2:]))
        return (
            generators.pool2d,
            (image,),
            {"kind": "sum", "window": image[2:4], "epilogue": epilogue},
        )
    return generators.elementwise, (image,), {"epilogue": tuple(steps_of(function, bindings[1:]))}


def _image(tensor: relax.Expr) -> Shape:
    """The shape of a packed tensor; one of no height and width is one of one pixel."""
    shape = tuple(int(extent) for extent in tensor.ty.shape)
    return shape if len(shape) == len("NCHWnc") else (*shape[:2], 1, 1, *shape[2:])


def _max_pool(_: relax.Function, call: relax.Call, generators: Generators) -> Described:
    attributes = attributes_of(call)
    if set(attributes["dilation"]) != {1} or attributes["ceil_mode"]:
        raise ValueError("VTA's pooling has neither dilation nor ceil_mode")
    strides, padding = tuple(attributes["strides"]), tuple(attributes["padding"])
    window = {"window": tuple(attributes["pool_size"]), "strides": strides, "padding": padding}
    return generators.pool2d, (_image(call.args[0]),), {"kind": "max", **window}


def _concat(function: relax.Function, call: relax.Call, generators: Generators) -> Described:
    parameters = list(function.params)
    order = tuple(parameters.index(field) for field in call.args[0].fields)
    axis = int(attributes_of(call)["axis"] or 0)
    shapes = tuple(map(_image, parameters))
    return generators.concatenate, shapes, {"axis": axis, "order": order}


def _resize(_: relax.Function, call: relax.Call, generators: Generators) -> Described:
    old, new, attributes = _image(call.args[0]), _image(call), attributes_of(call)
    if attributes["method"] != "nearest_neighbor" or any(new[axis] % old[axis] for axis in (2, 3)):
        raise ValueError(
            f"VTA repeats rows and columns; this is {attributes['method']} from {old[2]}x{old[3]} to "
            f"{new[2]}x{new[3]}"
        )
    return generators.upsample, (old,), {"factors": (new[2] // old[2], new[3] // old[3])}


def _repeat(_: relax.Function, call: relax.Call, generators: Generators) -> Described:
    attributes = attributes_of(call)
    count = int(attributes["repeats"])
    factors = (count, 1) if int(attributes["axis"]) == HEIGHT_AND_WIDTH[0] else (1, count)
    return generators.upsample, (_image(call.args[0]),), {"factors": factors}


def _pad(_: relax.Function, call: relax.Call, generators: Generators) -> Described:
    attributes = attributes_of(call)
    _, _, (top, bottom), (left, right), *_ = zip(*[iter(map(int, attributes["pad_width"]))] * 2, strict=True)
    value = float(attributes["pad_value"])
    if value != int(value):
        raise ValueError(f"VTA pads with integers, and this is {value}")
    options = {"padding": (top, left, bottom, right), "value": int(value)}
    return generators.pad, (_image(call.args[0]),), options


_SINGLE: dict[str, Callable[[relax.Function, relax.Call, Generators], Described]] = {
    "relax.concat": _concat,
    "relax.image.resize2d": _resize,
    "relax.nn.max_pool2d": _max_pool,
    "relax.nn.pad": _pad,
    "relax.repeat": _repeat,
}
