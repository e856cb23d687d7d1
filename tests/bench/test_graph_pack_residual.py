"""Residual additions on VTA: which of them the kernel of a layer computes, and which stay on the host."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench.evaluate import evaluate
from bench.evaluate.instructions import vta
from bench.flows.kernel import packed_kernels
from bench.flows.transformed import Transformed
from bench.flows.vta_epilogue import epilogue_of
from bench.passes.lift_kernels import bindings_of
from kernels.vta import Residual
from simulators.vta.config import Config
from tests.bench.integer_graphs import full_range
from tests.bench.test_graph_pack import Graph, graph

SHAPE = (1, 20, 6, 6)


def wide(g: Graph, data, shift: int = 0):  # type: ignore[no-untyped-def]
    """An int8 tensor widened, and shifted left."""
    tensor = g.emit("wide", relax.op.astype(data, "int32"))
    return g.emit("aligned", relax.op.left_shift(tensor, relax.const(np.int32(shift)))) if shift else tensor


def layer(g: Graph, data, name: str):  # type: ignore[no-untyped-def]
    return g.int8(g.conv(data, 20, name=name), f"{name}_int8")


def transformed(build, **options) -> Transformed:  # type: ignore[no-untyped-def]
    """The graph as VTA gets it, held to the plain one."""
    module = graph(build, SHAPE)
    result = bench.transform(module, "vta", **options)
    data = full_range(np.random.default_rng(1), SHAPE, "int8")
    expected = evaluate(module, data)
    np.testing.assert_array_equal(evaluate(result.mod, data, overrides=vta.OVERRIDES), expected)
    assert np.any(expected)
    return result


def epilogues(result: Transformed) -> dict[str, list[object]]:
    return {kernel.name: epilogue_of(kernel) for kernel in packed_kernels(result)}


def host_operators(mod: tvm.IRModule) -> set[str]:
    calls = [binding.value for binding in bindings_of(mod["main"])]
    return {call.op.name for call in calls if isinstance(getattr(call, "op", None), tvm.ir.Op)}


def block(g: Graph, data, *, shifts: tuple[int, int] = (0, 0), operator: str = "add"):  # type: ignore[no-untyped-def]
    """Two layers, and what came in added to what comes out."""
    inner = layer(g, layer(g, data, "first"), "second")
    total = getattr(relax.op, operator)(wide(g, inner, shifts[0]), wide(g, data, shifts[1]))
    return g.int8(g.emit("total", total))


@pytest.mark.parametrize("operator", ["add", "maximum", "minimum"])
def test_an_addition_of_what_came_in_is_the_last_layers(operator: str) -> None:
    result = transformed(lambda g, data: block(g, data, operator=operator))
    steps = epilogues(result)["second_kernel"]
    name = {"add": "add", "maximum": "max", "minimum": "min"}[operator]
    assert steps == [
        *[("shr", 9), ("min", 127), ("max", -127)],
        (name, Residual("argument2")),
        *[("shr", 9), ("min", 127), ("max", -127)],
    ]
    assert not {f"relax.{operator}", "relax.astype"} & host_operators(result.mod)
    assert result.report[1].result == "narrow"


def test_both_sides_may_be_shifted_to_one_scale() -> None:
    steps = epilogues(transformed(lambda g, data: block(g, data, shifts=(2, 3))))["second_kernel"]
    assert ("mul", 4) in steps
    assert ("add", Residual("argument2", 3)) in steps


def test_the_layers_own_data_may_be_added() -> None:
    def own(g: Graph, data):  # type: ignore[no-untyped-def]
        inner = wide(g, layer(g, data, "conv"))
        return g.int8(g.emit("total", relax.op.add(wide(g, data, 9), inner)))

    kernel = transformed(own).mod["conv_kernel"]
    assert [str(each.ty.dtype) for each in kernel.params] == ["int8", "int8", "int8"]


def test_two_layers_that_meet_are_computed_one_after_the_other() -> None:
    def meet(g: Graph, data):  # type: ignore[no-untyped-def]
        left, right = layer(g, data, "left"), layer(g, data, "right")
        return g.int8(g.emit("total", relax.op.add(wide(g, left, 6), wide(g, right, 7))))

    steps = epilogues(transformed(meet))
    assert ("add", Residual("argument2", 7)) in steps["left_kernel"]
    assert steps["right_kernel"] == [("shr", 9), ("min", 127), ("max", -127)]


def test_a_second_addition_behind_the_first() -> None:
    def twice(g: Graph, data):  # type: ignore[no-untyped-def]
        other = layer(g, data, "other")
        inner = layer(g, other, "conv")
        total = g.emit("total", relax.op.add(wide(g, inner, 3), wide(g, data, 4)))
        return g.int8(g.emit("more", relax.op.add(total, wide(g, other, 5))))

    steps = epilogues(transformed(twice))["conv_kernel"]
    assert [step for step in steps if isinstance(step[1], Residual)] == [  # type: ignore[index]
        ("add", Residual("argument2", 4)),
        ("add", Residual("argument3", 5)),
    ]


def not_clipped(g: Graph, data):  # type: ignore[no-untyped-def]
    """The cast cuts the sum off at 8 bits, which only STORE does."""
    cut = g.emit("cut", relax.op.astype(g.conv(data, 20), "int8"))
    return g.int8(g.emit("total", relax.op.add(wide(g, cut, 6), wide(g, data, 7))))


def another_reader(g: Graph, data):  # type: ignore[no-untyped-def]
    """The layer's own result is wanted too."""
    inner = layer(g, data, "conv")
    total = g.int8(g.emit("total", relax.op.add(wide(g, inner, 6), wide(g, data, 7))))
    return g.emit("end", relax.op.maximum(total, inner))


def stays_wide(g: Graph, data):  # type: ignore[no-untyped-def]
    """The sum leaves as int32, which VTA does not store."""
    return g.emit("total", relax.op.add(wide(g, layer(g, data, "conv")), wide(g, data)))


def twice_the_same(g: Graph, data):  # type: ignore[no-untyped-def]
    """One tensor, at two scales."""
    total = g.emit("total", relax.op.add(wide(g, layer(g, data, "conv"), 3), wide(g, data, 4)))
    return g.int8(g.emit("more", relax.op.add(total, wide(g, data, 5))))


def of_int32(g: Graph, data):  # type: ignore[no-untyped-def]
    """The other side never was int8."""
    other = g.emit("sum", relax.op.multiply(wide(g, data), wide(g, data)))
    return g.int8(g.emit("total", relax.op.add(wide(g, layer(g, data, "conv"), 6), other)))


@pytest.mark.parametrize("build", [not_clipped, another_reader, twice_the_same])
def test_what_the_layer_cannot_add_is_a_kernel_of_its_own(build) -> None:  # type: ignore[no-untyped-def]
    result = transformed(build)
    assert len(result.operators) == 1
    assert not {"relax.add", "relax.astype"} & host_operators(result.mod)
    assert result.report[0].instruction == "GEMM"


@pytest.mark.parametrize("build", [stays_wide, of_int32])
def test_what_no_kernel_can_add_stays_on_the_host(build) -> None:  # type: ignore[no-untyped-def]
    result = transformed(build)
    assert "relax.add" in host_operators(result.mod)
    assert result.report[0].instruction == "GEMM"


def test_a_kernel_that_cannot_hold_the_other_side_leaves_the_addition_alone() -> None:
    """Two accumulators: one of the layer's own, and one for a value a channel."""
    small = Config(LOG_ACC_BUFF_SIZE=7)

    def with_bias(g: Graph, data):  # type: ignore[no-untyped-def]
        biased = g.emit("bias", relax.op.add(g.conv(data, 20), g.constant((1, 20, 1, 1))))
        return g.int8(g.emit("total", relax.op.add(wide(g, g.int8(biased, "inner"), 6), wide(g, data, 7))))

    assert small.acc_depth == 2
    result = transformed(with_bias, config=small)
    assert result.report[0].instruction == "GEMM"
    assert not any(isinstance(step[1], Residual) for step in epilogues(result)["conv_kernel"])  # type: ignore[index]
    whole = epilogues(transformed(with_bias))["conv_kernel"]
    assert ("add", Residual("argument3", 7)) in whole
