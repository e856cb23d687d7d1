"""What makes two failures the same one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")


@dataclass(frozen=True)
class Signature:
    """The kind of a verdict, the operator that it is about, and its cause as far as it is known.

    The cause of a mismatch is which evaluations differ, that of a hazard the kinds of its findings, and any
    other the first line of the reason without its numbers.
    """

    verdict: str
    operator: str
    cause: str

    def __str__(self) -> str:
        where = f" in {self.operator}" if self.operator else ""
        return f"{self.verdict}{where}" + (f" ({self.cause})" if self.cause else "")


def signature(verdict: Mapping[str, Any]) -> Signature:
    """The signature of a verdict in the form that it has in JSON."""
    kind = str(verdict["verdict"])
    if kind == "exact":
        return Signature(kind, "", "")
    if mismatch := verdict.get("mismatch"):
        return Signature(kind, str(mismatch["operator"]), f"between {mismatch['between']}")
    errors = sorted({each["kind"] for each in verdict.get("findings", ()) if each["severity"] == "error"})
    if kind == "hazard" and errors:
        return Signature(kind, "", ", ".join(errors))
    reason = (verdict.get("reason") or "").strip().splitlines()
    return Signature(kind, "", _NUMBERS.sub("N", reason[0])[:200] if reason else "")
