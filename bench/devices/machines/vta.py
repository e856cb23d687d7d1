"""The VTA machine as the device of the target ``vta``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulators.report import Report
from simulators.vta import Machine, load


class VtaMachine:
    """One VTA, whose SRAMs and tokens persist over kernels: a :class:`bench.devices.machines.Machine`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._programs = {name.removesuffix(".vta"): load(content) for name, content in files.items()}
        config = next(iter(self._programs.values())).config
        self._machine = Machine(config)

    @staticmethod
    def missing() -> str | None:
        """The VTA machine is NumPy: it is never missing."""
        return None

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Lay the arguments out in DRAM, run the program, and read the result back."""
        program = self._programs[kernel]
        *inputs, output = arguments
        buffers = program.arguments
        arrays = {buffer.name: array for buffer, array in zip(buffers, inputs, strict=True)}
        outputs, report = program.run(self._machine, arrays)
        output[...] = outputs[program.outputs[0].name].reshape(output.shape)
        report.counters["tensor_instructions"] = report.counters["gemm_counter"]
        return report

    def close(self) -> None:
        """Nothing runs outside this process."""
