"""VTA: graph packing to NCHW{b}n{c}c with weights OIHW{c}o{c}i, after TVM's ``vta.top.graphpack``."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from bench.passes.lift_kernels import bindings_of, following_chain
from bench.passes.packing import GraphPacker, Packed
from bench.passes.plain_layer import PlainLayer, plain_layer
from bench.passes.vta.alu import alu_chain, alu_chain_alone, why_no_alu_chain
from bench.passes.vta.carried import Carried
from bench.passes.vta.constants import Constants, with_constants
from bench.passes.vta.layers import Layers
from bench.passes.vta.region import Mark, region

WEIGHT_BITS = (1, 2, 4, 8)


def graph_pack(  # noqa: PLR0917 - the order of TVM's vta.top.graph_pack
    mod: tvm.IRModule,
    bfactor: int,
    cfactor: int,
    weight_bits: int = 8,
    start: Mark | None = None,
    stop: Mark | None = None,
    *,
    fold: bool = True,
) -> tvm.IRModule:
    """Rewrite ``main`` so that its int8 layers work on the tensors that VTA has.

    Data become NCHW{b}n{c}c for b = ``bfactor`` and c = ``cfactor`` (dense: NC{b}n{c}c), weights OIHW{c}o{c}i
    (dense: NC{c}n{c}c), both padded with zeros to whole blocks, and per-channel constants (C/c, 1, 1, b, c).
    Regions are found without marks: each begins where an int8 convolution or dense layer with int32 results
    reads a plain tensor, goes on through every operator that can work on packed tensors, and ends, unpacked
    and cropped, where one cannot. ``start`` and ``stop`` narrow that down to what stands behind the one and
    before the other; each is the name of a binding, or an operator (the first of its kind) or (operator,
    place).

    ``weight_bits`` says how wide a weight may be: a layer with one that needs more bits is not packed. With
    fewer than 8 TVM's ``vta.top.graph_pack`` also put ``bitpack`` behind the packing, 8 / ``weight_bits``
    weights to a byte along the input channels of a block, for a VTA whose WGT has that width. Here weights
    stay one to a byte, since programs are generated for WGT of 8 bits alone, as TVM's were: so results and
    shapes are those of 8 bits.
    ``fold`` packs constants at once; without it the packing stands in the graph as operators.

    Returns a new module. ValueError for a factor that is not positive, for other ``weight_bits`` than 1, 2, 4
    and 8, for a mark that is not there, and for a graph in which nothing is packed, with each layer's reason.
    """
    rewrite = GraphPack(
        mod,
        batch=bfactor,
        block=cfactor,
        weight_bits=weight_bits,
        start=start,
        stop=stop,
        fold=fold,
        for_machine=False,
    )
    packer = GraphPacker(mod, rewrite, keep_packed=rewrite.keep_packed)
    packed = packer.run()
    if not packer.taken:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in packer.refused.items())
        raise ValueError(f"graph_pack: nothing in main is for VTA: {reasons or 'it has no int8 layer'}")
    return packed


class GraphPack:
    """Rewrites the layers of one module; its call is a :data:`bench.passes.packing.LayerRewrite`.

    ``for_machine`` takes only what programs of the machine compute: a layer with the chain of ALU operators
    behind it, because VTA stores the low 8 bits of its accumulators, so what leaves it is an int8 tensor.
    ``grouping`` says how many groups kernels have (:data:`bench.passes.vta.grouped.GROUPINGS`): where it is
    fewer than the layer's, the weights of other groups are zeros.
    """

    def __init__(
        self,
        mod: tvm.IRModule,
        *,
        batch: int,
        block: int,
        weight_bits: int = 8,
        start: Mark | None = None,
        stop: Mark | None = None,
        fold: bool = True,
        for_machine: bool = True,
        grouping: str = "any",
    ) -> None:
        for name, factor in (("bfactor", batch), ("cfactor", block)):
            if factor < 1:
                raise ValueError(f"graph_pack: {name} {factor} is not positive")
        if weight_bits not in WEIGHT_BITS:
            raise ValueError(f"graph_pack: weight_bits {weight_bits} is none of 1, 2, 4 and 8")
        self._bindings = bindings_of(mod["main"])
        self._positions = {binding.var: index for index, binding in enumerate(self._bindings)}
        self._region = region(self._bindings, start, stop)
        self._weight_bits = weight_bits
        self._for_machine = for_machine
        constants = Constants(fold=fold)
        self._layers = Layers(batch, block, constants, grouping)
        self._carried = Carried(constants, for_alu=for_machine)

    def __call__(self, packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | str | None:
        """Rewrite one layer."""
        layer = plain_layer(call, packer.constants, any_layout=True)
        if layer is None:
            return None
        return self._why_not(packer, layer, var) or self._layers.pack(packer, var, layer, call)

    def keep_packed(self, packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | None:
        """An operator between the layers: a :data:`bench.passes.packing.KeepPacked`."""
        return self._carried(packer, var, call) if self._positions[var] in self._region else None

    def _why_not(self, packer: GraphPacker, layer: PlainLayer, var: relax.Var) -> str | None:
        if self._positions[var] not in self._region:
            return "it stands outside of start and stop"
        reason = layer.why_not(data_dtypes=("int8",), weight_dtypes=("int8",), grouped=True, transposed=True)
        if reason:
            return reason
        assert layer.weight is not None
        reach = 1 << (self._weight_bits - 1)
        low, high = (int(extreme) for extreme in (np.min(layer.weight), np.max(layer.weight)))
        if low < -reach or high >= reach:
            return f"its weights reach from {low} to {high}, beyond {self._weight_bits} bits"
        if not self._for_machine:
            return None
        chain = following_chain(self._bindings, self._positions[var])
        known = [relax.VarBinding(each.var, with_constants(packer, each.value)) for each in chain]
        return why_no_alu_chain(known, layer.axes)


__all__ = ["GraphPack", "alu_chain", "alu_chain_alone", "graph_pack"]
