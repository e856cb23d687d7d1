"""qemu-hexagon as the device of the target ``hexagon``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import blake2b

import numpy as np

from bench.devices.failure import crash, timeout
from bench.machine_files import HEXAGON_PRODUCTS, HEXAGON_PROGRAM, HEXAGON_SHAPES, HEXAGON_TWIN
from kernels.hexagon import toolchain
from kernels.hexagon.architectures import probe_elf
from simulators.hvx import qemu
from simulators.report import Report

ARCHITECTURE = 67
"""What the flow builds kernels for."""

RESIDENT_BYTES = 1 << 29
"""How much of the guest's memory tensors may take before all of them are given up: half of it."""


class HexagonMachine:
    """A function server in QEMU that holds all kernels: a :class:`bench.devices.machines.Machine`.

    QEMU counts HVX instructions, not kinds of them. The artefact's twin of the program has a no-operation
    in place of each vrmpy, so that the difference of two counts is the number of vrmpy that were executed.

    Tensors stay in the guest: what a kernel reads is sent only if no tensor of the same bytes is there, be it
    a weight of an earlier call or the result of another kernel.
    """

    hardware: str | None = None

    def __init__(self, files: dict[str, bytes]) -> None:
        self._residents: dict[bytes, qemu.Resident] = {}
        self._resident_count = self._resident_bytes = 0
        self._shapes = json.loads(files.get(HEXAGON_SHAPES, b"{}"))
        self._products = json.loads(files.get(HEXAGON_PRODUCTS, b"{}"))
        try:
            self._server = qemu.FunctionServer(files[HEXAGON_PROGRAM], without_vrmpy=files[HEXAGON_TWIN])
        except qemu.ServerTimeout as error:
            raise timeout(str(error)) from error
        except (qemu.CorruptElf, qemu.ServerCrash, qemu.ProtocolError) as error:
            raise crash(str(error)) from error

    @staticmethod
    def missing() -> str | None:
        """Whether qemu-hexagon is there, and runs what kernels are built for."""
        return qemu.available() or _why_not_running()

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Execute one function in the emulated Hexagon."""
        # A kernel may know a tensor by another shape, with the elements in the same order.
        shapes = self._shapes.get(kernel) or [array.shape for array in arguments]
        *inputs, output = (
            np.ascontiguousarray(array).reshape(shape) for array, shape in zip(arguments, shapes, strict=True)
        )
        try:
            counters = self._execute(kernel, inputs, output)
        except qemu.ServerTimeout as error:
            raise timeout(str(error)) from error
        except (qemu.ServerCrash, qemu.ProtocolError, qemu.FunctionError) as error:
            raise crash(str(error)) from error
        counters["tensor_instructions"] = counters["vrmpy"]
        if kernel in self._products:
            counters["vrmpy_of_products"] = self._products[kernel]
        return Report(counters=counters)

    def _execute(self, kernel: str, inputs: Sequence[np.ndarray], output: np.ndarray) -> dict[str, int]:
        digests = [_digest(array) for array in inputs]
        self._make_room(
            [
                array.nbytes
                for array, digest in zip(inputs, digests, strict=True)
                if digest not in self._residents
            ]
            + [output.nbytes]
        )
        for digest, array in zip(digests, inputs, strict=True):
            if digest not in self._residents:
                self._keep(digest, self._server.upload(array))
        tensors = [
            # The same bytes may be known by another shape or type here.
            replace(self._residents[digest], shape=array.shape, dtype=array.dtype)
            for digest, array in zip(digests, inputs, strict=True)
        ]
        result = self._server.allocate(output.shape, output.dtype)
        counters = self._server.call_resident(kernel, [*tensors, result])
        output[...] = self._server.download(result)
        self._keep(_digest(output), result)
        return counters

    def _make_room(self, sizes: Sequence[int]) -> None:
        """Give up all tensors where those of these sizes would be too many or too large beside them."""
        fits = (
            self._resident_count + len(sizes) <= qemu.MAX_RESIDENTS
            and self._resident_bytes + sum(sizes) <= RESIDENT_BYTES
        )
        if not fits and self._resident_count:
            self._server.release()
            self._residents.clear()
            self._resident_count = self._resident_bytes = 0

    def _keep(self, digest: bytes, resident: qemu.Resident) -> None:
        self._residents[digest] = resident
        self._resident_count += 1
        self._resident_bytes += resident.nbytes

    def close(self) -> None:
        """End the process."""
        self._server.close()


@cache
def _why_not_running() -> str | None:
    if toolchain.available() is not None:
        return None  # There is nothing to ask it with; what it cannot run it refuses itself.
    return qemu.why_not_running((ARCHITECTURE, probe_elf(ARCHITECTURE)))


def _digest(array: np.ndarray) -> bytes:
    """What tells the bytes of one tensor from those of any other."""
    return blake2b(array.view(np.uint8).reshape(-1).data, digest_size=20).digest()
