"""VTA: graph packing to NCHW{b}n{c}c with weights OIHW{c}o{c}i, after TVM's ``vta.top.graphpack``.

A layer is taken with the chain of ALU operators behind it, because VTA stores only the low 8 bits of its
accumulators: what leaves the accelerator is an int8 tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.layout import Layout
from bench.operators.dense import dense
from bench.passes.lift_kernels import bindings_of, following_chain
from bench.passes.packing import GraphPacker, Packed, pack_weight
from bench.passes.plain_layer import PlainLayer, plain_layer

ALU_OPERATORS = frozenset(
    {"relax.add", "relax.right_shift", "relax.maximum", "relax.minimum", "relax.clip", "relax.nn.relu"}
)


def alu_chain(chain: Sequence[relax.VarBinding]) -> Sequence[relax.VarBinding]:
    """The part of a chain that VTA's ALU computes, up to the cast to int8 that its STORE does; or nothing.

    The second operand of each operator must be a constant: a per-channel tensor or an immediate.
    """
    for index, binding in enumerate(chain):
        call = binding.value
        if call.op.name == "relax.astype" and str(call.ty.dtype) == "int8":
            return chain[: index + 1]
        constants = all(not isinstance(argument, relax.Var) for argument in call.args[1:])
        if call.op.name not in ALU_OPERATORS or not constants:
            return ()
    return ()


class GraphPack:
    """Rewrites the layers of one module; its call is a :data:`bench.passes.packing.LayerRewrite`."""

    def __init__(self, mod: tvm.IRModule, *, batch: int, block: int) -> None:
        self._bindings = bindings_of(mod["main"])
        self._positions = {binding.var: index for index, binding in enumerate(self._bindings)}
        self._data_layout = f"{batch}n{block}c"
        self._weight_layout = f"{block}{{0}}{block}{{1}}"

    def __call__(self, packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | str | None:
        """Rewrite one layer."""
        layer = plain_layer(call)
        if layer is None:
            return None
        reason = self._why_not(layer, var)
        if reason:
            return reason
        return (
            self._convolution(packer, var, layer)
            if layer.operator == "conv2d"
            else self._dense(packer, var, layer)
        )

    def _why_not(self, layer: PlainLayer, var: relax.Var) -> str | None:
        reason = layer.why_not(data_dtypes=("int8",), weight_dtypes=("int8",))
        if reason:
            return reason
        chain = following_chain(self._bindings, self._positions[var])
        if alu_chain(chain):
            return None
        stop = next((binding.value.op.name for binding in chain if not _is_alu(binding.value)), None)
        obstacle = f"{stop} follows, which VTA's ALU does not compute" if stop else "its int32 result is used"
        return f"{obstacle}; VTA can store int8 only"

    def _convolution(self, packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
        assert layer.weight is not None
        data = packer.packed(layer.data, f"NCHW{self._data_layout}", axes="NCHW", multiples={})
        kernel_layout = "OIHW" + self._weight_layout.format("o", "i")
        weight = pack_weight(layer.weight, kernel_layout, axes="OIHW", extents={"I": data.extents["C"]})
        convolution = relax.op.nn.conv2d(
            data.var,
            weight,
            strides=list(layer.strides),
            padding=list(layer.padding),
            data_layout=data.layout.text,
            kernel_layout=kernel_layout,
            out_layout=data.layout.text,
            out_dtype="int32",
        )
        return Packed(packer.emit(var.name, convolution), data.layout, "NCHW", layer.result_shape)

    def _dense(self, packer: GraphPacker, var: relax.Var, layer: PlainLayer) -> Packed:
        assert layer.weight is not None
        layout = f"NC{self._data_layout}"
        data = packer.packed(layer.data, layout, axes="NC", multiples={})
        weight_layout = "NC" + self._weight_layout.format("n", "c")
        weight = pack_weight(layer.weight, weight_layout, axes="NC", extents={"C": data.extents["C"]})
        product = dense(data.var, weight, data_layout=layout, weight_layout=weight_layout, out_layout=layout)
        return Packed(packer.emit(var.name, product), Layout.parse(layout), "NC", layer.result_shape)


def _is_alu(call: relax.Call) -> bool:
    return call.op.name in ALU_OPERATORS and all(
        isinstance(argument, GenericConst) for argument in call.args[1:]
    )
