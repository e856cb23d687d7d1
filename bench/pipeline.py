"""One integer graph on one target and device, from its passes to a verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax

from bench.artifact import Artifact
from bench.compare.causes import layer_causes
from bench.compare.mismatch import find_device_mismatch, find_pass_mismatch
from bench.compare.verdict import LayerVerdict, Verdict
from bench.devices import counters, names
from bench.devices.calls import call_name
from bench.devices.execution import Execution, execute, require_device
from bench.devices.failure import DeviceFailure
from bench.evaluate import evaluate_all
from bench.faults import Fault
from bench.flows.flow import Flow, Unsupported, flow_for
from bench.flows.host_operators import host_operators
from bench.flows.transformed import Transformed
from bench.lowering import BuildError, lower_for_host, lower_for_machine
from bench.machine_files import VTA_PROFILE
from bench.passes.lift_kernels import bindings_of
from bench.trace import Trace
from kernels.faults import FaultNotPlanted

Inputs = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
Progress = Callable[[str], None]
"""Hears what the run does next, in a few words."""
Executor = Callable[..., Execution]
"""Runs an artefact on a device; a function with the signature of :func:`bench.devices.execution.execute`."""

DEFAULT_TIMEOUT = 600.0


def transform(mod: tvm.IRModule, target: str, **options: Any) -> Transformed:
    """Run the passes of ``target`` (tensorcore, hexagon, vta) with its options on an integer graph.

    The result's ``mod`` is still made of operators; its ``report`` says of each layer which instruction
    computes it, or why none does. Raises ValueError for an unknown target or option, Unsupported for a graph
    that the target cannot take.
    """
    return flow_for(target, **options).transform(mod)


def run(
    mod: tvm.IRModule,
    inputs: Inputs,
    target: str,
    device: str = "sim",
    *,
    workload: str = "",
    fault: Fault | None = None,
    profile: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    progress: Progress = lambda _: None,
    trace: Trace | None = None,
    executor: Executor = execute,
    explain: bool = True,
    **options: Any,
) -> Verdict:
    """Take an integer graph through a target's passes, kernels and device, and compare every tensor.

    ``inputs`` are one array for each parameter of ``main``. Three evaluations are compared: the integer
    graph in NumPy, the transformed graph in NumPy through the models of the target's instructions, and the
    device. A planted ``fault`` changes only what the device gets. ``profile`` is the backend of VTA that the
    device ``sim`` executes, of simulators.vta.profiles, or all. ``timeout`` limits the device, in seconds.
    ``executor`` runs the artefact, by default in a process of its own. ``trace`` receives what the run makes
    on its way; the transformed graph and the artefact that it holds already are not made again.
    ``explain`` says whether the cause of a mismatch is looked for, which may take seconds. ``options`` are
    those of the target, as ``config`` of VTA.

    Raises ValueError for an unknown target, option or device, or inputs that do not fit the graph, and
    FaultNotPlanted for a fault that finds nothing to change; every other outcome is a verdict.
    """
    flow = flow_for(target, **options)
    names.check(device)
    names.check_target(device, target)
    if fault and fault.target != target:
        raise ValueError(f"fault {fault.name} is one of {fault.target}, not of {target}")
    if profile and (target != "vta" or device == "host"):
        raise ValueError(f"a profile is of VTA's machine, and this is {target} on {device}")
    started = time.perf_counter()
    artefact = "host library" if device == "host" else flow.artefact
    verdict = Verdict(
        workload, target, device, "exact", artifact=artefact, fault=fault.name if fault else None
    )
    trace = trace or Trace()
    trace.mod, trace.inputs, trace.options, trace.profile = mod, named_inputs(mod, inputs), options, profile
    verdict.inputs = {parameter.name: _spelled(parameter.ty) for parameter in mod["main"].params}
    try:
        _Run(verdict, flow, mod, fault, timeout, progress, trace, executor, explain).judge()
    except Unsupported as reason:
        verdict.verdict, verdict.reason = "unsupported", str(reason)
    except BuildError as error:
        verdict.verdict, verdict.reason = "build-error", str(error)
    except DeviceFailure as failure:
        verdict.verdict, verdict.reason = failure.verdict, str(failure)
        verdict.reruns, verdict.lost_server = failure.reruns, failure.lost_server
    verdict.seconds = time.perf_counter() - started
    return verdict


@dataclass
class _Run:
    """One run, which fills in its verdict as it goes."""

    verdict: Verdict
    flow: Flow
    mod: tvm.IRModule
    fault: Fault | None
    timeout: float
    progress: Progress
    trace: Trace
    executor: Executor = execute
    explain: bool = True

    def judge(self) -> None:
        """Do everything, in order; the first thing that is wrong ends it."""
        verdict, device = self.verdict, self.verdict.device
        self.progress("passes")
        inputs = self.trace.inputs
        transformed = self.trace.transformed or self.flow.transform(self.mod)
        self.trace.transformed = transformed
        verdict.layers = [
            LayerVerdict(
                layer.name,
                layer.operator,
                layer.shapes,
                layer.instruction,
                why_not=layer.why_not,
                schedule=layer.schedule,
            )
            for layer in transformed.report
        ]
        verdict.on_host = host_operators(transformed)
        self.progress("NumPy: integer graph")
        original = evaluate_all(self.mod, inputs)
        self.progress("NumPy: transformed graph through instruction models")
        reference = evaluate_all(transformed.mod, inputs, overrides=self.flow.overrides)
        verdict.mismatch = find_pass_mismatch(transformed, reference, original)
        if verdict.mismatch:
            verdict.verdict = "mismatch"
            return
        executing = require_device(self.flow.target, device, timeout_seconds=self.timeout)
        if executing == "host":
            # It runs kernels as plain code, without a schedule.
            verdict.artifact = "host library"
            verdict.layers = [replace(layer, schedule=None) for layer in verdict.layers]
        self.progress("building kernels")
        artifact = self.trace.artifact or self.build(transformed, executing)
        self.trace.artifact = artifact
        self.progress(f"device {device}")
        execution = self.executor(
            artifact,
            dict(inputs),
            device=device,
            timeout_seconds=self.timeout,
            on_kernel=lambda kernel: self.progress(f"device {device}: {kernel}"),
        )
        compare(verdict, transformed, execution, reference)
        if verdict.mismatch and self.explain:
            self.progress("looking for the cause")
            name = verdict.mismatch.binding
            binding = next(each for each in bindings_of(transformed.mod["main"]) if each.var.name == name)
            verdict.causes = layer_causes(transformed, binding, reference, execution.outputs[name])

    def build(self, transformed: Transformed, device: str) -> Artifact:
        """The artefact for what executes it, with the fault in it if there is one."""
        fault = self.fault
        try:
            if fault and fault.graph:
                transformed = replace(transformed, mod=fault.graph(transformed.mod))
            if device == "host":
                if fault and fault.machine:
                    raise FaultNotPlanted(f"{fault.name} changes machine code, and the device host has none")
                kernels = self.flow.plain_kernels(transformed)
                objects = self.flow.plain_objects()
                return lower_for_host(transformed.mod, kernels, target=self.flow.target, objects=objects)
            files = self.flow.machine_files(transformed)
            if fault and fault.machine:
                files = fault.machine(files)
            if self.trace.profile:
                files = files | {VTA_PROFILE: self.trace.profile.encode()}
            return lower_for_machine(transformed.mod, files, target=self.flow.target)
        except (FaultNotPlanted, Unsupported, BuildError):
            raise
        except Exception as error:  # whatever TVM, NVRTC or a linker raises is a build error, not the bench's
            raise BuildError(f"{type(error).__name__}: {error}") from error


def compare(
    verdict: Verdict, transformed: Transformed, execution: Execution, reference: Mapping[str, np.ndarray]
) -> None:
    """Hold the device to the reference, ask whether an agreement says anything, and fill in the verdict.

    ``verdict.layers`` are those of the transformed graph's report.
    """
    totals: Counter[str] = Counter()
    for each in execution.counters.values():
        totals.update(each)
    verdict.counters, verdict.hardware = dict(totals), execution.hardware
    verdict.server, verdict.reruns = execution.server, execution.reruns
    verdict.lost_server = execution.lost_server
    verdict.findings = [finding for findings in execution.findings.values() for finding in findings]
    calls = calls_by_result(transformed)
    for layer, entry in zip(transformed.report, verdict.layers, strict=True):
        equal = np.array_equal(execution.outputs[layer.result], reference[layer.result])
        entry.verdict = "exact" if equal else "mismatch"
        call = calls.get(layer.result, "")
        entry.errors = sum(each.severity == "error" for each in execution.findings.get(call, []))
        if call in execution.counters:
            entry.counters = execution.counters[call]
            entry.count = counters.executed(entry.counters)
    verdict.mismatch = find_device_mismatch(transformed, execution.outputs, reference)
    vacuous = why_vacuous(transformed, execution, reference)
    if verdict.mismatch:
        verdict.verdict = "mismatch"
    elif any(finding.severity == "error" for finding in verdict.findings):
        verdict.verdict = "hazard"
        verdict.reason = "the numbers agree, but the machine found errors"
    elif vacuous:
        verdict.verdict, verdict.reason = "build-error", vacuous


def named_inputs(mod: tvm.IRModule, inputs: Inputs) -> dict[str, np.ndarray]:
    """The arrays by the names of ``main``'s parameters; ValueError where there are more or fewer of them."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    names = [parameter.name for parameter in mod["main"].params]
    if len(arrays) != len(names):
        raise ValueError(f"'main' takes {len(names)} inputs ({', '.join(names)}), not {len(arrays)}")
    return dict(zip(names, arrays, strict=True))


def _spelled(tensor: relax.TensorType) -> str:
    """Shape and type of an input."""
    return f"{'x'.join(str(int(size)) for size in tensor.shape)} {tensor.dtype}"


def calls_by_result(transformed: Transformed) -> dict[str, str]:
    """The name of each call of a kernel in ``main``, by the binding that receives its result."""
    numbers: Counter[str] = Counter()
    names = {}
    for binding in bindings_of(transformed.mod["main"]):
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, relax.GlobalVar):
            kernel = binding.value.op.name_hint
            numbers[kernel] += 1
            names[binding.var.name] = call_name(kernel, numbers[kernel])
    return names


def why_vacuous(
    transformed: Transformed, execution: Execution, reference: Mapping[str, np.ndarray]
) -> str | None:
    """Why an agreement of all numbers would say nothing; None where it does say something.

    Every tensorised layer must have a result that is not all zeros and, on a device that counts, must have
    executed the instruction it was tensorised with, or at least have it in its code.
    """
    calls = calls_by_result(transformed)
    for layer in transformed.report:
        if not layer.kernel:
            continue
        if not np.any(reference[layer.result]):
            return f"every element of {layer.result} is zero, so nothing was tested: give other inputs"
        counted = execution.counters.get(calls[layer.result], {})
        if execution.counters and counters.none_used(counted):
            return f"layer {layer.name} executed no {layer.instruction}: its kernel was not tensorised"
    return None
