"""What a case leaves in the properties of its report: in JUnit XML, and through pytest-xdist.

``bitexact.case`` is the id of the test. Each call adds ``bitexact.verdict``, ``bitexact.target`` and so on,
one ``bitexact.counter.NAME`` for each counter of the device; the second call of a test adds
``bitexact#2.verdict`` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.compare.verdict import Verdict

Property = tuple[str, object]

PREFIX = "bitexact"
CASE = f"{PREFIX}.case"
WAIVER = f"{PREFIX}.waiver"
KEPT = "kept"
UNEXPECTED = "unexpected pass"
_CALL = re.compile(rf"{PREFIX}(?:#(\d+))?\.(.+)")


def of_call(number: int, verdict: Verdict, **more: object) -> list[Property]:
    """The properties of the so-manieth call (from 1) of a test; of ``more`` those that are not None."""
    prefix = PREFIX if number == 1 else f"{PREFIX}#{number}"
    named = {
        "workload": verdict.workload or None,
        "target": verdict.target,
        "device": verdict.device,
        "verdict": verdict.verdict,
        "server": verdict.server,
        "reruns": verdict.reruns or None,
        **more,
        "seconds": f"{verdict.seconds:.3f}",
        **{f"counter.{name}": count for name, count in sorted(verdict.counters.items())},
    }
    return [(f"{prefix}.{name}", value) for name, value in named.items() if value is not None]


@dataclass
class RecordedCase:
    """A case as its properties tell of it: the calls, each with what it left, by number."""

    case: str
    waiver: str | None = None
    calls: dict[int, dict[str, str]] = field(default_factory=dict)

    def failed(self) -> dict[str, str] | None:
        """The first call with a phase, in which it went wrong; a device that is missing is none."""
        for _, call in sorted(self.calls.items()):
            if "phase" in call and call.get("verdict") != "device-missing":
                return call
        return None


def recorded(properties: Iterable[tuple[str, object]]) -> RecordedCase | None:
    """Read what :func:`of_call` and the plugin left; None for a test that has no case."""
    found = RecordedCase("")
    for name, value in properties:
        if name == CASE:
            found.case = str(value)
        elif name == WAIVER:
            found.waiver = str(value)
        elif match := _CALL.fullmatch(name):
            found.calls.setdefault(int(match[1] or 1), {})[match[2]] = str(value)
    return found if found.case else None
