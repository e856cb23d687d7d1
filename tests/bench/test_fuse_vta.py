"""The composites of a packed graph: what each takes, and that the values stay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from bench.evaluate import evaluate
from bench.passes import float_ends, fuse_vta, graph_pack
from bench.passes.fuse_vta import PATTERNS
from bench.passes.lift_kernels import bindings_of
from tests.bench.integer_graphs import full_range
from tests.bench.test_graph_pack import BLOCKS, GRAPHS, Graph, graph


def composites(mod: tvm.IRModule) -> list[str]:
    """The functions that ``main`` calls, in order."""
    calls = [binding.value for binding in bindings_of(mod["main"])]
    return [call.op.name_hint for call in calls if isinstance(getattr(call, "op", None), relax.GlobalVar)]


def fused(build, shape=(2, 3, 8, 8), **options) -> tvm.IRModule:  # type: ignore[no-untyped-def]
    """Pack and fuse, and hold the result to the plain graph."""
    module = graph(build, shape)
    result = fuse_vta(graph_pack(module, 1, 16, 8, **options))
    relax.analysis.well_formed(result)
    data = full_range(np.random.default_rng(1), shape, "int8")
    np.testing.assert_array_equal(evaluate(result, data), evaluate(module, data))
    return result


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_fused_graph_keeps_its_values(name: str, blocks: tuple[int, int]) -> None:
    build, shape = GRAPHS[name]
    module = graph(build, shape)
    data = full_range(np.random.default_rng(1), shape, "int8")
    result = fuse_vta(graph_pack(module, *blocks))
    np.testing.assert_array_equal(evaluate(result, data), evaluate(module, data))


def test_a_function_may_have_more_than_one_convolution() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        one = g.int8(g.conv(data, 20, name="conv1"), "one")
        two = g.int8(g.conv(one, 33, strides=(2, 2), name="conv2"), "two")
        return g.int8(g.conv(two, 7, kernel=1, name="conv3"), "three")

    result = fused(build)
    assert composites(result) == [
        "vta_reshape_transpose__0",
        *(f"vta_conv2d__{number}" for number in (1, 2, 3)),
    ]
    kernels = [
        list(result[f"vta_conv2d__{number}"].attrs["ConvAttrs"]["kernel_size"]) for number in (1, 2, 3)
    ]
    strides = [list(result[f"vta_conv2d__{number}"].attrs["ConvAttrs"]["strides"]) for number in (1, 2, 3)]
    assert (kernels, strides) == ([[3, 3], [3, 3], [1, 1]], [[1, 1], [2, 2], [1, 1]])


def test_two_equal_layers_are_two_functions() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        return g.int8(g.conv(g.int8(g.conv(data, 16, name="conv1"), "one"), 16, name="conv2"), "two")

    result = fused(build, (1, 16, 6, 6))
    assert composites(result) == ["vta_reshape_transpose__0", "vta_conv2d__1", "vta_conv2d__2"]
    assert [str(result[f"vta_conv2d__{n}"].attrs["Result"]) for n in (1, 2)] == ["one", "two"]


def test_what_two_read_stays_outside_of_a_composite() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        conv = g.conv(data, 20)
        one, two = g.int8(conv, "one"), g.emit("two", relax.op.astype(conv, "int8"))
        return g.emit("end", relax.op.maximum(one, two))

    result = fused(build)
    assert composites(result) == ["vta_reshape_transpose__0", "vta_conv2d__1"]
    assert result["vta_conv2d__1"].attrs["PartitionedFromPattern"] == "nn.conv2d_"


def test_a_layer_without_a_cast_ends_with_its_arithmetic() -> None:
    result = fused(lambda g, data: g.emit("bias", relax.op.add(g.conv(data, 20), g.constant((20, 1, 1)))))
    assert result["vta_conv2d__1"].attrs["PartitionedFromPattern"] == "nn.conv2d_add_"


def test_a_plain_convolution_is_no_composite() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        return g.conv(g.int8(g.conv(data, 20, name="first")), 5, name="second")

    result = fused(build, stop="second")
    assert composites(result) == ["vta_reshape_transpose__0", "vta_conv2d__1"]
    names = [binding.var.name for binding in bindings_of(result["main"])]
    assert "second" in names


def test_unpacking_stays_in_main() -> None:
    result = fused(lambda g, data: g.conv(data, 20))
    calls = [binding.value for binding in bindings_of(result["main"])]
    operators = [call.op.name for call in calls if isinstance(getattr(call, "op", None), tvm.ir.Op)]
    assert operators == ["relax.permute_dims", "relax.reshape", "relax.strided_slice"]


def test_a_graph_without_a_match_is_left_as_it_is() -> None:
    module = graph(lambda g, data: g.emit("sum", relax.op.add(data, data)))
    assert [variable.name_hint for variable in fuse_vta(module).functions] == ["main"]


def test_the_example_of_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "vta_passes.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (each for each in examples if "fuse_vta" in each)
    names: dict[str, Any] = {}
    exec(example, names)
    plain = evaluate(float_ends(names["integers"]), names["network"].images)
    np.testing.assert_array_equal(names["scores"], plain)
    assert {name.partition("__")[0] for name in composites(names["fused"])} == set(PATTERNS)
