"""The process that runs one artefact on one device, so that a crash or a hang stays outside the bench.

Usage: ``python -m bench.devices.worker FOLDER``. The folder holds ``artifact``, ``inputs.npz`` and
``job.json``; the worker leaves ``outputs.npz`` and ``result.json`` there. On standard output it writes one
line of JSON for each kernel that has run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import tvm
from tvm import relax

from bench.artifact import HOST_LIBRARY, Artifact
from bench.devices import session
from bench.devices.ending import end_with_parent
from bench.devices.failure import DeviceFailure, crash, device_missing
from bench.devices.names import is_local_machine, parse_rpc


def main(folder: Path) -> None:
    """Do the job in ``folder``."""
    end_with_parent()
    events = _take_standard_output()
    job = json.loads((folder / "job.json").read_text())
    artifact = Artifact.load(folder / "artifact")
    with np.load(folder / "inputs.npz") as inputs:
        arrays = [inputs[spec.name] for spec in artifact.inputs]
    result: dict[str, Any] = {"kernels": {}, "failure": None}
    outputs: list[np.ndarray] = []
    started = time.perf_counter()
    try:
        outputs, result = _run(artifact, arrays, job, events)
    except DeviceFailure as failure:
        result["failure"] = {"verdict": failure.verdict, "message": str(failure)}
    result["seconds"] = time.perf_counter() - started
    named = {spec.name: array for spec, array in zip(artifact.outputs, outputs, strict=False)}
    np.savez(folder / "outputs.npz", **named)  # type: ignore[arg-type]
    (folder / "result.json").write_text(json.dumps(result))


def _take_standard_output() -> IO[str]:
    """Keep standard output for events; whatever prints by itself goes to standard error from now on."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return events


def _run(
    artifact: Artifact, arrays: list[np.ndarray], job: dict[str, Any], events: IO[str]
) -> tuple[list[np.ndarray], dict[str, Any]]:
    remote = parse_rpc(job["device"])
    if remote:
        return _run_remote(artifact, arrays, remote, job["timeout"])
    return run_here(
        artifact,
        arrays,
        device=job["device"] if is_local_machine(job["device"]) else "sim",
        on_kernel=lambda name: print(json.dumps({"kernel": name}), file=events),
    )


def run_here(
    artifact: Artifact,
    arrays: list[np.ndarray],
    *,
    device: str = "sim",
    on_kernel: Callable[[str], None] | None = None,
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Run an artefact in this process, its kernels on ``device``: all its tensors, and the report.

    The report is that of :meth:`bench.devices.session.Session.report`. Raises DeviceFailure.
    """
    session.register(device=device, on_kernel=on_kernel)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, HOST_LIBRARY)
        library.write_bytes(artifact.host_library)
        module = tvm.runtime.load_module(str(library))
        return _invoke(artifact, arrays, module, tvm.cpu(), tvm.get_global_func)


def _run_remote(
    artifact: Artifact, arrays: list[np.ndarray], address: tuple[str, int], timeout: float
) -> tuple[list[np.ndarray], dict[str, Any]]:
    host, port = address
    # The server ends a session that outlives its client: a little later than the client gives up.
    try:
        remote = tvm.rpc.connect(host, port, session_timeout=int(timeout) + 5)
    except Exception as error:
        raise device_missing(
            f"no RPC server at {host}:{port} (start one: bitexact serve --port {port}): {_last_line(error)}"
        ) from None
    try:
        missing = remote.get_function(session.MISSING)
    except AttributeError:
        raise device_missing(
            f"the RPC server at {host}:{port} has no simulators: start it with bitexact serve"
        ) from None
    if artifact.machine and (reason := str(missing(artifact.target))):
        raise device_missing(f"on {host}:{port}: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, HOST_LIBRARY)
        library.write_bytes(artifact.host_library)
        remote.upload(str(library))
    return _invoke(artifact, arrays, remote.load_module(HOST_LIBRARY), remote.cpu(), remote.get_function)


def _invoke(
    artifact: Artifact,
    arrays: list[np.ndarray],
    module: Any,
    device: Any,
    get_function: Callable[[str], Any],
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Load, run and read back, the same way for a local and for a remote process."""
    result: dict[str, Any] = {"kernels": {}, "failure": None}
    try:
        if artifact.machine:
            get_function(session.LOAD)(bytearray(artifact.to_bytes()))
        machine = relax.VirtualMachine(module, device)
        machine.set_input("main", *[tvm.runtime.tensor(array, device) for array in arrays])
        machine.invoke_stateful("main")
        returned = machine.get_outputs("main")
        outputs = [tensor.numpy() for tensor in returned]
    except Exception as error:
        failure = _reported_failure(get_function) if artifact.machine else None
        raise failure or crash(_last_line(error)) from error
    if artifact.machine:
        result = json.loads(str(get_function(session.REPORT)()))
    return outputs, result


def _reported_failure(get_function: Callable[[str], Any]) -> DeviceFailure | None:
    """What the machine said of its own end; an exception loses its type on its way through the graph."""
    try:
        failure = json.loads(str(get_function(session.REPORT)()))["failure"]
    except Exception:
        return None
    return failure and DeviceFailure(failure["verdict"], failure["message"])


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
