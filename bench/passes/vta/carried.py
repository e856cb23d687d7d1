"""Operators between the layers, on packed tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.layout import Layout
from bench.passes.packed_operators import pad, pool2d
from bench.passes.packing import ELEMENTWISE, GraphPacker, Packed, packed_operand, tensor_shape
from bench.passes.vta.alu import COMMUTATIVE, IMMEDIATE
from bench.passes.vta.constants import Constants, is_scalar, with_constants

_ELEMENTWISE = ELEMENTWISE | {
    "relax.abs",
    "relax.negative",
    "relax.nn.leakyrelu",
    "relax.round",
    "relax.sigmoid",
}
_REDUCTIONS = {
    "relax.max": relax.op.max,
    "relax.mean": relax.op.mean,
    "relax.min": relax.op.min,
    "relax.sum": relax.op.sum,
}
_HEIGHT_AND_WIDTH = (2, 3)


class Carried:
    """Carries operators over; its call is a :data:`bench.passes.packing.KeepPacked`.

    ``for_alu`` writes integer arithmetic as VTA's ALU has it: no subtraction, no left shift but a product,
    and a number that no immediate holds as one value a channel.
    """

    def __init__(self, constants: Constants, *, for_alu: bool) -> None:
        self._constants = constants
        self._for_alu = for_alu

    def __call__(self, packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | None:
        """The operator on packed tensors, or None where nothing it reads is packed or where it cannot be."""
        if not isinstance(call.op, tvm.ir.Op) or not isinstance(var.ty, relax.TensorType):
            return None
        name = call.op.name
        call = with_constants(packer, call)
        if name in _ELEMENTWISE:
            return self._elementwise(packer, var, call)
        if name == "relax.concat":
            return _concat(packer, var, call)
        data = packer.form(call.args[0]) if call.args else None
        if data is None:
            return None
        if name in _REDUCTIONS:
            return _reduction(packer, var, call, data)
        carry = _CARRIED.get(name)
        return carry(packer, var, call, data) if carry and data.axes == "NCHW" else None

    def _elementwise(self, packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | None:
        like = next((packer.form(argument) for argument in call.args if packer.form(argument)), None)
        like = like or _packed_tensor_that_meets(packer, var)
        if like is None or tensor_shape(var) != like.shape:
            return None
        if self._for_alu and str(var.ty.dtype) == "int32" and call.op.name != "bitexact.requantize":
            call = _as_alu_has_it(call, like)
        if call.op.name == "relax.clip" and self._for_alu and not _fits(var, call):
            return self._wide_clip(packer, var, call, like)
        arguments: list[relax.Expr] = []
        for argument in call.args:
            operand = self._operand(packer, var, call, argument, like)
            if operand is None:
                return None
            arguments.append(operand)
        result = relax.Call(call.op, arguments, call.attrs, call.ty_args)
        return replace(like, var=packer.emit(var.name, result))

    def _operand(
        self, packer: GraphPacker, var: relax.Var, call: relax.Call, argument: relax.Expr, like: Packed
    ) -> relax.Expr | None:
        """An argument of an elementwise operator on tensors that are packed as ``like``."""
        if isinstance(argument, GenericConst):
            constant = argument.value.numpy()
            if call.op.name == "bitexact.requantize":
                return relax.const(packed_operand(call, constant, like))
            return self._constants.operand(packer, var.name, constant, like)
        if not isinstance(argument, relax.Var):
            return argument
        if tensor_shape(argument) != like.shape:
            return None
        present = packer.form(argument)
        if present is None and like.channels is None:
            present = packer.packed(argument, like.layout.text, axes=like.axes, multiples={})
        return present.var if present and present.is_like(like) else None

    def _wide_clip(self, packer: GraphPacker, var: relax.Var, call: relax.Call, like: Packed) -> Packed:
        """A clip whose bounds no immediate holds, as a minimum and a maximum with one value a channel."""
        low, high = (np.full(_channels(like), int(bound.value), np.int32) for bound in call.args[1:])
        data = packer.form(call.args[0])
        assert data is not None
        capped = relax.op.minimum(data.var, self._constants.operand(packer, var.name, high, like))
        top = packer.emit(f"{var.name}_capped", capped)
        raised = relax.op.maximum(top, self._constants.operand(packer, var.name, low, like))
        return replace(like, var=packer.emit(var.name, raised))


def _packed_tensor_that_meets(packer: GraphPacker, tensor: relax.Var) -> Packed | None:
    """The packed tensor with which a tensor is combined, behind its own elementwise operators alone.

    Then these work on the packed form, of int8 it may be, instead of packing what they make of it.
    """
    while len(packer.readers(tensor)) == 1:
        ((result, call),) = packer.readers(tensor)
        if not isinstance(call.op, tvm.ir.Op) or call.op.name not in _ELEMENTWISE:
            return None
        operands = [
            each for each in call.args if isinstance(each, relax.Var) and packer.constant(each) is None
        ]
        if len(operands) != 1:
            others = [packer.form(each) for each in operands if not each.same_as(tensor)]
            return others[0] if len(others) == 1 else None
        tensor = result
    return None


def _as_alu_has_it(call: relax.Call, like: Packed) -> relax.Call:
    """The same arithmetic mod 2^32 in the ALU's operators, the tensor first and the constant second."""
    tensor, operand = (*call.args, None)[:2]
    if isinstance(tensor, GenericConst) and call.op.name in COMMUTATIVE:
        tensor, operand = operand, tensor
    if not isinstance(operand, GenericConst) or not isinstance(tensor, relax.Var):
        return call
    constant = operand.value.numpy()
    operator = call.op
    if operator.name == "relax.subtract":
        operator, constant = tvm.ir.Op.get("relax.add"), (-constant.astype(np.int64)).astype(np.int32)
    elif operator.name == "relax.left_shift":
        operator, constant = tvm.ir.Op.get("relax.multiply"), (np.int64(1) << constant).astype(np.int32)
    if operator.name in COMMUTATIVE and is_scalar(constant, like) and int(constant.item()) not in IMMEDIATE:
        constant = np.full(_channels(like), constant.item(), np.int32)
    return relax.Call(operator, [tensor, relax.const(constant)], call.attrs, call.ty_args)


def _channels(like: Packed) -> tuple[int, ...]:
    """Shape of one value a channel, that broadcasts to the plain form of ``like``."""
    return tuple(size if axis == "C" else 1 for axis, size in zip(like.axes, like.shape, strict=True))


def _fits(var: relax.Var, call: relax.Call) -> bool:
    return str(var.ty.dtype) != "int32" or all(int(bound.value) in IMMEDIATE for bound in call.args[1:])


def _concat(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | None:
    """A concatenation, of channels too: where they are padded the result has gaps, which is remembered."""
    fields = call.args[0].fields if isinstance(call.args[0], relax.Tuple) else ()
    like = next((packer.form(field) for field in fields if packer.form(field)), None)
    if like is None or not all(isinstance(field, relax.Var) for field in fields):
        return None
    axis = int(attributes_of(call)["axis"] or 0) % len(like.axes)
    letter = like.axes[axis]
    if letter == "N" and like.layout.block("N") > 1:
        return None
    parts = [packer.packed(field, like.layout.text, axes=like.axes, multiples={}) for field in fields]
    channels = parts[0].channels
    if letter == "C":
        channels = _concatenated_channels(parts)
    elif any((part.channels, part.extents["C"]) != (channels, like.extents["C"]) for part in parts):
        return None
    place = like.layout.axes.index(letter)
    joined = packer.emit(var.name, relax.op.concat([part.var for part in parts], axis=place))
    return replace(like, var=joined, shape=tensor_shape(var), channels=channels)


def _concatenated_channels(parts: list[Packed]) -> tuple[int, ...] | None:
    """Where the channels of each part lie in the whole; None where that is one after the other."""
    places: list[int] = []
    first = 0
    for part in parts:
        own = part.channels or range(part.shape[part.axes.index("C")])
        places.extend(first + place for place in own)
        first += part.extents["C"]
    return None if places == list(range(len(places))) else tuple(places)


def _reduction(packer: GraphPacker, var: relax.Var, call: relax.Call, data: Packed) -> Packed | None:
    """A sum, mean, maximum or minimum over height and width: the channels stay where they are."""
    attributes = attributes_of(call)
    axes = tuple(axis % len(data.axes) for axis in attributes["axis"] or ())
    if data.axes != "NCHW" or sorted(axes) != list(_HEIGHT_AND_WIDTH):
        return None
    keepdims = bool(attributes["keepdims"])
    result = packer.emit(
        var.name, _REDUCTIONS[call.op.name](data.var, list(_HEIGHT_AND_WIDTH), keepdims=keepdims)
    )
    return _flat_or_not(result, data, tensor_shape(var))


def _flat_or_not(result: relax.Var, data: Packed, shape: tuple[int, ...]) -> Packed:
    """A result of ``data`` that has lost its height and width, or has kept them."""
    if len(shape) == len(data.axes):
        return replace(data, var=result, shape=shape)
    layout = Layout.parse(data.layout.text.replace("HW", ""))
    return replace(data, var=result, layout=layout, axes="NC", shape=shape)


def _flatten(packer: GraphPacker, var: relax.Var, call: relax.Call, data: Packed) -> Packed | None:
    """A reshape from one pixel to none: the only one that leaves the channels in their blocks."""
    if data.shape[2:] != (1, 1) or tensor_shape(var) != data.shape[:2]:
        return None
    packed = tensor_shape(data.var)
    flat = packer.emit(var.name, relax.op.reshape(data.var, (*packed[:2], *packed[4:])))
    return _flat_or_not(flat, data, data.shape[:2])


def _resize(packer: GraphPacker, var: relax.Var, call: relax.Call, data: Packed) -> Packed | None:
    """An upsampling (or any resize): the same on every channel."""
    attributes = attributes_of(call)
    if attributes["layout"] != "NCHW":
        return None
    size = tensor_shape(var)[2:]
    options = {
        name: attributes[name]
        for name in (
            "method",
            "coordinate_transformation_mode",
            "rounding_method",
            "cubic_alpha",
            "cubic_exclude",
            "extrapolation_value",
        )
    }
    result = relax.op.image.resize2d(data.var, size, layout=data.layout.text, **options)
    return replace(data, var=packer.emit(var.name, result), shape=tensor_shape(var))


def _repeat(packer: GraphPacker, var: relax.Var, call: relax.Call, data: Packed) -> Packed | None:
    """A repetition of rows or columns, an upsampling by whole factors: the same on every channel."""
    attributes = attributes_of(call)
    axis = attributes["axis"]
    if axis is None or int(axis) % len(data.axes) not in _HEIGHT_AND_WIDTH:
        return None
    result = relax.op.repeat(data.var, int(attributes["repeats"]), axis=int(axis) % len(data.axes))
    return replace(data, var=packer.emit(var.name, result), shape=tensor_shape(var))


def _as_elsewhere(packer: GraphPacker, var: relax.Var, call: relax.Call, data: Packed) -> Packed | None:
    """What is done on the layouts of other targets in the same way."""
    handler = pad if call.op.name == "relax.nn.pad" else pool2d
    return handler(packer, var, call, attributes_of(call))


_CARRIED: dict[str, Callable[[GraphPacker, relax.Var, relax.Call, Packed], Packed | None]] = {
    "relax.flatten": _flatten,
    "relax.image.resize2d": _resize,
    "relax.nn.avg_pool2d": _as_elsewhere,
    "relax.nn.max_pool2d": _as_elsewhere,
    "relax.nn.pad": _as_elsewhere,
    "relax.repeat": _repeat,
    "relax.reshape": _flatten,
    "relax.squeeze": _flatten,
}
