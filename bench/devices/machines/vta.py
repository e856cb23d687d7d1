"""The VTA machine as the device of the target ``vta``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.machine_files import VTA_PROFILE
from simulators.report import Report
from simulators.vta import Backends, Machine, Program, load
from simulators.vta.machine import RunReport

ALL = "all"
"""The profile that stands for every one of them."""


class VtaMachine:
    """One VTA, whose SRAMs and tokens persist over kernels: a :class:`bench.devices.machines.Machine`.

    Its profile is in the file VTA_PROFILE, and else that of the functional simulator. With ALL every profile
    runs each kernel, and what is not as on the functional simulator is a finding.
    """

    hardware: str | None = None

    def __init__(self, files: dict[str, bytes]) -> None:
        self._programs = {
            name.removesuffix(".vta"): load(content)
            for name, content in files.items()
            if name.endswith(".vta")
        }
        config = next(iter(self._programs.values())).config
        profile = files.get(VTA_PROFILE, b"fsim").decode()
        self._machine: Machine | Backends = Backends(config) if profile == ALL else Machine(config, profile)

    @staticmethod
    def missing() -> str | None:
        """The VTA machine is NumPy: it is never missing."""
        return None

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Lay the arguments out in DRAM, run the program, and read the result back."""
        program = self._programs[kernel]
        *inputs, output = arguments
        buffers = program.arguments
        # A tensor of one pixel may stand in the graph without height and width.
        arrays = {
            buffer.name: array.reshape(buffer.shape) for buffer, array in zip(buffers, inputs, strict=True)
        }
        outputs, report, cycles = self._run(program, arrays)
        output[...] = outputs[program.outputs[0].name].reshape(output.shape)
        report.counters["tensor_instructions"] = report.counters["gemm_counter"]
        report.counters["estimated_cycles"] = cycles
        return report

    def _run(
        self, program: Program, arrays: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], Report, int]:
        """Run a program: its outputs, the report, and the machine's estimate of its cycles."""
        if isinstance(self._machine, Machine):
            outputs, report = program.run(self._machine, arrays)
            return outputs, report, _cycles(report)
        comparison = self._machine.run(program, arrays)
        outputs, report = comparison.reference
        all_findings = [*report.findings, *comparison.findings]
        return outputs, Report(report.counters, all_findings), _cycles(report)

    def close(self) -> None:
        """Nothing runs outside this process."""


def _cycles(report: Report) -> int:
    """The estimate in a machine's report; a stream that was not executed takes none."""
    return report.estimate.cycles if isinstance(report, RunReport) and report.order else 0
