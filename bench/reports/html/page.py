"""From runs to the page: what each section shows, as plain values for the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.compare.mismatch import BETWEEN_GRAPHS, BETWEEN_KERNEL
from bench.compare.verdict import VERDICTS, LayerVerdict, Verdict
from bench.efficiency import Measure, measures_of
from bench.reports.html.environment import environment
from bench.reports.html.picture import Picture, picture_of
from bench.reports.html.states import LAYER_STATES, STATES, State, layer_state
from bench.reports.json_file import Run
from bench.reports.table import LISTED_PRODUCTS, operands_text, smallest_text

MOST_FINDINGS = 100
MOST_OPERANDS = 1024
WIDEST = 3
"""A bar ends at so many times its limit."""


@dataclass(frozen=True)
class Entry:
    """One verdict on the page. ``file`` is the name of its file, where that tells it from another one."""

    number: int
    file: str | None
    verdict: Verdict

    @property
    def id(self) -> str:
        """The anchor of its details."""
        return f"run-{self.number}"

    @property
    def state(self) -> State:
        """Symbol, name and meaning of its verdict."""
        return STATES[self.verdict.verdict]

    @property
    def where(self) -> str:
        """Target and device."""
        return f"{self.verdict.target} on {self.verdict.device}"

    @property
    def tensorised(self) -> int:
        """How many layers the accelerator's instruction computes."""
        return sum(layer.instruction is not None for layer in self.verdict.layers)

    @property
    def quality(self) -> str:
        """The integer graph's accuracy, or how close it is to the float one."""
        if "integer" in self.verdict.accuracy:
            return f"{100 * self.verdict.accuracy['integer']:.1f} %"
        return "–" if self.verdict.similarity is None else f"cosine {self.verdict.similarity:.3f}"

    @property
    def detailed(self) -> bool:
        """Whether there is more to say of it: it is not exact, or the machine found something."""
        return not self.verdict.exact or bool(self.verdict.findings)

    @cached_property
    def picture(self) -> Picture | None:
        """The picture of its mismatch, if it has one."""
        return picture_of(self.verdict.mismatch) if self.verdict.mismatch else None

    @property
    def sides(self) -> tuple[str, str]:
        """What was compared: the evaluation that is wrong, and the one it is held to."""
        mismatch = self.verdict.mismatch
        between_graphs = mismatch is not None and mismatch.between == BETWEEN_GRAPHS
        return ("transformed graph", "integer graph") if between_graphs else ("device", "reference")

    @property
    def layer(self) -> LayerVerdict | None:
        """The layer of its mismatch; of a kernel that was verified by itself the kernel."""
        mismatch = self.verdict.mismatch
        if mismatch is None:
            return None
        if mismatch.between == BETWEEN_KERNEL:
            return next(iter(self.verdict.layers), None)
        named = [layer for layer in self.verdict.layers if layer.name == mismatch.layer]
        return named[0] if named else None

    @property
    def whole_graph(self) -> bool:
        """Whether its mismatch is the first of a graph, and not that of a kernel by itself."""
        return self.verdict.mismatch is not None and self.verdict.mismatch.between != BETWEEN_KERNEL

    @property
    def cells(self) -> list[Cell]:
        """Its layers, in the order of the graph."""
        first = self.layer
        return [
            Cell(layer, layer_state(self.verdict, layer), layer is first) for layer in self.verdict.layers
        ]

    @property
    def host(self) -> dict[tuple[str, str], int]:
        """What the host computes of its transformed graph: how many of which operator, and why."""
        return dict(Counter((each.operator, each.why) for each in self.verdict.on_host))

    @property
    def cell_counts(self) -> list[tuple[int, State]]:
        """How many of its layers are in which state."""
        counts = Counter(cell.state.name for cell in self.cells)
        return [(counts[state.name], state) for state in LAYER_STATES if counts[state.name]]

    @property
    def formula(self) -> str:
        """The operands of the first differing element, in short."""
        mismatch = self.verdict.mismatch
        return operands_text(mismatch.operands) if mismatch and mismatch.operands else ""

    @property
    def products(self) -> list[tuple[int, int]]:
        """All products of it that are not zero, where the formula leaves some out; at most so many."""
        operands = self.verdict.mismatch and self.verdict.mismatch.operands
        if not operands or operands.accumulator is None:
            return []
        pairs = zip(operands.data, operands.weight, strict=False)
        found = [(data, weight) for data, weight in pairs if data * weight]
        return found[:MOST_OPERANDS] if len(found) > LISTED_PRODUCTS else []

    @property
    def smallest(self) -> str:
        """The smallest operands that still fail, as text."""
        return smallest_text(self.verdict.smallest) if self.verdict.smallest else ""


@dataclass(frozen=True)
class Cell:
    """One layer of one run on the map; ``first`` where the run's mismatch begins in it."""

    layer: LayerVerdict
    state: State
    first: bool

    @property
    def text(self) -> str:
        """Name and state in words."""
        return f"{self.layer.name}: {self.state.name}" + (" (first to differ)" if self.first else "")


@dataclass(frozen=True)
class Group:
    """All runs on one target and device."""

    target: str
    device: str
    entries: list[Entry]

    def count(self, verdict: str) -> int:
        """How many have a verdict."""
        return sum(entry.verdict.verdict == verdict for entry in self.entries)

    @property
    def layers(self) -> tuple[int, int]:
        """Layers tensorised, and all."""
        return (
            sum(entry.tensorised for entry in self.entries),
            sum(len(entry.verdict.layers) for entry in self.entries),
        )

    @property
    def instructions(self) -> int:
        """Tensor instructions executed."""
        return sum(entry.verdict.tensor_instructions for entry in self.entries)

    @property
    def seconds(self) -> float:
        """Seconds of all runs."""
        return sum(entry.verdict.seconds for entry in self.entries)


@dataclass(frozen=True)
class Bar:
    """One value beside its limit; positions are parts of the bar's whole length."""

    value: float | None
    measure: Measure
    length: float

    @property
    def text(self) -> str:
        """The value as it is read."""
        if self.value is None:
            return "–"
        return f"{100 * self.value:.1f} %" if self.measure.percent else f"{self.value:.2f}"

    @property
    def over(self) -> bool:
        """Whether the value, as it is read, is above the limit."""
        return (
            self.value is not None
            and round(self.value, 3 if self.measure.percent else 2) > self.measure.limit
        )

    @property
    def end(self) -> float:
        """Where the bar ends, of 100."""
        return 100 * min(1.0, (self.value or 0) / self.length)

    @property
    def limit(self) -> float:
        """Where the limit is, of 100."""
        return 100 * self.measure.limit / self.length

    @property
    def least(self) -> float:
        """Where the least possible value is, of 100."""
        return 100 * self.measure.least / self.length

    @property
    def cut(self) -> bool:
        """Whether the value lies beyond the end of the bar."""
        return self.value is not None and self.value > self.length


@dataclass(frozen=True)
class Efficiency:
    """The measures of one target: a row of bars for each run, and for each of its layers."""

    target: str
    measures: list[Measure]
    rows: list[tuple[Entry, list[Bar], list[tuple[LayerVerdict, list[Bar]]]]]


@dataclass(frozen=True)
class Page:
    """Everything that the page shows."""

    runs: list[tuple[str, Run]]

    @cached_property
    def entries(self) -> list[Entry]:
        """All verdicts, numbered in their order."""
        verdicts = [(name, verdict) for name, run in self.runs for verdict in run.verdicts]
        alike = Counter(_case(verdict) for _, verdict in verdicts)
        return [
            Entry(number, name if alike[_case(verdict)] > 1 else None, verdict)
            for number, (name, verdict) in enumerate(verdicts, 1)
        ]

    @property
    def exact(self) -> int:
        """How many verdicts are exact."""
        return sum(entry.verdict.exact for entry in self.entries)

    @property
    def failed(self) -> list[Entry]:
        """Those that are not."""
        return [entry for entry in self.entries if not entry.verdict.exact]

    @property
    def detailed(self) -> list[Entry]:
        """Those that there is more to say of."""
        return [entry for entry in self.entries if entry.detailed]

    @cached_property
    def groups(self) -> list[Group]:
        """By target and device, in the order in which they occur."""
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault((entry.verdict.target, entry.verdict.device), []).append(entry)
        return [Group(target, device, entries) for (target, device), entries in found.items()]

    @property
    def verdicts(self) -> list[State]:
        """The verdicts that occur, exact always among them."""
        occurring = {"exact", *(entry.verdict.verdict for entry in self.entries)}
        return [STATES[name] for name in VERDICTS if name in occurring]

    @property
    def maps(self) -> list[tuple[str, list[Entry]]]:
        """For each workload the runs that got as far as having layers."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if entry.verdict.layers:
                found.setdefault(entry.verdict.workload, []).append(entry)
        return list(found.items())

    @property
    def layer_states(self) -> tuple[State, ...]:
        """What a layer can be in."""
        return LAYER_STATES

    @property
    def all_states(self) -> list[State]:
        """What a run can end in."""
        return list(STATES.values())

    @cached_property
    def efficiencies(self) -> list[Efficiency]:
        """The targets of which anything was counted."""
        targets = dict.fromkeys(entry.verdict.target for entry in self.entries)
        found = [_efficiency(target, self.entries) for target in targets]
        return [each for each in found if each.rows]

    @property
    def version_names(self) -> list[str]:
        """What the runs give versions of."""
        return list(dict.fromkeys(name for _, run in self.runs for name in run.versions))


def _case(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.workload, verdict.target, verdict.device


def _efficiency(target: str, entries: Sequence[Entry]) -> Efficiency:
    measures = measures_of(target)
    mine = [entry for entry in entries if entry.verdict.target == target]
    rows = []
    lengths = [_length(measure, mine) for measure in measures]
    for entry in mine:
        counted = [
            layer for layer in entry.verdict.layers if any(each.of([layer]) is not None for each in measures)
        ]
        if counted:
            rows.append(
                (
                    entry,
                    _bars(measures, lengths, counted),
                    [(layer, _bars(measures, lengths, [layer])) for layer in counted],
                )
            )
    return Efficiency(target, measures, rows)


def _length(measure: Measure, entries: Sequence[Entry]) -> float:
    """The value at the end of the bars: the largest there is, within reason."""
    values = [measure.of([layer]) or 0 for entry in entries for layer in entry.verdict.layers]
    return min(max([1.25 * measure.limit, *values]), WIDEST * measure.limit)


def _bars(measures: Sequence[Measure], lengths: Sequence[float], layers: Sequence[LayerVerdict]) -> list[Bar]:
    return [
        Bar(measure.of(layers), measure, length) for measure, length in zip(measures, lengths, strict=True)
    ]


def render(runs: Sequence[tuple[str, Run]]) -> str:
    """The page of some runs, each with the name of its file: HTML that refers to nothing outside itself."""
    template = environment().get_template("report.html.j2")
    return template.render(page=Page(list(runs)), most_findings=MOST_FINDINGS)
