"""Convolutions and dense layers on packed tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax

from bench.evaluate.graph import attributes_of
from bench.layout import Layout
from bench.operators.dense import dense
from bench.passes.packing import GraphPacker, Packed
from bench.passes.plain_layer import PlainLayer
from bench.passes.vta.constants import Constants
from bench.passes.vta.grouped import blocked_groups
from bench.passes.vta.transposed import inputs_first, outputs_first


@dataclass(frozen=True)
class Layers:
    """Rewrites layers for blocks of ``batch`` images and ``block`` channels.

    ``grouping`` (:data:`bench.passes.vta.grouped.GROUPINGS`) says how many groups kernels have; what shares
    one with channels of another group meets zeros.
    """

    batch: int
    block: int
    constants: Constants
    grouping: str

    def pack(self, packer: GraphPacker, var: relax.Var, layer: PlainLayer, call: relax.Call) -> Packed:
        """Emit a layer on packed data; its weight is a constant."""
        if layer.operator == "dense":
            return self._dense(packer, var, layer)
        data = packer.packed(layer.data, self.layout("NCHW"), axes=layer.axes, multiples={})
        if layer.operator == "conv2d":
            return self._convolution(packer, var, layer, data)
        return self._transposed(packer, var, layer, data, attributes_of(call)["output_padding"])

    def layout(self, axes: str) -> str:
        """The layout of data whose plain form is ``axes``, NCHW or NC."""
        return f"{axes}{self.batch}n{self.block}c"

    def _convolution(self, packer: GraphPacker, var: relax.Var, layer: PlainLayer, data: Packed) -> Packed:
        assert layer.weight is not None
        weight, groups = self._weight(layer, layer.weight, data)
        kernel_layout = f"OIHW{self.block}o{self.block}i"
        convolution = relax.op.nn.conv2d(
            data.var,
            self.constants.weight(packer, var.name, weight, kernel_layout, axes="OIHW"),
            strides=list(layer.strides),
            padding=list(layer.padding),
            dilation=list(layer.dilation),
            groups=groups,
            data_layout=data.layout.text,
            kernel_layout=kernel_layout,
            out_layout=data.layout.text,
            out_dtype="int32",
        )
        return Packed(packer.emit(var.name, convolution), data.layout, layer.axes, layer.result_shape)

    def _transposed(
        self,
        packer: GraphPacker,
        var: relax.Var,
        layer: PlainLayer,
        data: Packed,
        output_padding: Sequence[int],
    ) -> Packed:
        assert layer.weight is not None
        weight, groups = self._weight(layer, outputs_first(layer.weight, layer.groups), data)
        kernel_layout = f"IOHW{self.block}o{self.block}i"
        convolution = relax.op.nn.conv2d_transpose(
            data.var,
            self.constants.weight(
                packer, var.name, inputs_first(weight, groups, self.block), kernel_layout, axes="IOHW"
            ),
            strides=list(layer.strides),
            padding=list(layer.padding),
            output_padding=list(output_padding),
            groups=groups,
            data_layout=data.layout.text,
            kernel_layout=kernel_layout,
            out_layout=data.layout.text,
            out_dtype="int32",
        )
        return Packed(packer.emit(var.name, convolution), data.layout, layer.axes, layer.result_shape)

    def _weight(self, layer: PlainLayer, weight: np.ndarray, data: Packed) -> tuple[np.ndarray, int]:
        """The weight OIHW with its input channels where the data have theirs, and its number of groups."""
        if layer.groups == 1 and not data.channels:
            return weight, 1
        return blocked_groups(
            weight,
            groups=layer.groups,
            channels=data.channels or range(layer.data_shape[1]),
            inputs=data.extents["C"],
            block=self.block,
            grouping=self.grouping,
        )

    def _dense(self, packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
        assert layer.weight is not None
        layout = self.layout("NC")
        data = packer.packed(layer.data, layout, axes="NC", multiples={})
        weight = layer.weight
        if data.channels:
            weight = np.zeros((len(layer.weight), data.extents["C"]), layer.weight.dtype)
            weight[:, list(data.channels)] = layer.weight
        weight_layout = f"NC{self.block}n{self.block}c"
        product = dense(
            data.var,
            self.constants.weight(packer, var.name, weight, weight_layout, axes="NC"),
            data_layout=layout,
            weight_layout=weight_layout,
            out_layout=layout,
        )
        return Packed(packer.emit(var.name, product), Layout.parse(layout), "NC", layer.result_shape)
