"""Verdicts as text: one table of targets, one of layers, and each mismatch explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tabulate import tabulate

from bench.compare.causes import Cause
from bench.compare.mismatch import BETWEEN_GRAPHS, Mismatch
from bench.compare.operands import Operands
from bench.compare.smallest import SmallestOperands
from bench.compare.verdict import LayerVerdict, Verdict

LISTED_PRODUCTS = 8
LISTED_FINDINGS = 5
LISTED_NAMES = 3


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """One row for each verdict; where servers executed them also which."""
    columns: dict[str, Callable[[Verdict], str]] = {
        "target": lambda verdict: verdict.target,
        "artefact": lambda verdict: verdict.artifact,
        "device": lambda verdict: verdict.device,
    }
    if any(verdict.server for verdict in verdicts):
        columns["server"] = lambda verdict: verdict.server or "-"
    columns["layers tensorised"] = _tensorised
    columns["tensor instructions"] = lambda verdict: (
        f"{verdict.tensor_instructions:,}" if verdict.tensor_instructions else "-"
    )
    columns["verdict"] = _marked
    columns["int8 accuracy"] = lambda verdict: _percent(verdict.accuracy.get("integer"))
    columns["seconds"] = lambda verdict: f"{verdict.seconds:.1f}"
    numbers = ("layers tensorised", "tensor instructions", "int8 accuracy", "seconds")
    rows = [[text(verdict) for text in columns.values()] for verdict in verdicts]
    alignment = ["right" if name in numbers else "left" for name in columns]
    return tabulate(rows, headers=list(columns), colalign=alignment, disable_numparse=True)


Column = Callable[[LayerVerdict], str]


def layer_table(verdict: Verdict) -> str:
    """One row for each convolution and dense layer of one verdict.

    Where the device counts packets, as Hexagon does, also how many there are for each vrmpy, for a layer and
    for all convolutions together.
    """
    columns: dict[str, Column] = {
        "layer": lambda layer: layer.name,
        "operator": lambda layer: layer.operator,
        "data * weight, stride, padding": lambda layer: layer.shapes,
        "instruction": lambda layer: layer.instruction or "-",
        "count": lambda layer: "-" if layer.count is None else f"{layer.count:,}",
    }
    counted = [layer for layer in verdict.layers if "packets" in layer.counters and layer.count]
    if counted:
        columns["packets"] = lambda layer: f"{layer.counters['packets']:,}" if layer in counted else "-"
        columns["per vrmpy"] = lambda layer: f"{packets_per_count([layer]):.2f}" if layer in counted else "-"
    columns["verdict"] = lambda layer: layer.verdict or "-"
    if any(layer.why_not for layer in verdict.layers):
        columns["why not"] = lambda layer: layer.why_not or ""
    if any(layer.schedule not in (None, "default") for layer in verdict.layers):
        columns["schedule"] = lambda layer: layer.schedule or "-"
    rows = [[column(layer) for column in columns.values()] for layer in verdict.layers]
    table = tabulate(rows, headers=list(columns), disable_numparse=True)
    convolutions = [layer for layer in counted if layer.operator == "conv2d"]
    if not convolutions:
        return table
    packets = sum(layer.counters["packets"] for layer in convolutions)
    vrmpy = sum(layer.count or 0 for layer in convolutions)
    return (
        f"{table}\nall convolutions: {packets:,} packets for {vrmpy:,} vrmpy, "
        f"{packets_per_count(convolutions):.3f} per vrmpy"
    )


def host_table(verdict: Verdict) -> str:
    """What the host computes of a transformed graph: one row for each operator and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in verdict.on_host:
        groups.setdefault((each.why, each.operator), []).append(each.name)
    rows = [
        [operator, str(len(names)), _listed(names), why] for (why, operator), names in sorted(groups.items())
    ]
    headers = ["on the host", "count", "tensors", "why"]
    return tabulate(rows, headers=headers, colalign=["left", "right", "left", "left"], disable_numparse=True)


def _listed(names: Sequence[str]) -> str:
    """The first few names."""
    more = ["…"] if len(names) > LISTED_NAMES else []
    return ", ".join([*names[:LISTED_NAMES], *more])


def packets_per_count(layers: Sequence[LayerVerdict]) -> float:
    """Packets of some layers, all that their kernels execute, per tensor instruction of theirs."""
    return sum(layer.counters["packets"] for layer in layers) / sum(layer.count or 0 for layer in layers)


def details(verdict: Verdict) -> str:
    """Why a verdict is what it is, and on what hardware; empty where there is nothing to add."""
    parts = []
    if verdict.hardware:
        parts.append(f"{verdict.target}: ran on {verdict.hardware}, which counts no tensor instructions")
    if verdict.reason:
        parts.append(f"{verdict.target}: {verdict.verdict}: {verdict.reason}")
    if verdict.reruns:
        on = f" on {verdict.server}" if verdict.server else ""
        parts.append(f"{verdict.target}: run again{on}, as the server {verdict.lost_server} was lost")
    if verdict.mismatch:
        parts.append(f"{verdict.target}: {mismatch_text(verdict.mismatch)}")
    for cause in verdict.causes:
        parts.append(cause_text(cause))
    if verdict.smallest:
        parts.append(smallest_text(verdict.smallest))
    for finding in verdict.findings[:LISTED_FINDINGS]:
        parts.append(
            f"{verdict.target}: {finding.severity}: {finding.kind} at {finding.where}: {finding.message}"
        )
    if len(verdict.findings) > LISTED_FINDINGS:
        parts.append(
            f"{verdict.target}: … {len(verdict.findings) - LISTED_FINDINGS} more findings (--json has all)"
        )
    if verdict.bundle:
        parts.append(f"{verdict.target}: kept in {verdict.bundle} (bitexact replay {verdict.bundle})")
    return "\n".join(parts)


def mismatch_text(mismatch: Mismatch) -> str:
    """A mismatch with all that locates it."""
    coordinate = ", ".join(f"{axis.lower()}={position}" for axis, position in mismatch.coordinate.items())
    pattern = "; ".join(f"{axis.lower()}: {touched}" for axis, touched in mismatch.pattern.items())
    layer = f" (layer {mismatch.layer})" if mismatch.layer else ""
    sides = ("device", "reference")
    if mismatch.between == BETWEEN_GRAPHS:
        sides = ("transformed graph", "integer graph")
    lines = [
        f"mismatch between {mismatch.between}",
        f"  first at      {mismatch.binding}{layer}, operator {mismatch.operator}",
        f"  coordinate    {coordinate}" + (" (in the padding)" if mismatch.padding else ""),
        f"  stored at     {mismatch.layout or 'plain layout'} {list(mismatch.packed_index)}, "
        f"element {mismatch.packed_address}, tile {list(mismatch.tile)}, lane {mismatch.lane}",
        f"  values        {sides[0]} {mismatch.device}, {sides[1]} {mismatch.reference}",
        f"  differing     {mismatch.differing:,} of {mismatch.elements:,} elements: {pattern}",
    ]
    if mismatch.operands:
        lines.append(f"  operands      {operands_text(mismatch.operands)}")
    return "\n".join(lines)


def cause_text(cause: Cause) -> str:
    """A cause, and how far the evidence goes."""
    text = f"  cause         {cause.name}: {cause.what}\n                "
    share = "all" if cause.predicted == cause.differing else f"{cause.predicted:,} of"
    text += f"predicts {share} {cause.differing:,} differing elements"
    if cause.spared:
        text += f", and {cause.spared:,} more if it were so everywhere"
    if cause.images:
        text += f" (looked at: {cause.images} image{'s' if cause.images > 1 else ''})"
    return text


def smallest_text(smallest: SmallestOperands) -> str:
    """The smallest operands that still fail."""
    lines = ["  smallest      all operands zero but"]
    for name, values in smallest.values.items():
        shown = ", ".join(f"{list(index)} = {value}" for index, value in values)
        lines.append(f"                {name} {shown or '(nothing)'}")
    if smallest.others:
        lines.append(f"                and {smallest.others} more")
    lines.append(
        f"                gives {smallest.device} at {list(smallest.output)}, reference {smallest.reference}"
    )
    return "\n".join(lines)


def operands_text(operands: Operands) -> str:
    """The operands of one element; of a dot product the first of the products that are not zero."""
    if operands.accumulator is None:
        return ", ".join(map(str, operands.data))
    products = [
        f"{data}·({weight})" if weight < 0 else f"{data}·{weight}"
        for data, weight in zip(operands.data, operands.weight, strict=True)
        if data * weight
    ]
    shown = " + ".join(products[:LISTED_PRODUCTS])
    if len(products) > LISTED_PRODUCTS:
        shown += f" + … ({len(products)} products that are not 0, of {len(operands.data)})"
    return f"{shown or '0'} = {operands.accumulator}"


def _marked(verdict: Verdict) -> str:
    """The verdict, marked where it is that of a rerun."""
    return f"{verdict.verdict} (rerun)" if verdict.reruns else verdict.verdict


def _tensorised(verdict: Verdict) -> str:
    if not verdict.layers:
        return "-"
    return f"{sum(layer.instruction is not None for layer in verdict.layers)} of {len(verdict.layers)}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
