"""Networks that the bench ships, by name."""

from __future__ import annotations

from types import ModuleType

from bench.workloads import digits
from bench.workloads.workload import Workload

_MODULES: dict[str, ModuleType] = {"digits": digits}


def names() -> tuple[str, ...]:
    """Names of the workloads, sorted."""
    return tuple(sorted(_MODULES))


def what(name: str) -> str:
    """What a workload is, in a line: the first sentence of its package."""
    return (_MODULES[name].__doc__ or "").strip().partition("\n")[0]


def load(name: str, *, batch: int = 256) -> Workload:
    """Load a workload with the given batch; ValueError names the valid ones where `name` is not one."""
    if name not in _MODULES:
        raise ValueError(f"no workload {name!r}; there is {', '.join(names())}")
    workload: Workload = _MODULES[name].load(batch=batch)
    return workload


__all__ = ["Workload", "load", "names", "what"]
