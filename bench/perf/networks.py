"""A whole network on each target's device, and in NumPy, beside peers that compute its layers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tvm

from bench import workloads
from bench.artifact import Artifact
from bench.compare.mismatch import find_device_mismatch
from bench.devices.execution import Execution, execute, require_device
from bench.devices.failure import DeviceFailure
from bench.efficiency import LayerShapes
from bench.evaluate import evaluate_all
from bench.flows.flow import flow_for
from bench.lowering import lower_for_machine
from bench.passes.lift_kernels import bindings_of
from bench.passes.plain_layer import PlainLayer, plain_layer
from bench.passes.quantize import quantize, quantize_input
from bench.perf.kernel import random_of
from bench.perf.peers import Operands
from bench.perf.result import Measured, Prepared, work_of
from bench.perf.rounds import Subject, measure, processor_seconds
from bench.perf.speed import SIMULATOR, Progress, common_peers, note, prefixed
from bench.workloads import Workload


@dataclass
class Network:
    """One network, quantised and rewritten for a target."""

    workload: Workload
    target: str

    def __post_init__(self) -> None:
        self.flow = flow_for(self.target)
        data_dtype = "mixed" if self.flow.data_dtype == "uint8" else self.flow.data_dtype
        self.module: tvm.IRModule = quantize(
            self.workload.module, self.workload.calibration, scheme=self.flow.scheme, data_dtype=data_dtype
        )
        self.data = quantize_input(self.module, self.workload.images)
        self.transformed = self.flow.transform(self.module)

    @cached_property
    def artifact(self) -> Artifact:
        """Everything compiled."""
        files = self.flow.machine_files(self.transformed)
        return lower_for_machine(self.transformed.mod, files, target=self.target)

    def execute(self) -> Execution:
        """Run it on the device ``sim``, the start of its process included."""
        return execute(self.artifact, {self.artifact.inputs[0].name: self.data}, device="sim")

    def integer_graph(self) -> dict[str, np.ndarray]:
        """Evaluate the integer graph in NumPy."""
        return evaluate_all(self.module, self.data)

    def through_instructions(self) -> dict[str, np.ndarray]:
        """Evaluate the transformed graph through the models of the target's instructions."""
        return evaluate_all(self.transformed.mod, self.data, overrides=self.flow.overrides)

    def is_exact(self) -> bool:
        """Whether the device and the models agree on every tensor."""
        reference = self.through_instructions()
        return find_device_mismatch(self.transformed, self.execute().outputs, reference) is None

    @property
    def layers(self) -> list[PlainLayer]:
        """Its convolutions and dense layers."""
        found = (plain_layer(each.value) for each in bindings_of(self.module["main"]) if _is_call(each))
        return [layer for layer in found if layer is not None and layer.operator in ("conv2d", "dense")]


def _is_call(binding: tvm.relax.VarBinding) -> bool:
    return isinstance(binding.value, tvm.relax.Call)


def operands_of(layer: PlainLayer) -> Operands:
    """Operands over the whole range, of a layer's shapes: uint8 data, int8 weights."""
    shapes = LayerShapes(
        layer.data_shape,
        layer.weight_shape,
        layer.strides,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
    )
    data, weight = random_of(layer.data_shape, "uint8", 3), random_of(layer.weight_shape, "int8", 1)
    return Operands(data, weight, shapes, layer.groups)


def measure_network(
    measured: Measured,
    name: str,
    targets: Sequence[str],
    *,
    image: int | None,
    rounds: int,
    progress: Progress,
) -> None:
    """Time one network on each target, and add it to what was measured.

    What is done once, before the rounds, is timed as it is done: passes and compilation.
    """
    workload = workloads.load(name, image=image)
    subjects: list[Subject] = []
    layers: list[Operands] = []
    for target in targets:
        progress(f"{name}: passes for {target}")
        started = processor_seconds()
        network = Network(workload, target)
        passes = processor_seconds() - started
        if not layers:
            layers = [operands_of(layer) for layer in network.layers]
            subjects += common_peers(measured, layers)
            subjects.append(Subject("NumPy reference: integer graph", network.integer_graph))
        subjects.append(Subject(f"models of {target}’s instructions", network.through_instructions, target))
        try:
            require_device(target, "sim")
        except DeviceFailure as failure:
            note(measured, str(failure))
            continue
        progress(f"{name}: compiling for {target}")
        started = processor_seconds()
        _ = network.artifact
        measured.prepared.append(Prepared(name, target, passes, processor_seconds() - started))
        if not network.is_exact():
            measured.wrong.append(f"{name} on {target}: the device differs from the instruction models")
        subjects.append(Subject(SIMULATOR[target], network.execute, target))
    products = sum(layer.shapes.products() for layer in layers)
    # Simulators and models have been run above, to see that they agree.
    timings = measure(subjects, rounds=rounds, warm_up=False, progress=prefixed(name, progress))
    shape = "x".join(map(str, workload.images.shape))
    measured.works.append(work_of(name, f"{shape}, {len(layers)} layers", products, timings))
