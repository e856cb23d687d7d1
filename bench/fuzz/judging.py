"""A batch of cases judged: compiled together for the host and for the machine, compared one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bench.bundles.signature import Signature, signature
from bench.compare.mismatch import find_device_mismatch, find_pass_mismatch
from bench.compare.verdict import Verdict
from bench.devices.calls import call_name
from bench.devices.execution import Execution, execution_of
from bench.devices.failure import DeviceFailure
from bench.devices.machines import machine_for
from bench.devices.worker import run_here
from bench.evaluate import evaluate_all
from bench.faults import fault_named
from bench.flows.flow import Flow, Unsupported, flow_for
from bench.flows.transformed import Transformed
from bench.fuzz.cases import Batch, draw_case
from bench.fuzz.graphs import Graph
from bench.fuzz.together import prefix, together
from bench.lowering import BuildError, lower_for_host
from bench.pipeline import calls_by_result, why_vacuous
from kernels.faults import FaultNotPlanted

VACUOUS = "vacuous"
"""Nothing but zeros came out of a layer: the case is right, and says little."""


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    ``kind`` is a verdict, or :data:`VACUOUS`; ``device`` where it was not exact. ``tensorised`` and
    ``layers`` count its layers.
    """

    index: int
    kind: str
    device: str = ""
    operator: str = ""
    cause: str = ""
    tensorised: int = 0
    layers: int = 0

    @property
    def signature(self) -> Signature:
        """By which findings are told apart."""
        return Signature(self.kind, self.operator, self.cause)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def judge(batch: Batch) -> list[Outcome]:
    """Judge every case of a batch, on the host and on the target's machine.

    They are compiled together. Where that fails, the two halves are judged each by itself, down to the case
    that makes it fail.
    """
    return judge_graphs(batch, [draw_case(batch.target, batch.seed, index) for index in batch.indices])


def judge_graphs(batch: Batch, graphs: Sequence[Graph]) -> list[Outcome]:
    """As :func:`judge`, of graphs that were drawn already."""
    try:
        return _Together(batch, graphs).judge()
    except Exception as error:  # whatever it is, it is what came of a case
        if len(graphs) == 1:
            return [_failed(batch.indices[0], error)]
    middle = len(graphs) // 2
    first, second = batch.halves()
    return [*judge_graphs(first, graphs[:middle]), *judge_graphs(second, graphs[middle:])]


def _failed(index: int, error: Exception) -> Outcome:
    """The outcome of a case that got no further than an exception."""
    kinds = {Unsupported: "unsupported", BuildError: "build-error"}
    kind = error.verdict if isinstance(error, DeviceFailure) else kinds.get(type(error), "crash")
    reason = str(error) if kind != "crash" or isinstance(error, DeviceFailure) else internal_error(error)
    found = signature({"verdict": kind, "reason": reason})
    return Outcome(index, kind, operator=found.operator, cause=found.cause)


def internal_error(error: Exception) -> str:
    """What is said of an exception that is none of the bench's own."""
    return f"the bench raised {type(error).__name__}: {error}"


class _Together:
    """Several graphs, transformed and evaluated as one."""

    def __init__(self, batch: Batch, graphs: Sequence[Graph]) -> None:
        self._batch = batch
        self._fault = fault_named(batch.fault) if batch.fault else None
        self._module = together([graph.module for graph in graphs])
        self._inputs = {
            prefix(number) + name: array
            for number, graph in enumerate(graphs)
            for name, array in graph.inputs.items()
        }
        self._flow: Flow = flow_for(batch.target, **batch.options)

    def judge(self) -> list[Outcome]:
        transformed = self._flow.transform(self._module)
        original = evaluate_all(self._module, self._inputs)
        reference = evaluate_all(transformed.mod, self._inputs, overrides=self._flow.overrides)
        executions = {"host": self._on_host(transformed), "sim": self._on_machine(transformed)}
        outcomes = []
        for number, index in enumerate(self._batch.indices):
            part = _part(transformed, prefix(number))
            counted = Outcome(
                index,
                "exact",
                tensorised=sum(layer.kernel is not None for layer in part.report),
                layers=len(part.report),
            )
            verdict = self._verdict(number, part, original, reference, executions)
            if verdict is None:
                kind = "exact" if counted.tensorised else "unsupported"
                vacuous = why_vacuous(part, Execution({}), reference)
                outcomes.append(replace(counted, kind=VACUOUS if vacuous else kind))
                continue
            found = signature(verdict.to_json())
            outcomes.append(
                replace(
                    counted,
                    kind=verdict.verdict,
                    device=verdict.device,
                    operator=found.operator,
                    cause=found.cause,
                )
            )
        return outcomes

    def _verdict(
        self,
        number: int,
        part: Transformed,
        original: Mapping[str, np.ndarray],
        reference: Mapping[str, np.ndarray],
        executions: Mapping[str, Execution],
    ) -> Verdict | None:
        """The verdict on one case that is not exact; None for one that is."""
        only = prefix(number)
        mismatch = find_pass_mismatch(part, reference, original, prefix=only)
        if mismatch:
            return Verdict("", part.target, "", "mismatch", mismatch=mismatch)
        for device, execution in executions.items():
            verdict = Verdict("", part.target, device, "exact")
            verdict.mismatch = find_device_mismatch(part, execution.outputs, reference, prefix=only)
            calls = {name for result, name in calls_by_result(part).items() if result.startswith(only)}
            verdict.findings = [
                finding
                for call, findings in execution.findings.items()
                for finding in findings
                if call in calls
            ]
            if verdict.mismatch:
                verdict.verdict = "mismatch"
                return verdict
            if any(finding.severity == "error" for finding in verdict.findings):
                verdict.verdict = "hazard"
                return verdict
            reason = why_vacuous(part, execution, reference)
            if reason and why_vacuous(part, Execution({}), reference) is None:
                verdict.verdict, verdict.reason = "build-error", _without_names(reason, part)
                return verdict
        return None

    def _on_host(self, transformed: Transformed) -> Execution:
        kernels = self._flow.plain_kernels(transformed)
        artifact = lower_for_host(transformed.mod, kernels, target=self._batch.target, host=self._batch.host)
        arrays = [self._inputs[spec.name] for spec in artifact.inputs]
        tensors, report = run_here(artifact, arrays)
        named = {spec.name: array for spec, array in zip(artifact.outputs, tensors, strict=True)}
        return execution_of(named, report["kernels"])

    def _on_machine(self, transformed: Transformed) -> Execution:
        """The kernels on the target's machine; what stands between them in NumPy, for the host has run it."""
        fault = self._fault
        if fault and fault.graph:
            transformed = replace(transformed, mod=_planted(fault.graph, transformed.mod))
        files = self._flow.machine_files(transformed)
        if fault and fault.machine:
            files = _planted(fault.machine, files)
        machine = machine_for(self._batch.target)(files)
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
                self._inputs,
                overrides=self._flow.overrides,
                kernels={name: kernel(name) for name in names if name != "main"},
            )
        finally:
            machine.close()
        return execution_of(outputs, reports)


def _planted(plant: Callable[[Any], Any], what: Any) -> Any:
    """What a fault makes of a graph or of machine files, where it finds something to change."""
    try:
        return plant(what)
    except FaultNotPlanted:
        return what


def _part(transformed: Transformed, only: str) -> Transformed:
    """The report and correspondences of one of the graphs."""
    return replace(
        transformed,
        report=tuple(layer for layer in transformed.report if layer.name.startswith(only)),
        correspondences=tuple(
            entry for entry in transformed.correspondences if entry.transformed.startswith(only)
        ),
    )


def _without_names(reason: str, part: Transformed) -> str:
    for layer in part.report:
        reason = reason.replace(layer.name, layer.operator)
    return reason
