"""A transposed convolution as one plain convolution of stride 1 that computes its phases side by side.

Of a transposed convolution with stride s, the results at the positions s * q + p, p the phase, are a plain
convolution by every s-th tap from p on. The filters of all phases are given to one convolution as so many
more output channels; its result is then put together as positions. Nothing is multiplied by a zero that was
put between data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

from bench.layout import Layout
from bench.passes.packing import GraphPacker, Packed, tensor_shape
from bench.passes.plain_layer import PlainLayer


@dataclass(frozen=True)
class Axis:
    """One axis of a transposed convolution, height or width.

    The plain convolution has ``taps`` and pads by ``before`` and ``after``; of its phases, put together, the
    result begins at ``first``.
    """

    stride: int
    taps: int
    before: int
    after: int
    first: int

    @staticmethod
    def of(*, kernel: int, stride: int, cut: int, extent: int, result: int) -> Axis:
        """From the filter's extent (dilated), the padding that cuts the result's begin, and both extents."""
        taps = -(-kernel // stride)
        skipped = min(cut // stride, taps - 1)  # positions of all phases that are cut off
        positions = -(-(cut + result) // stride)
        return Axis(stride, taps, taps - 1 - skipped, max(positions - extent, 0), cut - skipped * stride)


def phase_weight(
    weight: np.ndarray, axes: tuple[Axis, Axis], *, dilation: tuple[int, ...], outputs: int
) -> np.ndarray:
    """The weight OIHW of the plain convolution from that of the transposed one, IOHW.

    Its output channels are phases of the height, phases of the width, and ``outputs`` channels, of which
    those that the layer does not have are zero.
    """
    inputs, channels, height, width = weight.shape
    rows, columns = axes
    taps = np.zeros((inputs, outputs, rows.taps * rows.stride, columns.taps * columns.stride), weight.dtype)
    taken = (
        slice(0, (extent - 1) * step + 1, step)
        for extent, step in zip((height, width), dilation, strict=True)
    )
    taps[(slice(None), slice(0, channels), *taken)] = weight
    apart = taps.reshape(inputs, outputs, rows.taps, rows.stride, columns.taps, columns.stride)
    turned = apart[:, :, ::-1, :, ::-1].transpose(3, 5, 1, 0, 2, 4)
    return np.ascontiguousarray(turned.reshape(-1, inputs, rows.taps, columns.taps))


def layer_axes(layer: PlainLayer) -> tuple[Axis, Axis]:
    """Height and width of a transposed convolution."""
    assert layer.weight is not None
    rows, columns = (
        Axis.of(
            kernel=(layer.weight.shape[2 + axis] - 1) * layer.dilation[axis] + 1,
            stride=layer.strides[axis],
            cut=layer.padding[axis],
            extent=layer.data_shape[2 + axis],
            result=layer.result_shape[2 + axis],
        )
        for axis in (0, 1)
    )
    return rows, columns


def put_together(
    packer: GraphPacker, var: relax.Var, layer: PlainLayer, phases: relax.Var, block: int
) -> Packed:
    """The result of a layer in NCHW{block}c from its phases, (N, phases * C / block, H, W, block)."""
    rows, columns = layer_axes(layer)
    images, blocks, height, width, _ = tensor_shape(phases)
    blocks //= rows.stride * columns.stride
    steps = (
        (
            "apart",
            lambda t: relax.op.reshape(
                t, (images, rows.stride, columns.stride, blocks, height, width, block)
            ),
        ),
        ("between", lambda t: relax.op.permute_dims(t, (0, 3, 4, 1, 5, 2, 6))),
        (
            "whole",
            lambda t: relax.op.reshape(
                t, (images, blocks, height * rows.stride, width * columns.stride, block)
            ),
        ),
    )
    tensor = phases
    for name, step in steps:
        tensor = packer.emit(f"{var.name}_{name}", step(tensor))
    begin, extents = [rows.first, columns.first], layer.result_shape[2:]
    if tensor_shape(tensor)[2:4] != extents:
        end = [first + extent for first, extent in zip(begin, extents, strict=True)]
        tensor = packer.emit(var.name, relax.op.strided_slice(tensor, [2, 3], begin, end))
    return Packed(tensor, Layout.parse(f"NCHW{block}c"), "NCHW", layer.result_shape)
