"""Run an artefact on a device, in a process of its own with a time limit."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.artifact import Artifact
from bench.devices.ending import end_group, how_ended, last_output
from bench.devices.exclusive import exclusive
from bench.devices.failure import DeviceFailure, crash, device_missing, timeout
from bench.devices.interpreter import module_command
from bench.devices.machines import machine_for
from bench.devices.names import Tracked, is_local_machine, parse_remote
from simulators import child_process
from simulators.report import Finding

CONNECT_SECONDS = 30.0
"""How long a server may take to accept a connection, beside the time it may take to be free."""


@dataclass
class Execution:
    """What a device gave back: every tensor of the graph by name, and the machine's report by call.

    Calls are named as in :mod:`bench.devices.calls`. ``hardware`` names what executed the kernels, where
    that was no simulator. ``server`` is the name of the server that ran it, None where none did;
    ``lost_server`` that of one that went away before, and ``reruns`` how often the artefact was run again for
    that.
    """

    outputs: dict[str, np.ndarray]
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    seconds: float = 0.0
    hardware: str | None = None
    server: str | None = None
    reruns: int = 0
    lost_server: str | None = None


def execute(
    artifact: Artifact,
    inputs: dict[str, np.ndarray],
    *,
    device: str,
    timeout_seconds: float = 600.0,
    on_kernel: Callable[[str], None] | None = None,
) -> Execution:
    """Run ``artifact`` on ``device`` and return all of its tensors.

    Whoever uses the same GPU or server is waited for first (:mod:`bench.devices.exclusive`). At a tracker,
    ``timeout_seconds`` is also how long a server may take to be free, and where a server is
    lost in the middle the artefact is run once more, on another.

    Raises DeviceFailure: ``device-missing`` with the install command, ``crash`` with the last output, or
    ``timeout``.
    """
    if not parse_remote(device):
        require_device(artifact.target, device)
    try:
        return _attempt(artifact, inputs, device, timeout_seconds, on_kernel)
    except DeviceFailure as failure:
        if not failure.lost_server or not isinstance(parse_remote(device), Tracked):
            raise
        first = failure
    try:
        execution = _attempt(artifact, inputs, device, timeout_seconds, on_kernel, known=True)
    except DeviceFailure as failure:
        message = f"{failure}; rerun after {first}" if failure.lost_server else str(failure)
        raise DeviceFailure(failure.verdict, message, lost_server=first.lost_server, reruns=1) from None
    return replace(execution, reruns=1, lost_server=first.lost_server)


def _attempt(
    artifact: Artifact,
    inputs: dict[str, np.ndarray],
    device: str,
    seconds: float,
    on_kernel: Callable[[str], None] | None,
    *,
    known: bool = False,
) -> Execution:
    with tempfile.TemporaryDirectory(prefix="bitexact-") as name:
        folder = Path(name)
        (folder / "artifact").write_bytes(artifact.to_bytes())
        np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
        job = {"device": device, "timeout": seconds, "known": known, "artifact": "artifact"}
        with exclusive(device):
            result = _work(folder, job, on_kernel)
        return _collect(folder, result)


def require_device(target: str, device: str, *, timeout_seconds: float = 600.0) -> str:
    """What ``device`` executes artefacts of ``target`` on: itself, or what the server behind it serves.

    Raises DeviceFailure where the simulator that this takes is not there, or no server is.
    """
    if parse_remote(device):
        return _ask(target, device, timeout_seconds)
    if is_local_machine(device) and (reason := machine_for(target, device).missing()):
        raise device_missing(reason)
    return device


@cache
def _ask(target: str, device: str, seconds: float) -> str:
    """Ask a server what it serves, once in a process."""
    with tempfile.TemporaryDirectory(prefix="bitexact-") as name:
        job = {"device": device, "target": target, "timeout": seconds, "known": False}
        with exclusive(device):
            result = _work(Path(name), job, None)
    if result["missing"]:
        raise device_missing(f"on {device}: {result['missing']}")
    return str(result["device"])


def _work(folder: Path, job: dict[str, Any], on_kernel: Callable[[str], None] | None) -> dict[str, Any]:
    """Run the worker to its end; its process group is ended with it, simulators included."""
    (folder / "job.json").write_text(json.dumps(job))
    with (folder / "log").open("wb") as log:
        process = child_process.start(
            module_command("bench.devices.worker", str(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            # A process that is killed removes nothing: what it leaves goes with the folder.
            env={**os.environ, "TMPDIR": str(folder)},
        )
    assert process.stdout is not None
    seconds = job["timeout"]
    begun = threading.Event()
    listener = threading.Thread(target=_listen, args=(process.stdout, on_kernel, begun), daemon=True)
    listener.start()
    try:
        # The time of a run begins when there is a server to run on.
        if parse_remote(job["device"]) and not begun.wait(seconds + CONNECT_SECONDS):
            raise timeout(f"{job['device']} took longer than {seconds + CONNECT_SECONDS:g} s to connect")
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise timeout(f"no result after {seconds:g} s{_last_output(folder)}") from None
    finally:
        end_group(process)
        listener.join(1)
    if not (folder / "result.json").exists():
        how = how_ended(process.returncode)
        raise crash(f"the device process ended without a result ({how}){_last_output(folder)}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    if failure := result["failure"]:
        raise DeviceFailure(failure["verdict"], failure["message"], lost_server=failure["lost_server"])
    return result


def _listen(stream: IO[str], on_kernel: Callable[[str], None] | None, begun: threading.Event) -> None:
    """Hear of the server and of each kernel, until the process ends."""
    for line in stream:
        event = json.loads(line)
        if "server" in event:
            begun.set()
        elif on_kernel:
            on_kernel(event["kernel"])
    begun.set()


def _last_output(folder: Path) -> str:
    return last_output((folder / "log").read_text(errors="replace"))


def _collect(folder: Path, result: dict[str, Any]) -> Execution:
    with np.load(folder / "outputs.npz") as outputs:
        arrays = {name: outputs[name] for name in outputs.files}
    execution = execution_of(arrays, result, seconds=result["seconds"])
    return replace(execution, server=result.get("server"))


def execution_of(
    outputs: dict[str, np.ndarray], report: Mapping[str, Any], *, seconds: float = 0.0
) -> Execution:
    """What a device gave back, from its tensors and its session's report."""
    kernels = report["kernels"]
    return Execution(
        outputs=outputs,
        counters={name: kernel["counters"] for name, kernel in kernels.items()},
        findings={
            name: [Finding(**entry) for entry in kernel["findings"]] for name, kernel in kernels.items()
        },
        seconds=seconds,
        hardware=report.get("hardware"),
    )
