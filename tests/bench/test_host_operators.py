"""What of a transformed graph the host computes is reported for every target, with a reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench.compare.verdict import HostOperator, LayerVerdict, Verdict
from bench.flows.flow import TARGETS
from bench.flows.host_operators import host_operators
from bench.passes.lift_kernels import bindings_of
from bench.reports.table import host_table
from tests.bench.test_graph_pack import Graph, graph
from tests.bench.test_pipeline import graph as layer_of

SHAPES = "it changes a shape or a layout"
BLOCKS = "it fills a tensor up to whole blocks, or pads a plain one"


def operators_in(mod: tvm.IRModule) -> list[str]:
    calls = [binding for binding in bindings_of(mod["main"]) if isinstance(binding.value, relax.Call)]
    return [binding.var.name for binding in calls if isinstance(binding.value.op, tvm.ir.Op)]


@pytest.mark.parametrize("target", TARGETS)
def test_every_operator_that_is_no_kernel_is_named_with_a_reason(target: str) -> None:
    module, _ = layer_of(target)
    transformed = bench.transform(module, target)
    found = host_operators(transformed)
    assert [each.name for each in found] == operators_in(transformed.mod)
    assert all(each.why for each in found)


def between(g: Graph, data):  # type: ignore[no-untyped-def]
    """A layer that VTA cannot finish, an operator that it cannot do, and two layers around them."""
    first = g.int8(g.conv(data, 20, name="first"), "one")
    pool = g.emit("pool", relax.op.nn.max_pool2d(first, (2, 2), dilation=(2, 2)))
    second = g.int8(g.conv(pool, 20, name="second"), "two")
    return g.conv(second, 7, name="third")


def test_reasons_are_those_of_the_target_and_of_the_layers() -> None:
    transformed = bench.transform(graph(between, (1, 5, 6, 6)), "vta")
    reasons = {each.operator: each.why for each in host_operators(transformed) if each.why != SHAPES}
    assert reasons == {
        "nn.pad": BLOCKS,
        "nn.max_pool2d": "VTA's pooling has neither dilation nor ceil_mode",
        "nn.conv2d": "its int32 result is used; VTA can store int8 only",
    }


def test_what_a_target_has_no_reason_for_no_kernel_computes() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        return g.emit("pool", relax.op.nn.max_pool2d(g.conv(data, 20), (2, 2)))

    transformed = bench.transform(graph(build, (1, 5, 6, 6)), "tensorcore")
    (pool,) = (each for each in host_operators(transformed) if each.name == "pool")
    assert pool == HostOperator("pool", "nn.max_pool2d", "no kernel of tensorcore computes it")


def test_a_verdict_has_them_and_so_has_its_json() -> None:
    module, inputs = layer_of("vta")
    verdict = bench.run(module, inputs, "vta", "host")
    assert verdict.on_host
    content = json.loads(json.dumps(verdict.to_json()))
    assert content["on_host"] == [vars(each) for each in verdict.on_host]
    assert set(content["on_host"][0]) == {"name", "operator", "why"}
    assert isinstance(inputs, np.ndarray)


def test_the_table_has_a_row_for_each_operator_and_reason() -> None:
    layer = LayerVerdict("conv", "conv2d", "", "GEMM")
    left = [HostOperator(f"pad{number}", "nn.pad", BLOCKS) for number in range(5)]
    left += [HostOperator("up", "repeat", "none"), HostOperator("plain", "reshape", SHAPES)]
    rows = host_table(Verdict("", "vta", "sim", "exact", layers=[layer], on_host=left)).splitlines()
    assert rows[0].split() == ["on", "the", "host", "count", "tensors", "why"]
    assert [row.split()[:2] for row in rows[2:]] == [["reshape", "1"], ["nn.pad", "5"], ["repeat", "1"]]
    assert "pad0, pad1, pad2, …" in rows[3]
    assert rows[3].endswith(BLOCKS)
