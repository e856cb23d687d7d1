"""Hexagon: convolutions to NCHW32c with weights OIHW8i32o4i, dense layers to NC with NC32n4c (PR #12911).

Input channels are padded to a multiple of 4 (one vrmpy sums four products), output channels to 32 (one
vrmpy has 32 lanes). Data with fewer than 32 channels that is packed here first takes the smaller block. A
depthwise convolution has the taps of a row side by side (`bench.operators.depthwise`); of other groups,
those that share a block of 32 channels become one, with zeros between them. A transposed convolution is one
plain one that computes all of its phases (`bench.passes.phases`).

The kernels take signed and unsigned data and weights as they are, and compensate inside.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax

from bench.layout import Layout
from bench.operators.convolution import conv2d
from bench.operators.dense import dense
from bench.operators.depthwise import depthwise_conv2d, pack_taps
from bench.passes.packing import GraphPacker, Packed, pack_weight
from bench.passes.phases import layer_axes, phase_weight, put_together
from bench.passes.plain_layer import PlainLayer, plain_layer
from bench.passes.vta.grouped import blocked_groups

LANES, PRODUCTS = 32, 4
OUT_LAYOUT = f"NCHW{LANES}c"
BYTES = ("int8", "uint8")


def pack_vrmpy(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | str | None:
    """Rewrite one layer; a :data:`bench.passes.packing.LayerRewrite`."""
    layer = plain_layer(call, packer.constants)
    if layer is None:
        return None
    transposed = layer.operator == "conv2d_transpose"
    reason = layer.why_not(
        data_dtypes=BYTES, weight_dtypes=BYTES, dilated=True, grouped=not transposed, transposed=True
    )
    if reason:
        return reason
    if transposed:
        return _transposed(packer, var, layer)
    if layer.operator == "dense":
        return _dense(packer, var, layer)
    if is_depthwise(layer):
        return _depthwise(packer, var, layer)
    return _convolution(packer, var.name, layer)


def is_depthwise(layer: PlainLayer) -> bool:
    """Whether each output channel has one input channel of its own."""
    channels = layer.data_shape[1]
    return layer.operator == "conv2d" and layer.groups == channels == layer.weight_shape[0] > 1


def _convolution(packer: GraphPacker, name: str, layer: PlainLayer) -> Packed:
    weight = layer.weight
    assert weight is not None
    channels = layer.data_shape[1]
    block = LANES
    if channels < LANES and layer.groups == 1 and not packer.is_packed(layer.data):
        block = -(-channels // PRODUCTS) * PRODUCTS
    data_layout = f"NCHW{block}c"
    data = packer.packed(layer.data, data_layout, axes="NCHW", multiples={})
    groups = 1
    if layer.groups > 1:
        weight, groups = blocked_groups(
            weight,
            groups=layer.groups,
            channels=range(channels),
            inputs=data.extents["C"],
            block=LANES,
        )
    kernel_layout = f"OIHW{block // PRODUCTS}i{LANES}o{PRODUCTS}i"
    extents = {"I": data.extents["C"] // groups}
    convolution = conv2d(
        data.var,
        pack_weight(weight, kernel_layout, axes="OIHW", extents=extents),
        data_layout=data_layout,
        kernel_layout=kernel_layout,
        out_layout=OUT_LAYOUT,
        strides=layer.strides,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=groups,
    )
    return Packed(packer.emit(name, convolution), Layout.parse(OUT_LAYOUT), "NCHW", layer.result_shape)


def _transposed(packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
    """As one convolution that computes all phases (:mod:`bench.passes.phases`)."""
    assert layer.weight is not None
    axes = layer_axes(layer)
    outputs = -(-layer.weight.shape[1] // LANES) * LANES
    plain = replace(
        layer,
        operator="conv2d",
        weight=phase_weight(layer.weight, axes, dilation=layer.dilation, outputs=outputs),
        strides=(1, 1),
        padding=(axes[0].before, axes[1].before, axes[0].after, axes[1].after),
        dilation=(1, 1),
    )
    phases = _convolution(packer, f"{var.name}_phases", plain).var
    packer.taken[var.name] = phases.name
    return put_together(packer, var, layer, phases, LANES)


def _depthwise(packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
    assert layer.weight is not None
    data = packer.packed(layer.data, OUT_LAYOUT, axes="NCHW", multiples={})
    more = data.extents["C"] - layer.weight_shape[0]
    weight = np.pad(layer.weight, ((0, more), (0, 0), (0, 0), (0, 0)))
    convolution = depthwise_conv2d(
        data.var,
        relax.const(pack_taps(weight, dilation=layer.dilation[1])),
        kernel=layer.weight_shape[2:],
        strides=layer.strides,
        padding=layer.padding,
        dilation=layer.dilation,
    )
    return Packed(packer.emit(var.name, convolution), Layout.parse(OUT_LAYOUT), "NCHW", layer.result_shape)


def _dense(packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
    assert layer.weight is not None
    data = packer.packed(layer.data, "NC", axes="NC", multiples={"C": PRODUCTS})
    weight = pack_weight(layer.weight, "NC32n4c", axes="NC", extents={"C": data.extents["C"]})
    product = dense(data.var, weight, weight_layout="NC32n4c")
    return Packed(packer.emit(var.name, product), Layout.parse("NC"), "NC", layer.result_shape)
