"""The cases of a search: each a function of the seed and its number alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.fuzz.graphs import Graph, draw_graph
from bench.fuzz.support import support_of
from bench.lowering import HOST_TARGET
from simulators.vta import Config

TOGETHER = 12
"""How many cases are compiled as one: they share the options of the target."""

OPTIMISED_EVERY = 4

_GRAPHS, _OPTIONS = 0, 1
"""What a stream of random numbers is for."""


@dataclass(frozen=True)
class Batch:
    """Which cases of which search, and a fault to plant in the machine's code, if any."""

    target: str
    seed: int
    indices: tuple[int, ...]
    fault: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The target's options."""
        return draw_options(self.target, self.seed, self.indices[0] // TOGETHER)

    @property
    def host(self) -> Mapping[str, Any]:
        """TVM's target for this CPU: optimised as the bench's own for one batch in four.

        Most of the time of a case would go into LLVM's optimisation of the host's code, which is not what is
        looked for.
        """
        number = self.indices[0] // TOGETHER
        return HOST_TARGET if number % OPTIMISED_EVERY == 0 else {**HOST_TARGET, "opt-level": 0}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Batch:
        """What :meth:`to_json` had."""
        return Batch(**{**content, "indices": tuple(content["indices"])})

    def halves(self) -> tuple[Batch, Batch]:
        """The same cases in two."""
        middle = len(self.indices) // 2
        first, second = (
            Batch(self.target, self.seed, indices, self.fault)
            for indices in (self.indices[:middle], self.indices[middle:])
        )
        return first, second


def batch(
    target: str, seed: int, number: int, *, cases: int | None = None, fault: str | None = None
) -> Batch:
    """The batch of that number, of a search of so many cases."""
    first = number * TOGETHER
    last = first + TOGETHER if cases is None else min(first + TOGETHER, cases)
    return Batch(target, seed, tuple(range(first, last)), fault)


def draw_case(target: str, seed: int, index: int) -> Graph:
    """Case ``index`` of a search."""
    return draw_graph(np.random.default_rng([seed, _GRAPHS, index]), support_of(target))


def draw_options(target: str, seed: int, number: int) -> dict[str, Any]:
    """The options of a batch: schedules of tensor cores from the tuner's space, configurations of VTA."""
    rng = np.random.default_rng([seed, _OPTIONS, number])
    if rng.random() < 0.3:
        return {}
    if target == "tensorcore":
        return {"schedule_seed": int(rng.integers(2**31)), "fuse": bool(rng.random() < 0.8)}
    if target == "vta":
        return {"config": _draw_config(rng)}
    return {}


def _draw_config(rng: np.random.Generator) -> Config:
    """A valid configuration: other tiles, and memories so small that layers are cut."""
    default = Config()
    while True:
        keys: dict[str, Any] = {
            "LOG_BATCH": int(rng.choice([0, 0, 0, 1])),
            "LOG_BLOCK": int(rng.choice([4, 4, 3, 5])),
            "LOG_UOP_BUFF_SIZE": default.LOG_UOP_BUFF_SIZE - int(rng.integers(0, 4)),
            "LOG_INP_BUFF_SIZE": default.LOG_INP_BUFF_SIZE - int(rng.integers(0, 6)),
            "LOG_WGT_BUFF_SIZE": default.LOG_WGT_BUFF_SIZE - int(rng.integers(0, 6)),
            "LOG_ACC_BUFF_SIZE": default.LOG_ACC_BUFF_SIZE - int(rng.integers(0, 6)),
        }
        try:
            return Config(**keys)
        except ValueError:
            continue
