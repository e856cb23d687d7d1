"""A transposed convolution as a plain one, of data with zeros between and around their elements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax

from bench.passes.packing import GraphPacker, Packed, tensor_shape
from bench.passes.plain_layer import PlainLayer


def spread_out(
    packer: GraphPacker, var: relax.Var, layer: PlainLayer, data: Packed
) -> tuple[PlainLayer, Packed]:
    """The plain convolution of stride 1 that a transposed one is, and the data that it reads.

    Each element is followed by stride - 1 zeros along height and width. The filter is turned round and its
    channels change places; what was cut off at the edges of the result is padding that is missing now.
    """
    rows, columns = layer.strides
    blocks, channels, height, width, batch, block = tensor_shape(data.var)
    tensor = data.var
    if (rows, columns) != (1, 1):
        apart = packer.emit(
            f"{var.name}_apart",
            relax.op.reshape(tensor, (blocks, channels, height, 1, width, 1, batch, block)),
        )
        widths = [0, 0, 0, 0, 0, 0, 0, rows - 1, 0, 0, 0, columns - 1, 0, 0, 0, 0]
        zeros = packer.emit(f"{var.name}_zeros", relax.op.nn.pad(apart, widths))
        whole = (blocks, channels, height * rows, width * columns, batch, block)
        tensor = packer.emit(f"{var.name}_spread", relax.op.reshape(zeros, whole))
    assert layer.weight is not None
    result = dict(zip(layer.axes, layer.result_shape, strict=True))
    padding = [0, 0, 0, 0]
    begin, end = [0, 0], list(tensor_shape(tensor)[2:4])
    for axis, extent in enumerate(tensor_shape(tensor)[2:4]):
        kernel, cut = layer.weight.shape[2 + axis], layer.padding[axis]
        before = kernel - 1 - cut
        after = result["HW"[axis]] - extent + cut
        padding[axis], padding[axis + 2] = max(before, 0), max(after, 0)
        begin[axis], end[axis] = max(-before, 0), extent + min(after, 0)
    if (begin, end) != ([0, 0], list(tensor_shape(tensor)[2:4])):
        tensor = packer.emit(f"{var.name}_cut", relax.op.strided_slice(tensor, [2, 3], begin, end))
    plain = replace(
        layer,
        operator="conv2d",
        weight=turned_round(layer.weight, layer.groups),
        strides=(1, 1),
        padding=tuple(padding),
    )
    extents = dict(zip(data.axes, data.shape, strict=True), H=end[0] - begin[0], W=end[1] - begin[1])
    return plain, replace(data, var=tensor, shape=tuple(extents[axis] for axis in data.axes))


def turned_round(weight: np.ndarray, groups: int) -> np.ndarray:
    """The weight OIHW (O, I/groups, KH, KW) of a plain convolution from IOHW (I, O/groups, KH, KW)."""
    inputs, outputs, *kernel = weight.shape
    apart = weight.reshape(groups, inputs // groups, outputs, *kernel)
    swapped = apart.swapaxes(1, 2).reshape(groups * outputs, inputs // groups, *kernel)
    return np.ascontiguousarray(swapped[:, :, ::-1, ::-1])
