"""Speeds as a picture: one SVG that needs nothing else, in the colours of the reader's light or dark page."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

from bench.perf.result import Measured, Speed, Work
from bench.reports.html.environment import environment

WIDTH, LEFT, RIGHT, ROW, HEAD, LEGEND = 820, 260, 70, 26, 56, 46


@dataclass(frozen=True)
class Line:
    """One rate, and where its spread begins and ends, in pixels."""

    speed: Speed
    y: float
    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """The rates of one piece of work."""

    work: Work
    top: float
    lines: list[Line]
    height: float


def draw(measured: Measured) -> str:
    """An SVG of 10^9 multiply-accumulates a second, on one logarithmic scale: peers and subjects."""
    rates = [speed.rate for work in measured.works for speed in work.speeds]
    low = floor(log10(min((rate.low for rate in rates), default=1)))
    high = max(low + 1, ceil(log10(max((rate.high for rate in rates), default=1))))

    def at(rate: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (log10(rate) - low) / (high - low), 1)

    charts = []
    top = float(LEGEND)
    for work in measured.works:
        lines = [
            Line(
                speed, top + HEAD + ROW * row, at(speed.rate.median), at(speed.rate.low), at(speed.rate.high)
            )
            for row, speed in enumerate(work.speeds)
        ]
        charts.append(Chart(work, top, lines, HEAD + ROW * len(lines) + 34))
        top += charts[-1].height
    ticks = [(at(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    template = environment().get_template("speed.svg.j2")
    return template.render(
        charts=charts, ticks=ticks, width=WIDTH, height=round(top + 8), left=LEFT, right=WIDTH - RIGHT
    )
