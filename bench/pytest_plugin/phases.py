"""The phase of a case that a verdict speaks of: where one has to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.compare.verdict import Verdict

PHASES = ("transform", "build", "run", "compare")
"""A target's passes, its kernels and compilers, the device, and the comparison of results."""

_PHASE_OF = {
    "unsupported": "transform",
    "build-error": "build",
    "hazard": "run",
    "crash": "run",
    "timeout": "run",
    "device-missing": "run",
    "mismatch": "compare",
}


def phase_of(verdict: Verdict) -> str | None:
    """The phase in which a case went wrong; None for an exact one.

    A mismatch between the graphs before and after the passes, with no device in it, is one of transform.
    """
    from bench.compare.mismatch import BETWEEN_GRAPHS

    if verdict.exact:
        return None
    if verdict.mismatch and verdict.mismatch.between == BETWEEN_GRAPHS:
        return "transform"
    return _PHASE_OF[verdict.verdict]
