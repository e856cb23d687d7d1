"""One integer graph on one target and device, from its passes to a verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import tvm

from bench.artifact import Artifact
from bench.compare.mismatch import find_device_mismatch, find_pass_mismatch
from bench.compare.verdict import LayerVerdict, Verdict
from bench.devices import names
from bench.devices.execution import Execution, execute
from bench.devices.failure import DeviceFailure
from bench.evaluate import evaluate_all
from bench.faults import Fault
from bench.flows.flow import Flow, Unsupported, flow_for
from bench.flows.transformed import Transformed
from bench.lowering import lower_for_host, lower_for_machine
from kernels.faults import FaultNotPlanted

Inputs = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
Progress = Callable[[str], None]
"""Hears what the run does next, in a few words."""

DEFAULT_TIMEOUT = 600.0


def transform(mod: tvm.IRModule, target: str) -> Transformed:
    """Run the passes of ``target`` (tensorcore, hexagon, vta) on an integer graph.

    The result's ``mod`` is still made of operators; its ``report`` says of each layer which instruction
    computes it, or why none does. Raises ValueError for an unknown target, Unsupported for a graph that the
    target cannot take.
    """
    return flow_for(target).transform(mod)


def run(
    mod: tvm.IRModule,
    inputs: Inputs,
    target: str,
    device: str = "sim",
    *,
    workload: str = "",
    fault: Fault | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    progress: Progress = lambda _: None,
) -> Verdict:
    """Take an integer graph through a target's passes, kernels and device, and compare every tensor.

    ``inputs`` are one array for each parameter of ``main``. Three evaluations are compared: the integer
    graph in NumPy, the transformed graph in NumPy through the models of the target's instructions, and the
    device. A planted ``fault`` changes only what the device gets. ``timeout`` limits the device, in seconds.

    Raises ValueError for an unknown target or device, or inputs that do not fit the graph, and
    FaultNotPlanted for a fault that finds nothing to change; every other outcome is a verdict.
    """
    flow = flow_for(target)
    names.check(device)
    if fault and fault.target != target:
        raise ValueError(f"fault {fault.name} is one of {fault.target}, not of {target}")
    started = time.perf_counter()
    verdict = Verdict(workload, target, device, "exact", artifact=flow.artefact, fault=fault and fault.name)
    try:
        _judge(verdict, flow, mod, inputs, fault, timeout, progress)
    except Unsupported as reason:
        verdict.verdict, verdict.reason = "unsupported", str(reason)
    except DeviceFailure as failure:
        verdict.verdict, verdict.reason = failure.verdict, str(failure)
    verdict.seconds = time.perf_counter() - started
    return verdict


def _judge(
    verdict: Verdict,
    flow: Flow,
    mod: tvm.IRModule,
    inputs: Inputs,
    fault: Fault | None,
    timeout: float,
    progress: Progress,
) -> None:
    progress("passes")
    transformed = flow.transform(mod)
    verdict.layers = [
        LayerVerdict(layer.name, layer.operator, layer.shapes, layer.instruction, why_not=layer.why_not)
        for layer in transformed.report
    ]
    progress("NumPy: integer graph")
    original = evaluate_all(mod, inputs)
    progress("NumPy: transformed graph through instruction models")
    reference = evaluate_all(transformed.mod, inputs, overrides=flow.overrides)
    verdict.mismatch = find_pass_mismatch(transformed, reference, original)
    if verdict.mismatch:
        verdict.verdict = "mismatch"
        return
    progress("building kernels")
    artifact = _build(verdict, flow, transformed, fault)
    if artifact is None:
        return
    arrays = _by_name(artifact, inputs)
    progress(f"device {verdict.device}")
    execution = execute(
        artifact,
        arrays,
        device=verdict.device,
        timeout_seconds=timeout,
        on_kernel=lambda kernel: progress(f"device {verdict.device}: {kernel}"),
    )
    _compare(verdict, transformed, execution, reference)


def _build(verdict: Verdict, flow: Flow, transformed: Transformed, fault: Fault | None) -> Artifact | None:
    """The artefact, faulty if that was asked for; None where it cannot be built, with the verdict set."""
    try:
        if fault and fault.graph:
            transformed = replace(transformed, mod=fault.graph(transformed.mod))
        if verdict.device == "host":
            if fault and fault.machine:
                raise FaultNotPlanted(f"{fault.name} is a fault of machine code, and the device host has none")
            return lower_for_host(transformed.mod, flow.plain_kernels(transformed), target=flow.target)
        files = flow.machine_files(transformed)
        if fault and fault.machine:
            files = fault.machine(files)
        return lower_for_machine(transformed.mod, files, target=flow.target)
    except (FaultNotPlanted, Unsupported):
        raise
    except Exception as error:
        verdict.verdict = "build-error"
        verdict.reason = f"{type(error).__name__}: {error}"
        return None


def _by_name(artifact: Artifact, inputs: Inputs) -> dict[str, np.ndarray]:
    """The inputs by the names of the artefact; the evaluation has checked that they fit."""
    if isinstance(inputs, np.ndarray):
        inputs = [inputs]
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return {spec.name: array for spec, array in zip(artifact.inputs, inputs, strict=True)}


def _compare(
    verdict: Verdict, transformed: Transformed, execution: Execution, reference: dict[str, np.ndarray]
) -> None:
    totals: Counter[str] = Counter()
    for counters in execution.counters.values():
        totals.update(counters)
    verdict.counters = dict(totals)
    verdict.findings = [finding for findings in execution.findings.values() for finding in findings]
    verdict.mismatch = find_device_mismatch(transformed, execution.outputs, reference)
    for layer, entry in zip(transformed.report, verdict.layers, strict=True):
        equal = np.array_equal(execution.outputs[layer.result], reference[layer.result])
        entry.verdict = "exact" if equal else "mismatch"
        if layer.kernel in execution.counters:
            entry.count = execution.counters[layer.kernel].get("tensor_instructions", 0)
    vacuous = _vacuous(transformed, execution, reference)
    if verdict.mismatch:
        verdict.verdict = "mismatch"
    elif any(finding.severity == "error" for finding in verdict.findings):
        verdict.verdict = "hazard"
        verdict.reason = "the numbers agree, but the machine found errors"
    elif vacuous:
        verdict.verdict, verdict.reason = "build-error", vacuous


def _vacuous(
    transformed: Transformed, execution: Execution, reference: dict[str, np.ndarray]
) -> str | None:
    """Why an agreement of all numbers would say nothing, if it would."""
    for layer in transformed.report:
        if layer.kernel and not np.any(reference[layer.result]):
            return f"every element of {layer.result} is zero, so nothing was tested: give other inputs"
        if execution.counters and layer.kernel:
            if not execution.counters.get(layer.kernel, {}).get("tensor_instructions"):
                return f"layer {layer.name} executed no {layer.instruction}: its kernel was not tensorised"
    return None
