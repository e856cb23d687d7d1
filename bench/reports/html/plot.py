"""Speeds as a picture: one SVG that needs nothing else, in the colours of the reader's light or dark page."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

from bench.perf.result import Measured, Speed, Work
from bench.reports.html.environment import environment

WIDTH, LEFT, RIGHT, ROW, HEAD = 820, 260, 70, 26, 64


@dataclass(frozen=True)
class Line:
    """One bar: where it ends, and where its spread begins and ends, in pixels."""

    speed: Speed
    y: float
    end: float
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """The bars of one piece of work, and its scale: a decade at each tick."""

    work: Work
    top: float
    lines: list[Line]
    ticks: list[tuple[float, str]]
    height: float


def draw(measured: Measured) -> str:
    """An SVG of 10^9 multiply-accumulates a second, on a logarithmic scale: peers and subjects."""
    charts = []
    top = 0.0
    for work in measured.works:
        charts.append(_chart(work, top))
        top += charts[-1].height
    template = environment().get_template("speed.svg.j2")
    return template.render(
        charts=charts, width=WIDTH, height=top + 8, left=LEFT, row=ROW, measured=measured, right=WIDTH - RIGHT
    )


def _chart(work: Work, top: float) -> Chart:
    low = floor(log10(min(speed.rate.low for speed in work.speeds)))
    high = ceil(log10(max(speed.rate.high for speed in work.speeds)))

    def at(rate: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (log10(rate) - low) / max(1, high - low), 1)

    lines = [
        Line(speed, top + HEAD + ROW * number, at(speed.rate.median), at(speed.rate.low), at(speed.rate.high))
        for number, speed in enumerate(work.speeds)
    ]
    ticks = [(at(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    return Chart(work, top, lines, ticks, HEAD + ROW * len(lines) + 36)
