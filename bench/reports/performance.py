"""What `bitexact perf` measured, as tables: for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Literal

from tabulate import tabulate

from bench.efficiency import Measure, measures_of
from bench.perf.result import KernelCost, Measured, Speed

Format = Literal["simple", "github"]


def tables(measured: Measured, *, style: Format = "simple") -> str:
    """Speeds, kernels target by target, and what could not be measured."""
    parts = []
    if measured.works:
        parts += [_works(measured), speed_table(measured, style=style), _spread(measured)]
    if measured.prepared:
        parts.append("\n".join(_prepared(measured)))
    if measured.kernels:
        parts += [efficiency_table(measured, style=style), kernel_tables(measured, style=style)]
    parts += [f"NOT EXACT: {each}" for each in measured.wrong]
    parts += [f"not measured: {each}" for each in measured.missing]
    return "\n\n".join(parts)


def _works(measured: Measured) -> str:
    """What the numbers of the speed table are."""
    listed = "; ".join(
        f"{work.name}: {work.shapes} ({work.products / 1e6:,.0f} million multiply-accumulates)"
        for work in measured.works
    )
    machine = measured.machine
    return (
        f"How many times as fast as a peer, by processor time on one core ({machine['processor']}, "
        f"{machine['cores']} cores, load {machine['load']}), median of rounds. {listed}."
    )


def speed_table(measured: Measured, *, style: Format = "simple") -> str:
    """A row for each subject, a column for each peer at each piece of work; and the rate at the first one."""
    columns = [
        (work.name, speed.name)
        for work in measured.works
        for speed in work.speeds
        if speed.peer and speed.target is None
    ]
    between = "\n" if style == "simple" else "<br>"
    found = {(work.name, speed.name): speed for work in measured.works for speed in work.speeds}
    names = list(dict.fromkeys(speed.name for work in measured.works for speed in work.speeds))
    rows = [
        [
            name,
            *_rates(measured, found, name),
            *(_ratio(found.get((work, name)), peer) for work, peer in columns),
        ]
        for name in names
    ]
    headers = [
        "",
        *(f"{work.name}{between}GMAC/s" for work in measured.works),
        *(f"{work}{between}× {peer}" for work, peer in columns),
    ]
    alignment = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, tablefmt=style, colalign=alignment, disable_numparse=True)


def _rates(measured: Measured, found: dict[tuple[str, str], Speed], name: str) -> list[str]:
    speeds = (found.get((work.name, name)) for work in measured.works)
    return ["" if speed is None else _short(speed.rate.median) for speed in speeds]


def _ratio(speed: Speed | None, peer: str) -> str:
    if speed is None:
        return ""
    return "1" if speed.name == peer else _short(speed.ratios[peer].median) if peer in speed.ratios else ""


def _short(value: float) -> str:
    """Two digits that count."""
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _spread(measured: Measured) -> str:
    """How far rounds are from their median."""
    shares = [
        max(speed.rate.high / speed.rate.median, speed.rate.median / speed.rate.low) - 1
        for work in measured.works
        for speed in work.speeds
    ]
    ceiling = [
        f"qemu-hexagon reaches {100 * ratio.median:.0f} % of a loop of nothing but vrmpy ({work.name})"
        for work in measured.works
        for speed in work.speeds
        for peer, ratio in speed.ratios.items()
        if speed.name == "qemu-hexagon" and peer not in _common(measured)
    ]
    said = (
        f"The farthest of {measured.rounds} rounds is {100 * mean(shares):.0f} % from the median on average"
    )
    return "; ".join([f"{said}, {100 * max(shares):.0f} % at most", *ceiling]) + "."


def _common(measured: Measured) -> set[str]:
    """The peers of all targets."""
    return {
        speed.name for work in measured.works for speed in work.speeds if speed.peer and speed.target is None
    }


def _prepared(measured: Measured) -> list[str]:
    return [
        f"{each.network} on {each.target}, once: quantising and passes {each.passes:.1f} s, "
        f"compilation {each.compilation:.1f} s"
        for each in measured.prepared
    ]


def _by_target(measured: Measured) -> dict[str, list[KernelCost]]:
    found: dict[str, list[KernelCost]] = {}
    for kernel in measured.kernels:
        found.setdefault(kernel.target, []).append(kernel)
    return found


def efficiency_table(measured: Measured, *, style: Format = "simple") -> str:
    """A row for each measure of each target: of all kernels and of the worst, beside least and limit."""
    rows = [
        [
            target,
            measure.name,
            _number(measure, measure.least),
            _number(measure, together),
            _number(measure, max(kernel.ratios.get(measure.name, 0) for kernel in kernels)),
            f"{_number(measure, measure.limit)} {'together' if measure.together else 'each'}",
        ]
        for target, kernels in _by_target(measured).items()
        for measure in measures_of(target)
        if (together := measure.of([kernel.as_layer() for kernel in kernels])) is not None
    ]
    headers = ["target", "by counters", "least possible", "all kernels together", "worst kernel", "limit"]
    alignment = ["left", "left", *["right"] * 4]
    return tabulate(rows, headers=headers, tablefmt=style, colalign=alignment, disable_numparse=True)


def kernel_tables(measured: Measured, *, style: Format = "simple") -> str:
    """A row for each kernel, a table for each target."""
    return "\n\n".join(
        _kernels(target, kernels, style=style) for target, kernels in _by_target(measured).items()
    )


def _kernels(target: str, kernels: Sequence[KernelCost], *, style: Format) -> str:
    measures = measures_of(target)
    rows = [
        [
            kernel.layer,
            kernel.shapes,
            f"{kernel.counters['tensor_instructions']:,}",
            *(_value(kernel, measure) for measure in measures),
        ]
        for kernel in kernels
    ]
    headers = [target, "shapes", "tensor instructions", *(measure.name for measure in measures)]
    alignment = ["left", "left", *["right"] * (len(headers) - 2)]
    return tabulate(
        [[_escaped(cell, style) for cell in row] for row in rows],
        headers=headers,
        tablefmt=style,
        colalign=alignment,
        disable_numparse=True,
    )


def _escaped(text: str, style: Format) -> str:
    return text.replace("*", "\\*") if style == "github" else text


def _value(kernel: KernelCost, measure: Measure) -> str:
    return _number(measure, kernel.ratios[measure.name]) if measure.name in kernel.ratios else "-"


def _number(measure: Measure, value: float) -> str:
    return f"{100 * value:.1f} %" if measure.percent else f"{value:.2f}"
