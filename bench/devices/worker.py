"""The process that runs one artefact on one device, so that a crash or a hang stays outside the bench.

Usage: ``python -m bench.devices.worker FOLDER``. The folder holds ``job.json``, an artefact and
``inputs.npz``; the worker leaves ``outputs.npz`` and ``result.json`` there. A job without an artefact only
asks a server what it serves. On standard output the worker writes one line of JSON for the server that it
has got, and one for each kernel that has run.
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
from bench.devices.failure import DeviceFailure, crash, device_missing, last_line
from bench.devices.names import is_local_machine, parse_remote
from bench.devices.remote import Connection, connect, lost


def main(folder: Path) -> None:
    """Do the job in ``folder``."""
    end_with_parent()
    events = _take_standard_output()
    job = json.loads((folder / "job.json").read_text())
    result: dict[str, Any] = {"kernels": {}, "failure": None}
    started = time.perf_counter()
    try:
        if "artifact" in job:
            outputs, report = _run(folder, job, events)
            result |= report
            np.savez(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]
        else:
            connection = _connect(job, events)
            result["device"], result["missing"] = connection.device, connection.missing(job["target"])
    except DeviceFailure as failure:
        result["failure"] = {**vars(failure), "message": str(failure)}
    result["seconds"] = time.perf_counter() - started
    (folder / "result.json").write_text(json.dumps(result))


def _take_standard_output() -> IO[str]:
    """Keep standard output for events; whatever prints by itself goes to standard error from now on."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return events


def _run(folder: Path, job: dict[str, Any], events: IO[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All tensors by name, and the report of the session."""
    artifact = Artifact.load(folder / job["artifact"])
    with np.load(folder / "inputs.npz") as inputs:
        arrays = [inputs[spec.name] for spec in artifact.inputs]
    if parse_remote(job["device"]):
        outputs, report = _run_remote(artifact, arrays, _connect(job, events))
    else:
        outputs, report = run_here(
            artifact,
            arrays,
            device=job["device"] if is_local_machine(job["device"]) else "sim",
            on_kernel=lambda name: print(json.dumps({"kernel": name}), file=events),
        )
    return {spec.name: array for spec, array in zip(artifact.outputs, outputs, strict=True)}, report


def _connect(job: dict[str, Any], events: IO[str]) -> Connection:
    """A session of the job's server, which the bench hears of: from now on its time runs."""
    remote = parse_remote(job["device"])
    assert remote is not None
    connection = connect(remote, timeout=job["timeout"], known=job["known"])
    print(json.dumps({"server": connection.server}), file=events)
    return connection


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
    artifact: Artifact, arrays: list[np.ndarray], connection: Connection
) -> tuple[list[np.ndarray], dict[str, Any]]:
    remote = connection.session
    try:
        if artifact.machine and (reason := connection.missing(artifact.target)):
            raise device_missing(f"on {connection.server}: {reason}")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, HOST_LIBRARY)
            library.write_bytes(artifact.host_library)
            remote.upload(str(library))
        module = remote.load_module(HOST_LIBRARY)
        outputs, report = _invoke(artifact, arrays, module, remote.cpu(), remote.get_function)
    except Exception as error:
        if not connection.alive():
            raise lost(connection, error) from error
        raise error if isinstance(error, DeviceFailure) else crash(last_line(error)) from error
    return outputs, report | {"server": connection.server}


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
        raise failure or crash(last_line(error)) from error
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
