"""The operators between the layers of a network, and at its ends, as Hexagon kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.passes.lift_kernels import bindings_of
from kernels.hexagon.depthwise import schedule_depthwise, sum_pool_primfunc
from kernels.hexagon.elementwise import (
    BINARY,
    binary_primfunc,
    schedule_binary,
    schedule_unary,
    unary_primfunc,
)
from kernels.hexagon.max_pool import max_pool_primfunc, schedule_max_pool
from kernels.hexagon.movement import (
    broadcast_primfunc,
    concat_primfunc,
    pad_primfunc,
    permute_primfunc,
    repeat_primfunc,
    reshape_primfunc,
    schedule_movement,
    slice_primfunc,
)
from kernels.hexagon.requantize import requantize_primfunc, schedule_requantize

LANES = 32
Shape = tuple[int, ...]


@dataclass(frozen=True)
class OperatorKernel:
    """A kernel for operators of the graph.

    ``plain`` describes it, ``schedule`` writes it for HVX. Its tensors have the elements of the graph's in
    the same order, but maybe other shapes.
    """

    plain: tvm.tirx.PrimFunc
    schedule: Callable[[tvm.tirx.PrimFunc], tvm.tirx.PrimFunc]

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of its tensors in order, the result last."""
        return [tuple(int(extent) for extent in parameter.shape) for parameter in self.plain.params]


def group(binding: relax.VarBinding, chain: Sequence[relax.VarBinding]) -> int:
    """How many bindings from this one on are one kernel: a :data:`bench.passes.lift_operators.Group`."""
    if chain and _has_kernel([binding.value, chain[0].value]):
        return 2
    return 1 if _has_kernel([binding.value]) else 0


def why_no_kernel(call: relax.Call) -> str:
    """Why an operator that :func:`group` did not take stays on the host."""
    try:
        _kernel([call])
    except NoKernel as reason:
        return str(reason)
    raise ValueError(f"{call.op.name} has a kernel")


def operator_kernel(function: relax.Function) -> OperatorKernel:
    """The kernel of a private function that :func:`bench.passes.lift_operators.lift_operators` made."""
    return _kernel(
        [binding.value for binding in bindings_of(function) if isinstance(binding.value, relax.Call)]
    )


class NoKernel(Exception):  # noqa: N818 - an answer, not an error
    """Operators that no kernel computes; the message is the reason."""


def _has_kernel(calls: Sequence[relax.Call]) -> bool:
    try:
        _kernel(calls)
    except NoKernel:
        return False
    return True


def _kernel(calls: Sequence[relax.Call]) -> OperatorKernel:
    """The kernel that computes these calls, each on the result of the one before. Raises NoKernel."""
    if any(not isinstance(call.op, tvm.ir.Op) for call in calls):
        raise NoKernel("it calls a function")
    names = tuple(call.op.name for call in calls)
    builder = _BUILDERS.get(names)
    if builder is None:
        raise NoKernel(f"there is no Hexagon kernel for {', '.join(names)}")
    first = calls[0].args[0]
    if not all(
        isinstance(each, relax.Var) for each in (first.fields if isinstance(first, relax.Tuple) else [first])
    ):
        raise NoKernel(f"{names[0]}: the data are a constant")
    try:
        return builder(*calls)
    except ValueError as reason:  # a shape or type that the kernel's generator refuses
        raise NoKernel(str(reason)) from None


def _requantize(call: relax.Call) -> OperatorKernel:
    data, multiplier, _ = call.args
    shape = _channels_last(_shape(data))
    attributes = attributes_of(call)
    plain = requantize_primfunc(
        shape,
        _parameter(_shape(multiplier), shape),
        zero_point=attributes["zero_point"],
        rounding=attributes["rounding"],
        out_dtype=attributes["out_dtype"],
    )
    return OperatorKernel(plain, schedule_requantize)


def _binary(call: relax.Call) -> OperatorKernel:
    data, other = call.args
    if _dtype(data) != "int32" or _dtype(other) != "int32":
        raise ValueError("the kernel takes int32")
    shape = _channels_last(_shape(data))
    operator = call.op.name.removeprefix("relax.")
    same = _shape(other) == _shape(data)
    if not same and not isinstance(other, GenericConst) and prod(_shape(other)) > shape[-1] * shape[1]:
        raise ValueError("the kernel broadcasts channels only")
    plain = binary_primfunc(operator, shape, shape if same else _parameter(_shape(other), shape))
    return OperatorKernel(plain, schedule_binary)


def _unary(call: relax.Call) -> OperatorKernel:
    data = call.args[0]
    bounds = {}
    if call.op.name == "relax.clip":
        bounds = {name: int(bound.value) for name, bound in zip(("low", "high"), call.args[1:], strict=True)}
    plain = unary_primfunc(
        call.op.name.rpartition(".")[2], _shape(data), _dtype(data), out_dtype=_dtype(call), **bounds
    )
    return OperatorKernel(plain, schedule_unary)


def _max_pool(call: relax.Call) -> OperatorKernel:
    attributes = attributes_of(call)
    if (
        attributes["layout"] != f"NCHW{LANES}c"
        or set(attributes["dilation"]) != {1}
        or attributes["ceil_mode"]
    ):
        raise ValueError("the kernel takes NCHW32c without dilation, its size rounded down")
    data = call.args[0]
    plain = max_pool_primfunc(
        _shape(data),
        tuple(attributes["pool_size"]),
        strides=tuple(attributes["strides"]),
        padding=tuple(attributes["padding"]),
        dtype=_dtype(data),
    )
    return OperatorKernel(plain, schedule_max_pool)


def _global_sum(cast: relax.Call, total: relax.Call) -> OperatorKernel:
    """A sum over all positions of bytes, which the graph casts to int32 first."""
    data = cast.args[0]
    shape = _shape(data)
    axes = attributes_of(total)["axis"]
    if len(shape) != 5 or sorted(axes) != [2, 3] or _dtype(cast) != "int32":
        raise ValueError("the kernel sums NCHW32c over height and width")
    return OperatorKernel(sum_pool_primfunc(shape, shape[2:4], data_dtype=_dtype(data)), schedule_depthwise)


def _reshape(call: relax.Call) -> OperatorKernel:
    """Of all operators that keep the order of elements."""
    data = call.args[0]
    return OperatorKernel(reshape_primfunc(_shape(data), _shape(call), _dtype(data)), schedule_movement)


def _permute(call: relax.Call) -> OperatorKernel:
    data = call.args[0]
    axes = attributes_of(call)["axes"]
    order = range(len(_shape(data)))[::-1] if axes is None else axes
    return OperatorKernel(permute_primfunc(_shape(data), order, _dtype(data)), schedule_movement)


def _pad(call: relax.Call) -> OperatorKernel:
    data, attributes = call.args[0], attributes_of(call)
    if attributes["pad_mode"] != "constant":
        raise ValueError(f"the kernel pads with a constant, not by {attributes['pad_mode']}")
    widths = attributes["pad_width"]
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    plain = pad_primfunc(_shape(data), pairs, _dtype(data), value=attributes["pad_value"])
    return OperatorKernel(plain, schedule_movement)


def _strided_slice(call: relax.Call) -> OperatorKernel:
    data, *positions = call.args
    shape = _shape(data)
    axes, begin, end, *rest = ([int(each.value) for each in field.fields] for field in positions)
    steps = rest[0] if rest else [1] * len(axes)
    taken = [range(extent) for extent in shape]
    for axis, first, last, step in zip(axes, begin, end, steps, strict=True):
        taken[axis] = taken[axis][slice(first, last, step)]
    if not all(taken):
        raise ValueError("the slice is empty")
    plain = slice_primfunc(
        shape,
        [each[0] for each in taken],
        tuple(len(each) for each in taken),
        [each.step for each in taken],
        _dtype(data),
    )
    return OperatorKernel(plain, schedule_movement)


def _concat(call: relax.Call) -> OperatorKernel:
    fields = call.args[0].fields
    shapes = [_shape(field) for field in fields]
    axis = attributes_of(call)["axis"]
    if axis is None:
        shapes, axis = [(prod(shape),) for shape in shapes], 0
    return OperatorKernel(
        concat_primfunc(shapes, axis % len(shapes[0]), _dtype(fields[0])), schedule_movement
    )


def _repeat(call: relax.Call) -> OperatorKernel:
    data, attributes = call.args[0], attributes_of(call)
    shape, axis = _shape(data), attributes["axis"]
    if axis is None:
        shape, axis = (prod(shape),), 0
    plain = repeat_primfunc(shape, attributes["repeats"], axis % len(shape), _dtype(data))
    return OperatorKernel(plain, schedule_movement)


def _broadcast(call: relax.Call) -> OperatorKernel:
    data = call.args[0]
    return OperatorKernel(broadcast_primfunc(_shape(data), _shape(call), _dtype(data)), schedule_movement)


_BUILDERS: dict[tuple[str, ...], Callable[..., OperatorKernel]] = {
    ("bitexact.requantize",): _requantize,
    **{(f"relax.{operator}",): _binary for operator in BINARY},
    ("relax.nn.relu",): _unary,
    ("relax.clip",): _unary,
    ("relax.astype",): _unary,
    ("relax.nn.max_pool2d",): _max_pool,
    ("relax.astype", "relax.sum"): _global_sum,
    **{(f"relax.{operator}",): _reshape for operator in ("reshape", "flatten", "expand_dims", "squeeze")},
    ("relax.permute_dims",): _permute,
    ("relax.nn.pad",): _pad,
    ("relax.strided_slice",): _strided_slice,
    ("relax.concat",): _concat,
    ("relax.repeat",): _repeat,
    ("relax.broadcast_to",): _broadcast,
}


def _channels_last(shape: Shape) -> Shape:
    """A tensor's shape as the kernels know it: NCHW32c, or NC where only channels are left."""
    return (shape[0], shape[1] * LANES) if len(shape) == 3 and shape[2] == LANES else shape


def _parameter(shape: Shape, data: Shape) -> Shape:
    """The shape of one value for each channel, or of one for all."""
    if prod(shape) == 1:
        return (1,)
    if len(data) == 2:
        return (1, data[1])
    return (1, data[1], 1, 1, LANES) if prod(shape) == data[1] * LANES else shape


def _shape(expression: relax.Expr) -> Shape:
    return tuple(int(extent) for extent in expression.ty.shape)


def _dtype(expression: relax.Expr) -> str:
    return str(expression.ty.dtype)
