"""The verdicts of a session, counted, at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from bench.pytest_plugin import properties


def summary(reports: Iterable[pytest.TestReport]) -> list[str]:
    """How many verdicts of each kind there were, and what to type for devices that are missing."""
    verdicts: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    waivers: Counter[str] = Counter()
    for report in reports:
        case = properties.recorded(report.user_properties)
        if case is None:
            continue
        if case.waiver:
            waivers[case.waiver] += 1
        for call in case.calls.values():
            verdicts[call["verdict"]] += 1
            if call["verdict"] == "device-missing":
                missing[call.get("reason", "")] += 1
    if not verdicts:
        return []
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    lines = [f"verdicts: {counted}"]
    if waivers:
        lines.append("waivers: " + ", ".join(f"{count} {what}" for what, count in waivers.most_common()))
    lines += [f"device-missing: {reason} ({count})" for reason, count in missing.items()]
    return lines
