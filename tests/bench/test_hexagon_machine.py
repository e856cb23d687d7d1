"""qemu-hexagon as a device: tensors stay in the guest, and packets are counted for each layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import bench
from bench import workloads
from bench.compare.verdict import LayerVerdict, Verdict
from bench.devices.failure import DeviceFailure
from bench.devices.machines import hexagon
from bench.devices.machines.hexagon import HexagonMachine
from bench.efficiency import measures_of
from bench.flows.hexagon import HexagonFlow
from bench.reports.table import layer_table, packets_per_count
from bench.workload_run import run_workload
from kernels.hexagon.dense import dense_primfunc, schedule_dense
from kernels.hexagon.elementwise import schedule_unary, unary_primfunc
from simulators.hvx import qemu
from tests.bench.integer_graphs import ConvCase, convolution, full_range

pytestmark = pytest.mark.skipif(qemu.available() is not None, reason=str(qemu.available()))

ROWS, INPUTS, OUTPUTS = 4, 64, 32


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A dense layer, and a rectification of its result by another shape of the same elements."""
    product = dense_primfunc((ROWS, INPUTS), (1, INPUTS // 4, 32, 4))
    rectified = unary_primfunc("relu", (ROWS * OUTPUTS,), "int32", out_dtype="int32")
    return HexagonFlow().compile({"dense": schedule_dense(product), "relu": schedule_unary(rectified)})


class Sent:
    """How many bytes are sent to the guest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        upload = qemu.FunctionServer.upload

        def counted(server: qemu.FunctionServer, array: np.ndarray) -> qemu.Resident:
            self.sizes.append(array.nbytes)
            return upload(server, array)

        monkeypatch.setattr(qemu.FunctionServer, "upload", counted)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


@pytest.fixture
def old_simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A qemu-hexagon that knows no Hexagon with HVX."""
    program = tmp_path / qemu.PROGRAM
    program.write_text("#!/bin/sh\necho \"unable to find CPU model 'unknown'\" >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    hexagon._why_not_running.cache_clear()
    yield
    hexagon._why_not_running.cache_clear()


@pytest.mark.usefixtures("old_simulator")
def test_a_simulator_that_is_too_old_is_a_missing_device() -> None:
    case = ConvCase(batch=1, inputs=4, size=4, outputs=32)
    module = convolution(case, data_dtype="uint8")
    data = full_range(np.random.default_rng(0), (1, 4, 4, 4), "uint8")
    verdict = bench.run(module, data, "hexagon")
    assert verdict.verdict == "device-missing"
    assert str(verdict.reason).endswith("does not run Hexagon v67, as 7.2 does: apt-get install qemu-user")


def test_where_no_compiler_is_a_simulator_that_is_there_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that only runs artefacts has no tool chain."""
    monkeypatch.setattr(hexagon.toolchain, "available", lambda: "no C compiler for Hexagon found")
    monkeypatch.setattr(hexagon, "probe_elf", lambda architecture: pytest.fail("it was compiled"))
    hexagon._why_not_running.cache_clear()
    try:
        assert HexagonMachine.missing() is None
    finally:
        hexagon._why_not_running.cache_clear()


def operands(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return full_range(rng, (ROWS, INPUTS), "uint8"), full_range(rng, (1, INPUTS // 4, 32, 4), "int8")


def product(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    plain = weight.transpose(0, 2, 1, 3).reshape(OUTPUTS, INPUTS)
    return data.astype(np.int32) @ plain.astype(np.int32).T


def test_a_weight_is_sent_once_and_a_result_never(files: dict[str, bytes], sent: Sent) -> None:
    data, weight = operands()
    result, rectified = np.empty((ROWS, OUTPUTS), np.int32), np.empty((ROWS * OUTPUTS,), np.int32)
    with closing(HexagonMachine(files)) as machine:
        for _ in range(2):
            machine.call("dense", [data, weight, result])
            np.testing.assert_array_equal(result, product(data, weight))
            machine.call("relu", [result.ravel(), rectified])
            np.testing.assert_array_equal(rectified, np.maximum(product(data, weight), 0).ravel())
        assert sent.sizes == [data.nbytes, weight.nbytes]
        other, _ = operands(1)
        machine.call("dense", [other, weight, result])
        np.testing.assert_array_equal(result, product(other, weight))
        assert sent.sizes == [data.nbytes, weight.nbytes, other.nbytes]


def test_the_same_bytes_of_another_type_are_another_tensor_to_the_kernel(
    files: dict[str, bytes], sent: Sent
) -> None:
    data, weight = operands()
    same = weight.view(np.uint8).reshape(-1)[: ROWS * INPUTS].reshape(ROWS, INPUTS)
    weight = np.zeros_like(weight)
    weight.reshape(-1)[: ROWS * INPUTS] = same.view(np.int8).reshape(-1)
    data = np.zeros((ROWS, INPUTS), np.uint8)
    result = np.empty((ROWS, OUTPUTS), np.int32)
    with closing(HexagonMachine(files)) as machine:
        machine.call("dense", [data, weight, result])
        machine.call("dense", [same, weight, result])
        np.testing.assert_array_equal(result, product(same, weight))


@pytest.mark.parametrize("limit", ["bytes", "number"])
def test_a_full_guest_is_emptied_and_goes_on(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "bytes":
        monkeypatch.setattr(hexagon, "RESIDENT_BYTES", 6000)
    else:
        monkeypatch.setattr(qemu, "MAX_RESIDENTS", 5)
    result = np.empty((ROWS, OUTPUTS), np.int32)
    with closing(HexagonMachine(files)) as machine:
        for seed in range(5):
            data, weight = operands(seed)
            machine.call("dense", [data, weight, result])
            np.testing.assert_array_equal(result, product(data, weight))


def test_a_function_that_refuses_its_arguments_is_a_crash_with_its_reason(files: dict[str, bytes]) -> None:
    with closing(HexagonMachine(files)) as machine, pytest.raises(DeviceFailure, match="dense") as caught:
        machine.call(
            "dense", [np.zeros((1, 4), np.uint8), operands()[1], np.empty((ROWS, OUTPUTS), np.int32)]
        )
    assert caught.value.verdict == "crash"


def counted(name: str, operator: str, count: int, packets: int) -> LayerVerdict:
    counters = {"packets": packets, "tensor_instructions": count}
    return LayerVerdict(name, operator, "shapes", "vrmpyub", count=count, verdict="exact", counters=counters)


def test_the_layer_table_has_packets_for_each_vrmpy_and_their_total() -> None:
    layers = [counted("one", "conv2d", 100, 60), counted("two", "conv2d", 300, 180)]
    layers += [counted("three", "dense", 10, 20), LayerVerdict("four", "conv2d", "shapes", None, why_not="x")]
    lines = layer_table(Verdict("w", "hexagon", "sim", "exact", layers=layers)).splitlines()
    assert lines[0].split()[-6:] == ["packets", "per", "vrmpy", "verdict", "why", "not"]
    assert [line.split()[5:7] for line in lines[2:5]] == [["60", "0.60"], ["180", "0.60"], ["20", "2.00"]]
    assert lines[-1] == "all convolutions: 240 packets for 400 vrmpy, 0.600 per vrmpy"
    plain = layer_table(Verdict("w", "vta", "sim", "exact", layers=[layers[3]]))
    assert "packets" not in plain


DIGITS = [4608, 18432, 36864, 4096, 128]
"""The products of 8 images, with 4 channels at the input and blocks of 32 after it, over 128."""
ODD_SHAPES = {
    "uint8, 1 channel": ("uint8", ConvCase(batch=1, inputs=1, size=7, outputs=5), [441, 392]),
    "int8, 20 channels, 2x2": (
        "int8",
        ConvCase(batch=2, inputs=20, size=5, outputs=16, kernel=2, padding=(1, 0, 0, 1)),
        [1000, 400],
    ),
    "uint8, 36 channels, stride 2": (
        "uint8",
        ConvCase(batch=1, inputs=36, size=9, outputs=48, strides=(2, 2)),
        [7200, 800],
    ),
}


def executed_and_least(verdict: Verdict) -> tuple[list[int], list[int]]:
    """The vrmpy of each layer, and the products of its packed tensors over 128."""
    assert verdict.verdict == "exact", verdict.reason
    executed, least = zip(
        *((layer.counters["vrmpy"], layer.counters["vrmpy_of_products"]) for layer in verdict.layers),
        strict=True,
    )
    (measure,) = (each for each in measures_of("hexagon") if each.name == "vrmpy over products / 128")
    assert measure.of(verdict.layers) == sum(executed) / sum(least) <= measure.limit
    return list(executed), list(least)


def test_digits_executes_a_vrmpy_for_each_128_products_of_its_packed_tensors() -> None:
    """None for the sums that make up for signed weights, which each of its convolutions has."""
    verdict = run_workload(workloads.load("digits", batch=8), "hexagon")
    assert executed_and_least(verdict) == (DIGITS, DIGITS)


@pytest.mark.parametrize("name", ODD_SHAPES)
def test_odd_shapes_execute_a_vrmpy_for_each_128_products(name: str) -> None:
    data_dtype, case, expected = ODD_SHAPES[name]
    data = full_range(np.random.default_rng(0), (case.batch, case.inputs, case.size, case.size), data_dtype)
    verdict = bench.run(convolution(case, data_dtype=data_dtype), data, "hexagon")
    assert executed_and_least(verdict) == (expected, expected)


def test_packets_per_vrmpy_of_a_small_network_stay_where_they_are() -> None:
    """Guards the efficiency through the whole bench: measured 0.58 for the 3x3 and 0.77 for the 1x1."""
    case = ConvCase(batch=1, inputs=64, size=14, outputs=64)
    module = convolution(case, data_dtype="uint8")
    data = full_range(np.random.default_rng(0), (1, 64, 14, 14), "uint8")
    verdict = bench.run(module, data, "hexagon")
    assert verdict.verdict == "exact", verdict.reason
    layers = {layer.name: layer for layer in verdict.layers}
    for name, taps, most in (("conv1", 9, 0.60), ("conv2", 1, 0.80)):
        products = 14 * 14 * 64 * 64 * taps // 128
        assert layers[name].counters["vrmpy"] == products
        assert packets_per_count([layers[name]]) <= most
    convolutions = [layer for layer in verdict.layers if layer.operator == "conv2d"]
    assert packets_per_count(convolutions) <= 0.62
