"""One thing that can be wrong with a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.compare.causes.straight import Evaluate


@dataclass(frozen=True)
class Signature:
    """A cause by name, what is wrong then, and how the steps of the kernel, by place, would compute."""

    name: str
    what: str
    changes: Mapping[int, Evaluate]
