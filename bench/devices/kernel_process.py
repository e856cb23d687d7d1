"""Single kernels on a machine in a process of its own, one call after the other."""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from bench.devices.ending import end_group, how_ended, last_output
from bench.devices.exclusive import exclusive
from bench.devices.failure import DeviceFailure, crash, device_missing, timeout
from bench.devices.interpreter import module_command
from bench.devices.kernel_worker import LENGTH_BYTES
from bench.devices.machines import machine_for
from bench.devices.names import parse_remote
from simulators import child_process
from simulators.report import Report


class KernelProcess:
    """The machine of a target, loaded with machine code; a context manager.

    ``files`` are machine files by name, as a flow makes them; ``device`` is any but ``host``.
    ``hardware`` names what executes them, where that is no simulator. Raises DeviceFailure where the
    machine is missing, refuses the code, dies, or does not answer within ``seconds``. A GPU is this process's
    alone until it is closed (:mod:`bench.devices.exclusive`).
    """

    def __init__(
        self, target: str, files: Mapping[str, bytes], *, device: str = "sim", seconds: float = 600.0
    ) -> None:
        if not parse_remote(device) and (reason := machine_for(target, device).missing()):
            raise device_missing(reason)
        self._seconds = seconds
        self._held = contextlib.ExitStack()
        self._held.enter_context(exclusive(device))
        # A process that is killed removes nothing: what it leaves goes with its folder.
        self._folder = tempfile.TemporaryDirectory(prefix="bitexact-", ignore_cleanup_errors=True)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = child_process.start(
            module_command("bench.devices.kernel_worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, "TMPDIR": self._folder.name},
        )
        try:
            reply = self._exchange((target, device, dict(files), seconds))
            if not isinstance(reply, dict):
                raise DeviceFailure(*reply)
            self.hardware: str | None = reply["hardware"]
        except BaseException:
            self.close()
            raise

    def call(self, kernel: str, inputs: Sequence[np.ndarray], output: np.ndarray) -> Report:
        """Run one kernel and fill ``output``."""
        reply = self._exchange((kernel, [*inputs, output]))
        if not isinstance(reply[1], Report):
            raise DeviceFailure(*reply)
        filled, report = reply
        output[...] = filled
        return report

    def _exchange(self, request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is said below
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        deadline = time.monotonic() + self._seconds
        length = int.from_bytes(self._receive(LENGTH_BYTES, deadline), "little")
        return pickle.loads(self._receive(length, deadline))

    def _receive(self, count: int, deadline: float) -> bytes:
        """So many bytes of the reply."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while len(received) < count:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise timeout(f"no result after {self._seconds:g} s")
                piece = os.read(descriptor, count - len(received))
                if not piece:
                    raise self._death()
                received += piece
        return bytes(received)

    def _death(self) -> DeviceFailure:
        """How the process ended, with its last output."""
        how = how_ended(self._process.wait())
        self._log.seek(0)
        last = last_output(self._log.read().decode(errors="replace"))
        return crash(f"the device process ended ({how}){last}")

    def close(self) -> None:
        """End the process and all it started. May be called again."""
        end_group(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]
        self._held.close()
        self._folder.cleanup()

    def __enter__(self) -> KernelProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
