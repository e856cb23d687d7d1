"""A smaller bundle of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.bundles.bundle import Bundle, BundleError
from bench.bundles.running import run_to_verdict
from bench.bundles.signature import signature
from bench.bundles.writing import write
from bench.compare.verdict import Verdict
from bench.faults import fault_named
from bench.fuzz.graphs import Graph
from bench.minimise.search import DEFAULT_SECONDS, Judge, Minimised, judged_here, minimise
from bench.trace import Trace
from kernels.faults import FaultNotPlanted

DIES = ("crash", "timeout")
"""Verdicts whose cause may end the process: each attempt then has one of its own."""


def minimise_bundle(
    bundle: Bundle,
    directory: Path,
    *,
    device: str | None = None,
    seconds: float = DEFAULT_SECONDS,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Path, Verdict, Minimised]:
    """Make the case of a bundle smaller, and write what was found as a new bundle in ``directory``.

    Kernels are compiled again for each attempt. Returns the new bundle, its verdict, and what was gained.
    BundleError where the case cannot be made smaller: a single kernel, or one that does not fail the same
    way when it is compiled here.
    """
    if bundle.is_kernel or bundle.trace.mod is None:
        raise BundleError(
            f"{bundle.path}: a single kernel's reference is not in its bundle; its verdict has the smallest "
            "operands that fail"
        )
    device = device or bundle.device
    wanted = signature(bundle.verdict)
    graph = Graph(bundle.trace.mod, bundle.trace.inputs)
    slow = _judged_by_running(bundle, device)
    quick = judged_here(
        bundle.target,
        device,
        options=bundle.trace.options,
        fault=fault_named(bundle.fault) if bundle.fault else None,
    )
    careful = wanted.verdict in DIES or bundle.trace.profile is not None or device not in ("host", "sim")
    for judge in (slow,) if careful else (quick, slow):
        progress("the case as it is")
        if signature(judge(graph).to_json()) == wanted:
            break
    else:
        raise BundleError(f"{bundle.path}: compiled here it does not end in {wanted}, so nothing smaller can")
    found = minimise(graph, wanted, judge, seconds=seconds, progress=progress)
    trace, verdict = _run(bundle, found.graph, device)
    if signature(verdict.to_json()) != wanted:
        # What a whole run makes of it differs: go back to one that fails there, too.
        found = minimise(graph, wanted, slow, seconds=seconds, progress=progress)
        trace, verdict = _run(bundle, found.graph, device)
    notes = {"minimised": found.text, "from": bundle.path.name}
    verdict.workload = f"{verdict.workload or 'graph'}-minimised"
    return write(directory, verdict, trace, seed=bundle.seed, notes=notes), verdict, found


def _judged_by_running(bundle: Bundle, device: str) -> Judge:
    """What judges candidates by a whole run, whose device has a process of its own."""
    return lambda graph: _run(bundle, graph, device)[1]


def _run(bundle: Bundle, graph: Graph, device: str) -> tuple[Trace, Verdict]:
    trace = Trace()
    try:
        verdict = _verdict(bundle, graph, device, trace)
    except FaultNotPlanted as error:
        raise BundleError(f"{bundle.path}: {error}") from None
    return trace, verdict


def _verdict(bundle: Bundle, graph: Graph, device: str, trace: Trace) -> Verdict:
    return run_to_verdict(
        graph.module,
        graph.inputs,
        bundle.target,
        device,
        workload=str(bundle.verdict.get("workload", "")),
        fault=fault_named(bundle.fault) if bundle.fault else None,
        profile=bundle.trace.profile,
        trace=trace,
        **bundle.trace.options,
    )
