"""The cases of a regression: what each said and counted, from the JSON of runs or of a baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.reports import json_file

FORMAT = 1
RUN_FORMAT = json_file.FORMAT
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
    counters: Mapping[str, int]


@dataclass(frozen=True)
class Case:
    """What one workload said and counted on one target and device; ``inputs`` tell its sizes apart."""

    workload: str
    target: str
    device: str
    inputs: str
    verdict: str
    fault: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The case without its device, which may have another address every day."""
        parts = [self.workload, self.inputs, self.target, f"fault {self.fault}" if self.fault else ""]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Baseline:
    """The cases of a regression, and the versions of what they depend on (None: not installed)."""

    versions: Mapping[str, str | None]
    cases: Sequence[Case]

    def to_json(self) -> str:
        """The text of a baseline's file."""
        content = {"kind": KIND, "format": FORMAT, **asdict(self)}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises BaselineError."""
    content = _read(path)
    if content.get("kind") != KIND:
        what = "the JSON of a run: bitexact baseline save" if "verdicts" in content else "some other JSON"
        raise BaselineError(f"{path} is no baseline but {what}")
    if content.get("format") != FORMAT:
        raise BaselineError(f"{path}: baseline format {content.get('format')} is not supported: {FORMAT} is")
    try:
        cases = [_case(entry) for entry in content["cases"]]
        return Baseline(dict(content["versions"]), cases)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BaselineError(f"{path} is no baseline: {_what(error)}") from None


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
    content = _read(path)
    if "verdicts" not in content:
        what = "a baseline" if content.get("kind") == KIND else "some other JSON"
        raise BaselineError(f"{path} is not the JSON of a run (bitexact run … --json FILE) but {what}")
    if content.get("format", RUN_FORMAT) != RUN_FORMAT:
        raise BaselineError(
            f"{path}: the JSON of a run of format {content['format']} is not supported: {RUN_FORMAT} is"
        )
    if not content.get("complete", True):
        raise BaselineError(f"{path} is of a run that was interrupted: run it again")
    try:
        cases = [_case_of_verdict(entry) for entry in content["verdicts"]]
        return Baseline(dict(content["versions"]), cases)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BaselineError(f"{path} is not the JSON of a run: {_what(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaselineError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # of the text's encoding or of its JSON
        raise BaselineError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise BaselineError(f"{path} is some other JSON")
    return content


def _what(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _differing(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> str:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name)} and {after.get(name)}" for name in names)


def _case(entry: Mapping[str, Any]) -> Case:
    layers = {
        name: Layer(**{**layer, "counters": _counters(layer)}) for name, layer in entry["layers"].items()
    }
    return Case(**{**entry, "counters": _counters(entry), "layers": layers})


def _case_of_verdict(entry: Mapping[str, Any]) -> Case:
    return Case(
        workload=entry["workload"],
        target=entry["target"],
        device=entry["device"],
        # Files of runs from before inputs were named have none.
        inputs=", ".join(entry.get("inputs", {}).values()),
        verdict=entry["verdict"],
        fault=entry.get("fault"),
        counters=_counters(entry),
        layers={
            layer["name"]: Layer(
                layer["operator"],
                layer["shapes"],
                layer["instruction"],
                layer["verdict"],
                _counters(layer),
            )
            for layer in entry["layers"]
        },
    )


def _counters(entry: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(count) for name, count in entry["counters"].items()}
