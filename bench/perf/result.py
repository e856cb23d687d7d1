"""What was measured: speeds beside those of peers, and kernels beside the least they could cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.compare.verdict import LayerVerdict
from bench.efficiency import measures_of
from bench.perf.rounds import Spread, Timing


def describe_machine() -> dict[str, Any]:
    """Where it was measured: processor, number of them, and how busy they were when it began."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


@dataclass(frozen=True)
class Speed:
    """One subject at one piece of work.

    ``rate`` is in 10^9 multiply-accumulates a second of processor time, ``ratios`` how many times as fast as
    each peer it is. A peer is a subject too; one that has a target is compared with subjects of that alone.
    """

    name: str
    target: str | None
    peer: bool
    seconds: list[float]
    rate: Spread
    ratios: dict[str, Spread]


@dataclass(frozen=True)
class Work:
    """One layer or network, and all that was measured with it. ``products`` are its multiply-accumulates."""

    name: str
    shapes: str
    products: int
    speeds: list[Speed]


@dataclass(frozen=True)
class Prepared:
    """What a network takes once: processor seconds of its passes (quantising too) and of its compilation."""

    network: str
    target: str
    passes: float
    compilation: float


@dataclass(frozen=True)
class KernelCost:
    """One kernel's ratios of counters, by the names of :data:`bench.efficiency.MEASURES`."""

    target: str
    layer: str
    operator: str
    shapes: str
    counters: dict[str, int]
    ratios: dict[str, float]

    def as_layer(self) -> LayerVerdict:
        """As a measure takes it."""
        return LayerVerdict(self.layer, self.operator, self.shapes, None, counters=self.counters)


@dataclass
class Measured:
    """Everything. ``missing`` is what could not be measured, with what to do; ``wrong`` what is not exact."""

    rounds: int
    works: list[Work] = field(default_factory=list)
    prepared: list[Prepared] = field(default_factory=list)
    kernels: list[KernelCost] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=describe_machine)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def work_of(name: str, shapes: str, products: int, timings: Sequence[Timing]) -> Work:
    """Timings of one piece of work as rates and ratios."""
    peers = [timing for timing in timings if timing.subject.peer]
    return Work(
        name,
        shapes,
        products,
        [
            Speed(
                timing.subject.name,
                timing.subject.target,
                timing.subject.peer,
                timing.seconds,
                Spread.of(timing.rates(products)),
                {
                    peer.subject.name: timing.times_as_fast_as(peer, products)
                    for peer in peers
                    if peer is not timing and peer.subject.target in (None, timing.subject.target)
                },
            )
            for timing in timings
        ],
    )


def cost_of(target: str, layer: LayerVerdict) -> KernelCost:
    """A kernel's counters as ratios."""
    found = {measure.name: measure.of([layer]) for measure in measures_of(target)}
    ratios = {name: value for name, value in found.items() if value is not None}
    return KernelCost(target, layer.name, layer.operator, layer.shapes, layer.counters, ratios)
