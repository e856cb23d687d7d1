"""Tensor cores: convolutions to HWNC with weights HWOI32o16i, dense layers to NC with NK32n16k.

The layouts are those of TVM's HWNC schedule (PR #6121) for the int8 tile (m, n, k) = (8, 32, 16); shapes that
the tile does not divide are padded with zeros (PR #8222), which adds nothing to a sum of products.
"""

from __future__ import annotations

from tvm import relax

from bench.layout import Layout
from bench.operators.dense import dense
from bench.passes.packing import GraphPacker, Packed, pack_weight
from bench.passes.plain_layer import PlainLayer, plain_layer

BATCH_MULTIPLE, OUTPUT_MULTIPLE, INPUT_MULTIPLE = 8, 32, 16
SIGNEDNESS = {"int8": ("int8",), "uint8": ("uint8",)}


def pack_hwnc(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | str | None:
    """Rewrite one layer; a :data:`bench.passes.packing.LayerRewrite`."""
    layer = plain_layer(call)
    if layer is None:
        return None
    reason = layer.why_not(
        data_dtypes=tuple(SIGNEDNESS),
        weight_dtypes=SIGNEDNESS.get(layer.data_dtype, tuple(SIGNEDNESS)),
        dilated=True,
    )
    if reason:
        return reason
    return _convolution(packer, var, layer) if layer.operator == "conv2d" else _dense(packer, var, layer)


def _convolution(packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
    assert layer.weight is not None
    multiples = {"N": BATCH_MULTIPLE, "C": INPUT_MULTIPLE}
    data = packer.packed(layer.data, "HWNC", axes="NCHW", multiples=multiples)
    weight = pack_weight(layer.weight, "HWOI32o16i", axes="OIHW", extents={"I": data.extents["C"]})
    convolution = relax.op.nn.conv2d(
        data.var,
        weight,
        strides=list(layer.strides),
        padding=list(layer.padding),
        dilation=list(layer.dilation),
        data_layout="HWNC",
        kernel_layout="HWOI32o16i",
        out_layout="HWNC",
        out_dtype="int32",
    )
    return Packed(packer.emit(var.name, convolution), data.layout, "NCHW", layer.result_shape)


def _dense(packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
    assert layer.weight is not None
    multiples = {"N": BATCH_MULTIPLE, "C": INPUT_MULTIPLE}
    data = packer.packed(layer.data, "NC", axes="NC", multiples=multiples)
    weight = pack_weight(layer.weight, "NK32n16k", axes="NK", extents={"K": data.extents["C"]})
    product = dense(data.var, weight, weight_layout="NK32n16k")
    return Packed(packer.emit(var.name, product), Layout.parse("NC"), "NC", layer.result_shape)
