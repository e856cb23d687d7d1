"""What a check of the audit is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Check:
    """One way in which the bench notices that something is wrong.

    ``run`` returns None where all is right, else what is wrong. ``what`` says what it looks at. ``prepare``
    imports and loads what takes long, before processes are forked. ``missing`` says why it cannot run here.
    """

    name: str
    what: str
    run: Callable[[], str | None]
    prepare: Callable[[], object] = _nothing
    missing: Callable[[], str | None] = _nothing
    group: str = ""
    """Checks of one group look at the same thing: without a fault they share one process, and what it ran."""
