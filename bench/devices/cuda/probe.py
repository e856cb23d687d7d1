"""Whether a GPU is here, asked in a process of its own: a driver that crashes or hangs is a reason, too.

``python -m bench.devices.cuda.probe`` prints one object of JSON: ``hardware`` or ``missing``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.devices.cuda.driver import LIBRARY, NO_DEVICE, CudaError
from bench.devices.cuda.gpu import Gpu
from bench.devices.ending import how_ended, last_output

SECONDS = 60.0
WITHOUT = "or use --device sim, which needs none"


@dataclass(frozen=True)
class Probe:
    """The GPU that was found, or why there is none and what to do; one of the two is None."""

    hardware: str | None = None
    missing: str | None = None


def probe(*, seconds: float = SECONDS) -> Probe:
    """Ask for the GPU."""
    command = [sys.executable, "-m", "bench.devices.cuda.probe"]
    try:
        # A process of the RPC server is in a folder of its own, where an uninstalled bench is not found.
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            cwd=Path(__file__).parents[3],
        )
    except subprocess.TimeoutExpired:
        return Probe(
            missing=f"the CUDA driver did not answer within {seconds:g} s: see nvidia-smi, {WITHOUT}"
        )
    if answer.returncode:
        how = how_ended(answer.returncode)
        said = last_output(answer.stderr)
        return Probe(missing=f"asking the CUDA driver failed ({how}): see nvidia-smi, {WITHOUT}{said}")
    return Probe(**json.loads(answer.stdout))


def examine() -> Probe:
    """Ask for the GPU in this process."""
    try:
        with Gpu() as gpu:
            return Probe(hardware=gpu.description)
    except (OSError, CudaError) as error:
        return Probe(missing=missing_reason(error))


def missing_reason(error: OSError | CudaError) -> str:
    """Why there is no GPU to be had, and what to do about it."""
    if isinstance(error, OSError):
        return f"no CUDA driver ({error}): install NVIDIA's driver for the GPU, {WITHOUT}"
    if error.code == NO_DEVICE:
        return f"{LIBRARY} finds no GPU ({error}): see nvidia-smi and CUDA_VISIBLE_DEVICES, {WITHOUT}"
    return f"the CUDA driver does not start ({error}): see nvidia-smi, restart or reinstall it, {WITHOUT}"


if __name__ == "__main__":
    print(json.dumps(vars(examine())))
