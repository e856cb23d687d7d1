"""The VTA machine as the device of the target ``vta``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bench.machine_files import VTA_PROFILE
from simulators.report import Report
from simulators.vta import Backends, Machine, Program, load
from simulators.vta.machine import RunReport

Arguments = Mapping[str, np.ndarray] | None
"""The arguments of a program by name; None for those of its own DRAM image."""
ALL = "all"
"""The profile that stands for every one of them."""


class VtaPrograms:
    """The VTA programs of an artefact: what every :class:`bench.devices.machines.Machine` of VTA begins with.

    A machine, or a board's driver, is one class more: its `run` executes a program.
    """

    target = "vta"
    hardware: str | None = None

    def __init__(self, files: dict[str, bytes]) -> None:
        self.programs = {
            name.removesuffix(".vta"): load(content)
            for name, content in files.items()
            if name.endswith(".vta")
        }
        self.config = next(iter(self.programs.values())).config

    @staticmethod
    def missing() -> str | None:
        """None where a program can be run here, else why not."""
        return None

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Run the program of a kernel; the last argument is its result, alone where there is a DRAM image."""
        program = self.programs[kernel]
        *inputs, output = arguments
        if program.dram is not None and not inputs:
            return self._into(output, program, None)
        # A tensor of one pixel may stand in the graph without height and width.
        arrays = {
            buffer.name: array.reshape(buffer.shape)
            for buffer, array in zip(program.arguments, inputs, strict=True)
        }
        return self._into(output, program, arrays)

    def _into(self, output: np.ndarray, program: Program, arrays: Arguments) -> Report:
        outputs, report = self.run(program, arrays)
        output[...] = outputs[program.outputs[0].name].reshape(output.shape)
        return report

    def run(self, program: Program, arrays: Arguments) -> tuple[dict[str, np.ndarray], Report]:
        """Execute a program on its arguments: its outputs by name, and what was counted and found."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the machine took."""


class VtaMachine(VtaPrograms):
    """One VTA, whose SRAMs and tokens persist over kernels: a :class:`bench.devices.machines.Machine`.

    Its profile is in the file VTA_PROFILE, and else that of the functional simulator. With ALL every profile
    runs each kernel, and what is not as on the functional simulator is a finding.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        profile = files.get(VTA_PROFILE, b"fsim").decode()
        self._machine: Machine | Backends = (
            Backends(self.config) if profile == ALL else Machine(self.config, profile)
        )

    def run(self, program: Program, arrays: Arguments) -> tuple[dict[str, np.ndarray], Report]:
        """Run a program, and estimate its cycles."""
        outputs, report, cycles = self._run(program, arrays)
        report.counters["tensor_instructions"] = report.counters["gemm_counter"]
        report.counters["estimated_cycles"] = cycles
        return outputs, report

    def _run(self, program: Program, arrays: Arguments) -> tuple[dict[str, np.ndarray], Report, int]:
        """Run a program: its outputs, the report, and the machine's estimate of its cycles."""
        if isinstance(self._machine, Machine):
            outputs, report = program.run(self._machine, arrays)
            return outputs, report, _cycles(report)
        comparison = self._machine.run(program, arrays)
        outputs, report = comparison.reference
        all_findings = [*report.findings, *comparison.findings]
        return outputs, Report(report.counters, all_findings), _cycles(report)


def _cycles(report: Report) -> int:
    """The estimate in a machine's report; a stream that was not executed takes none."""
    return report.estimate.cycles if isinstance(report, RunReport) and report.order else 0
