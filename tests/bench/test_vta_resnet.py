"""ResNet-18 at full size on the VTA machine: exact, all of it on VTA, in little time and memory."""

from __future__ import annotations

import os
import resource

import pytest

import bench
from bench import workloads
from bench.passes import quantize, quantize_input

GIB = 1 << 30


@pytest.mark.slow
def test_resnet18_at_224_is_exact_under_two_gib_in_seconds() -> None:
    workload = workloads.load("resnet18")
    before = os.times()
    integers = quantize(workload.module, workload.calibration, scheme="pow2", data_dtype="int8")
    verdict = bench.run(integers, quantize_input(integers, workload.images), "vta")
    after = os.times()
    assert (verdict.verdict, verdict.mismatch) == ("exact", None)
    assert [layer.instruction for layer in verdict.layers] == ["GEMM"] * 21
    assert verdict.counters["gemm_counter"] <= 9_083_872
    # The four processor times of a process and of its children.
    assert sum(after[:4]) - sum(before[:4]) < 9
    for process in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        assert resource.getrusage(process).ru_maxrss * 1024 < 2 * GIB


@pytest.mark.slow
def test_between_the_first_and_the_last_layer_the_host_computes_nothing() -> None:
    workload = workloads.load("resnet18", image=64)
    integers = quantize(workload.module, workload.calibration, scheme="pow2", data_dtype="int8")
    transformed = bench.transform(integers, "vta")
    assert transformed.operators == ("maxpool_kernel", "avgpool_int32_kernel")
    assert transformed.on_host == {}
