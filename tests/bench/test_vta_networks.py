"""Networks on the VTA machine, end to end: every tensor exact, and what stays on the host says why."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench import workloads
from bench.compare.verdict import Verdict
from bench.passes import quantize, quantize_input
from bench.passes.lift_kernels import bindings_of
from simulators.vta.config import Config
from tests.bench.integer_graphs import full_range
from tests.bench.test_graph_pack import Graph, graph, nhwc, residual, weight_of_the_graph

BATCH_4 = Config(LOG_BATCH=2, LOG_INP_BUFF_SIZE=17, LOG_ACC_BUFF_SIZE=19)
BATCH_4_BLOCK_8 = Config(
    LOG_BATCH=2, LOG_BLOCK=3, LOG_INP_BUFF_SIZE=16, LOG_WGT_BUFF_SIZE=16, LOG_ACC_BUFF_SIZE=18
)


def run(mod: tvm.IRModule, shape: tuple[int, ...], device: str = "sim", **options) -> Verdict:  # type: ignore[no-untyped-def]
    data = full_range(np.random.default_rng(3), shape, "int8")
    return bench.run(mod, data, "vta", device, **options)


def run_network(name: str, *, batch: int = 1, options: dict[str, object] | None = None, **load) -> Verdict:  # type: ignore[no-untyped-def]
    workload = workloads.load(name, batch=batch, **load)
    integers = quantize(workload.module, workload.calibration, scheme="pow2")
    return bench.run(integers, quantize_input(integers, workload.images), "vta", **(options or {}))


def why_not(mod: tvm.IRModule, **options) -> dict[str, str | None]:  # type: ignore[no-untyped-def]
    return {layer.name: layer.why_not for layer in bench.transform(mod, "vta", **options).report}


def assert_all_on_vta(verdict: Verdict) -> None:
    assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)
    assert {layer.instruction for layer in verdict.layers} == {"GEMM"}
    assert {layer.verdict for layer in verdict.layers} == {"exact"}


COUNTERS = {"yolo_head": (6_912, 4_000), "unet_small": (30_720, 12_992)}
"""GEMM and ALU micro-ops of docs/vta_passes.md: no more than that."""


def assert_no_more_than_measured(verdict: Verdict, name: str) -> None:
    counted = verdict.counters["gemm_counter"], verdict.counters["alu_counter"]
    assert all(now <= then for now, then in zip(counted, COUNTERS[name], strict=True)), counted


def test_255_channels_as_in_yolo() -> None:
    verdict = run_network("yolo_head", image=32)
    assert_all_on_vta(verdict)
    assert_no_more_than_measured(verdict, "yolo_head")
    assert verdict.layers[-1].shapes.startswith("1x64x4x4 * 255x64x1x1")


def test_a_small_unet_transposes_concatenates_and_upsamples_in_blocks() -> None:
    verdict = run_network("unet_small", image=16)
    assert_all_on_vta(verdict)
    assert_no_more_than_measured(verdict, "unet_small")
    assert [layer.operator for layer in verdict.layers].count("conv2d_transpose") == 1


def test_between_the_first_and_the_last_layer_of_a_unet_all_is_on_vta() -> None:
    workload = workloads.load("unet_small", batch=1, image=16)
    integers = quantize(workload.module, workload.calibration, scheme="pow2")
    transformed = bench.transform(integers, "vta")
    calls = [binding.value for binding in bindings_of(transformed.mod["main"])]
    kernels = [isinstance(getattr(call, "op", None), tvm.ir.GlobalVar) for call in calls]
    first, last = kernels.index(True), len(kernels) - 1 - kernels[::-1].index(True)
    assert all(kernels[first:last])
    # 13 layers, two poolings, a repetition and two concatenations.
    assert sum(kernels) == 13 + 5
    assert transformed.on_host == {}


def test_batch_4_on_a_configuration_of_batch_4() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        first = g.int8(g.emit("bias", relax.op.add(g.conv(data, 20), g.constant((1, 20, 1, 1)))), "first")
        return g.int8(g.conv(first, 7, name="second"), "end")

    module, shape = graph(build, (4, 3, 8, 8)), (4, 3, 8, 8)
    one, four = (run(module, shape, config=config) for config in (Config(), BATCH_4))
    assert_all_on_vta(one)
    assert_all_on_vta(four)
    # Four images meet each weight at once: a quarter of the GEMM micro-ops.
    assert four.counters["gemm_counter"] * 4 == one.counters["gemm_counter"]


@pytest.mark.slow
def test_digits_in_batches_of_four() -> None:
    assert_all_on_vta(run_network("digits", batch=8, options={"config": BATCH_4}))


@pytest.mark.slow
def test_depthwise_convolutions_of_mobilenet() -> None:
    assert_all_on_vta(run_network("mobilenetv2", image=32))


@pytest.mark.slow
def test_resnet_with_residual_additions() -> None:
    assert_all_on_vta(run_network("resnet18", image=32))


def arithmetic(g: Graph, data):  # type: ignore[no-untyped-def]
    """Every operator of the ALU, and numbers that its immediates do not hold."""
    result = g.emit("less", relax.op.subtract(g.conv(data, 20), g.constant((20, 1, 1))))
    result = g.emit("shifted", relax.op.left_shift(result, relax.const(np.int32(2))))
    result = g.emit("raised", relax.op.maximum(relax.const(np.int32(-100_000)), result))
    result = g.emit("limited", relax.op.clip(result, -90_000, 80_000))
    result = g.emit("scaled", relax.op.multiply(result, g.constant((1, 20, 1, 1))))
    result = g.emit("rounded", relax.op.add(relax.const(np.int32(1 << 23)), result))
    result = g.emit(
        "lowered", relax.op.minimum(relax.op.right_shift(result, relax.const(np.int32(24))), g.constant(()))
    )
    positive = g.emit("positive", relax.op.nn.relu(result))
    return g.emit("end", relax.op.astype(g.emit("clipped", relax.op.clip(positive, 0, 127)), "int8"))


def everything(g: Graph, data):  # type: ignore[no-untyped-def]
    """A residual, a concatenation with gaps, groups, a transposed convolution, then all of the ALU."""
    added = residual(g, data)
    joined = g.emit("joined", relax.op.concat([added, g.int8(g.conv(data, 5, kernel=1), "side")], axis=1))
    deep = g.int8(g.conv(joined, 22, groups=22, name="depthwise"), "deep")
    wide = g.int8(g.transposed(deep, 6, 4, strides=(2, 2), padding=(1, 1), groups=2), "wide")
    return arithmetic(g, wide)


@pytest.mark.parametrize(
    ("build", "shape"), [(nhwc, (2, 6, 7, 5)), (weight_of_the_graph, (2, 5, 6, 7))], ids=["NHWC", "weight"]
)
def test_other_ways_to_write_a_graph_are_taken_too(build, shape) -> None:  # type: ignore[no-untyped-def]
    def whole(g: Graph, data):  # type: ignore[no-untyped-def]
        result = build(g, data)
        return g.int8(result, "end") if str(result.ty.dtype) == "int32" else result

    module = graph(whole, shape)
    assert set(why_not(module).values()) == {None}


@pytest.mark.parametrize("device", ["sim", pytest.param("host", marks=pytest.mark.slow)])
def test_a_graph_of_everything_is_exact_with_all_layers_on_vta(device: str) -> None:
    shape = (2, 5, 4, 6)
    verdict = run(graph(everything, shape), shape, device)
    assert_all_on_vta(verdict)
    assert len(verdict.layers) == 6


def test_a_batch_that_does_not_fill_its_block_with_a_bias() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        bias = g.emit("bias", relax.op.add(g.conv(data, 20), g.constant((1, 20, 1, 1))))
        return g.int8(bias)

    shape = (3, 5, 6, 6)
    assert_all_on_vta(run(graph(build, shape), shape, config=BATCH_4_BLOCK_8))


def mixed(g: Graph, data):  # type: ignore[no-untyped-def]
    """Three layers of which VTA can compute the second."""
    first = g.conv(data, 20, name="first")
    image = g.constant((20, 6, 6))
    first = g.int8(g.emit("image", relax.op.add(first, image)), "one")
    second = g.int8(g.conv(first, 20, name="second"), "two")
    return g.conv(second, 7, name="third")


def test_what_vta_cannot_finish_stays_on_the_host_with_a_reason() -> None:
    module = graph(mixed, (1, 5, 6, 6))
    assert run(module, (1, 5, 6, 6)).verdict == "exact"
    assert why_not(module) == {
        "first": "relax.add has a constant of shape (20, 6, 6); "
        "VTA's ALU takes one value, or one for each channel",
        "second": None,
        "third": "its int32 result is used; VTA can store int8 only",
    }


def test_a_layer_that_no_program_fits_stays_on_the_host_with_the_reason() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        wide = g.int8(g.conv(data, 20, kernel=1, padding=(1, 1), name="wide"), "one")
        return g.int8(g.conv(wide, 7, name="second"), "two")

    reasons = why_not(graph(build, (1, 5, 6, 6)))
    assert "padding 1, 1 of the height: 0 to 0 (kernel 1) is possible" in str(reasons["wide"])
    assert reasons["second"] is None


def test_marks_keep_the_first_layer_on_the_host() -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        first = g.int8(g.conv(data, 20, name="first"), "one")
        return g.int8(g.conv(first, 7, name="second"), "two")

    reasons = why_not(graph(build, (1, 5, 6, 6)), start="one")
    assert reasons == {"first": "it stands outside of start and stop", "second": None}


def test_an_option_that_a_target_has_not_names_the_valid_ones() -> None:
    module = graph(mixed, (1, 5, 6, 6))
    with pytest.raises(ValueError, match="vta has no option block: config, start, stop"):
        run(module, (1, 5, 6, 6), block=8)
    with pytest.raises(ValueError, match="hexagon has no option config: it has none"):
        bench.transform(module, "hexagon", config=Config())
