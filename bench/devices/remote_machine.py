"""The machine of a target behind a TVM RPC server, for single kernels: a :class:`machines.Machine`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm

from bench.artifact import Artifact
from bench.devices import session
from bench.devices.calls import call_name
from bench.devices.failure import DeviceFailure, crash, device_missing, last_line
from bench.devices.names import Server, Tracked
from bench.devices.remote import connect, lost
from simulators.report import Finding, Report


class RemoteMachine:
    """Kernels of ``files`` on what a server serves. Only for processes that may be killed.

    Raises DeviceFailure where there is no server, or it cannot run the target's code; and in a call where the
    machine fails or the server is lost.
    """

    def __init__(
        self, remote: Server | Tracked, target: str, files: Mapping[str, bytes], *, seconds: float
    ) -> None:
        self._connection = connect(remote, timeout=seconds)
        if reason := self._connection.missing(target):
            raise device_missing(f"on {self._connection.server}: {reason}")
        self._calls: Counter[str] = Counter()
        artifact = Artifact(target, (), (), (), b"", dict(files))
        try:
            self._connection.session.get_function(session.LOAD)(bytearray(artifact.to_bytes()))
        except Exception as error:
            raise self._failure(error) from error
        self.hardware: str | None = self._report()["hardware"]

    def call(self, kernel: str, arguments: Sequence[np.ndarray]) -> Report:
        """Run one kernel; the last argument is the output, filled in place."""
        remote = self._connection.session
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(array), remote.cpu()) for array in arguments]
        try:
            remote.get_function(session.CALL)(kernel, *tensors)
            arguments[-1][...] = tensors[-1].numpy()
        except Exception as error:
            raise self._failure(error) from error
        self._calls[kernel] += 1
        said = self._report()["kernels"][call_name(kernel, self._calls[kernel])]
        return Report(said["counters"], [Finding(**each) for each in said["findings"]])

    def _report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(str(self._connection.session.get_function(session.REPORT)()))
        return report

    def _failure(self, error: Exception) -> DeviceFailure:
        """What the machine said of its own end, or that the server is gone."""
        if not self._connection.alive():
            return lost(self._connection, error)
        failure = self._report()["failure"]
        if isinstance(failure, dict):
            return DeviceFailure(failure["verdict"], failure["message"])
        return crash(last_line(error))

    def close(self) -> None:
        """The session ends with this process."""
