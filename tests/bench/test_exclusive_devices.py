"""A device of which there is one is used by one process at a time; simulators are not held back."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.devices import execution, kernel_process
from bench.devices.exclusive import exclusive, is_exclusive, lock_file
from bench.devices.failure import DeviceFailure

HOLD = """
import sys, time
from bench.devices.exclusive import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
DEVICES = {
    "host": False,
    "sim": False,
    "tracker://there:9190/board": False,
    "cuda": True,
    "rpc://127.0.0.1:9190": True,
}


@pytest.fixture(autouse=True)
def locks_of_this_test_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def holder_of(device: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, device], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_single_is_exclusive(device: str) -> None:
    assert is_exclusive(device) is DEVICES[device]


def test_every_device_has_a_lock_of_its_own() -> None:
    named = {lock_file(f"rpc://{host}:{port}") for host in ("a", "b.c") for port in (1, 2)}
    assert len(named) == 4
    assert all(path.name.replace(".", "").replace("-", "").isalnum() for path in named)


def test_a_device_in_use_is_waited_for_and_said(tmp_path: Path) -> None:
    holder = holder_of("cuda")
    try:
        with (
            pytest.raises(DeviceFailure, match=r"device cuda was in use .* for 0.2 s") as caught,
            exclusive("cuda", wait_seconds=0.2),
        ):
            raise AssertionError("two processes have the device")
        assert caught.value.verdict == "timeout"
        assert str(tmp_path) in str(caught.value)
        with exclusive("rpc://127.0.0.1:1", wait_seconds=0.2), exclusive("sim", wait_seconds=0.2):
            pass
    finally:
        holder.kill()
        holder.wait()


def test_a_process_that_is_killed_lets_go() -> None:
    holder = holder_of("cuda")
    holder.kill()
    holder.wait()
    begun = time.monotonic()
    with exclusive("cuda", wait_seconds=20):
        assert time.monotonic() - begun < 10


def test_an_execution_holds_its_device_and_lets_go_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's process fails here; while it runs nobody else can have the device."""
    from bench.artifact import Artifact

    device = "rpc://127.0.0.1:9"
    held: list[bool] = []

    def work(*_: object) -> None:
        program = [sys.executable, "-c", HOLD.replace("[1])", "[1], wait_seconds=0.1)"), device]
        other = subprocess.run(program, capture_output=True, text=True, check=False, env=dict(os.environ))
        held.append("was in use by another process" in other.stderr)
        raise DeviceFailure("crash", "died")

    monkeypatch.setattr(execution, "_work", work)
    with pytest.raises(DeviceFailure, match="died"):
        execution.execute(Artifact("vta", (), (), (), b""), {}, device=device)
    assert held == [True]
    with exclusive(device, wait_seconds=1):
        pass


def test_a_kernel_on_a_gpu_holds_it_and_lets_go_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs kernels dies here at once; while it is started nobody else can have the GPU."""
    held: list[bool] = []

    class Machine:
        @staticmethod
        def missing() -> None:
            return None

    def command(*_: str) -> list[str]:
        program = [sys.executable, "-c", HOLD.replace("[1])", "[1], wait_seconds=0.1)"), "cuda"]
        other = subprocess.run(program, capture_output=True, text=True, check=False)
        held.append("was in use by another process" in other.stderr)
        return ["false"]

    monkeypatch.setattr(kernel_process, "machine_for", lambda *_: Machine)
    monkeypatch.setattr(kernel_process, "module_command", command)
    with pytest.raises(DeviceFailure, match="the device process ended"):
        kernel_process.KernelProcess("tensorcore", {}, device="cuda")
    assert held == [True]
    with exclusive("cuda", wait_seconds=1):
        pass
