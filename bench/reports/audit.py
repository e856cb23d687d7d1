"""The audit's kill table: in text, in Markdown, and as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import Any

from tabulate import tabulate

from bench.audit.audit import Outcome
from bench.audit.checks import Check
from bench.audit.fault import SUBJECTS, AuditFault

WIDTH = 90


def kill_table(outcomes: Sequence[Outcome]) -> str:
    """One row for each fault: where it was planted, which check was to catch it, what that said."""
    rows = [
        [
            outcome.fault.subject,
            outcome.fault.name,
            outcome.check,
            outcome.result,
            f"{outcome.seconds:.1f}",
            shorten(outcome.evidence, WIDTH, placeholder=" …"),
        ]
        for outcome in outcomes
        if outcome.fault
    ]
    headers = ["subject", "fault", "check", "result", "seconds", "evidence"]
    alignment = ["left", "left", "left", "left", "right", "left"]
    return tabulate(rows, headers=headers, colalign=alignment, disable_numparse=True)


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many faults were caught and how many checks are quiet without one; each that is not, by name."""
    faults = [outcome for outcome in outcomes if outcome.fault]
    alone = [outcome for outcome in outcomes if not outcome.fault]
    lines = [
        f"{sum(outcome.good for outcome in faults)} of {len(faults)} faults caught, each by the check that "
        f"is named for it; {sum(outcome.good for outcome in alone)} of {len(alone)} checks quiet without one"
    ]
    for outcome in outcomes:
        if not outcome.good:
            name = (
                f"fault {outcome.fault.name}" if outcome.fault else f"check {outcome.check} without a fault"
            )
            lines.append(f"{name}: {outcome.result}: {outcome.evidence}")
    return "\n".join(lines)


def to_json(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """The outcomes as plain values; ``fault`` is None for a check without one."""
    return [
        {
            "fault": outcome.fault and outcome.fault.name,
            "subject": outcome.fault and outcome.fault.subject,
            "check": outcome.check,
            "result": outcome.result,
            "evidence": outcome.evidence,
            "seconds": round(outcome.seconds, 2),
        }
        for outcome in outcomes
    ]


def catalogue_document(faults: Sequence[AuditFault], checks: Iterable[Check]) -> str:
    """The table of all faults in Markdown, by subject, and that of the checks."""
    counts = Counter(fault.subject for fault in faults)
    parts = []
    for subject, what in SUBJECTS.items():
        rows = [
            [f"`{fault.name}`", fault.what, f"`{fault.check}`"]
            for fault in faults
            if fault.subject == subject
        ]
        table = tabulate(rows, headers=["fault", "what is wrong then", "caught by"], tablefmt="github")
        parts.append(f"### {subject.capitalize()}: {counts[subject]} faults\n\nIn {what}.\n\n{table}\n")
    rows = [[f"`{check.name}`", check.what] for check in checks]
    table = tabulate(rows, headers=["check", "what it looks at"], tablefmt="github")
    return "\n".join([*parts, f"### Checks\n\n{table}\n"])
