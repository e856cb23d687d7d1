"""The PTX machine as the device of the target ``tensorcore``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from bench.devices.failure import crash, timeout
from bench.machine_files import LAUNCHES
from simulators import ptx
from simulators.report import Report

INSTRUCTION_BUDGET = 4 * 10**9
"""Warp instructions of one launch: more than the machine does of real work in ten minutes.

In a loop that never ends many warps get there in less.
"""


class TensorCoreMachine:
    """Launches PTX kernels on the PTX machine: a :class:`bench.devices.machines.Machine`."""

    hardware: str | None = None

    def __init__(self, files: dict[str, bytes]) -> None:
        self._launches = json.loads(files[LAUNCHES])
        self._modules = {name: ptx.parse(files[f"{name}.ptx"].decode()) for name in self._launches}

    @staticmethod
    def missing() -> str | None:
        """The PTX machine is NumPy: it is never missing."""
        return None

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Launch one kernel over its grid."""
        launch = self._launches[kernel]
        by_name = dict(zip(launch["parameters"], arguments, strict=True))
        buffers = [by_name[argument["name"]] for argument in launch["arguments"]]
        try:
            return self._modules[kernel].launch(
                launch["entry"],
                tuple(launch["grid"]),
                tuple(launch["block"]),
                buffers,
                dynamic_shared=launch["dynamic_shared"],
                instruction_budget=INSTRUCTION_BUDGET,
            )
        except ptx.InstructionBudgetError as error:
            raise timeout(f"a kernel that does not end: {error}") from error
        except ptx.PtxError as error:
            raise crash(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Nothing runs outside this process."""
