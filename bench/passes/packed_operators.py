"""Operators that work on packed tensors as they do on plain ones, so that a graph stays packed across them.

Each handler gives the packed result of a call, or None where the call needs its tensors in plain form. All
of them leave the split axes alone: they select, repeat, join or add up along the others, or along the whole
blocks of a split one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tvm
from tvm import relax

from bench.evaluate.graph import attributes_of
from bench.layout import Layout
from bench.passes.packing import GraphPacker, Packed, tensor_shape

Handler = Callable[[GraphPacker, relax.Var, relax.Call, dict[str, Any]], Packed | None]


def keep_packed(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | None:
    """The call on packed operands, if they are packed and it can be; its result is bound to `var`'s name."""
    handler = _HANDLERS.get(call.op.name) if isinstance(call.op, tvm.ir.Op) else None
    return handler(packer, var, call, attributes_of(call)) if handler else None


def pool2d(
    packer: GraphPacker, var: relax.Var, call: relax.Call, attributes: dict[str, Any]
) -> Packed | None:
    """A pooling: the same on every channel, so a matter of the layout's name alone."""
    data = packer.form(call.args[0])
    if data is None or attributes["layout"] != data.axes or not _whole(data, "HW"):
        return None
    names = ("pool_size", "strides", "padding", "dilation", "ceil_mode", "count_include_pad")
    layout = data.layout.text
    pooled = _POOLS[call.op.name](
        packer.values(data), **{name: attributes[name] for name in names}, layout=layout, out_layout=layout
    )
    return replace(data, var=packer.stored(var.name, pooled, data.dtype), shape=tensor_shape(var))


_POOLS = {"relax.nn.avg_pool2d": relax.op.nn.avg_pool2d, "relax.nn.max_pool2d": relax.op.nn.max_pool2d}


def _resize2d(
    packer: GraphPacker, var: relax.Var, call: relax.Call, attributes: dict[str, Any]
) -> Packed | None:
    """To the nearest element by whole factors: each is repeated, in whatever layout."""
    data = _form(packer, call.args[0])
    if data is None or attributes["layout"] != data.axes or not _whole(data, "HW"):
        return None
    old, new = (dict(zip(data.axes, shape, strict=True)) for shape in (data.shape, tensor_shape(var)))
    if attributes["method"] != "nearest_neighbor" or any(new[axis] % old[axis] for axis in "HW"):
        return None
    tensor = data.var
    for axis in "HW":
        (position,) = data.layout.dimensions_of(axis)
        repeated = relax.op.repeat(tensor, new[axis] // old[axis], axis=position)
        tensor = packer.emit(var.name if axis == "W" else f"{var.name}_rows", repeated)
    return Packed(tensor, data.layout, data.axes, tensor_shape(var))


def pad(packer: GraphPacker, var: relax.Var, call: relax.Call, attributes: dict[str, Any]) -> Packed | None:
    """A padding with any value, of axes that are neither split nor padded."""
    data = _form(packer, call.args[0])
    if data is None:
        return None
    widths = attributes["pad_width"]
    padded = {axis: widths[2 * index : 2 * index + 2] for index, axis in enumerate(data.axes)}
    touched = "".join(axis for axis, width in padded.items() if any(width))
    if attributes["pad_mode"] != "constant" or not _whole(data, touched):
        return None
    packed = [
        width for axis, size in data.layout.dimensions for width in (padded[axis] if size is None else (0, 0))
    ]
    result = relax.op.nn.pad(data.var, packed, pad_value=attributes["pad_value"])
    return replace(data, var=packer.emit(var.name, result), shape=tensor_shape(var))


def _sum(packer: GraphPacker, var: relax.Var, call: relax.Call, attributes: dict[str, Any]) -> Packed | None:
    """Over axes that are neither split nor padded: they are gone from the layout."""
    data = _form(packer, call.args[0])
    if data is None or attributes["axis"] is None or attributes["keepdims"]:
        return None
    summed = "".join(data.axes[axis] for axis in attributes["axis"])
    if not _whole(data, summed):
        return None
    positions = [position for axis in summed for position in data.layout.dimensions_of(axis)]
    layout = Layout.parse("".join(letter for letter in data.layout.text if letter not in summed))
    total = packer.emit(var.name, relax.op.sum(data.var, axis=positions))
    return Packed(total, layout, "".join(axis for axis in data.axes if axis not in summed), tensor_shape(var))


def _concat(
    packer: GraphPacker, var: relax.Var, call: relax.Call, attributes: dict[str, Any]
) -> Packed | None:
    """Whole blocks behind whole blocks: only the last tensor may end in padding.

    Where some are packed, those in plain form are packed like them.
    """
    fields = list(call.args[0].fields)
    forms = [_form(packer, field) for field in fields]
    like = next((form for form in forms if form), None)
    if like is None or any(form and form.layout != like.layout for form in forms):
        return None
    axis = like.axes[attributes["axis"]]
    block = like.layout.block(axis)
    if any(dict(zip(like.axes, tensor_shape(field), strict=True))[axis] % block for field in fields[:-1]):
        return None
    multiples = {key: size for key, size in like.extents.items() if key != axis}
    parts = [
        form or packer.packed(field, like.layout.text, axes=like.axes, multiples=multiples)
        for form, field in zip(forms, fields, strict=True)
    ]
    if not all(_whole(part, axis, split=True) for part in parts[:-1]) or any(
        part.extents | {axis: 0} != like.extents | {axis: 0} for part in parts
    ):
        return None
    position = like.layout.dimensions_of(axis)[0]
    joined = relax.op.concat([part.var for part in parts], axis=position)
    return Packed(packer.emit(var.name, joined), like.layout, like.axes, tensor_shape(var))


def _form(packer: GraphPacker, tensor: relax.Var) -> Packed | None:
    """The packed tensor that holds a tensor, element by element: not several of them in a word."""
    packed = packer.form(tensor)
    return packed if packed and packed.var.ty.dtype == tensor.ty.dtype else None


def _whole(data: Packed, axes: str, *, split: bool = False) -> bool:
    """Whether axes have no padding and, unless `split`, are one dimension each."""
    extents, shape = data.extents, dict(zip(data.axes, data.shape, strict=True))
    return all(
        extents[axis] == shape[axis] and (split or len(data.layout.dimensions_of(axis)) == 1) for axis in axes
    )


_HANDLERS: dict[str, Handler] = {
    "relax.nn.max_pool2d": pool2d,
    "relax.image.resize2d": _resize2d,
    "relax.nn.pad": pad,
    "relax.sum": _sum,
    "relax.concat": _concat,
}
