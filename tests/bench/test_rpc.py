"""The whole Relax VM behind a TVM RPC server on loopback, with the simulators registered there."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tvm import rpc

import bench
from bench.compare.verdict import Verdict
from bench.devices.failure import DeviceFailure
from bench.devices.kernel_process import KernelProcess
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from simulators.hvx import qemu
from tests.bench.test_pipeline import TARGETS, graph

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """``bitexact serve`` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "serve", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    match = re.fullmatch(r"serving (rpc://127\.0\.0\.1:\d+)\n", process.stdout.readline())
    assert match
    yield match[1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    # What it started was killed with it; the system takes a moment to clear it away.
    deadline = time.monotonic() + 5
    while is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(process.pid)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("target", TARGETS)
def test_a_remote_run_is_exact_and_counts(target: str, server: str) -> None:
    if target == "hexagon" and qemu.available():
        pytest.skip(str(qemu.available()))
    verdict = bench.run(*graph(target), target, server)
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert verdict.device == server
    assert all(layer.count for layer in verdict.layers)


def test_a_remote_failure_is_told_apart(server: str) -> None:
    """A run that ends badly on the server leaves it usable."""
    from bench.faults import FAULTS

    verdict = bench.run(*graph("vta"), "vta", server, fault=FAULTS["vta-shift-by-one"])
    assert verdict.verdict == "mismatch"
    assert bench.run(*graph("vta"), "vta", server).exact


def reason_of(verdict: Verdict) -> str:
    assert verdict.verdict == "device-missing"
    return str(verdict.reason)


def test_no_server_is_a_missing_device_with_what_to_type() -> None:
    reason = reason_of(bench.run(*graph("vta"), "vta", "rpc://127.0.0.1:1"))
    assert "no RPC server at 127.0.0.1:1" in reason
    assert "bitexact serve --port 1" in reason


def test_a_server_without_simulators_is_a_missing_device() -> None:
    plain = rpc.Server(host="127.0.0.1", port=19190, port_end=19390)
    try:
        reason = reason_of(bench.run(*graph("vta"), "vta", f"rpc://127.0.0.1:{plain.port}"))
    finally:
        plain.terminate()
    assert "has no simulators: start it with bitexact serve" in reason


def test_a_port_that_is_taken_is_a_usage_error(server: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "bench", "serve", "--port", server.rpartition(":")[2]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert outcome.returncode == 2
    assert "Address already in use" in outcome.stderr


def test_a_single_kernel_is_verified_behind_the_server(server: str) -> None:
    block = dense_primfunc((16, 32), units=32)
    verdict = bench.verify(schedule_dense(block), block, "tensorcore", server, instruction="wmma.mma")
    assert (verdict.verdict, verdict.device) == ("exact", server)
    assert verdict.tensor_instructions == 2 * 2


def test_a_single_kernel_that_fails_behind_the_server_has_its_smallest_operands(server: str) -> None:
    block = dense_primfunc((16, 32), units=32)

    def other(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.ones((16, 32), np.int32)

    verdict = bench.verify(schedule_dense(block), other, "tensorcore", server)
    assert verdict.verdict == "mismatch"
    assert verdict.smallest is not None


def test_a_single_kernel_needs_a_server_and_code_that_its_machine_takes(server: str) -> None:
    block = dense_primfunc((16, 32), units=32)
    missing = bench.verify(schedule_dense(block), block, "tensorcore", "rpc://127.0.0.1:1")
    assert missing.verdict == "device-missing"
    assert "start one: bitexact serve" in str(missing.reason)
    with pytest.raises(DeviceFailure, match="not a VTA program") as refused:
        KernelProcess("vta", {"kernel.vta": b"nothing"}, device=server)
    assert refused.value.verdict == "crash"


def test_a_single_kernel_is_not_verified_on_the_host() -> None:
    block = dense_primfunc((16, 32), units=32)
    with pytest.raises(ValueError, match="host executes no machine code of a kernel"):
        bench.verify(schedule_dense(block), block, "tensorcore", "host")
