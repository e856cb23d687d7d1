"""A local GPU as the device of the target ``tensorcore``."""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Sequence

import numpy as np

from bench.devices.counters import IN_CODE
from bench.devices.cuda.driver import (
    INVALID_PTX,
    NO_BINARY_FOR_GPU,
    UNSUPPORTED_PTX_VERSION,
    CudaError,
    Driver,
)
from bench.devices.cuda.gpu import Gpu, PtxRefusedError
from bench.devices.cuda.probe import missing_reason, probe
from bench.devices.failure import DeviceFailure, crash, device_missing
from bench.machine_files import LAUNCHES
from simulators.report import Finding, Report

_TENSOR_INSTRUCTION = re.compile(r"^\s*(?:@!?[%\w$]+\s+)?(?:wmma\.mma|mma)\.", re.MULTILINE)
OLDEST_PTX = b"7.0"
"""The first version that has sm_80, and all that the kernels use: drivers know older ones than their own."""
_OLD_VERSION = re.compile(rb"(?m)^(\.version\s+)\S+")
_VERSION = re.compile(r"^\.version\s+(\S+)", re.MULTILINE)
_ARCHITECTURE = re.compile(r"^\.target\s+(sm_(\d+)\w*)", re.MULTILINE)


class CudaMachine:
    """Launches PTX kernels on a GPU: a :class:`bench.devices.machines.Machine`.

    A GPU does not say how many tensor instructions it executes. Of each kernel the report has how many
    stand in its code, and the nanoseconds that the GPU took. What was written beside a tensor is a finding.
    """

    def __init__(self, files: dict[str, bytes], *, driver: Driver | None = None) -> None:
        self._launches = json.loads(files[LAUNCHES])
        self._in_code = {
            name: len(_TENSOR_INSTRUCTION.findall(files[f"{name}.ptx"].decode())) for name in self._launches
        }
        try:
            self._gpu = Gpu(driver)
            self.hardware: str | None = self._gpu.description
        except (OSError, CudaError) as error:
            raise device_missing(missing_reason(error)) from error
        self._functions = {
            name: self._load(files[f"{name}.ptx"], launch["entry"]) for name, launch in self._launches.items()
        }

    @staticmethod
    def missing() -> str | None:
        """Whether there is a GPU with its driver."""
        return probe().missing

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Launch one kernel over its grid."""
        launch = self._launches[kernel]
        order = [launch["parameters"].index(argument["name"]) for argument in launch["arguments"]]
        *inputs, output = arguments
        try:
            done = self._gpu.launch(
                self._functions[kernel],
                launch["grid"],
                launch["block"],
                inputs,
                output,
                order=order,
                dynamic_shared=launch["dynamic_shared"],
            )
        except CudaError as error:
            raise crash(f"{error}, on {self.hardware}") from error
        findings = [
            Finding("out-of-bounds", "error", launch["entry"],
                    f"the kernel wrote beside {launch['parameters'][number]}: {place}")
            for number, place in done.overwritten.items()
        ]  # fmt: skip
        return Report({IN_CODE: self._in_code[kernel], "device_nanoseconds": done.nanoseconds}, findings)

    def close(self) -> None:
        """Leave the GPU."""
        self._gpu.close()

    def _load(self, content: bytes, entry: str) -> ctypes.c_void_p:
        try:
            return self._load_any_version(content, entry)
        except PtxRefusedError as refusal:
            raise self._refused(refusal, content.decode()) from refusal
        except CudaError as error:
            raise crash(f"{entry}: {error}, on {self.hardware}") from error

    def _load_any_version(self, content: bytes, entry: str) -> ctypes.c_void_p:
        """Load a text; one that is newer than the driver as what the kernels need at least, and say so."""
        try:
            return self._gpu.load(content, entry)
        except PtxRefusedError as refusal:
            version = _VERSION.search(content.decode())
            if refusal.code != UNSUPPORTED_PTX_VERSION or version is None:
                raise
            function = self._gpu.load(_OLD_VERSION.sub(rb"\g<1>" + OLDEST_PTX, content, count=1), entry)
            self.hardware = f"{self._gpu.description}, PTX {version[1]} read as {OLDEST_PTX.decode()}"
            return function

    def _refused(self, refusal: PtxRefusedError, text: str) -> DeviceFailure:
        """A GPU or a driver too old for the text is a missing one; all else is the text's fault."""
        version, architecture = _VERSION.search(text), _ARCHITECTURE.search(text)
        if refusal.code == UNSUPPORTED_PTX_VERSION and version:
            return device_missing(
                f"{self.hardware} knows neither PTX {version[1]} nor {OLDEST_PTX.decode()}: "
                f"install a newer driver: {refusal}"
            )
        too_old = architecture and self._gpu.capability < int(architecture[2])
        if refusal.code in (NO_BINARY_FOR_GPU, INVALID_PTX) and architecture and too_old:
            return device_missing(f"{self.hardware}: the kernels are built for {architecture[1]} and newer")
        return crash(f"{refusal}, on {self.hardware}")
