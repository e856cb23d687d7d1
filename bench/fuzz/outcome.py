"""What came of one case."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench.bundles.signature import Signature

VACUOUS = "vacuous"
"""Nothing but zeros came out of a layer: the case is right, and says little."""
HARMLESS = ("exact", VACUOUS, "unsupported")
"""Outcomes that are no findings: what a target does not take is right on the host."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case.

    ``kind`` is a verdict, or :data:`VACUOUS`; ``device`` says where it was not exact. ``tensorised`` and
    ``layers`` count its layers.
    """

    index: int
    kind: str
    device: str = ""
    operator: str = ""
    cause: str = ""
    tensorised: int = 0
    layers: int = 0

    @property
    def is_finding(self) -> bool:
        """Whether something is wrong."""
        return self.kind not in HARMLESS

    @property
    def signature(self) -> Signature:
        """By which findings are told apart."""
        return Signature(self.kind, self.operator, self.cause)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
