"""Run an artefact on a device, in a process of its own with a time limit."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.artifact import Artifact
from bench.devices.ending import end_group, how_ended, last_output
from bench.devices.exclusive import exclusive
from bench.devices.failure import DeviceFailure, crash, device_missing, timeout
from bench.devices.interpreter import module_command
from bench.devices.machines import machine_for
from bench.devices.names import is_local_machine
from simulators import child_process
from simulators.report import Finding


@dataclass
class Execution:
    """What a device gave back: every tensor of the graph by name, and the machine's report by call.

    Calls are named as in :mod:`bench.devices.calls`. ``hardware`` names what executed the kernels, where
    that was no simulator.
    """

    outputs: dict[str, np.ndarray]
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    seconds: float = 0.0
    hardware: str | None = None


def execute(
    artifact: Artifact,
    inputs: dict[str, np.ndarray],
    *,
    device: str,
    timeout_seconds: float = 600.0,
    on_kernel: Callable[[str], None] | None = None,
) -> Execution:
    """Run ``artifact`` on ``device`` and return all of its tensors.

    Whoever uses the same GPU or server is waited for first (:mod:`bench.devices.exclusive`).
    Raises DeviceFailure: ``device-missing`` with the install command, ``crash`` with the last output, or
    ``timeout``.
    """
    require_device(artifact.target, device)
    with tempfile.TemporaryDirectory(prefix="bitexact-") as name:
        folder = Path(name)
        (folder / "artifact").write_bytes(artifact.to_bytes())
        np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
        (folder / "job.json").write_text(json.dumps({"device": device, "timeout": timeout_seconds}))
        with exclusive(device):
            _work(folder, timeout_seconds, on_kernel)
        return _collect(folder)


def require_device(target: str, device: str) -> None:
    """Raise DeviceFailure where ``device`` needs a machine for ``target`` that is not here."""
    if is_local_machine(device) and (reason := machine_for(target, device).missing()):
        raise device_missing(reason)


def _work(folder: Path, seconds: float, on_kernel: Callable[[str], None] | None) -> None:
    """Run the worker to its end; its process group is ended with it, simulators included."""
    with (folder / "log").open("wb") as log:
        process = child_process.start(
            module_command("bench.devices.worker", str(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    listener = threading.Thread(target=_listen, args=(process.stdout, on_kernel), daemon=True)
    listener.start()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise timeout(f"no result after {seconds:g} s{_last_output(folder)}") from None
    finally:
        end_group(process)
        listener.join(1)
    if not (folder / "result.json").exists():
        how = how_ended(process.returncode)
        raise crash(f"the device process ended without a result ({how}){_last_output(folder)}")


def _listen(stream: IO[str], on_kernel: Callable[[str], None] | None) -> None:
    for line in stream:
        if on_kernel:
            on_kernel(json.loads(line)["kernel"])


def _last_output(folder: Path) -> str:
    return last_output((folder / "log").read_text(errors="replace"))


def _collect(folder: Path) -> Execution:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    if result["failure"]:
        raise DeviceFailure(result["failure"]["verdict"], result["failure"]["message"])
    with np.load(folder / "outputs.npz") as outputs:
        arrays = {name: outputs[name] for name in outputs.files}
    return execution_of(arrays, result, seconds=result["seconds"])


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
