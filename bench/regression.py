"""Cases of a regression: a workload on a target each, one after the other or several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench import bundles as bundling
from bench import workloads
from bench.compare.verdict import Verdict
from bench.devices.failure import DeviceFailure
from bench.devices.names import Tracked, parse_remote
from bench.devices.remote import served_keys
from bench.faults import fault_named
from bench.pipeline import Progress
from bench.spread import CaseDied, spread
from bench.trace import Trace
from bench.workload_run import run_workload

load = lru_cache(maxsize=None)(workloads.load)
"""A workload is made once in a process, for all of its targets."""


@dataclass(frozen=True)
class Case:
    """One workload on one target and device; the options are those of ``bitexact run``.

    ``bundles`` is where a failing case is kept, None for nowhere.
    """

    workload: str
    target: str
    device: str
    timeout: float
    batch: int | None = None
    image: int | None = None
    scheme: str | None = None
    fault: str | None = None
    profile: str | None = None
    bundles: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The verdict of a case; ``not_kept`` says why a failing one could not be kept."""

    verdict: Verdict
    not_kept: str | None = None


def run_case(case: Case, progress: Progress) -> Outcome:
    """Run one case, and keep it where it fails. Raises as :func:`bench.pipeline.run` does."""
    trace = Trace()
    verdict = run_workload(
        load(case.workload, batch=case.batch, image=case.image),
        case.target,
        case.device,
        scheme=case.scheme,
        fault=fault_named(case.fault) if case.fault else None,
        profile=case.profile,
        timeout=case.timeout,
        progress=progress,
        trace=trace,
    )
    try:
        bundling.keep(case.bundles, verdict, trace)
    except (OSError, ValueError) as error:
        return Outcome(verdict, f"the failing case could not be kept in {case.bundles}: {error}")
    return Outcome(verdict)


def run_cases(
    cases: Sequence[Case], *, jobs: int, progress: Callable[[Case], Progress]
) -> Iterator[tuple[int, Outcome]]:
    """Run all cases, ``jobs`` at once, and yield the number and the outcome of each as it ends.

    One case at a time runs in this process; several run in processes of their own, where one that dies is a
    crash of its case. ``progress`` gives for a case what hears of its steps. Raises as :func:`run_case` does.
    """
    if jobs == 1:
        for number, case in enumerate(cases):
            yield number, run_case(case, progress(case))
        return
    steps = {number: progress(case) for number, case in enumerate(cases)}
    for number, ended in spread(run_case, cases, jobs=jobs, hear=lambda each, step: steps[each](step)):
        yield number, _died(cases[number], ended) if isinstance(ended, CaseDied) else ended


def _died(case: Case, how: CaseDied) -> Outcome:
    return Outcome(Verdict(case.workload, case.target, case.device, "crash", reason=str(how)))


def jobs_for(device: str) -> int:
    """How many cases a device runs at once: as many as a tracker has servers of its key, else one."""
    remote = parse_remote(device)
    if not isinstance(remote, Tracked):
        return 1
    try:
        return max(1, served_keys(remote).count(remote.key))
    except DeviceFailure:  # the case's verdict will say so
        return 1
