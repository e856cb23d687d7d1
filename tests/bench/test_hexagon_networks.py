"""Whole networks as Hexagon code: every layer and every other operator, and what they cost."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax

from bench import workloads
from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.flows.hexagon import HexagonFlow
from bench.passes import quantize, quantize_input
from bench.passes.lift_kernels import bindings_of
from bench.reports.table import packets_per_count
from bench.workload_run import run_workload
from simulators.hvx import qemu

NETWORKS = {
    # workload, its options, data type of the quantisation, layers
    "digits, signed data": ("digits", {"batch": 4}, "int8", 5),
    "digits": ("digits", {"batch": 4}, "mixed", 5),
    "mobilenetv2": ("mobilenetv2", {"image": 32, "width": 0.25}, "mixed", 53),
    "mobilenetv2, signed data": ("mobilenetv2", {"image": 32, "width": 0.25}, "int8", 53),
    "resnet50": ("resnet50", {"image": 32, "width": 0.125}, "mixed", 54),
    "yolo_head": ("yolo_head", {"image": 32}, "mixed", 6),
    "unet_small": ("unet_small", {"image": 32}, "mixed", 13),
}


def host_operators(module: tvm.IRModule) -> list[str]:
    """What ``main`` computes by itself: all that is no call of a kernel."""
    values = [each.value for each in bindings_of(module["main"])]
    calls = [value for value in values if isinstance(value, relax.Call)]
    assert all(isinstance(value, relax.Call | relax.Var) for value in values)
    return [call.op.name for call in calls if isinstance(call.op, tvm.ir.Op)]


IN_AND_OUT = ["relax.nn.pad", "relax.reshape", "relax.permute_dims", "relax.reshape", "relax.strided_slice"]
"""The input into its layout, the flattening before the dense layer, and the cut of its result."""


def moves(module: tvm.IRModule) -> list[str]:
    """The operators in the kernels that ``main`` calls which move elements and compute nothing, in order."""
    called = [
        each.value.op.name_hint
        for each in bindings_of(module["main"])
        if isinstance(each.value, relax.Call) and isinstance(each.value.op, relax.GlobalVar)
    ]
    inside = [each.value for kernel in called for each in bindings_of(module[kernel])]
    operators = [value.op.name for value in inside if isinstance(value, relax.Call)]
    return [name for name in operators if name in {*IN_AND_OUT, "relax.concat", "relax.repeat"}]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_and_every_operator_is_a_kernel(network: str) -> None:
    """From the input as it comes to the result as it goes, nothing is left to the host."""
    name, options, data_dtype, layers = NETWORKS[network]
    workload = workloads.load(name, **options)
    module = quantize(workload.module, workload.calibration, data_dtype=data_dtype)
    flow = HexagonFlow()
    transformed = flow.transform(module)
    assert [layer.why_not for layer in transformed.report] == [None] * layers
    assert transformed.on_host == {}
    assert host_operators(transformed.mod) == []
    if name in ("digits", "mobilenetv2", "resnet50"):
        assert moves(transformed.mod) == IN_AND_OUT
    data = quantize_input(module, workload.images)
    original = evaluate_all(module, data)
    after = evaluate_all(transformed.mod, data, overrides=flow.overrides)
    assert find_pass_mismatch(transformed, after, original) is None


RUNS = {
    # options, most packets per vrmpy over all convolutions; at 32 pixels most of MobileNetV2 is overhead
    "mobilenetv2": ({"image": 32}, 1.95),
    "resnet50": ({"image": 224}, 0.60),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(qemu.available() is not None, reason=str(qemu.available()))
@pytest.mark.parametrize("name", RUNS)
def test_a_network_is_exact_on_the_machine(name: str) -> None:
    options, most = RUNS[name]
    verdict = run_workload(workloads.load(name, **options), "hexagon")
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert all(layer.instruction and layer.verdict == "exact" for layer in verdict.layers)
    convolutions = [layer for layer in verdict.layers if layer.operator == "conv2d"]
    assert packets_per_count(convolutions) <= most
