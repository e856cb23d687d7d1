"""The operators between the layers of a network, as Hexagon kernels."""

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
    if chain and _kernel([binding.value, chain[0].value]):
        return 2
    return 1 if _kernel([binding.value]) else 0


def operator_kernel(function: relax.Function) -> OperatorKernel:
    """The kernel of a private function that :func:`bench.passes.lift_operators.lift_operators` made."""
    calls = [binding.value for binding in bindings_of(function) if isinstance(binding.value, relax.Call)]
    kernel = _kernel(calls)
    assert kernel is not None, "the operators were lifted because there is a kernel for them"
    return kernel


def _kernel(calls: Sequence[relax.Call]) -> OperatorKernel | None:
    """The kernel that computes these calls, each on the result of the one before, if there is one."""
    if any(not isinstance(call.op, tvm.ir.Op) for call in calls):
        return None
    builder = _BUILDERS.get(tuple(call.op.name for call in calls))
    if builder is None or not isinstance(calls[0].args[0], relax.Var):
        return None
    try:
        return builder(*calls)
    except ValueError:  # a shape or type that the kernel's generator refuses
        return None


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
        raise ValueError("the kernel takes NCHW32c without dilation")
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


_BUILDERS: dict[tuple[str, ...], Callable[..., OperatorKernel]] = {
    ("bitexact.requantize",): _requantize,
    **{(f"relax.{operator}",): _binary for operator in BINARY},
    ("relax.nn.relu",): _unary,
    ("relax.clip",): _unary,
    ("relax.astype",): _unary,
    ("relax.nn.max_pool2d",): _max_pool,
    ("relax.astype", "relax.sum"): _global_sum,
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
