"""The search: batches for the pool, outcomes counted, findings told apart, kept and minimised."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from bench import bundles
from bench.bundles.running import run_to_verdict
from bench.bundles.signature import signature
from bench.compare.verdict import Verdict
from bench.faults import fault_named
from bench.fuzz.cases import TOGETHER, Batch, batch, draw_case
from bench.fuzz.graphs import Graph
from bench.fuzz.outcome import Outcome
from bench.fuzz.pool import Pool
from bench.fuzz.together import one_graph
from bench.trace import Trace
from kernels.faults import FaultNotPlanted


@dataclass
class Finding:
    """Failures of one signature: the first case of it, and how many there were."""

    outcome: Outcome
    count: int = 0
    bundle: Path | None = None
    minimised: Path | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.outcome.to_json(),
            "signature": str(self.outcome.signature),
            "count": self.count,
            "bundle": self.bundle and str(self.bundle),
            "minimised": self.minimised and str(self.minimised),
            "note": self.note,
        }


@dataclass
class Search:
    """What a search for failures of one target has come to."""

    target: str
    seed: int
    fault: str | None = None
    jobs: int = 1
    kinds: Counter[str] = field(default_factory=Counter)
    tensorised: int = 0
    layers: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    findings: list[Finding] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many cases were judged."""
        return sum(self.kinds.values())

    @property
    def rate(self) -> float:
        """Cases a minute."""
        return 60 * self.cases / self.seconds if self.seconds else 0.0

    def take(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.kinds[outcome.kind] += 1
        self.tensorised += outcome.tensorised
        self.layers += outcome.layers
        if not outcome.is_finding:
            return
        known = next((each for each in self.findings if each.outcome.signature == outcome.signature), None)
        if known is None:
            known = Finding(outcome)
            self.findings.append(known)
        known.count += 1

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "target": self.target,
            "seed": self.seed,
            "fault": self.fault,
            "jobs": self.jobs,
            "cases": self.cases,
            "seconds": self.seconds,
            "cases_a_minute": self.rate,
            "outcomes": dict(self.kinds),
            "layers": self.layers,
            "layers_tensorised": self.tensorised,
            "interrupted": self.interrupted,
            "findings": [finding.to_json() for finding in self.findings],
        }


def search(
    target: str,
    *,
    seed: int = 0,
    minutes: float | None = None,
    cases: int | None = None,
    jobs: int = 1,
    fault: str | None = None,
    progress: Callable[[Search], None] = lambda _: None,
    pool: Callable[[int], Pool] = Pool,
) -> Search:
    """Judge cases of a target until time is up or there were enough; Ctrl-C ends it with what there is.

    The cases are those of the seed, in order, however many processes judge them; a started batch is
    finished. ValueError where neither ``minutes`` nor ``cases`` is given.
    """
    if minutes is None and cases is None:
        raise ValueError("a search needs an end: minutes or cases")
    state = Search(target, seed, fault, jobs)
    started = time.monotonic()
    deadline = None if minutes is None else started + 60 * minutes
    try:
        with pool(jobs) as judges:
            for outcomes in judges.outcomes(_batches(target, seed, cases, deadline, fault)):
                for outcome in outcomes:
                    state.take(outcome)
                state.seconds = time.monotonic() - started
                progress(state)
    except KeyboardInterrupt:
        state.interrupted = True
    state.seconds = time.monotonic() - started
    return state


def _batches(
    target: str, seed: int, cases: int | None, deadline: float | None, fault: str | None
) -> Iterator[Batch]:
    for number in count():
        if cases is not None and number * TOGETHER >= cases:
            return
        if deadline is not None and time.monotonic() > deadline:
            return
        yield batch(target, seed, number, cases=cases, fault=fault)


def keep(state: Search, finding: Finding, directory: Path) -> Verdict:
    """Run the first case of a finding by itself, and write it as a bundle.

    Where it is exact by itself, the batch in which it failed is kept as one graph. The verdict is that of
    the case in the bundle.
    """
    index = finding.outcome.index
    whole = batch(state.target, state.seed, index // TOGETHER, fault=state.fault)
    graph = draw_case(state.target, state.seed, index)
    trace, verdict = _run(state, graph, whole, f"fuzz-{state.seed}-{index}", finding.outcome.device)
    if not bundles.is_failure(verdict):
        graphs = [draw_case(state.target, state.seed, each) for each in whole.indices]
        trace, verdict = _run(
            state, one_graph(graphs), whole, f"fuzz-{state.seed}-batch-{index}", finding.outcome.device
        )
        finding.note = "fails only in the company of the other cases of its batch"
    if not bundles.is_failure(verdict):
        finding.note = "failed once, and not again by itself"
        return verdict
    if not finding.note and signature(verdict.to_json()) != finding.outcome.signature:
        finding.note = f"by itself it is a {signature(verdict.to_json())}"
    finding.bundle = bundles.write(
        directory,
        verdict,
        trace,
        seed=state.seed,
        notes={"case": index, "signature": str(finding.outcome.signature)},
    )
    return verdict


def _run(state: Search, graph: Graph, whole: Batch, name: str, device: str) -> tuple[Trace, Verdict]:
    def run(fault: str | None) -> tuple[Trace, Verdict]:
        trace = Trace()
        verdict = run_to_verdict(
            graph.module,
            graph.inputs,
            state.target,
            device or "sim",
            workload=name,
            fault=fault_named(fault) if fault else None,
            trace=trace,
            **whole.options,
        )
        return trace, verdict

    try:
        return run(state.fault)
    except FaultNotPlanted:
        return run(None)
