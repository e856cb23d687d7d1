"""Hexagon: convolutions to NCHW32c with weights OIHW8i32o4i, dense layers to NC with NC32n4c (PR #12911).

Input channels are padded to a multiple of 4 (one vrmpy sums four products), output channels to 32 (one
vrmpy has 32 lanes). Data with fewer than 32 channels that is packed here first takes the smaller block.
"""

from __future__ import annotations

from tvm import relax

from bench.layout import Layout
from bench.operators.convolution import conv2d
from bench.operators.dense import dense
from bench.passes.packing import GraphPacker, Packed, pack_weight
from bench.passes.plain_layer import PlainLayer, plain_layer

LANES, PRODUCTS = 32, 4
OUT_LAYOUT = f"NCHW{LANES}c"


def pack_vrmpy(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | str | None:
    """Rewrite one layer; a :data:`bench.passes.packing.LayerRewrite`."""
    layer = plain_layer(call)
    if layer is None:
        return None
    reason = layer.why_not(data_dtypes=("uint8",), weight_dtypes=("int8", "uint8"))
    if reason:
        return reason
    return _convolution(packer, var, layer) if layer.operator == "conv2d" else _dense(packer, var, layer)


def _convolution(packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
    assert layer.weight is not None
    channels = layer.data_shape[1]
    block = LANES
    if channels < LANES and not packer.is_packed(layer.data):
        block = -(-channels // PRODUCTS) * PRODUCTS
    data_layout = f"NCHW{block}c"
    data = packer.packed(layer.data, data_layout, axes="NCHW", multiples={})
    kernel_layout = f"OIHW{block // PRODUCTS}i{LANES}o{PRODUCTS}i"
    weight = pack_weight(layer.weight, kernel_layout, axes="OIHW", extents={"I": data.extents["C"]})
    convolution = conv2d(
        data.var,
        weight,
        data_layout=data_layout,
        kernel_layout=kernel_layout,
        out_layout=OUT_LAYOUT,
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
