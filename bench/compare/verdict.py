"""What the bench says of one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bench.compare.causes import Cause
from bench.compare.mismatch import Mismatch
from bench.compare.smallest import SmallestOperands
from simulators.report import Finding

VERDICTS = (
    "exact",
    "mismatch",
    "hazard",
    "unsupported",
    "device-missing",
    "build-error",
    "crash",
    "timeout",
)


@dataclass
class LayerVerdict:
    """One convolution or dense layer: what computed it, how often, and whether its result is exact.

    ``count`` is the number of tensor instructions that the device executed for it (None where it does not
    count). ``counters`` are all that the device counted for it. ``verdict`` is None where the run ended
    before the layer. ``schedule`` is ``default``, or says that a tuning record gave the schedule of its
    kernel; None where a kernel has but one. ``errors`` is how many of the findings are errors of its kernel.
    """

    name: str
    operator: str
    shapes: str
    instruction: str | None
    count: int | None = None
    why_not: str | None = None
    verdict: str | None = None
    counters: dict[str, int] = field(default_factory=dict)
    schedule: str | None = None
    errors: int = 0


@dataclass(frozen=True)
class HostOperator:
    """An operator of the transformed graph that the host computes: its binding, its name, and why."""

    name: str
    operator: str
    why: str


@dataclass
class Verdict:
    """The outcome of one workload on one target and device.

    ``verdict`` is one of :data:`VERDICTS`, and only ``exact`` is success. ``reason`` says why it is not;
    ``mismatch`` says where, and for a single kernel ``smallest`` with which operands; ``causes`` are known
    errors that would give what the device gave. Where many shapes were tried, ``shape`` is the one that
    failed, and ``shapes_tried`` how many that were. ``counters`` are those of the device, summed over the
    layers. ``hardware`` names what executed the kernels, where that was no simulator. ``on_host`` is what of
    the transformed graph no kernel computes. ``bundle`` is the directory in which a failing case was kept.
    ``inputs`` are shapes and types of the graph's inputs by name. ``server`` is the name of the server that
    executed it, if one did; where one was lost in the middle, ``lost_server`` names it, and ``reruns`` says
    how often the case was run again on another.
    """

    workload: str
    target: str
    device: str
    verdict: str
    seconds: float = 0.0
    artifact: str = ""
    reason: str | None = None
    counters: dict[str, int] = field(default_factory=dict)
    layers: list[LayerVerdict] = field(default_factory=list)
    mismatch: Mismatch | None = None
    findings: list[Finding] = field(default_factory=list)
    accuracy: dict[str, float] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    similarity: float | None = None
    fault: str | None = None
    smallest: SmallestOperands | None = None
    shape: str | None = None
    shapes_tried: int | None = None
    hardware: str | None = None
    on_host: list[HostOperator] = field(default_factory=list)
    bundle: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    server: str | None = None
    reruns: int = 0
    lost_server: str | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"unknown verdict {self.verdict!r}: one of {', '.join(VERDICTS)}")

    @property
    def exact(self) -> bool:
        """Whether every tensor was equal and nothing was found."""
        return self.verdict == "exact"

    @property
    def tensor_instructions(self) -> int:
        """How many of the accelerator's own instructions were executed; 0 where the device counts none."""
        return self.counters.get("tensor_instructions", 0)

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values, with the keys that the JSON of a run has."""
        return asdict(self)
