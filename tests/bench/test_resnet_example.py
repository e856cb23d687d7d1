"""The example of the workflow of TVM's PR #6748, at small scale."""

import subprocess
import sys
from pathlib import Path

import pytest
from tvm import relax

import bench
from examples.resnet_int4_hwnc import check, recast_network

ROOT = Path(__file__).parents[2]
SMALL = {"batch": 3, "image": 64, "width": 0.125}


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_int4_layers_are_exact_and_only_the_skipped_one_remains(depth: int) -> None:
    network = recast_network(f"resnet{depth}", **SMALL)
    assert network.layers == depth
    assert [layer.why_kept for layer in network.layouts if layer.why_kept] == ["it is skipped"]
    transformed = bench.transform(network.module, "tensorcore")
    remaining = {layer.name: layer.why_not for layer in transformed.report if not layer.instruction}
    assert remaining == {"conv1": "its data is float32; the kernel takes int8 or uint8 or int4 or uint4"}
    instructions = {layer.instruction for layer in transformed.report} - {None}
    assert instructions == {"wmma.mma m8n8k32 s4"}
    assert len(transformed.report) == {18: 21, 50: 54}[depth]
    assert check(network, transformed) is None


def test_layers_are_converted_and_recast() -> None:
    network = recast_network("resnet18", **SMALL)
    calls = [binding.value for block in network.module["main"].body.blocks for binding in block.bindings]
    layers = [call for call in calls if isinstance(call, relax.Call) and call.op.name == "relax.nn.conv2d"]
    described = [(str(layer.attrs.data_layout), str(layer.args[0].ty.dtype)) for layer in layers]
    assert described == [("NCHW", "float32")] + [("HWNC", "int4")] * 19


def run_script(*options: str) -> str:
    small = ["--batch", "1", "--image", "64", "--width", "0.0625", "--check"]
    outcome = subprocess.run(
        [sys.executable, "examples/resnet_int4_hwnc.py", *small, *options],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "NumPy, through the instruction model: exact" in outcome.stdout
    return outcome.stdout


def test_the_script_prints_every_layer() -> None:
    printed = run_script()
    assert "resnet18: 18 layers deep" in printed
    assert "layout: layer 0 conv1: NCHW OIHW kept: it is skipped" in printed
    assert printed.count("wmma.mma m8n8k32 s4") == 20
    assert "host: its data is float32" in printed
    assert "20 of 21 layers on tensor cores" in printed


@pytest.mark.slow
@pytest.mark.parametrize("device", ["host", "sim"])
@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_the_script_is_exact_on_a_device(dtype: str, device: str) -> None:
    assert f"device {device}: exact" in run_script("--dtype", dtype, "--device", device)
