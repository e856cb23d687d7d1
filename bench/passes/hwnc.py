"""Tensor cores: convolutions to HWNC with packed weights, dense layers to NC (PR #6121 and #8222).

Products of matrices with a batch are BNC, their second operands packed whether constants or data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import relax

from bench.int4 import HELD
from bench.layout import Layout
from bench.operators.batch_matmul import batch_matmul
from bench.operators.convolution import conv2d
from bench.operators.dense import dense
from bench.passes.legal_shapes import LEGAL, Legal, LegalPadding, legal_padding
from bench.passes.packing import GraphPacker, Packed, pack_weight
from bench.passes.plain_layer import PlainLayer, plain_layer

# Types of the weights that there are instructions for, by the type of the data.
WEIGHTS = {data: tuple(b for a, b in LEGAL if a == data) for data, _ in LEGAL}


class HwncPack:
    """Rewrites layers for tensor cores; its call is a :data:`bench.passes.packing.LayerRewrite`.

    `extra_macs_limit` bounds what padding to a legal shape may cost: a layer for which the added
    multiplications are more than that many times its own stays on the host, with that as the reason. None
    pads every layer.
    """

    def __init__(self, *, extra_macs_limit: float | None = None) -> None:
        if extra_macs_limit is not None and extra_macs_limit < 0:
            raise ValueError(f"extra_macs_limit {extra_macs_limit} must not be negative")
        self._limit = extra_macs_limit

    def __call__(self, packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | str | None:
        """Rewrite one layer."""
        layer = plain_layer(call, packer.constants, any_layout=True)
        if layer is None:
            return None
        reason = self._why_not(layer)
        if reason:
            return reason
        outputs = self._padded_outputs(packer, var, layer)
        return _REWRITES[layer.operator](packer, var, layer, outputs)

    def _why_not(self, layer: PlainLayer) -> str | None:
        """Why a layer is not taken; None where it is."""
        reason = layer.why_not(
            data_dtypes=tuple(WEIGHTS),
            weight_dtypes=WEIGHTS.get(layer.data_dtype, tuple(WEIGHTS)),
            dilated=True,
            batched=True,
        )
        if reason or self._limit is None:
            return reason
        batch, inputs, outputs = layer.sizes
        padding = _padding(layer)
        if padding.extra_macs <= self._limit:
            return None
        return (
            f"padding batch {batch} by {padding.batch}, {inputs} input channels by {padding.inputs} and "
            f"{outputs} output channels by {padding.outputs} adds {padding.extra_macs:.2f} times its "
            f"multiplications; the limit is {self._limit:g}"
        )

    def _padded_outputs(self, packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> int:
        """Output channels with padding: as many as the layers behind read, so that nothing is moved between.

        Where the limit does not allow it, they are padded to what this layer needs itself.
        """
        (_, _, outputs), multiple = layer.sizes, _legal(layer).outputs
        own = -(-outputs // multiple) * multiple
        for call in packer.layers_behind(var):
            behind = plain_layer(call, packer.constants, any_layout=True)
            if behind and self._why_not(behind) is None:
                multiple = math.lcm(multiple, _legal(behind).inputs)
        shared = -(-outputs // multiple) * multiple
        padding = _padding(layer)
        extra_macs = (padding.extra_macs + 1) * shared / own - 1
        return shared if self._limit is None or extra_macs <= self._limit else own


def _convolution(packer: GraphPacker, var: relax.Var, layer: PlainLayer, outputs: int) -> Packed:
    assert layer.weight is not None
    legal = _legal(layer)
    data = _data(packer, layer, legal, "HWNC")
    extents = {"I": data.extents["C"], "O": outputs}
    weight = pack_weight(layer.weight, legal.kernel_layout, axes="OIHW", extents=extents)
    options: dict[str, Any] = {
        "strides": list(layer.strides),
        "padding": list(layer.padding),
        "dilation": list(layer.dilation),
        "data_layout": "HWNC",
        "kernel_layout": legal.kernel_layout,
        "out_layout": "HWNC",
        "out_dtype": "int32",
    }
    if data.dtype:
        convolution = conv2d(data.var, weight, **options, **_word_dtypes(layer))
    else:
        convolution = relax.op.nn.conv2d(data.var, weight, **options)
    return Packed(packer.emit(var.name, convolution), data.layout, layer.axes, layer.result_shape)


def _dense(packer: GraphPacker, var: relax.Var, layer: PlainLayer, outputs: int) -> Packed:
    assert layer.weight is not None
    legal = _legal(layer)
    data = _data(packer, layer, legal, "NC")
    extents = {"K": data.extents["C"], "N": outputs}
    weight = pack_weight(layer.weight, legal.weight_layout, axes="NK", extents=extents)
    product = dense(data.var, weight, weight_layout=legal.weight_layout, **_word_dtypes(layer))
    return Packed(packer.emit(var.name, product), Layout.parse("NC"), layer.axes, layer.result_shape)


def _legal(layer: PlainLayer) -> Legal:
    return LEGAL[layer.data_dtype, layer.weight_dtype]


def _padding(layer: PlainLayer) -> LegalPadding:
    batch, inputs, outputs = layer.sizes
    return legal_padding(layer.data_dtype, batch, inputs, outputs, weight_dtype=layer.weight_dtype)


def _batch_matmul(packer: GraphPacker, var: relax.Var, layer: PlainLayer, outputs: int) -> Packed:
    legal = _legal(layer)
    data = _data(packer, layer, legal, "BNC")
    extents = {"B": layer.weight_shape[0], "K": data.extents["C"], "N": outputs}
    if layer.weight is not None:
        weight = pack_weight(layer.weight, legal.batched_layout, axes="BNK", extents=extents)
    else:
        assert layer.operand is not None
        weight = packer.packed(layer.operand, legal.batched_layout, axes="BKN", multiples=extents).var
    product = batch_matmul(data.var, weight, weight_layout=legal.batched_layout, **_word_dtypes(layer))
    return Packed(packer.emit(var.name, product), Layout.parse("BNC"), layer.axes, layer.result_shape)


def _data(packer: GraphPacker, layer: PlainLayer, legal: Legal, layout: str) -> Packed:
    multiples = {"N": legal.batch, "C": legal.inputs}
    return packer.packed(layer.data, layout, axes=layer.axes, multiples=multiples)


def _word_dtypes(layer: PlainLayer) -> dict[str, Any]:
    """The attributes that say that operands are words of 4-bit values; none for 8-bit operands."""
    dtypes = {"data_dtype": layer.data_dtype, "weight_dtype": layer.weight_dtype}
    return {name: dtype for name, dtype in dtypes.items() if dtype in HELD}


_REWRITES: dict[str, Callable[[GraphPacker, relax.Var, PlainLayer, int], Packed]] = {
    "conv2d": _convolution,
    "dense": _dense,
    "batch_matmul": _batch_matmul,
}
