"""Checks that a run makes: the workload digits through one target, all in one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from bench.audit.checks.check import Check
from bench.compare.mismatch import BETWEEN_DEVICE, BETWEEN_GRAPHS
from bench.compare.verdict import Verdict
from bench.devices.machines import machine_for
from bench.flows.flow import TARGETS
from bench.workloads import Workload, load

IMAGES = 8


@cache
def digits(images: int = IMAGES) -> Workload:
    """Some images of the workload."""
    return load("digits", batch=images)


@cache
def run_digits(target: str) -> Verdict:
    """Run it on a target's machine, in this process: a fault anywhere takes effect. Kept, so plant first."""
    from bench.devices.here import execute_here
    from bench.workload_run import run_workload

    return run_workload(digits(), target, executor=execute_here)


def graphs_differ(verdict: Verdict) -> str | None:
    """The transformed graph does not hold the values of the integer graph."""
    return _mismatch(verdict, BETWEEN_GRAPHS)


def device_differs(verdict: Verdict) -> str | None:
    """The device does not hold the values of the transformed graph."""
    return _mismatch(verdict, BETWEEN_DEVICE)


def machine_found(verdict: Verdict) -> str | None:
    """The machine found an error, whatever the numbers."""
    errors = [finding for finding in verdict.findings if finding.severity == "error"]
    return f"{errors[0].kind}: {errors[0].message}" if errors else None


def machine_stopped(verdict: Verdict) -> str | None:
    """The machine refused to go on."""
    return verdict.reason if verdict.verdict in ("crash", "timeout") else None


def vacuous(verdict: Verdict) -> str | None:
    """The numbers agree, and that says nothing."""
    return verdict.reason if verdict.verdict == "build-error" else None


def _mismatch(verdict: Verdict, between: str) -> str | None:
    found = verdict.mismatch
    if verdict.verdict != "mismatch" or found is None or found.between != between:
        return None
    place = ", ".join(f"{axis.lower()}={position}" for axis, position in found.coordinate.items())
    return (
        f"{found.binding} at {place}: {found.device} instead of {found.reference}, "
        f"{found.differing:,} of {found.elements:,} differ"
    )


JUDGES: dict[str, tuple[str, Callable[[Verdict], str | None]]] = {
    "graphs-agree": (
        "NumPy: every tensor of the transformed graph, through instruction models",
        graphs_differ,
    ),
    "device-agrees": ("every tensor of the device against the transformed graph", device_differs),
    "machine-findings": ("errors that the machine finds while it executes", machine_found),
    "machine-goes-on": ("crashes and errors that a kernel returns", machine_stopped),
    "not-vacuous": ("results that are not all zero, tensor instructions that were executed", vacuous),
}


def _run(target: str, judge: Callable[[Verdict], str | None]) -> str | None:
    return judge(run_digits(target))


RUN_CHECKS = [
    Check(
        f"{name}/{target}",
        what,
        partial(_run, target, judge),
        prepare=digits,
        missing=machine_for(target).missing,
        group=f"digits on {target}",
    )
    for target in TARGETS
    for name, (what, judge) in JUDGES.items()
]
