"""qemu-hexagon as the device of the target ``hexagon``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.devices.failure import crash, timeout
from bench.machine_files import HEXAGON_PROGRAM, HEXAGON_TWIN
from simulators.hvx import qemu
from simulators.report import Report


class HexagonMachine:
    """Two QEMU processes, of the kernels and of their twin: a :class:`bench.devices.machines.Machine`.

    QEMU counts HVX instructions, not kinds of them. The twin has a no-operation in place of each vrmpy, so
    that the difference of the two counts is the number of vrmpy that were executed.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self._kernels = qemu.FunctionServer(files[HEXAGON_PROGRAM])
        self._twin = qemu.FunctionServer(files[HEXAGON_TWIN])

    @staticmethod
    def missing() -> str | None:
        """Whether qemu-hexagon is there."""
        return qemu.available()

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Execute one function in the emulated Hexagon."""
        *inputs, output = arguments
        inputs = [np.ascontiguousarray(array) for array in inputs]
        try:
            counters = self._kernels.call(kernel, inputs, output)
            without = self._twin.call(kernel, inputs, np.empty_like(output))
        except qemu.ServerTimeout as error:
            raise timeout(str(error)) from error
        except (qemu.ServerCrash, qemu.FunctionError) as error:
            raise crash(str(error)) from error
        executed = counters["hvx_instructions"] - without["hvx_instructions"]
        return Report(counters={**counters, "tensor_instructions": executed})

    def close(self) -> None:
        """End both processes."""
        self._kernels.close()
        self._twin.close()
