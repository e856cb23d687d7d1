"""The functions a compiled graph calls while it runs: they hand its kernels to a machine.

A compiled graph calls the TVM global function ``bitexact.call`` once for each accelerator kernel. Registering
these functions turns a process into one that can run artefacts: the local worker does it, and so does each
process of the RPC server, which is why a graph cannot tell where it runs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm

from bench.artifact import FORMAT, Artifact
from bench.devices.calls import call_name
from bench.devices.failure import DeviceFailure, crash
from bench.devices.machines import Machine, machine_for

CALL = "bitexact.call"
LOAD = "bitexact.load"
REPORT = "bitexact.report"
MISSING = "bitexact.missing"
ABOUT = "bitexact.about"


class Session:
    """One artefact on its machine, and what the machine reported of each kernel so far."""

    def __init__(
        self, artifact: Artifact, *, device: str = "sim", on_kernel: Callable[[str], None] | None = None
    ) -> None:
        self._machine: Machine = machine_for(artifact.target, device)(artifact.machine)
        self._on_kernel = on_kernel
        self._calls: Counter[str] = Counter()
        self._kernels: dict[str, Any] = {}
        self._failure: DeviceFailure | None = None

    def call(self, kernel: str, *tensors: Any) -> None:
        """Run one kernel; the last tensor is the output and is filled in place."""
        arguments = [tensor.numpy() for tensor in tensors]
        output = np.empty_like(arguments[-1])
        try:
            report = self._machine.call(kernel, [*arguments[:-1], output])
        except DeviceFailure as failure:
            self._failure = DeviceFailure(failure.verdict, f"{kernel}: {failure}")
            raise
        tensors[-1].copyfrom(output)
        self._calls[kernel] += 1
        self._kernels[call_name(kernel, self._calls[kernel])] = {
            "counters": report.counters,
            "findings": [vars(finding) for finding in report.findings],
        }
        if self._on_kernel:
            self._on_kernel(kernel)

    def report(self) -> dict[str, Any]:
        """Counters and findings by call, the hardware, and the failure that ended the run, if one did."""
        failure = self._failure
        return {
            "hardware": self._machine.hardware,
            "kernels": self._kernels,
            "failure": failure and _in_words(failure),
        }

    def close(self) -> None:
        """Stop the machine."""
        self._machine.close()


def _in_words(failure: DeviceFailure) -> dict[str, str]:
    return {"verdict": failure.verdict, "message": str(failure)}


def register(
    *, device: str = "sim", on_kernel: Callable[[str], None] | None = None, server: str = ""
) -> None:
    """Register the functions in this process; ``on_kernel`` hears of each kernel that has run.

    ``device`` is what executes artefacts: ``sim`` or ``cuda``, or ``host`` for those without machine code.
    ``server`` is the name that the process has as a server.
    """
    sessions: list[Session] = []
    refusals: list[DeviceFailure] = []

    def load(content: bytes) -> None:
        refusals.clear()
        while sessions:
            sessions.pop().close()
        artifact = Artifact.from_bytes(bytes(content))
        try:
            sessions.append(Session(artifact, device=device, on_kernel=on_kernel))
        except Exception as error:
            if isinstance(error, DeviceFailure):
                refusals.append(error)
            else:
                refusals.append(crash(f"{type(error).__name__}: {error}"))
            raise refusals[-1] from error

    def call(kernel: str, *tensors: Any) -> None:
        sessions[-1].call(str(kernel), *tensors)

    def report() -> str:
        if refusals:
            return json.dumps({"kernels": {}, "failure": _in_words(refusals[-1])})
        return json.dumps(sessions[-1].report())

    def missing(target: str) -> str:
        if device == "host":
            return ""
        try:
            return machine_for(str(target), device).missing() or ""
        except ValueError as error:
            return str(error)

    def about() -> str:
        return json.dumps({"device": device, "server": server, "format": FORMAT})

    functions = {LOAD: load, CALL: call, REPORT: report, MISSING: missing, ABOUT: about}
    for name, function in functions.items():
        tvm.register_global_func(name, function, override=True)
