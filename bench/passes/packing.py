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

from bench.flows.flow import Unsupported
from bench.flows.transformed import Correspondence
from bench.int4 import HELD, PER_WORD, held, pack_int4
from bench.layout import Layout, logical_shape, pack, packed_shape
from bench.operators import int4
from bench.passes.constants import constant_bindings
from bench.passes.held import four_bit_type, held_call, is_clipped_to

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
CHANNEL_BY_CHANNEL = ELEMENTWISE | {"relax.image.resize2d", "relax.nn.max_pool2d"}


@dataclass(frozen=True)
class Packed:
    """A tensor of the transformed graph that holds, in ``layout``, a tensor whose plain form is ``axes``.

    ``shape`` is the plain shape; the packed tensor may be larger on every axis, and what lies outside
    ``shape`` carries no meaning. With a ``dtype``, int4 or uint4, ``var`` is int32 words of eight values
    along the innermost dimension of the layout (:mod:`bench.int4`). ``channels`` is where on the packed axis
    C each channel lies: None for one after the other from 0, which is so but for a concatenation of padded
    tensors.
    """

    var: relax.Var
    layout: Layout
    axes: str
    shape: tuple[int, ...]
    dtype: str | None = None
    channels: tuple[int, ...] | None = None

    @property
    def extents(self) -> dict[str, int]:
        """Extent of each axis, padding included."""
        *outer, innermost = tensor_shape(self.var)
        return logical_shape(self.layout, [*outer, innermost * PER_WORD if self.dtype else innermost])

    def is_like(self, other: Packed) -> bool:
        """Whether each element lies where the same element of ``other`` does."""
        mine, theirs = (
            (each.layout, each.axes, each.extents, each.channels, each.shape) for each in (self, other)
        )
        return mine == theirs


LayerRewrite = Callable[["GraphPacker", relax.Var, relax.Call], Packed | str | None]
"""What a target does with one call: the packed result, or why it does not take this layer (a string);
None where the call is no layer at all."""

KeepPacked = Callable[["GraphPacker", relax.Var, relax.Call], Packed | None]
"""What an operator that is no layer becomes on packed tensors; None where it needs plain ones."""


def function_attributes(function: relax.Function) -> dict[str, Any]:
    """The attributes of a function that a rewritten function keeps."""
    attributes = function.attrs or {}
    return {str(key): attributes[key] for key in attributes.keys() if key != "global_symbol"}  # noqa: SIM118


def tensor_shape(expr: relax.Expr) -> tuple[int, ...]:
    """The static shape of a tensor expression."""
    return tuple(int(extent) for extent in expr.ty.shape)


class GraphPacker:
    """Rewrites ``main`` of one integer graph; the target's :data:`LayerRewrite` calls its methods.

    So does the :data:`KeepPacked`, which says what stays packed between the layers: elementwise operators
    where it is None.
    """

    def __init__(
        self, mod: tvm.IRModule, rewrite: LayerRewrite, *, keep_packed: KeepPacked | None = None
    ) -> None:
        """Take a target's rewrite of layers and what keeps other operators packed."""
        self._main = mod["main"]
        self._rewrite = rewrite
        self._keep_packed = keep_packed or GraphPacker.elementwise
        self._builder = relax.BlockBuilder()
        self._plain: dict[relax.Var, relax.Expr] = {}
        self._packed: dict[relax.Var, Packed] = {}
        self._repacked: dict[tuple[relax.Var, str, tuple[tuple[str, int], ...]], Packed] = {}
        self.constants = constant_bindings(self._main)
        """Tensors that no input changes, by the variable of the integer graph."""
        self._readers = _readers(self._main)
        self._producers = {
            each.var: each.value for block in self._main.body.blocks for each in block.bindings
        }
        self.correspondences: list[Correspondence] = []
        self.taken: dict[str, str] = {}
        self.refused: dict[str, str] = {}

    def run(self) -> tvm.IRModule:
        """The transformed module. Raises Unsupported for 4-bit inputs and operators that no host computes."""
        for parameter in self._main.params:
            if four_bit_type(parameter):
                raise Unsupported(
                    f"input {parameter.name} is {four_bit_type(parameter)}, which no host holds: "
                    "take 8 bits and convert them by astype"
                )
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
            if not target.factors:
                return self._widened(present, multiples)
        # Once for all that read it so.
        key = tensor, layout, tuple(sorted(multiples.items()))
        if key not in self._repacked:
            self._repacked[key] = self._pack(tensor, target, axes, multiples)
        return self._repacked[key]

    def readers(self, tensor: relax.Var) -> list[tuple[relax.Var, relax.Call]]:
        """The calls that read ``tensor`` of the integer graph, with the variables that they are bound to."""
        return self._readers.get(tensor, [])

    def layers_behind(self, tensor: relax.Var) -> list[relax.Call]:
        """The calls that read ``tensor`` of the integer graph, or what is made of it channel by channel."""
        found: list[relax.Call] = []
        for variable, call in self.readers(tensor):
            if isinstance(call.op, tvm.ir.Op) and call.op.name in CHANNEL_BY_CHANNEL:
                found += self.layers_behind(variable)
            else:
                found.append(call)
        return found

    def is_packed(self, tensor: relax.Var) -> bool:
        """Whether ``tensor`` of the integer graph was produced in a packed layout."""
        return tensor in self._packed

    def form(self, tensor: relax.Expr) -> Packed | None:
        """The packed tensor that holds ``tensor`` of the integer graph; None where there is none."""
        return self._packed.get(tensor)

    def constant(self, operand: relax.Expr) -> np.ndarray | None:
        """An operand that no input changes, as its values; None for any other."""
        if isinstance(operand, GenericConst):
            return operand.value.numpy()
        return held(self.constants[operand]) if operand in self.constants else None

    def plain(self, tensor: relax.Var) -> relax.Expr:
        """``tensor`` of the integer graph in its plain form."""
        if tensor in self.constants:
            return relax.const(held(self.constants[tensor]))
        if tensor not in self._plain:
            self._plain[tensor] = self._unpack(self._packed[tensor], name=tensor.name)
        return self._plain[tensor]

    def _bind(self, var: relax.Var, value: relax.Expr) -> None:
        if var in self.constants:
            return None
        if isinstance(value, relax.Call):
            result = self._rewrite(self, var, value)
            if isinstance(result, Packed):
                # A rewrite whose tensor operator is not its last binding has said so itself.
                self.taken.setdefault(var.name, result.var.name)
                return self._keep(var, result)
            if result is not None:
                self.refused[var.name] = result
            packed = self._keep_packed(self, var, value)
            if packed:
                return self._keep(var, packed)
        if isinstance(value, relax.Var):
            return self._alias(var, value)
        self._plain[var] = self.emit(var.name, self._plain_expression(value, name=var.name))
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
        dtype = four_bit_type(var)
        self.correspondences.append(Correspondence(var.name, transformed, axes, layout, shape, dtype))

    def _plain_expression(self, expression: relax.Expr, *, name: str = "") -> relax.Expr:
        """The expression with every tensor of the integer graph in its plain form."""
        if isinstance(expression, relax.Var):
            return self.plain(expression)
        if isinstance(expression, relax.Tuple):
            return relax.Tuple([self._plain_expression(field) for field in expression.fields])
        if isinstance(expression, relax.TupleGetItem):
            return relax.TupleGetItem(self._plain_expression(expression.tuple_value), expression.index)
        if isinstance(expression, relax.Call):
            arguments = [self._plain_expression(argument) for argument in expression.args]
            clipped = bool(expression.args) and is_clipped_to(
                self._producers.get(expression.args[0]), str(getattr(expression.ty, "dtype", ""))
            )
            return held_call(
                expression, arguments, lambda step: self.emit(f"{name}_held", step), clipped=clipped
            )
        return expression

    def elementwise(self, var: relax.Var, call: relax.Call) -> Packed | None:
        """The call on packed operands, if it is elementwise and its tensors are packed alike."""
        if not isinstance(call.op, tvm.ir.Op) or call.op.name not in ELEMENTWISE:
            return None
        tensors = [
            argument
            for argument in call.args
            if isinstance(argument, relax.Var) and argument not in self.constants
        ]
        first = next((self._packed[tensor] for tensor in tensors if tensor in self._packed), None)
        if first is None:
            return None
        operands: dict[relax.Var, Packed] = {}
        for tensor in tensors:
            operand = self._packed_like(tensor, first)
            if operand is None or not operand.is_like(first):
                return None
            operands[tensor] = operand
        arguments: list[relax.Expr] = []
        for argument in call.args:
            if isinstance(argument, relax.Var) and argument in operands:
                arguments.append(self.values(operands[argument]))
            elif (constant := self.constant(argument)) is not None:
                packed = packed_operand(call, constant, first)
                arguments.append(relax.const(packed, str(packed.dtype)))
            else:
                arguments.append(argument)
        result = held_call(call, arguments, lambda step: self.emit(f"{var.name}_held", step))
        stored = self.stored(var.name, result, four_bit_type(call))
        return replace(first, var=stored, dtype=four_bit_type(call))

    def _packed_like(self, tensor: relax.Var, like: Packed) -> Packed | None:
        """A tensor in the packed form that it has, or, where it is plain, in that of another one.

        A shortcut that comes from a plain tensor then joins its branch packed. Only layouts without factors
        are given so: in the others a target decides itself what is packed.
        """
        if tensor in self._packed or like.layout.factors or tensor_shape(tensor) != like.shape:
            return self._packed.get(tensor)
        return self._pack(tensor, like.layout, like.axes, like.extents)

    def stored(self, name: str, values: relax.Expr, dtype: str | None) -> relax.Var:
        """Values in a packed layout as they are stored there: 4-bit ones (``dtype``) as words."""
        if not dtype:
            return self.emit(name, values)
        return self.emit(f"{name}_words", int4.pack_int4(self.emit(f"{name}_held", values)))

    def values(self, packed: Packed) -> relax.Var:
        """The values of a packed tensor one by one: of words, a tensor that holds them.

        Each reader has one of its own, which its kernel may then take in.
        """
        if not packed.dtype:
            return packed.var
        return self.emit(f"{packed.var.name}_held", int4.unpack_int4(packed.var, dtype=packed.dtype))

    def _widened(self, packed: Packed, multiples: dict[str, int]) -> Packed:
        """A tensor in a layout without factors, its axes padded at the end to the multiples given."""
        widths: list[int] = []
        for axis, extent in packed.extents.items():
            more = -extent % multiples.get(axis, 1)
            if packed.dtype and axis == packed.layout.axes[-1]:
                more = -(-more // PER_WORD)
            widths += [0, more]
        name = packed.var.name
        wider = replace(packed, var=self.emit(f"{name}_padded", relax.op.nn.pad(packed.var, widths)))
        entry = next(entry for entry in self.correspondences if entry.transformed == name)
        self.correspondences.append(replace(entry, transformed=wider.var.name))
        return wider

    def _pack(self, source: relax.Var, layout: Layout, axes: str, multiples: dict[str, int]) -> Packed:
        tensor, name, shape, dtype = (
            self.plain(source),
            source.name,
            tensor_shape(source),
            four_bit_type(source),
        )
        multiple = {axis: int(np.lcm(multiples.get(axis, 1), layout.block(axis))) for axis in axes}
        padded = [-(-size // multiple[axis]) * multiple[axis] for axis, size in zip(axes, shape, strict=True)]
        arranged = self.arranged(tensor, layout, padded, axes, name=name)
        packed = self.stored(f"{name}_{layout.text}", arranged, dtype)
        self.correspondences.append(Correspondence(name, packed.name, axes, layout.text, shape, dtype))
        return Packed(packed, layout, axes, shape, dtype)

    def arranged(
        self, tensor: relax.Expr, layout: Layout, extents: list[int], axes: str, *, name: str
    ) -> relax.Expr:
        """A plain tensor padded with zeros to ``extents``, in ``layout``, by operators of the graph.

        The last of them is not bound to a variable yet.
        """
        shape = tensor_shape(tensor)
        if list(shape) != extents:
            widths = [width for size, full in zip(shape, extents, strict=True) for width in (0, full - size)]
            tensor = self.emit(f"{name}_padded", relax.op.nn.pad(tensor, widths))
        split, order = split_and_order(layout, extents, axes)
        if split != extents:
            tensor = self.emit(f"{name}_split", relax.op.reshape(tensor, split))
        return relax.op.permute_dims(tensor, order) if order != sorted(order) else tensor

    def _unpack(self, packed: Packed, *, name: str) -> relax.Var:
        extents = packed.extents
        full = [extents[axis] for axis in packed.axes]
        split, order = split_and_order(packed.layout, full, packed.axes)
        inverse = [int(position) for position in np.argsort(order)]
        tensor = self.values(packed)
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
        entry = Correspondence(name, tensor.name, packed.axes, None, packed.shape, packed.dtype)
        self.correspondences.append(entry)
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


def _readers(function: relax.Function) -> dict[relax.Var, list[tuple[relax.Var, relax.Call]]]:
    """The calls that read each variable, with the variables that they are bound to."""
    readers: dict[relax.Var, list[tuple[relax.Var, relax.Call]]] = {}
    for block in function.body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Call):
                for variable in relax.analysis.free_vars(binding.value):
                    readers.setdefault(variable, []).append((binding.var, binding.value))
    return readers


def pack_weight(
    weight: np.ndarray, layout: str, *, axes: str, extents: dict[str, int] | None = None
) -> relax.Expr:
    """A weight in ``layout`` as a constant, its axes first padded with zeros to ``extents``.

    A 4-bit weight becomes int32 words of eight values along the innermost dimension.
    """
    widths = [
        (0, (extents or {}).get(axis, size) - size) for axis, size in zip(axes, weight.shape, strict=True)
    ]
    packed = pack(np.pad(weight, widths), layout, source=axes)
    return relax.const(pack_int4(packed) if packed.dtype.name in HELD else packed)


def packed_operand(call: relax.Call, constant: np.ndarray, like: Packed) -> np.ndarray:
    """A constant operand of an elementwise operator whose tensors are packed as ``like``."""
    if call.op.name != "bitexact.requantize":
        packed = pack_broadcast(constant, like)
        # The outermost dimension need not be there to broadcast: a bias is (C/16, 1, 1, 1, 16).
        return packed[0] if like.layout.factors and packed.ndim and packed.shape[0] == 1 else packed
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
    places: list[slice | list[int]] = [slice(size) for size in shape]
    channel = like.axes.index("C")
    if like.channels and shape[channel] > 1:
        places[channel] = list(like.channels)
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
