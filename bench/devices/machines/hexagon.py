"""qemu-hexagon as the device of the target ``hexagon``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from bench.devices.failure import crash, timeout
from bench.machine_files import HEXAGON_PROGRAM, HEXAGON_SHAPES, HEXAGON_TWIN
from simulators.hvx import qemu
from simulators.report import Report


class HexagonMachine:
    """A function server in QEMU that holds all kernels: a :class:`bench.devices.machines.Machine`.

    QEMU counts HVX instructions, not kinds of them. The artefact's twin of the program has a no-operation
    in place of each vrmpy, so that the difference of two counts is the number of vrmpy that were executed.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self._shapes = json.loads(files.get(HEXAGON_SHAPES, b"{}"))
        try:
            self._server = qemu.FunctionServer(files[HEXAGON_PROGRAM], without_vrmpy=files[HEXAGON_TWIN])
        except (qemu.CorruptElf, qemu.ServerCrash, qemu.ProtocolError) as error:
            raise crash(str(error)) from error

    @staticmethod
    def missing() -> str | None:
        """Whether qemu-hexagon is there."""
        return qemu.available()

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Execute one function in the emulated Hexagon."""
        # A kernel may know a tensor by another shape, with the elements in the same order.
        shapes = self._shapes.get(kernel) or [array.shape for array in arguments]
        *inputs, output = (
            np.ascontiguousarray(array).reshape(shape) for array, shape in zip(arguments, shapes, strict=True)
        )
        try:
            counters = self._server.call(kernel, inputs, output)
        except qemu.ServerTimeout as error:
            raise timeout(str(error)) from error
        except (qemu.ServerCrash, qemu.ProtocolError, qemu.FunctionError) as error:
            raise crash(str(error)) from error
        return Report(counters={**counters, "tensor_instructions": counters["vrmpy"]})

    def close(self) -> None:
        """End the process."""
        self._server.close()
