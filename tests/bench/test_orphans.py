"""When the process that started a device's process is killed, nothing of it is left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.simulators.hvx_guest import needs_qemu

# The probe of what a QEMU runs is let through: it is smaller than the program below.
HANGING_QEMU = """#!/bin/sh
if [ $(wc -c < "$1") -lt 5000 ]; then exec "$REAL_QEMU" "$@"; fi
exec sleep 1000
"""
RUN = """
from bench.devices.kernel_process import KernelProcess
from bench.machine_files import HEXAGON_PROGRAM, HEXAGON_TWIN
from kernels.hexagon.architectures import probe_elf

program = probe_elf(67) + bytes(9000)
KernelProcess("hexagon", {HEXAGON_PROGRAM: program, HEXAGON_TWIN: program})
"""


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children(recursive=True) if child.is_running()]


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, *, seconds: float) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@needs_qemu
def test_a_hanging_simulator_ends_soon_after_its_user_was_killed(tmp_path: Path) -> None:
    """A QEMU that never answers keeps its parent waiting; both are gone when whoever asked is killed."""
    hanging = tmp_path / "qemu-hexagon"
    hanging.write_text(HANGING_QEMU)
    hanging.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "REAL_QEMU": str(shutil.which("qemu-hexagon"))}
    user = subprocess.Popen([sys.executable, "-c", RUN], env=environment)
    try:
        wait_until(lambda: any(child.name() == "sleep" for child in descendants(user)), seconds=30)
        left = descendants(user)
        assert len(left) == 2
    finally:
        os.kill(user.pid, signal.SIGKILL)
        user.wait()
    wait_until(lambda: not any(map(runs, left)), seconds=10)
