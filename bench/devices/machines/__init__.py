"""The machines that run accelerator kernels: one class for each target, around its simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bench.devices.drivers import driver_class
from bench.devices.names import check_target, is_driver
from simulators.report import Report


class Machine(Protocol):
    """What executes the kernels of one artefact.

    It is made from the artefact's machine files (name to content). ``hardware`` says what it is, where it
    is no simulator.
    """

    hardware: str | None

    def __init__(self, files: dict[str, bytes]) -> None: ...

    @staticmethod
    def missing() -> str | None:
        """None where this machine can run here, else the reason, with the command that installs it."""

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Run one kernel. The last argument is the output, filled in place.

        The report's counter ``tensor_instructions`` counts the accelerator's own instructions that were
        executed (WMMA, vrmpy, GEMM micro-operations); a machine that cannot count them says what it can
        (:mod:`bench.devices.counters`). Raises DeviceFailure if the machine dies or hangs.
        """

    def close(self) -> None:
        """Stop whatever the machine started."""


def machine_for(target: str, device: str = "sim") -> type[Machine]:
    """The machine class of a target: its simulator, the GPU of this computer (``cuda``), or a driver.

    Raises ValueError for a target that is none, or that the device does not run.
    """
    check_target(device, target)
    # Imported on demand: each machine brings its simulator, and a run needs one of them.
    if is_driver(device):
        return driver_class(device, target)
    if device == "cuda":
        from bench.devices.machines.cuda import CudaMachine

        return CudaMachine
    if target == "tensorcore":
        from bench.devices.machines.tensorcore import TensorCoreMachine

        return TensorCoreMachine
    if target == "hexagon":
        from bench.devices.machines.hexagon import HexagonMachine

        return HexagonMachine
    if target == "vta":
        from bench.devices.machines.vta import VtaMachine

        return VtaMachine
    raise ValueError(f"unknown target {target!r}: one of tensorcore, hexagon, vta")
