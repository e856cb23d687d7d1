"""The search: a smaller case is kept where it fails the same way, until none does or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.bundles.signature import Signature, signature
from bench.compare.verdict import Verdict
from bench.faults import Fault
from bench.flows.flow import flow_for
from bench.fuzz.graphs import Graph
from bench.fuzz.judging import verdict_of
from bench.fuzz.together import Together
from bench.minimise import edits, reductions
from bench.minimise.reductions import Candidate

DEFAULT_SECONDS = 60.0
STAGES = (reductions.structure, reductions.extents, reductions.values)
Judge = Callable[[Graph], Verdict]


@dataclass(frozen=True)
class Minimised:
    """The smallest case that was found, of how many tried, and whether time ended the search."""

    graph: Graph
    tried: int
    bindings: tuple[int, int]
    """How many there were, and are,"""
    elements: tuple[int, int]
    """and the same of :func:`bench.minimise.edits.elements`."""
    complete: bool

    @property
    def text(self) -> str:
        """What was gained, in a few words."""
        ended = "nothing smaller fails so" if self.complete else "time was up"
        return (
            f"{self.bindings[0]} bindings to {self.bindings[1]}, {self.elements[0]:,} numbers to "
            f"{self.elements[1]:,}, after {self.tried} attempts ({ended})"
        )


def judged_here(
    target: str, device: str, *, options: Mapping[str, Any] | None = None, fault: Fault | None = None
) -> Judge:
    """What judges candidates quickly, in this process: the kernels on the machine, the rest in NumPy."""
    devices = ("host",) if device == "host" else ("sim",)

    def judge(graph: Graph) -> Verdict:
        try:
            (verdict,) = Together(flow_for(target, **(options or {})), [graph], fault).verdicts(devices)
        except Exception as error:
            verdict = verdict_of(error, target, device)
        return verdict

    return judge


def minimise(
    graph: Graph,
    wanted: Signature,
    judge: Judge,
    *,
    seconds: float = DEFAULT_SECONDS,
    progress: Callable[[str], None] = lambda _: None,
) -> Minimised:
    """Make a case smaller while ``judge`` gives it the signature ``wanted``.

    First bindings go, then extents shrink, then values become zero or one; what was gained is tried again
    from the start, until nothing more is gained or ``seconds`` are over.
    """
    search = _Search(graph, wanted, judge, time.monotonic() + seconds, progress)
    complete = search.run()
    return Minimised(
        search.graph,
        search.tried,
        (len(edits.bindings(graph)), len(edits.bindings(search.graph))),
        (edits.elements(graph), edits.elements(search.graph)),
        complete,
    )


@dataclass
class _Search:
    graph: Graph
    wanted: Signature
    judge: Judge
    deadline: float
    progress: Callable[[str], None]
    tried: int = 0

    def run(self) -> bool:
        """Go through all stages until none gains anything; False where time is up before."""
        gained = True
        while gained and not self.out_of_time:
            gained = False
            for stage in STAGES:
                gained |= self.go_through(stage)
        return not self.out_of_time

    def go_through(self, stage: Callable[[Graph], Iterator[Candidate]]) -> bool:
        """Try every candidate of a stage, of the graph as it is by then; whether one failed the same way."""
        gained, position = False, 0
        candidates = list(stage(self.graph))
        while position < len(candidates) and not self.out_of_time:
            if self.takes(candidates[position]):
                gained, candidates = True, list(stage(self.graph))
            else:
                position += 1
        return gained

    def takes(self, candidate: Candidate) -> bool:
        """Go on with a candidate if it fails the same way."""
        self.tried += 1
        self.progress(
            f"{len(edits.bindings(self.graph))} bindings, {edits.elements(self.graph):,} numbers, "
            f"{self.tried} attempts, {max(0.0, self.deadline - time.monotonic()):.0f} s left"
        )
        try:
            smaller = candidate()
        except Exception:  # it cannot be: TVM or the evaluation says why
            return False
        if edits.size(smaller) >= edits.size(self.graph):
            return False
        if signature(self.judge(smaller).to_json()) != self.wanted:
            return False
        self.graph = smaller
        return True

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline
