"""The part of a transformation that all targets share: pack, lift the kernels, and report each layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import replace

import tvm
from tvm import relax

from bench.flows.flow import Unsupported
from bench.flows.kernel import PackedKernel, packed_kernel
from bench.flows.transformed import Layer, Transformed
from bench.passes.lift_kernels import Absorb, absorb_nothing, bindings_of, lift_kernels
from bench.passes.packed_operators import keep_packed as keep_operator_packed
from bench.passes.packing import GraphPacker, KeepPacked, LayerRewrite, Packed
from bench.passes.plain_layer import PlainLayer, plain_layer


def pack_and_lift(
    mod: tvm.IRModule,
    *,
    target: str,
    rewrite: LayerRewrite,
    generate: Callable[[PackedKernel], object],
    instruction: Callable[[PlainLayer], str],
    absorb: Absorb | Sequence[Absorb] = absorb_nothing,
    keep_packed: KeepPacked | None = None,
    tensors_last: bool = False,
) -> Transformed:
    """Run a target's rewrite over ``main`` of an integer graph.

    ``keep_packed`` says what stays packed between the layers; where it is None, elementwise operators and
    those of :mod:`bench.passes.packed_operators` do. ``tensors_last`` is the order of a kernel's parameters
    (:func:`bench.passes.lift_kernels.kernel_function`).
    ``generate`` is the target's kernel generator; where it refuses a kernel (ValueError), the next of
    ``absorb`` says what belongs to the kernel, and behind the last of them the layer is left on the host with
    the generator's message as the reason. Raises Unsupported where the graph has shapes that
    are not static or empty, no convolution or dense layer in integers, or none that the target takes.
    """
    _check_shapes(mod)
    _check_names(mod)
    plain_layers = _plain_layers(mod)
    if not any("int" in layer.data_dtype for _, layer in plain_layers):
        raise Unsupported("the graph has no integer convolution or dense layer: quantise it first")
    refusals: dict[str, str] = {}
    attempts = [absorb] if callable(absorb) else list(absorb)
    failed: Counter[str] = Counter()

    def absorb_again(
        bindings: Sequence[relax.VarBinding], start: int, taken: Container[relax.Var]
    ) -> Sequence[relax.VarBinding]:
        return attempts[failed[bindings[start].var.name]](bindings, start, taken)

    def rewrite_unless_refused(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | str | None:
        return refusals.get(var.name) or rewrite(packer, var, call)

    # Only a packed graph shows what a generator is asked for, and a refusal changes the packing: so again,
    # until nothing is refused. Each round refuses a layer or uses up an attempt, so there is an end.
    while True:
        packer = GraphPacker(mod, rewrite_unless_refused, keep_packed=keep_packed or _keep_packed)
        lifted, kernels = lift_kernels(packer.run(), absorb=absorb_again, tensors_last=tensors_last)
        by_layer = {layer: kernels[result] for layer, result in packer.taken.items()}
        refused = {
            layer: reason
            for layer, kernel in by_layer.items()
            if (reason := _refusal(generate, packed_kernel(kernel.kernel, lifted[kernel.kernel])))
        }
        if not refused:
            break
        for refused_layer, reason in refused.items():
            operator = packer.taken[refused_layer]
            if failed[operator] + 1 < len(attempts):
                failed[operator] += 1
            else:
                refusals[refused_layer] = reason
    in_main = {entry.original: entry.transformed for entry in reversed(packer.correspondences)}
    layers = []
    for name, layer in plain_layers:
        kernel = by_layer.get(name)
        unread = None if kernel else f"its layout is {layer.axes}, which the passes of {target} do not read"
        why_not = packer.refused.get(name, unread)
        report = Layer(name, layer.operator, layer.shapes, why_not, result=in_main[name])
        if kernel:
            report = replace(
                report, instruction=instruction(layer), kernel=kernel.kernel, result=kernel.result
            )
        layers.append(report)
    _check_layers(layers, target)
    kept = {binding.var.name for binding in bindings_of(lifted["main"])}
    return Transformed(
        target=target,
        mod=lifted,
        report=tuple(layers),
        correspondences=tuple(entry for entry in packer.correspondences if entry.transformed in kept),
    )


def _keep_packed(packer: GraphPacker, var: relax.Var, call: relax.Call) -> Packed | None:
    return packer.elementwise(var, call) or keep_operator_packed(packer, var, call)


def _refusal(generate: Callable[[PackedKernel], object], kernel: PackedKernel) -> str | None:
    """What a generator says of a kernel that it cannot make."""
    try:
        generate(kernel)
    except ValueError as reason:
        return str(reason)
    return None


def _plain_layers(mod: tvm.IRModule) -> list[tuple[str, PlainLayer]]:
    """The layers of a graph by the names of their bindings, in order."""
    calls = [
        (binding.var.name, binding.value)
        for binding in bindings_of(mod["main"])
        if isinstance(binding.value, relax.Call)
    ]
    found = [(name, plain_layer(call, any_layout=True)) for name, call in calls]
    return [(name, layer) for name, layer in found if layer]


def _check_layers(layers: list[Layer], target: str) -> None:
    if not any(layer.kernel for layer in layers):
        by_reason: dict[str | None, list[str]] = {}
        for layer in layers:
            by_reason.setdefault(layer.why_not, []).append(layer.name)
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
        raise Unsupported(f"{target} takes none of its layers: {reasons}")


def _check_names(mod: tvm.IRModule) -> None:
    """Raise Unsupported where two tensors share a name: values are compared by name."""
    seen: set[str] = set()
    for binding in bindings_of(mod["main"]):
        if binding.var.name in seen:
            raise Unsupported(f"two tensors are named {binding.var.name}: give one of them another name")
        seen.add(binding.var.name)


def _check_shapes(mod: tvm.IRModule) -> None:
    for parameter in mod["main"].params:
        for extent in parameter.ty.shape:
            if not isinstance(extent, tvm.tirx.IntImm):
                raise Unsupported(
                    f"input {parameter.name} has the symbolic extent {extent}: give it a number"
                )
            if int(extent) < 1:
                raise Unsupported(f"input {parameter.name} has an extent of {int(extent)}")
