"""A run whose every end is a verdict, that of the bench itself too."""

from __future__ import annotations

from typing import Any

from bench.compare.verdict import Verdict
from bench.pipeline import run
from bench.trace import Trace
from kernels.faults import FaultNotPlanted


def run_to_verdict(*arguments: Any, trace: Trace, **options: Any) -> Verdict:
    """As :func:`bench.pipeline.run`; an exception of the bench, a bug of it, is the verdict ``crash``.

    FaultNotPlanted is raised as it is.
    """
    try:
        return run(*arguments, trace=trace, **options)
    except FaultNotPlanted:
        raise
    except Exception as error:
        _, _, target, device = arguments
        return crashed(error, target, device, workload=str(options.get("workload", "")))


def crashed(error: Exception, target: str, device: str, *, workload: str = "") -> Verdict:
    """The verdict on a case in which the bench raised what it must not."""
    reason = f"the bench raised {type(error).__name__}: {error}"
    return Verdict(workload, target, device, "crash", reason=reason)
