"""Carrying a graph over into packed layouts: one rewriter for all targets.

A target says which layers it takes and in which layouts (:data:`LayerRewrite`). The rewriter keeps, for each
tensor of the integer graph, the packed tensor that holds its values, lets elementwise operators work on the
packed form, so that consecutive layers stay packed, and returns to the plain form only where an operator
needs it. Constants are packed at compile time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.flows.transformed import Correspondence
from bench.layout import Layout, logical_shape, pack, packed_shape

ELEMENTWISE = frozenset(
    {
        "bitexact.requantize",
        "relax.add",
        "relax.astype",
        "relax.clip",
        "relax.left_shift",
        "relax.maximum",
        "relax.minimum",
        "relax.multiply",
        "relax.nn.relu",
        "relax.right_shift",
        "relax.subtract",
    }
)


@dataclass(frozen=True)
class Packed:
    """A tensor of the transformed graph that holds, in ``layout``, a tensor whose plain form is ``axes``.

    ``shape`` is the plain shape; the packed tensor may be larger on every axis, and what lies outside
    ``shape`` carries no meaning. ``channels`` is where on the packed axis C each channel lies: None for one
    after the other from 0, which is so but for a concatenation of padded tensors.
    """

    var: relax.Var
    layout: Layout
    axes: str
    shape: tuple[int, ...]
    channels: tuple[int, ...] | None = None

    @property
    def extents(self) -> dict[str, int]:
        """Extent of each axis, padding included."""
        return logical_shape(self.layout, tensor_shape(self.var))

    def is_like(self, other: Packed) -> bool:
        """Whether each element lies where the same element of ``other`` does."""
        mine, theirs = (
            (each.layout, each.axes, each.extents, each.channels, each.shape) for each in (self, other)
        )
        return mine == theirs


LayerRewrite = Callable[["GraphPacker", relax.Var, relax.Call], Packed | str | None]
"""What a target does with one call: the packed result, or why it does not take this layer (a string);
None where the call is no layer at all."""

Carry = Callable[["GraphPacker", relax.Var, relax.Call], Packed | None]
"""An operator that is no layer on packed tensors, or None where it has to work on plain ones."""


def function_attributes(function: relax.Function) -> dict[str, Any]:
    """The attributes of a function that a rewritten function keeps."""
    attributes = function.attrs or {}
    return {str(key): attributes[key] for key in attributes.keys() if key != "global_symbol"}  # noqa: SIM118


def tensor_shape(expr: relax.Expr) -> tuple[int, ...]:
    """The static shape of a tensor expression."""
    return tuple(int(extent) for extent in expr.ty.shape)


class GraphPacker:
    """Rewrites ``main`` of one integer graph; a :data:`LayerRewrite` and a :data:`Carry` call its methods.

    ``carry`` says what stays packed between the layers: elementwise operators where it is None.
    """

    def __init__(self, mod: tvm.IRModule, rewrite: LayerRewrite, *, carry: Carry | None = None) -> None:
        self._main = mod["main"]
        self._rewrite = rewrite
        self._carry = carry or carry_elementwise
        self._builder = relax.BlockBuilder()
        self._plain: dict[relax.Var, relax.Expr] = {}
        self._packed: dict[relax.Var, Packed] = {}
        self._packings: dict[tuple[relax.Var, str, tuple[tuple[str, int], ...]], Packed] = {}
        self.correspondences: list[Correspondence] = []
        self.taken: dict[str, str] = {}
        self.refused: dict[str, str] = {}

    def run(self) -> tvm.IRModule:
        """The transformed module."""
        parameters = [relax.Var(parameter.name, parameter.ty) for parameter in self._main.params]
        self._plain.update(zip(self._main.params, parameters, strict=True))
        with self._builder.function("main", parameters, attrs=function_attributes(self._main)):
            with self._builder.dataflow():
                for block in self._main.body.blocks:
                    for binding in block.bindings:
                        self._bind(binding.var, binding.value)
                result = self._builder.emit_output(self._plain_expression(self._main.body.body), "output")
            self._builder.emit_func_output(result)
        return self._builder.finalize()

    def emit(self, name: str, expression: relax.Expr) -> relax.Var:
        """Bind an expression to a new variable, named after ``name``."""
        return self._builder.emit(expression, name)

    def packed(self, tensor: relax.Var, layout: str, *, axes: str, multiples: dict[str, int]) -> Packed:
        """``tensor`` of the integer graph in ``layout``, its axes padded to the ``multiples`` given.

        What is packed already is taken as it is if its layout and padding fit.
        """
        target = Layout.parse(layout)
        present = self._packed.get(tensor)
        if present and present.layout == target:
            extents = present.extents
            if all(extents[axis] % multiple == 0 for axis, multiple in multiples.items()):
                return present
        # Branches that read one tensor share its packed form.
        key = tensor, layout, tuple(sorted(multiples.items()))
        if key not in self._packings:
            plain = self.plain(tensor)
            self._packings[key] = self._pack(plain, target, axes, multiples, name=tensor.name)
        return self._packings[key]

    def is_packed(self, tensor: relax.Var) -> bool:
        """Whether ``tensor`` of the integer graph was produced in a packed layout."""
        return tensor in self._packed

    def present(self, tensor: relax.Expr) -> Packed | None:
        """``tensor`` of the integer graph as it was produced, if that was in a packed layout."""
        return self._packed.get(tensor)

    def plain(self, tensor: relax.Var) -> relax.Expr:
        """``tensor`` of the integer graph in its plain form."""
        if tensor not in self._plain:
            self._plain[tensor] = self._unpack(self._packed[tensor], name=tensor.name)
        return self._plain[tensor]

    def _bind(self, var: relax.Var, value: relax.Expr) -> None:
        if isinstance(value, relax.Call):
            result = self._rewrite(self, var, value)
            if isinstance(result, Packed):
                self.taken[var.name] = result.var.name
                return self._keep(var, result)
            if result is not None:
                self.refused[var.name] = result
            packed = self._carry(self, var, value)
            if packed:
                return self._keep(var, packed)
        if isinstance(value, relax.Var):
            return self._alias(var, value)
        self._plain[var] = self.emit(var.name, self._plain_expression(value))
        if isinstance(var.ty, relax.TensorType):
            self._record(var, self._plain[var].name, None)
        return None

    def _alias(self, var: relax.Var, value: relax.Var) -> None:
        """Another name of a tensor: it stands for whatever the tensor has."""
        for forms in (self._plain, self._packed):
            if value in forms:
                forms[var] = forms[value]

    def _keep(self, var: relax.Var, packed: Packed) -> None:
        self._packed[var] = packed
        self._record(var, packed.var.name, packed)

    def _record(self, var: relax.Var, transformed: str, packed: Packed | None) -> None:
        if packed and packed.channels:
            return  # No layout says where its channels lie; what is computed from it is recorded again.
        shape = tensor_shape(var)
        axes = packed.axes if packed else {4: "NCHW", 2: "NC"}.get(len(shape), "")
        layout = packed.layout.text if packed else None
        self.correspondences.append(Correspondence(var.name, transformed, axes, layout, shape))

    def _plain_expression(self, expression: relax.Expr) -> relax.Expr:
        """The expression with every tensor of the integer graph in its plain form."""
        if isinstance(expression, relax.Var):
            return self.plain(expression)
        if isinstance(expression, relax.Tuple):
            return relax.Tuple([self._plain_expression(field) for field in expression.fields])
        if isinstance(expression, relax.TupleGetItem):
            return relax.TupleGetItem(self._plain_expression(expression.tuple_value), expression.index)
        if isinstance(expression, relax.Call):
            arguments = [self._plain_expression(argument) for argument in expression.args]
            return relax.Call(expression.op, arguments, expression.attrs, expression.ty_args)
        return expression

    def _pack(
        self, tensor: relax.Expr, layout: Layout, axes: str, multiples: dict[str, int], *, name: str
    ) -> Packed:
        shape = tensor_shape(tensor)
        multiple = {axis: int(np.lcm(multiples.get(axis, 1), layout.block(axis))) for axis in axes}
        padded = [-(-size // multiple[axis]) * multiple[axis] for axis, size in zip(axes, shape, strict=True)]
        packed = self.emit_packed(tensor, layout, padded, axes, name=name)
        self.correspondences.append(Correspondence(name, packed.name, axes, layout.text, shape))
        return Packed(packed, layout, axes, shape)

    def emit_packed(
        self, tensor: relax.Expr, layout: Layout, extents: list[int], axes: str, *, name: str
    ) -> relax.Var:
        """A plain tensor padded with zeros to ``extents``, in ``layout``, by operators of the graph."""
        shape = tensor_shape(tensor)
        if list(shape) != extents:
            widths = [width for size, full in zip(shape, extents, strict=True) for width in (0, full - size)]
            tensor = self.emit(f"{name}_padded", relax.op.nn.pad(tensor, widths))
        split, order = split_and_order(layout, extents, axes)
        if split != extents:
            tensor = self.emit(f"{name}_split", relax.op.reshape(tensor, split))
        if order != sorted(order):
            tensor = relax.op.permute_dims(tensor, order)
        return self.emit(f"{name}_{layout.text}", tensor)

    def _unpack(self, packed: Packed, *, name: str) -> relax.Var:
        extents = packed.extents
        full = [extents[axis] for axis in packed.axes]
        split, order = split_and_order(packed.layout, full, packed.axes)
        inverse = [int(position) for position in np.argsort(order)]
        tensor = packed.var
        if inverse != sorted(inverse):
            tensor = self.emit(f"{name}_plain", relax.op.permute_dims(tensor, inverse))
        if split != full:
            tensor = self.emit(f"{name}_plain", relax.op.reshape(tensor, full))
        if packed.channels:
            tensor = self._gathered(tensor, packed, name=name)
            full[packed.axes.index("C")] = len(packed.channels)
        if full != list(packed.shape):
            axes = list(range(len(full)))
            begin = [0] * len(full)
            tensor = self.emit(
                f"{name}_plain", relax.op.strided_slice(tensor, axes, begin, list(packed.shape))
            )
        self.correspondences.append(Correspondence(name, tensor.name, packed.axes, None, packed.shape))
        return tensor

    def _gathered(self, tensor: relax.Var, packed: Packed, *, name: str) -> relax.Var:
        """The channels of a plain tensor that lie at ``packed.channels``, one after the other."""
        assert packed.channels
        axis = packed.axes.index("C")
        runs = [
            self.emit(f"{name}_run", relax.op.strided_slice(tensor, [axis], [start], [stop]))
            for start, stop in _runs(packed.channels)
        ]
        return self.emit(f"{name}_plain", relax.op.concat(runs, axis=axis)) if len(runs) > 1 else runs[0]


def _runs(channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where channels lie one after the other: first position and end of each run."""
    ends = [index for index in range(1, len(channels)) if channels[index] != channels[index - 1] + 1]
    starts, stops = [0, *ends], [*ends, len(channels)]
    return [(channels[start], channels[stop - 1] + 1) for start, stop in zip(starts, stops, strict=True)]


def carry_elementwise(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | None:
    """The call on packed operands, if it is elementwise and its tensors are packed alike."""
    if not isinstance(call.op, tvm.ir.Op) or call.op.name not in ELEMENTWISE:
        return None
    operands = [packer.present(argument) for argument in call.args if isinstance(argument, relax.Var)]
    first = operands[0] if operands else None
    if first is None or any(operand is None or not operand.is_like(first) for operand in operands):
        return None
    arguments: list[relax.Expr] = []
    for argument in call.args:
        present = packer.present(argument) if isinstance(argument, relax.Var) else None
        if present:
            arguments.append(present.var)
        elif isinstance(argument, GenericConst):
            operand = packed_operand(call, argument.value.numpy(), first)
            arguments.append(relax.const(operand, str(operand.dtype)))
        else:
            arguments.append(argument)
    result = relax.Call(call.op, arguments, call.attrs, call.ty_args)
    return replace(first, var=packer.emit(var.name, result))


def pack_weight(
    weight: np.ndarray, layout: str, *, axes: str, extents: dict[str, int] | None = None
) -> relax.Expr:
    """A weight in ``layout`` as a constant, its axes first padded with zeros to ``extents``."""
    widths = [
        (0, (extents or {}).get(axis, size) - size) for axis, size in zip(axes, weight.shape, strict=True)
    ]
    return relax.const(pack(np.pad(weight, widths), layout, source=axes))


def packed_operand(call: relax.Call, constant: np.ndarray, like: Packed) -> np.ndarray:
    """A constant operand of an elementwise operator whose tensors are packed as ``like``."""
    if call.op.name != "bitexact.requantize":
        packed = pack_broadcast(constant, like)
        # The outermost dimension need not be there to broadcast: a bias is (C/16, 1, 1, 1, 16).
        return packed[0] if packed.ndim and packed.shape[0] == 1 else packed
    if constant.ndim == 1:
        shape = [1] * len(like.axes)
        shape[int(call.attrs["axis"])] = constant.size
        constant = constant.reshape(shape)
    return pack_broadcast(constant, like)


def split_and_order(layout: Layout, extents: list[int], axes: str) -> tuple[list[int], list[int]]:
    """How a plain tensor becomes a packed one: the shape to split it to, then the order of dimensions."""
    packed = packed_shape(layout, extents, source=axes)
    split_positions = [position for axis in axes for position in layout.dimensions_of(axis)]
    split = [packed[position] for position in split_positions]
    return split, [split_positions.index(position) for position in range(layout.rank)]


def pack_broadcast(constant: np.ndarray, like: Packed) -> np.ndarray:
    """A constant that broadcasts against the plain form, such that it broadcasts against the packed one.

    Axes that it broadcasts stay of extent 1 in all their dimensions; the others are padded with zeros and
    split. One channel is not broadcast to the channels that pad it.
    """
    if constant.ndim == 0:
        return constant
    shape = (1,) * (len(like.axes) - constant.ndim) + constant.shape
    extents = like.extents
    one_channel = like.shape[like.axes.index("C")] == 1
    broadcast = [
        size == 1 and not (axis == "C" and one_channel) for axis, size in zip(like.axes, shape, strict=True)
    ]
    full = [1 if spread else extents[axis] for axis, spread in zip(like.axes, broadcast, strict=True)]
    padded = np.zeros(full, constant.dtype)
    places = [slice(size) for size in shape]
    channel = like.axes.index("C")
    if like.channels and shape[channel] > 1:
        places[channel] = list(like.channels)  # type: ignore[call-overload]
    padded[tuple(places)] = constant.reshape(shape)
    packed = packed_shape(like.layout, extents)
    split: list[int] = []
    positions: list[int] = []
    for axis, spread in zip(like.axes, broadcast, strict=True):
        dimensions = like.layout.dimensions_of(axis)
        positions.extend(dimensions)
        split.extend(1 if spread else packed[position] for position in dimensions)
    order = [positions.index(position) for position in range(like.layout.rank)]
    return np.ascontiguousarray(padded.reshape(split).transpose(order))
