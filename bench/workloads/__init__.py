"""Networks that the bench ships, by name."""

from __future__ import annotations

from collections.abc import Callable

from bench.workloads import digits
from bench.workloads.workload import Workload

_WORKLOADS: dict[str, Callable[..., Workload]] = {"digits": digits.load}


def names() -> tuple[str, ...]:
    """Names of the workloads, sorted."""
    return tuple(sorted(_WORKLOADS))


def load(name: str, *, batch: int = 256) -> Workload:
    """Load a workload with the given batch; ValueError names the valid ones where `name` is not one."""
    if name not in _WORKLOADS:
        raise ValueError(f"no workload {name!r}; there is {', '.join(names())}")
    return _WORKLOADS[name](batch=batch)


__all__ = ["Workload", "load", "names"]
