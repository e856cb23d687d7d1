"""Measuring in rounds: every subject takes its turn in each of them, so that a busy machine slows all alike.

Time is that of processors: this process, processes it has waited for, and those that it has now. So a
simulator in a process of its own is counted, and waiting for a processor is not.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

SHORTEST = 0.1
"""Seconds that one measurement lasts at least: the clock of other processes ticks in hundredths."""


@dataclass(frozen=True)
class Subject:
    """Something to be measured: ``run`` does the work once.

    ``peer`` says that others are compared with it. ``products`` are its multiply-accumulates, where it does
    other work than the rest.
    """

    name: str
    run: Callable[[], object]
    target: str | None = None
    peer: bool = False
    products: int | None = None


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, the least and the largest."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of one value for each round."""
        return Spread(median(values), min(values), max(values))


@dataclass
class Timing:
    """The processor seconds of one subject in each round."""

    subject: Subject
    seconds: list[float] = field(default_factory=list)

    def rates(self, products: int) -> list[float]:
        """10^9 multiply-accumulates a second in each round; ``products`` are those of the work of all."""
        return [(self.subject.products or products) / each / 1e9 for each in self.seconds]

    def times_as_fast_as(self, peer: Timing, products: int) -> Spread:
        """The ratio of the rates, round by round."""
        pairs = zip(self.rates(products), peer.rates(products), strict=True)
        return Spread.of([mine / other for mine, other in pairs])


def measure(
    subjects: Iterable[Subject],
    *,
    rounds: int,
    warm_up: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Run the subjects in rounds, one after the other.

    With ``warm_up`` each is run before, and then the shortest ones several times a round.
    """
    timings = [Timing(subject) for subject in subjects]
    repeats = dict.fromkeys((timing.subject.name for timing in timings), 1)
    for timing in timings if warm_up else ():
        progress(f"warming up: {timing.subject.name}")
        timing.subject.run()
        repeats[timing.subject.name] = max(1, round(SHORTEST / max(1e-6, _seconds(timing.subject, 1))))
    for number in range(1, rounds + 1):
        for timing in timings:
            progress(f"round {number} of {rounds}: {timing.subject.name}")
            times = repeats[timing.subject.name]
            timing.seconds.append(_seconds(timing.subject, times) / times)
    return timings


def _seconds(subject: Subject, times: int) -> float:
    started = processor_seconds()
    for _ in range(times):
        subject.run()
    return processor_seconds() - started


def processor_seconds() -> float:
    """Of this process and of all that it started."""
    ended = os.times()
    total = time.process_time() + ended.children_user + ended.children_system
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
            spent = child.cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
    return total
