"""Operators between the layers become kernels of their own, where the target has them."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.compare.mismatch import find_pass_mismatch
from bench.devices.execution import execute
from bench.evaluate import evaluate_all
from bench.flows.hexagon import HexagonFlow
from bench.flows.transformed import Transformed
from bench.lowering import lower_for_machine
from bench.machine_files import HEXAGON_PROGRAM, HEXAGON_SHAPES
from bench.operators import requantize
from bench.passes.lift_kernels import bindings_of
from bench.passes.lift_operators import lift_operators
from bench.pipeline import calls_by_result, run
from simulators.hvx import qemu
from tests.bench.integer_graphs import MULTIPLIER, full_range, module_of

needs_qemu = pytest.mark.skipif(qemu.available() is not None, reason=str(qemu.available()))

SHAPE = (2, 64, 12, 12)


@cache
def network() -> tvm.IRModule:
    """Two layers of 40 channels, with every kind of operator that has a kernel between them."""
    rng = np.random.default_rng(0)

    def convolved(emit, name, data, channels):  # type: ignore[no-untyped-def]
        weight = full_range(rng, (channels, int(data.ty.shape[1]), 1, 1), "int8")
        conv = emit(name, relax.op.nn.conv2d(data, relax.const(weight), out_dtype="int32"))
        bias = rng.integers(-(2**16), 2**16, (1, channels, 1, 1), dtype=np.int32)
        return emit(f"{name}_bias", relax.op.add(conv, relax.const(bias)))

    def rescaled(emit, name, accumulator):  # type: ignore[no-untyped-def]
        channels = int(accumulator.ty.shape[1])
        multiplier = relax.const(np.full(channels, MULTIPLIER, np.int32))
        shift = relax.const(np.arange(channels, dtype=np.int32) % 3 - 10)
        return emit(name, requantize(accumulator, multiplier, shift, axis=1, out_dtype="uint8"))

    def scalar(value: int):  # type: ignore[no-untyped-def]
        return relax.const(np.int32(value))

    def build(emit, data):  # type: ignore[no-untyped-def]
        one = emit("relu", relax.op.nn.relu(convolved(emit, "conv1", data, 40)))
        one = emit("maximum", relax.op.maximum(one, scalar(64)))
        one = rescaled(emit, "one", one)
        pooled = emit("pool", relax.op.nn.max_pool2d(one, (3, 3), (2, 2), (1, 1, 1, 1)))
        two = rescaled(emit, "two", convolved(emit, "conv2", pooled, 40))
        wide = [
            emit(f"{name}_wide", relax.op.astype(tensor, "int32"))
            for name, tensor in (("one", pooled), ("two", two))
        ]
        total = emit("residual", relax.op.subtract(*wide))
        total = emit("scaled", relax.op.multiply(total, scalar(77)))
        total = emit("shifted", relax.op.right_shift(total, scalar(3)))
        total = emit("clipped", relax.op.clip(total, -100, 3000))
        # The same operator on the same shapes as before.
        total = emit("again", relax.op.maximum(total, emit("two_wide_again", relax.op.astype(two, "int32"))))
        result = rescaled(emit, "three", convolved(emit, "conv3", rescaled(emit, "last", total), 40))
        return emit("sum", relax.op.sum(emit("result_wide", relax.op.astype(result, "int32")), axis=[2, 3]))

    return module_of({"data": (SHAPE, "uint8")}, build)


@cache
def transformed() -> Transformed:
    return HexagonFlow().transform(network())


def data() -> np.ndarray:
    return full_range(np.random.default_rng(1), SHAPE, "uint8")


def calls(mod: tvm.IRModule) -> list[relax.VarBinding]:
    return [each for each in bindings_of(mod["main"]) if isinstance(each.value, relax.Call)]


def kernel_operators(mod: tvm.IRModule, kernel: str) -> list[str]:
    return [each.value.op.name for each in bindings_of(mod[kernel]) if isinstance(each.value, relax.Call)]


def test_every_operator_is_a_kernel() -> None:
    assert not [each for each in calls(transformed().mod) if isinstance(each.value.op, tvm.ir.Op)]
    assert transformed().on_host == {}
    lifted = {
        operator for name in transformed().operators for operator in kernel_operators(transformed().mod, name)
    }
    assert lifted == {
        "bitexact.requantize",
        "relax.add",
        "relax.astype",
        "relax.clip",
        "relax.maximum",
        "relax.multiply",
        "relax.nn.max_pool2d",
        "relax.nn.relu",
        "relax.permute_dims",
        "relax.reshape",
        "relax.right_shift",
        "relax.strided_slice",
        "relax.subtract",
        "relax.sum",
    }


def test_what_has_no_kernel_stays_on_the_host_with_the_reason() -> None:
    weight = relax.const(np.ones((32, 32, 1, 1), np.int8))

    def build(emit, data):  # type: ignore[no-untyped-def]
        conv = emit("conv", relax.op.nn.conv2d(data, weight, out_dtype="int32"))
        ceiled = emit("ceiled", relax.op.nn.max_pool2d(conv, (2, 2), (2, 2), ceil_mode=True))
        return emit("negated", relax.op.negative(ceiled))

    module = module_of({"data": ((1, 32, 5, 5), "uint8")}, build)
    after = HexagonFlow().transform(module)
    assert after.on_host == {
        "ceiled": "the kernel takes NCHW32c without dilation, its size rounded down",
        "negated": "there is no Hexagon kernel for relax.negative",
    }


def test_a_concatenation_of_a_tensor_with_itself_is_a_kernel_of_two() -> None:
    weight = relax.const(np.ones((32, 32, 1, 1), np.int8))

    def build(emit, data):  # type: ignore[no-untyped-def]
        twice = emit("twice", relax.op.concat([data, data], axis=-1))
        return emit("conv", relax.op.nn.conv2d(twice, weight, out_dtype="int32"))

    module = module_of({"data": ((1, 32, 5, 5), "uint8")}, build)
    after = HexagonFlow().transform(module)
    assert after.on_host == {}
    image = full_range(np.random.default_rng(2), (1, 32, 5, 5), "uint8")
    before, now = evaluate_all(module, image), evaluate_all(after.mod, image)
    assert find_pass_mismatch(after, now, before) is None


def test_kernels_of_layers_stay_as_they_were() -> None:
    for layer in transformed().report:
        assert kernel_operators(transformed().mod, str(layer.kernel)) == ["bitexact.conv2d"]
    assert not {layer.kernel for layer in transformed().report} & set(transformed().operators)


def test_constants_have_as_many_dimensions_as_the_result() -> None:
    seen = 0
    for binding in calls(transformed().mod):
        if getattr(binding.value.op, "name_hint", None) not in transformed().operators:
            continue
        for argument in binding.value.args:
            if isinstance(argument, GenericConst):
                assert argument.value.numpy().ndim == len(binding.value.ty.shape)
                seen += 1
    assert seen >= 12


def test_the_values_stay() -> None:
    original, after = evaluate_all(network(), data()), evaluate_all(transformed().mod, data())
    assert find_pass_mismatch(transformed(), after, original) is None


def test_nothing_is_lifted_where_there_is_no_kernel() -> None:
    module, names = lift_operators(network(), lambda _binding, _chain: 0)
    assert names == ()
    assert [each.value.op.name for each in calls(module)] == [each.value.op.name for each in calls(network())]


def test_a_chain_is_one_kernel_only_as_far_as_it_is_read_once() -> None:
    """The widened tensor that is summed is inside; one with two readers would have to be a result."""
    pairs = [
        operators
        for name in transformed().operators
        if len(operators := kernel_operators(transformed().mod, name)) > 1
    ]
    assert pairs == [["relax.astype", "relax.sum"]]


def test_alike_operators_share_a_function() -> None:
    """The biases of 12x12 and 6x6 differ, the second and the third are alike; each name is given once."""
    called = [getattr(each.value.op, "name_hint", None) for each in calls(transformed().mod)]
    assert max(called.count(name) for name in transformed().operators) > 1
    assert len(set(transformed().operators)) == len(
        {name for name in called if name in transformed().operators}
    )


@pytest.mark.parametrize("device", ["host", pytest.param("sim", marks=needs_qemu)])
def test_devices_compute_the_same(device: str) -> None:
    verdict = run(network(), data(), "hexagon", device)
    assert (verdict.verdict, verdict.reason) == ("exact", None)


@pytest.fixture(scope="module")
def machine_files() -> dict[str, bytes]:
    return HexagonFlow().machine_files(transformed())


@needs_qemu
def test_each_call_of_a_shared_function_is_counted(machine_files: dict[str, bytes]) -> None:
    artifact = lower_for_machine(transformed().mod, machine_files, target="hexagon")
    execution = execute(artifact, {"data": data()}, device="sim")
    names = calls_by_result(transformed())
    assert set(execution.counters) == set(names.values())
    shared = [name for name in names.values() if name.endswith("#2")]
    assert shared
    for name in shared:
        first, second = execution.counters[name.removesuffix("#2")], execution.counters[name]
        assert first["packets"] > 0
        assert first["packets"] == second["packets"]


@needs_qemu
@pytest.mark.parametrize("seed", [0, 1, 2, 2**32 - 1])
def test_the_order_of_parallel_tasks_does_not_matter(machine_files: dict[str, bytes], seed: int) -> None:
    values = {"data": data(), **evaluate_all(transformed().mod, data())}
    shapes = json.loads(machine_files[HEXAGON_SHAPES])
    executed = set()
    with qemu.FunctionServer(machine_files[HEXAGON_PROGRAM]) as server:
        server.shuffle_tasks(seed)
        for binding in calls(transformed().mod):
            if isinstance(binding.value.op, tvm.ir.Op):
                continue
            kernel = binding.value.op.name_hint
            expected = values[binding.var.name]
            inputs = [
                each.value.numpy() if isinstance(each, GenericConst) else values[each.name]
                for each in binding.value.args
            ]
            known = shapes.get(kernel) or [array.shape for array in (*inputs, expected)]
            *inputs, expected = (
                np.ascontiguousarray(array).reshape(shape)
                for array, shape in zip((*inputs, expected), known, strict=True)
            )
            result = np.empty_like(expected)
            server.call(kernel, inputs, result)
            np.testing.assert_array_equal(result, expected, err_msg=binding.var.name)
            executed.add(kernel)
    assert executed >= set(transformed().operators)
