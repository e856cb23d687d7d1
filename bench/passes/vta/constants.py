"""Weights and per-channel constants in VTA's layouts, packed at compile time or by operators of the graph."""

from __future__ import annotations

import numpy as np
from tvm import relax

from bench.layout import Layout
from bench.passes.packing import GraphPacker, Packed, pack_broadcast, pack_weight


class Constants:
    """Packs the constants of one graph.

    With ``fold`` they are packed here and now; without, the packing stands in the graph as operators (pad,
    reshape, permute_dims, and broadcast_to over the batch block), as ``vta.top.graphpack`` leaves it.
    """

    def __init__(self, *, fold: bool) -> None:
        self._fold = fold

    def weight(
        self, packer: GraphPacker, name: str, weight: np.ndarray, layout: str, *, axes: str
    ) -> relax.Expr:
        """A weight whose axes are padded with zeros to whole blocks."""
        if self._fold:
            return pack_weight(weight, layout, axes=axes)
        parsed = Layout.parse(layout)
        extents = [
            -(-size // parsed.block(axis)) * parsed.block(axis)
            for axis, size in zip(axes, weight.shape, strict=True)
        ]
        arranged = packer.arranged(relax.const(weight), parsed, extents, axes, name=f"{name}_weight")
        return packer.emit(f"{name}_weight_{layout}", arranged)

    def operand(self, packer: GraphPacker, name: str, constant: np.ndarray, like: Packed) -> relax.Expr:
        """A constant that broadcasts against the plain form of ``like``, such that it does so packed.

        One value a channel becomes (C/c, 1, 1, b, c), or (C/c, b, c) for two axes: what VTA's ALU reads.
        """
        if is_scalar(constant, like):
            return _const(constant.reshape(()))
        if not is_per_channel(constant, like.shape, like.axes):
            packed = pack_broadcast(constant, like)
            return _const(packed[0] if packed.shape[0] == 1 else packed)
        spatial = like.layout.rank - 4
        blocks = like.extents["C"] // like.layout.block("C")
        shape = (blocks, *(1,) * spatial, like.layout.block("N"), like.layout.block("C"))
        if self._fold or like.channels:
            full = (1,) * (len(like.axes) - constant.ndim) + constant.shape
            packed = pack_broadcast(constant.reshape(full), like)[0]
            return _const(np.ascontiguousarray(np.broadcast_to(packed, shape)))
        channels = constant.reshape(-1, *(1,) * spatial)
        widths = [0, like.extents["C"] - len(channels), *(0,) * (2 * spatial)]
        tensor: relax.Expr = _const(channels)
        if any(widths):
            tensor = packer.emit(f"{name}_constant_padded", relax.op.nn.pad(tensor, widths))
        split = [blocks, shape[-1], *(1,) * (spatial + 1)]
        tensor = packer.emit(f"{name}_constant_split", relax.op.reshape(tensor, split))
        order = [0, *range(2, spatial + 3), 1]
        tensor = packer.emit(f"{name}_constant_packed", relax.op.permute_dims(tensor, order))
        return packer.emit(f"{name}_constant", relax.op.broadcast_to(tensor, shape))


def _const(constant: np.ndarray) -> relax.Expr:
    """A constant of the array's own type: without it, relax.const makes int32 of int64."""
    return relax.const(constant, str(constant.dtype))


def with_constants(packer: GraphPacker, call: relax.Call) -> relax.Call:
    """A call in which each variable that no input changes is the constant that it stands for."""
    arguments: list[relax.Expr] = []
    for argument in call.args:
        constant = packer.constant(argument) if isinstance(argument, relax.Var) else None
        arguments.append(argument if constant is None else _const(constant))
    return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def is_scalar(constant: np.ndarray, like: Packed) -> bool:
    """Whether a constant is one number for all elements: of one channel, a tensor of one is the channel's."""
    return constant.ndim == 0 or (constant.size == 1 and like.shape[like.axes.index("C")] > 1)


def is_per_channel(constant: np.ndarray, shape: tuple[int, ...], axes: str) -> bool:
    """Whether a constant, aligned with the last of ``axes``, has one value for each channel (axis C)."""
    full = (1,) * (len(shape) - constant.ndim) + constant.shape
    return constant.ndim > 0 and all(size == 1 for axis, size in zip(axes, full, strict=True) if axis != "C")
