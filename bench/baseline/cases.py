"""The cases of a regression: what each said and counted, from the JSON of runs or of a baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.compare.verdict import Verdict
from bench.reports import json_file
from bench.reports.typed import typed

FORMAT = 1
KIND = "bitexact baseline"


class BaselineError(ValueError):
    """A file that is no baseline or no run, or is not of this version; the message names it."""


@dataclass(frozen=True)
class Layer:
    """One layer of a case."""

    operator: str
    shapes: str
    instruction: str | None
    verdict: str | None
    counters: dict[str, int]


@dataclass(frozen=True)
class Case:
    """What one workload said and counted on one target and device; ``inputs`` tell its sizes apart."""

    workload: str
    target: str
    device: str
    inputs: str
    verdict: str
    fault: str | None = None
    counters: dict[str, int] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The case without its device, which may have another address every day."""
        parts = [self.workload, self.inputs, self.target, f"fault {self.fault}" if self.fault else ""]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Baseline:
    """The cases of a regression, and the versions of what they depend on (None: not installed)."""

    versions: dict[str, str | None]
    cases: list[Case]

    def to_json(self) -> str:
        """The text of a baseline's file."""
        content = {"kind": KIND, "format": FORMAT, **asdict(self)}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises BaselineError."""
    try:
        content = json_file.read_object(path)
    except ValueError as error:
        raise BaselineError(str(error)) from None
    if content.get("kind") != KIND:
        what = "the JSON of a run: bitexact baseline save" if "verdicts" in content else "something else"
        raise BaselineError(f"{path} is no baseline but {what}")
    if content.get("format") != FORMAT:
        raise BaselineError(f"{path}: baseline format {content.get('format')} is not supported: {FORMAT} is")
    try:
        return typed(Baseline, content, "$")
    except ValueError as error:
        raise BaselineError(f"{path}: {str(error).removeprefix('$.')}") from None


def read_runs(paths: Sequence[Path]) -> Baseline:
    """The cases of several runs. Raises BaselineError, also where they do not belong together."""
    runs = [_read_run(path) for path in paths]
    versions = runs[0].versions
    for path, run in zip(paths, runs, strict=True):
        if differing := _differing(versions, run.versions):
            raise BaselineError(f"{paths[0]} and {path} were made with different versions: {differing}")
    cases: dict[tuple[str, str], Case] = {}
    for path, run in zip(paths, runs, strict=True):
        for case in run.cases:
            if (case.name, case.device) in cases:
                raise BaselineError(f"{path}: {case.name} on {case.device} is there twice")
            cases[case.name, case.device] = case
    return Baseline(versions, list(cases.values()))


def _read_run(path: Path) -> Baseline:
    """The cases of one run."""
    try:
        run = json_file.read(path)
    except ValueError as error:
        raise BaselineError(str(error)) from None
    if not run.complete:
        raise BaselineError(f"{path} is of a run that was ended in the middle: run it again")
    return Baseline(run.versions, [_case_of(verdict) for verdict in run.verdicts])


def _differing(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> str:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name)} and {after.get(name)}" for name in names)


def _case_of(verdict: Verdict) -> Case:
    return Case(
        workload=verdict.workload,
        target=verdict.target,
        device=verdict.device,
        inputs=", ".join(verdict.inputs.values()),
        verdict=verdict.verdict,
        fault=verdict.fault,
        counters=verdict.counters,
        layers={
            layer.name: Layer(layer.operator, layer.shapes, layer.instruction, layer.verdict, layer.counters)
            for layer in verdict.layers
        },
    )
