"""The checks by name: each is quiet on a bench that is right, and says what is wrong with one that is not."""

from __future__ import annotations

from collections.abc import Mapping

from bench.audit.checks.check import Check
from bench.audit.checks.commands import COMMAND_CHECKS
from bench.audit.checks.comparison import COMPARISON_CHECKS
from bench.audit.checks.layouts import LAYOUT_CHECKS
from bench.audit.checks.machines import MACHINE_CHECKS
from bench.audit.checks.models import MODEL_CHECKS
from bench.audit.checks.passes import PASS_CHECKS
from bench.audit.checks.refusals import REFUSAL_CHECKS
from bench.audit.checks.runs import RUN_CHECKS

CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        *RUN_CHECKS,
        *PASS_CHECKS,
        *LAYOUT_CHECKS,
        *MODEL_CHECKS,
        *MACHINE_CHECKS,
        *REFUSAL_CHECKS,
        *COMPARISON_CHECKS,
        *COMMAND_CHECKS,
    )
}

__all__ = ["CHECKS", "Check"]
