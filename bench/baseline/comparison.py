"""What changed between two regressions, and whether it got worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bench.baseline.cases import Baseline, Case, Layer
from bench.baseline.directions import Better, better

Number = int | float
EXACT = "exact"
PACKETS_PER_VRMPY = "packets per vrmpy"
LAYERS_TENSORISED = "layers tensorised"


class Judgement(StrEnum):
    """What a change means."""

    WORSE = "worse"
    BETTER = "better"
    OTHER = "other"


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was. ``case`` is empty for what concerns all, ``layer`` for a case."""

    case: str
    layer: str
    what: str
    before: str | Number | None
    after: str | Number | None
    judgement: Judgement

    @property
    def share(self) -> float | None:
        """By which share of what it was a number changed; None for words, and from nothing."""
        if isinstance(self.before, str) or isinstance(self.after, str) or not self.before:
            return None
        return ((self.after or 0) - self.before) / self.before


def compare(
    before: Baseline, after: Baseline, *, tolerances: Mapping[str, float] | None = None
) -> list[Change]:
    """Everything that changed from ``before`` to ``after``.

    ``tolerances`` are shares by counter, under an empty name that of all others: a counter that got worse by
    no more is another change, but not a worse one.
    """
    changes = [
        Change("", "", name, before.versions.get(name), after.versions.get(name), Judgement.OTHER)
        for name in _names(before.versions, after.versions)
        if before.versions.get(name) != after.versions.get(name)
    ]
    for old, new in _pairs(before, after):
        changes += _compare_cases(old, new, tolerances or {})
    return changes


def _names(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """The names of both, those of the first first."""
    return list({**before, **after})


def _pairs(before: Baseline, after: Baseline) -> Iterator[tuple[Case | None, Case | None]]:
    """The same case before and after.

    Its device may have another name: a board in place of a simulator, another port. Only where a case ran on
    several devices are they told apart by it.
    """
    counts = [Counter(case.name for case in each.cases) for each in (before, after)]

    def key(case: Case) -> tuple[str, str]:
        once = all(count[case.name] <= 1 for count in counts)
        return case.name, "" if once else case.device

    olds, news = ({key(case): case for case in each.cases} for each in (before, after))
    for name in _names(olds, news):  # type: ignore[arg-type]
        yield olds.get(name), news.get(name)  # type: ignore[call-overload]


def _compare_cases(old: Case | None, new: Case | None, tolerances: Mapping[str, float]) -> Iterator[Change]:
    if old is None or new is None:
        present = new or old
        assert present is not None
        ended_well = old is None and present.verdict == EXACT
        judgement = Judgement.OTHER if ended_well else Judgement.WORSE
        yield Change(
            f"{present.name} on {present.device}",
            "",
            "verdict",
            old.verdict if old else None,
            new.verdict if new else None,
            judgement,
        )
        return
    name = new.name
    if old.device != new.device:
        yield Change(name, "", "device", old.device, new.device, Judgement.OTHER)
    yield from _verdict(name, "", old.verdict, new.verdict)
    if old.layers and new.layers:
        yield from _numbers(
            name,
            "",
            {LAYERS_TENSORISED: _tensorised(old)},
            {LAYERS_TENSORISED: _tensorised(new)},
            tolerances,
        )
    # A case that ended before its layers were known has none.
    for layer in _names(old.layers, new.layers) if old.layers and new.layers else []:
        yield from _compare_layers(name, layer, old.layers.get(layer), new.layers.get(layer), tolerances)
    yield from _numbers(name, "", _with_ratio(old.counters), _with_ratio(new.counters), tolerances)


def _compare_layers(
    case: str, name: str, old: Layer | None, new: Layer | None, tolerances: Mapping[str, float]
) -> Iterator[Change]:
    if old is None or new is None:
        yield Change(case, name, "layer", _operator(old), _operator(new), Judgement.OTHER)
        return
    if _operator(old) != _operator(new):
        yield Change(case, name, "layer", _operator(old), _operator(new), Judgement.OTHER)
    yield from _verdict(case, name, old.verdict, new.verdict)
    if old.instruction != new.instruction:
        judgement = Judgement.OTHER
        if not (old.instruction and new.instruction):
            judgement = Judgement.WORSE if old.instruction else Judgement.BETTER
        yield Change(case, name, "tensor instruction", old.instruction, new.instruction, judgement)
    yield from _numbers(case, name, _with_ratio(old.counters), _with_ratio(new.counters), tolerances)


def _operator(layer: Layer | None) -> str | None:
    return f"{layer.operator} {layer.shapes}" if layer else None


def _verdict(case: str, layer: str, old: str | None, new: str | None) -> Iterator[Change]:
    if old != new:
        judgement = Judgement.OTHER
        if EXACT in (old, new):
            judgement = Judgement.WORSE if old == EXACT else Judgement.BETTER
        yield Change(case, layer, "verdict", old, new, judgement)


def _tensorised(case: Case) -> int:
    return sum(layer.instruction is not None for layer in case.layers.values())


def _with_ratio(counters: Mapping[str, int]) -> dict[str, Number]:
    """The counters, and what they say together."""
    if counters.get("vrmpy") and "packets" in counters:
        return {PACKETS_PER_VRMPY: round(counters["packets"] / counters["vrmpy"], 4), **counters}
    return dict(counters)


def _numbers(
    case: str,
    layer: str,
    old: Mapping[str, Number],
    new: Mapping[str, Number],
    tolerances: Mapping[str, float],
) -> Iterator[Change]:
    """What both counted, where it differs. Devices that count other things are not compared in those."""
    for name in old:
        if name in new and old[name] != new[name]:
            tolerance = tolerances.get(name, tolerances.get("", 0.0))
            yield Change(
                case, layer, name, old[name], new[name], _judge(name, old[name], new[name], tolerance)
            )


def _judge(counter: str, old: Number, new: Number, tolerance: float) -> Judgement:
    direction = better(counter)
    if direction is Better.NEITHER:
        return Judgement.OTHER
    if (new < old) == (direction is Better.LESS):
        return Judgement.BETTER
    return Judgement.WORSE if abs(new - old) > tolerance * abs(old) else Judgement.OTHER
