"""A shipped workload on one target: quantise it as the target needs it, run it, and measure its accuracy."""

from __future__ import annotations

from dataclasses import replace

from bench.compare.similarity import cosine_similarity
from bench.compare.verdict import Verdict
from bench.devices.execution import execute
from bench.evaluate import evaluate
from bench.faults import Fault
from bench.flows.flow import flow_for
from bench.passes.quantize import quantize, quantize_input
from bench.pipeline import DEFAULT_TIMEOUT, Executor, Progress, run
from bench.trace import Trace
from bench.workloads import Workload


def run_workload(
    workload: Workload,
    target: str,
    device: str = "sim",
    *,
    scheme: str | None = None,
    fault: Fault | None = None,
    profile: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    progress: Progress = lambda _: None,
    executor: Executor = execute,
    trace: Trace | None = None,
) -> Verdict:
    """Run ``workload`` on ``target`` and ``device``.

    ``scheme`` (fixed or pow2) replaces the quantisation that the target prefers. The verdict's ``accuracy``
    has the share of right answers of the float network and of the integer graph, and is empty for a workload
    without labels; ``similarity`` is the cosine between their results. ``trace`` and errors are those of
    :func:`bench.pipeline.run`.
    """
    flow = flow_for(target)
    progress("quantising")
    # A target of uint8 data gets it wherever a tensor is never negative.
    data_dtype = "mixed" if flow.data_dtype == "uint8" else flow.data_dtype
    module = quantize(
        workload.module, workload.calibration, scheme=scheme or flow.scheme, data_dtype=data_dtype
    )
    inputs = quantize_input(module, workload.images)
    verdict = run(
        module,
        inputs,
        target,
        device,
        workload=workload.name,
        fault=fault,
        profile=profile,
        timeout=timeout,
        progress=progress,
        executor=executor,
        trace=trace,
    )
    scores, integers = evaluate(workload.module, workload.images), evaluate(module, inputs)
    accuracy = {}
    if workload.labels is not None:
        accuracy = {"float": workload.accuracy(scores), "integer": workload.accuracy(integers)}
    return replace(verdict, accuracy=accuracy, similarity=cosine_similarity(scores, integers))
