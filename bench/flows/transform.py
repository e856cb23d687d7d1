"""The part of a transformation that all targets share: pack, lift the kernels, and report each layer."""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import relax

from bench.flows.flow import Unsupported
from bench.flows.transformed import Layer, Transformed
from bench.passes.lift_kernels import Absorb, absorb_nothing, bindings_of, lift_kernels
from bench.passes.packing import GraphPacker, LayerRewrite
from bench.passes.plain_layer import PlainLayer, plain_layer


def pack_and_lift(
    mod: tvm.IRModule,
    *,
    target: str,
    rewrite: LayerRewrite,
    instruction: Callable[[PlainLayer], str],
    absorb: Absorb = absorb_nothing,
) -> Transformed:
    """Run a target's rewrite over ``main`` of an integer graph.

    Raises Unsupported where the graph has shapes that are not static or empty, no convolution or dense layer
    in integers, or none that the target takes.
    """
    _check_shapes(mod)
    packer = GraphPacker(mod, rewrite)
    packed = packer.run()
    lifted, kernels = lift_kernels(packed, absorb=absorb)
    in_main = {entry.original: entry.transformed for entry in reversed(packer.correspondences)}
    layers = []
    for binding in bindings_of(mod["main"]):
        layer = plain_layer(binding.value) if isinstance(binding.value, relax.Call) else None
        if layer is None:
            continue
        name = binding.var.name
        kernel = kernels.get(packer.taken.get(name, ""))
        layers.append(
            Layer(
                name=name,
                operator=layer.operator,
                shapes=layer.shapes,
                instruction=instruction(layer) if kernel else None,
                why_not=None if kernel else packer.refused[name],
                kernel=kernel.kernel if kernel else None,
                result=kernel.result if kernel else in_main[name],
            )
        )
    if not layers:
        raise Unsupported("the graph has no integer convolution or dense layer: quantise it first")
    if not any(layer.kernel for layer in layers):
        by_reason: dict[str | None, list[str]] = {}
        for refused in layers:
            by_reason.setdefault(refused.why_not, []).append(refused.name)
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
        raise Unsupported(f"{target} takes none of its layers: {reasons}")
    kept = {binding.var.name for binding in bindings_of(lifted["main"])}
    return Transformed(
        target=target,
        mod=lifted,
        report=tuple(layers),
        correspondences=tuple(entry for entry in packer.correspondences if entry.transformed in kept),
    )


def _check_shapes(mod: tvm.IRModule) -> None:
    for parameter in mod["main"].params:
        for extent in parameter.ty.shape:
            if not isinstance(extent, tvm.tirx.IntImm):
                raise Unsupported(
                    f"input {parameter.name} has the symbolic extent {extent}: give it a number"
                )
            if int(extent) < 1:
                raise Unsupported(f"input {parameter.name} has an extent of {int(extent)}")
