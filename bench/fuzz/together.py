"""Several graphs as one: what is compiled together costs one compilation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import tvm
from tvm import relax

from bench.compare.mismatch import find_device_mismatch, find_pass_mismatch
from bench.compare.verdict import Verdict
from bench.devices.calls import call_name
from bench.devices.execution import Execution, execution_of
from bench.devices.here import execute_here
from bench.devices.machines import machine_for
from bench.evaluate import evaluate_all
from bench.faults import Fault
from bench.flows.flow import Flow
from bench.flows.transformed import Transformed
from bench.fuzz.graphs import Graph
from bench.lowering import HOST_TARGET, lower_for_host
from bench.passes.lift_kernels import bindings_of, substitute
from bench.pipeline import calls_by_result, why_vacuous
from kernels.faults import FaultNotPlanted


def together(modules: Sequence[tvm.IRModule]) -> tvm.IRModule:
    """One module whose ``main`` computes each of them, side by side.

    Parameters and bindings of the n-th are named ``prefix(n)`` and their own name; the result is a tuple of
    the results. Each ``main`` returns one tensor and calls operators only.
    """
    builder = relax.BlockBuilder()
    new: dict[relax.Var, relax.Expr] = {}
    for number, module in enumerate(modules):
        for parameter in module["main"].params:
            new[parameter] = relax.Var(prefix(number) + parameter.name, parameter.ty)
    parameters = [new[parameter] for module in modules for parameter in module["main"].params]
    with builder.function("main", parameters):
        with builder.dataflow():
            for number, module in enumerate(modules):
                for binding in bindings_of(module["main"]):
                    name = prefix(number) + binding.var.name
                    new[binding.var] = builder.emit(substitute(binding.value, new), name)
            results = [new[module["main"].body.body] for module in modules]
            output = builder.emit_output(relax.Tuple(results), "results")
        builder.emit_func_output(output)
    return builder.finalize()


def one_graph(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one, with their inputs."""
    inputs = {
        prefix(number) + name: array
        for number, graph in enumerate(graphs)
        for name, array in graph.inputs.items()
    }
    return Graph(together([graph.module for graph in graphs]), inputs)


def prefix(number: int) -> str:
    """What stands before the names of the n-th graph."""
    return f"case{number}_"


@dataclass
class Together:
    """Several graphs, transformed, evaluated and executed as one, and judged one by one.

    On ``sim`` the kernels run on the target's machine and what stands between them in NumPy: the device
    ``host`` runs that as compiled code. A planted ``fault`` changes what the machine gets; where it finds
    nothing to change, nothing is planted. Everything runs in this process.
    """

    flow: Flow
    graphs: Sequence[Graph]
    fault: Fault | None = None
    host: Mapping[str, Any] = field(default_factory=lambda: HOST_TARGET)

    def __post_init__(self) -> None:
        whole = one_graph(self.graphs)
        self.module, self.inputs = whole.module, dict(whole.inputs)

    @cached_property
    def transformed(self) -> Transformed:
        """What the target's passes make of them."""
        return self.flow.transform(self.module)

    def verdicts(self, devices: Iterable[str] = ("host", "sim")) -> list[Verdict]:
        """The verdict on each graph: the first that is not exact of those of the passes and the devices.

        The verdict ``exact`` has the reason for which it may say nothing, if there is one. Raises what the
        passes, kernels and machines raise.
        """
        transformed = self.transformed
        original = evaluate_all(self.module, self.inputs)
        reference = evaluate_all(transformed.mod, self.inputs, overrides=self.flow.overrides)
        executions = {
            device: self._on_host(transformed) if device == "host" else self._on_machine(transformed)
            for device in devices
        }
        verdicts = []
        for number in range(len(self.graphs)):
            part = _Part(transformed, prefix(number), reference)
            verdict = part.passes(original)
            for device, execution in executions.items():
                if verdict.exact:
                    verdict = part.device(device, execution)
            verdicts.append(verdict)
        return verdicts

    def layers(self) -> list[tuple[int, int]]:
        """Of each graph how many layers a kernel computes, and how many there are."""
        report = self.transformed.report
        counted = []
        for number in range(len(self.graphs)):
            own = [layer for layer in report if layer.name.startswith(prefix(number))]
            counted.append((sum(layer.kernel is not None for layer in own), len(own)))
        return counted

    def _on_host(self, transformed: Transformed) -> Execution:
        artifact = lower_for_host(
            transformed.mod,
            self.flow.plain_kernels(transformed),
            target=self.flow.target,
            objects=self.flow.plain_objects(),
            host=self.host,
        )
        return execute_here(artifact, self.inputs)

    def _on_machine(self, transformed: Transformed) -> Execution:
        if self.fault and self.fault.graph:
            transformed = replace(transformed, mod=_planted(self.fault.graph, transformed.mod))
        files = self.flow.machine_files(transformed)
        if self.fault and self.fault.machine:
            files = _planted(self.fault.machine, files)
        machine = machine_for(self.flow.target)(files)
        calls: Counter[str] = Counter()
        reports: dict[str, dict[str, Any]] = {}

        def kernel(name: str) -> Callable[[Sequence[np.ndarray], np.ndarray], None]:
            def call(arguments: Sequence[np.ndarray], result: np.ndarray) -> None:
                report = machine.call(name, [*arguments, result])
                calls[name] += 1
                findings = [vars(finding) for finding in report.findings]
                entry = {"counters": report.counters, "findings": findings}
                reports[call_name(name, calls[name])] = entry

            return call

        names = [variable.name_hint for variable in transformed.mod.functions]
        try:
            outputs = evaluate_all(
                transformed.mod,
                self.inputs,
                overrides=self.flow.overrides,
                kernels={name: kernel(name) for name in names if name != "main"},
            )
        finally:
            machine.close()
        return execution_of(outputs, {"kernels": reports})


def _planted(plant: Callable[[Any], Any], what: Any) -> Any:
    """What a fault makes of a graph or of machine files, where it finds something to change."""
    try:
        return plant(what)
    except FaultNotPlanted:
        return what


class _Part:
    """One of the graphs in a transformed module, and its reference."""

    def __init__(self, transformed: Transformed, only: str, reference: Mapping[str, np.ndarray]) -> None:
        report = [layer for layer in transformed.report if layer.name.startswith(only)]
        self._part = replace(transformed, report=tuple(report))
        self._only = only
        self._reference = reference

    def passes(self, original: Mapping[str, np.ndarray]) -> Verdict:
        """Whether the passes kept every value."""
        verdict = Verdict("", self._part.target, "", "exact")
        verdict.mismatch = find_pass_mismatch(self._part, self._reference, original, prefix=self._only)
        if verdict.mismatch:
            verdict.verdict = "mismatch"
        return verdict

    def device(self, device: str, execution: Execution) -> Verdict:
        """The verdict on a device."""
        verdict = Verdict("", self._part.target, device, "exact")
        verdict.mismatch = find_device_mismatch(
            self._part, execution.outputs, self._reference, prefix=self._only
        )
        calls = calls_by_result(self._part)
        own = {name for result, name in calls.items() if result.startswith(self._only)}
        verdict.findings = [
            finding for call, findings in execution.findings.items() if call in own for finding in findings
        ]
        says_nothing = why_vacuous(self._part, Execution({}), self._reference)
        if verdict.mismatch:
            verdict.verdict = "mismatch"
        elif any(finding.severity == "error" for finding in verdict.findings):
            verdict.verdict = "hazard"
        elif says_nothing:
            verdict.reason = says_nothing
        elif reason := why_vacuous(self._part, execution, self._reference):
            verdict.verdict, verdict.reason = "build-error", self._without_names(reason)
        return verdict

    def _without_names(self, reason: str) -> str:
        for layer in self._part.report:
            reason = reason.replace(layer.name, layer.operator)
        return reason
