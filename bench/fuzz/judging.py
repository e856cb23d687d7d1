"""Cases judged: compiled together for the host and for the machine, compared one by one."""

from __future__ import annotations

from collections.abc import Sequence

from bench.bundles.running import crashed
from bench.bundles.signature import signature
from bench.compare.verdict import Verdict
from bench.devices.failure import DeviceFailure
from bench.faults import fault_named
from bench.flows.flow import Unsupported, flow_for
from bench.fuzz.cases import Batch, draw_case
from bench.fuzz.graphs import Graph
from bench.fuzz.outcome import VACUOUS, Outcome
from bench.fuzz.together import Together
from bench.lowering import BuildError


def judge(batch: Batch) -> list[Outcome]:
    """Judge every case of a batch, on the host and on the target's machine.

    They are compiled together. Where that fails, the two halves are judged each by itself, down to the case
    that makes it fail.
    """
    return judge_graphs(batch, [draw_case(batch.target, batch.seed, index) for index in batch.indices])


def judge_graphs(batch: Batch, graphs: Sequence[Graph]) -> list[Outcome]:
    """As :func:`judge`, of graphs that were drawn already."""
    fault = fault_named(batch.fault) if batch.fault else None
    try:
        cases = Together(flow_for(batch.target, **batch.options), graphs, fault, batch.host)
        verdicts = cases.verdicts()
        return [
            outcome(index, verdict, tensorised=tensorised, layers=layers)
            for index, verdict, (tensorised, layers) in zip(
                batch.indices, verdicts, cases.layers(), strict=True
            )
        ]
    except Exception as error:  # whatever it is, it is what came of a case
        if len(graphs) == 1:
            return [outcome(batch.indices[0], verdict_of(error, batch.target))]
    middle = len(graphs) // 2
    first, second = batch.halves()
    return [*judge_graphs(first, graphs[:middle]), *judge_graphs(second, graphs[middle:])]


def outcome(index: int, verdict: Verdict, *, tensorised: int = 0, layers: int = 0) -> Outcome:
    """The outcome of a case with that verdict."""
    kind = verdict.verdict
    if verdict.exact and verdict.reason:
        kind = VACUOUS
    elif verdict.exact and not tensorised:
        kind = "unsupported"
    found = signature(verdict.to_json())
    return Outcome(index, kind, verdict.device, found.operator, found.cause, tensorised, layers)


def verdict_of(error: Exception, target: str, device: str = "") -> Verdict:
    """The verdict on a case that ended in an exception; one that is none of the bench's own is a crash."""
    if isinstance(error, DeviceFailure):
        return Verdict("", target, device, error.verdict, reason=str(error))
    if isinstance(error, Unsupported):
        return Verdict("", target, device, "unsupported", reason=str(error))
    if isinstance(error, BuildError):
        return Verdict("", target, device, "build-error", reason=str(error))
    return crashed(error, target, device)
