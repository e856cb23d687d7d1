"""A program on every backend: whether its results or its findings depend on which one it meets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulators.report import Finding, Report
from simulators.vta.config import Config
from simulators.vta.machine import Machine
from simulators.vta.profiles import PROFILES, profile_of
from simulators.vta.program import Program

REFERENCE = "fsim"


@dataclass(frozen=True)
class Backend:
    """What one backend makes of a program: outputs by name and the report, or why it has no such machine."""

    outputs: dict[str, np.ndarray]
    report: Report | None
    refused: str = ""


@dataclass(frozen=True)
class Comparison:
    """A program's runs by profile, and findings of kind "backend-dependent", one a difference.

    A finding is a warning; `where` is the profile, and for what a machine noticed the instruction.
    """

    backends: dict[str, Backend]
    findings: list[Finding]

    @property
    def reference(self) -> tuple[dict[str, np.ndarray], Report]:
        """Outputs and report of the functional simulator's profile."""
        found = self.backends[REFERENCE]
        assert found.report is not None, "every configuration has a functional simulator"
        return found.outputs, found.report

    @property
    def dependent(self) -> list[str]:
        """The profiles on which results or findings are not those of the functional simulator."""
        named = {each.where.split(",")[0] for each in self.findings}
        return [name for name in self.backends if name in named]


class Backends:
    """One machine of each profile, which run the same programs one after another, as boards would.

    ValueError for a profile that does not exist; one that has no machine of this configuration is refused
    by each comparison.
    """

    def __init__(self, config: Config, profiles: Sequence[str] = tuple(PROFILES)) -> None:
        self._machines: dict[str, Machine | str] = {}
        for name in (REFERENCE, *(each for each in profiles if each != REFERENCE)):
            profile_of(name)
            try:
                self._machines[name] = Machine(config, name)
            except ValueError as error:
                self._machines[name] = str(error)

    def run(self, program: Program, arrays: Mapping[str, np.ndarray] | None = None) -> Comparison:
        """Run a program on each; ValueError as for `Program.run`."""
        backends = {
            name: Backend({}, None, refused=machine)
            if isinstance(machine, str)
            else Backend(*program.run(machine, arrays))
            for name, machine in self._machines.items()
        }
        findings = []
        for name in list(backends)[1:]:
            findings += _differences(name, backends[REFERENCE], backends[name])
        return Comparison(backends, findings)


def compare(
    program: Program, arrays: Mapping[str, np.ndarray], profiles: Sequence[str] = tuple(PROFILES)
) -> Comparison:
    """Run a program on the functional simulator's profile and on others, each on a machine of its own.

    arrays: the program's arguments. What another profile stores or notices and the functional simulator
    does not becomes a finding, the other way round too. ValueError as for `Program.run` and `Backends`.
    """
    return Backends(program.config, profiles).run(program, arrays)


def _differences(name: str, reference: Backend, backend: Backend) -> list[Finding]:
    if backend.report is None:
        return [Finding("backend-dependent", "warning", name, backend.refused)]
    assert reference.report is not None
    found = []
    for output, expected in reference.outputs.items():
        differs = np.argwhere(backend.outputs[output] != expected)
        if len(differs):
            first = tuple(differs[0].tolist())
            got, wanted = backend.outputs[output][first], expected[first]
            found.append(
                f"{len(differs)} of {expected.size} elements of {output} are not those of {REFERENCE}, the "
                f"first at {list(first)}: {got} and not {wanted}"
            )
    messages = [Finding("backend-dependent", "warning", name, each) for each in found]
    for side, other, verb in (
        (backend.report, reference.report, ""),
        (reference.report, backend.report, f"only {REFERENCE} says: "),
    ):
        known = {(each.kind, each.where) for each in other.findings}
        messages += [
            Finding(
                "backend-dependent", "warning", f"{name}, {each.where}", f"{verb}{each.kind}: {each.message}"
            )
            for each in side.findings
            if (each.kind, each.where) not in known
        ]
    return messages
