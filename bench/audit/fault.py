"""What a fault of the audit is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

SUBJECTS = {
    "pass": "a pass or a layout, so that the transformed graph is another one",
    "kernel": "a kernel's schedule or code generator, so that the artefact computes something else",
    "artefact": "the machine code itself, or the file that holds it",
    "machine": "a simulator, or what it gives back",
    "model": "the NumPy model of an instruction or operator",
    "comparison": "the comparison of results, and what the bench makes of it",
}
"""Where a fault is planted."""

Plant = Callable[[], AbstractContextManager[None]]
"""Plants a fault for as long as the context is open. Raises FaultNotPlanted where there is no such place."""


@dataclass(frozen=True)
class AuditFault:
    """One fault: where (``subject``), ``what`` is wrong then, and the ``check`` that has to notice."""

    name: str
    subject: str
    what: str
    check: str
    plant: Plant

    def __post_init__(self) -> None:
        if self.subject not in SUBJECTS:
            raise ValueError(f"fault {self.name}: subject {self.subject!r} is none of {', '.join(SUBJECTS)}")
