"""What a waiver makes of a test's outcome."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from bench.pytest_plugin import properties
from bench.pytest_plugin.fixture import NotExact
from bench.pytest_plugin.waivers import Waiver


class BitexactWarning(pytest.PytestWarning):
    """Something in the files of a session that means nothing."""


def waive(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, waiver: Waiver, file: Path
) -> None:
    """Change the report of a case that has a waiver: an expected failure, or a failure that passed."""
    raised = call.excinfo.value if call.excinfo else None
    if isinstance(raised, NotExact) and raised.phase == waiver.phase and report.failed:
        report.outcome = "skipped"
        report.wasxfail = f"waiver: {waiver.reason}"
        _record(item, report, properties.KEPT)
    elif call.when == "call" and report.passed:
        report.outcome = "failed"
        report.longrepr = (
            f"{waiver.case}\npasses, and a waiver in {file} expects it to fail in phase {waiver.phase} "
            f"({waiver.reason}).\nRemove the waiver, by hand or with: "
            f"pytest --junit-xml LOG.xml; bitexact waivers --from LOG.xml {file.name}"
        )
        _record(item, report, properties.UNEXPECTED)


def _record(item: pytest.Item, report: pytest.TestReport, what: str) -> None:
    item.user_properties.append((properties.WAIVER, what))
    report.user_properties.append((properties.WAIVER, what))


def without_test(
    waivers: Iterable[Waiver], collected: Iterable[str], arguments: Sequence[str]
) -> list[Waiver]:
    """The waivers of tests that do not exist: their files were collected, and they were not in them."""
    if any("::" in argument for argument in arguments):
        return []
    cases = set(collected)
    files = {case.partition("::")[0] for case in cases}
    return [each for each in waivers if each.case not in cases and each.case.partition("::")[0] in files]
