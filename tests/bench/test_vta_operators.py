"""Between the layers: which operators are VTA's own kernels and exact, and what stays on the host."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench.compare.verdict import Verdict
from bench.devices.execution import execute
from bench.devices.here import execute_here
from bench.evaluate import evaluate
from bench.evaluate.instructions import vta
from bench.flows.transformed import Transformed
from bench.passes.lift_kernels import bindings_of
from simulators.vta.config import Config
from tests.bench.integer_graphs import full_range
from tests.bench.test_graph_pack import Graph, graph, upsampled
from tests.bench.test_graph_pack_residual import layer, wide

SHAPE = (2, 5, 7, 6)


def on_host(mod: tvm.IRModule) -> set[str]:
    """The operators of ``main`` that move or compute elements, but for those that pack and unpack."""
    calls = [binding.value for binding in bindings_of(mod["main"])]
    names = {call.op.name for call in calls if isinstance(getattr(call, "op", None), tvm.ir.Op)}
    return {
        name.removeprefix("relax.")
        for name in names - {"relax.reshape", "relax.permute_dims", "relax.strided_slice"}
    }


def run(build, device: str = "sim", **options) -> tuple[Verdict, Transformed]:  # type: ignore[no-untyped-def]
    module = graph(build, SHAPE)
    data = full_range(np.random.default_rng(4), SHAPE, "int8")
    # A device's process takes longer to start than these graphs to run.
    executor = execute_here if device == "sim" else execute
    verdict = bench.run(module, data, "vta", device, executor=executor, **options)
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    transformed = bench.transform(module, "vta", **options)
    # The verdict does not look into kernels: the models of the ALU make the same of them.
    result = evaluate(transformed.mod, data, overrides=vta.OVERRIDES)
    np.testing.assert_array_equal(result, evaluate(module, data))
    assert np.any(result)
    return verdict, transformed


def max_pooled(g: Graph, data):  # type: ignore[no-untyped-def]
    """Negative values beside the padding, which is below all of them."""
    low = g.emit("low", relax.op.minimum(g.conv(data, 20), relax.const(np.int32(-1))))
    pool = relax.op.nn.max_pool2d(g.int8(low, "inner"), (3, 2), strides=(2, 1), padding=(1, 1, 1, 0))
    return layer(g, g.emit("pool", pool), "last")


def averaged(g: Graph, data):  # type: ignore[no-untyped-def]
    """The mean of all positions: a sum, a factor for each channel, a rounded shift; then a dense layer."""
    inner = wide(g, layer(g, data, "first"))
    total = g.emit("total", relax.op.sum(inner, axis=[2, 3]))
    factor = relax.const(np.arange(780, 800, dtype=np.int32))
    rounded = g.emit(
        "rounded", relax.op.add(relax.op.multiply(total, factor), relax.const(np.int32(1 << 14)))
    )
    mean = g.int8(g.emit("mean", relax.op.right_shift(rounded, relax.const(np.int32(6)))), "pooled")
    return g.int8(g.dense(mean, 7), "end")


def kept_in_place(g: Graph, data):  # type: ignore[no-untyped-def]
    """As `averaged`, but with height and width of one, and a convolution."""
    inner = wide(g, layer(g, data, "first"))
    total = g.emit("total", relax.op.sum(inner, axis=[2, 3], keepdims=True))
    return layer(g, g.int8(total, "pooled"), "last")


def residual_of_two_pools(g: Graph, data):  # type: ignore[no-untyped-def]
    """An addition that no layer stands before."""
    inner = layer(g, data, "first")
    sides = [
        g.emit(name, relax.op.nn.max_pool2d(inner, (size, size), padding=(size // 2,) * 2))
        for name, size in (("small", 1), ("large", 3))
    ]
    total = g.emit("total", relax.op.add(wide(g, sides[0], 8), wide(g, sides[1], 9)))
    return layer(g, g.int8(total, "added"), "last")


def of_many_readers(g: Graph, data):  # type: ignore[no-untyped-def]
    """A layer's result that two read, one of them behind arithmetic with one value a channel."""
    inner = layer(g, data, "first")
    scaled = g.emit("scaled", relax.op.multiply(wide(g, inner), g.constant((1, 20, 1, 1))))
    lifted = g.emit("lifted", relax.op.right_shift(scaled, relax.const(np.int32(20))))
    limited = g.int8(g.emit("limited", relax.op.nn.relu(lifted)), "arithmetic")
    joined = g.emit("joined", relax.op.maximum(wide(g, limited), wide(g, inner)))
    return layer(g, g.emit("joined_int8", relax.op.astype(joined, "int8")), "last")


def enlarged(g: Graph, data):  # type: ignore[no-untyped-def]
    """Rows repeated, columns repeated, then both at once."""
    inner = g.emit("rows", relax.op.repeat(layer(g, data, "first"), 2, axis=2))
    inner = g.emit("columns", relax.op.repeat(inner, 3, axis=3))
    return layer(g, upsampled(g, inner), "last")


def joined(g: Graph, data):  # type: ignore[no-untyped-def]
    """Parts whose last block is not full, one of them twice; behind it a pooling, and rows joined."""
    one, two = layer(g, data, "first"), layer(g, data, "second")
    both = g.emit("both", relax.op.concat([one, two, one], axis=1))
    pool = g.emit("pool", relax.op.nn.max_pool2d(both, (2, 2)))
    tall = g.emit("tall", relax.op.concat([pool, pool], axis=2))
    return layer(g, tall, "last")


def joined_and_dense(g: Graph, data):  # type: ignore[no-untyped-def]
    """Features side by side, without height and width."""
    inner = layer(g, data, "first")
    features = [
        g.int8(g.emit(name, relax.op.sum(wide(g, each), axis=[2, 3])), f"{name}_int8")
        for name, each in (("small", inner), ("large", layer(g, inner, "second")))
    ]
    return g.int8(g.dense(g.emit("both", relax.op.concat(features, axis=1)), 7), "end")


def padded(g: Graph, data):  # type: ignore[no-untyped-def]
    """With zeros, then with another number."""
    inner = g.emit("zeros", relax.op.nn.pad(layer(g, data, "first"), [0, 0, 0, 0, 1, 2, 0, 3]))
    around = [0, 0, 0, 0, 2, 0, 1, 1]
    return layer(g, g.emit("sevens", relax.op.nn.pad(inner, around, pad_value=-7)), "last")


def moved(g: Graph, data):  # type: ignore[no-untyped-def]
    """All of the moves."""
    inner = g.emit("rows", relax.op.repeat(layer(g, data, "first"), 2, axis=2))
    inner = g.emit("around", relax.op.nn.pad(inner, [0, 0, 0, 0, 2, 0, 1, 1], pad_value=5))
    return layer(g, g.emit("both", relax.op.concat([inner, inner], axis=1)), "last")


KERNELS = [
    (enlarged, ["rows_kernel", "columns_kernel", "up_kernel"]),
    (joined, ["both_kernel", "pool_kernel", "tall_kernel"]),
    (joined_and_dense, ["wide_kernel", "both_kernel"]),
    (padded, ["zeros_kernel", "sevens_kernel"]),
    (max_pooled, ["pool_kernel"]),
    (averaged, ["wide_kernel"]),
    (kept_in_place, ["wide_kernel"]),
    (residual_of_two_pools, ["small_kernel", "large_kernel", "wide_kernel"]),
    (of_many_readers, ["wide_kernel", "wide1_kernel"]),
]


@pytest.mark.parametrize(("build", "kernels"), KERNELS, ids=[build.__name__ for build, _ in KERNELS])
def test_all_between_the_layers_is_vtas(build, kernels: list[str]) -> None:  # type: ignore[no-untyped-def]
    verdict, transformed = run(build)
    assert list(transformed.operators) == kernels
    assert on_host(transformed.mod) <= {"nn.pad"}, "only the input's channels are padded"
    assert {each.severity for each in verdict.findings} <= {"warning"}


@pytest.mark.parametrize(
    "build",
    [max_pooled, residual_of_two_pools, moved],
    ids=lambda build: build.__name__,
)
def test_they_are_the_same_as_plain_code_and_for_four_images_at_once(build) -> None:  # type: ignore[no-untyped-def]
    run(build, "host")
    run(build, config=Config(LOG_BATCH=2, LOG_INP_BUFF_SIZE=17, LOG_ACC_BUFF_SIZE=19))


def joined_int32(g: Graph, data):  # type: ignore[no-untyped-def]
    """Accumulators that are joined before they are narrowed."""
    inner = layer(g, data, "first")
    both = g.emit("both", relax.op.concat([wide(g, inner), wide(g, inner, 2)], axis=1))
    return layer(g, g.int8(both, "narrow"), "last")


def enlarged_by_no_whole_factor(g: Graph, data):  # type: ignore[no-untyped-def]
    inner = layer(g, data, "first")
    size = [int(inner.ty.shape[2]) + 3, int(inner.ty.shape[3])]
    way = {"coordinate_transformation_mode": "asymmetric", "rounding_method": "floor"}
    up = relax.op.image.resize2d(inner, size, layout="NCHW", method="nearest_neighbor", **way)
    return layer(g, g.emit("up", up), "last")


def dilated(g: Graph, data):  # type: ignore[no-untyped-def]
    pool = relax.op.nn.max_pool2d(layer(g, data, "first"), (2, 2), dilation=(2, 2))
    return layer(g, g.emit("pool", pool), "last")


def image_added(g: Graph, data):  # type: ignore[no-untyped-def]
    """A constant with a value for each pixel."""
    total = g.emit("total", relax.op.add(wide(g, layer(g, data, "first")), g.constant((20, 7, 6))))
    return layer(g, g.int8(total, "added"), "last")


NO_CHAIN = "it is in no chain from int8 to int8 with numbers, values a channel or int8 tensors"


@pytest.mark.parametrize(
    ("build", "kernels", "reasons"),
    [
        (
            joined_int32,
            (),
            dict.fromkeys(
                ("wide", "wide1", "aligned", "narrow_shifted", "narrow_clipped", "narrow"), NO_CHAIN
            )
            | {"both": "VTA moves int8, and this is int32"},
        ),
        (
            enlarged_by_no_whole_factor,
            (),
            {"up": "VTA repeats rows and columns; this is nearest_neighbor from 7x6 to 10x6"},
        ),
        (
            image_added,
            (),
            dict.fromkeys(("wide", "total", "added_shifted", "added_clipped", "added"), NO_CHAIN),
        ),
        (dilated, (), {"pool": "VTA's pooling has neither dilation nor ceil_mode"}),
    ],
    ids=["int32", "factor", "constant", "dilation"],
)
def test_what_vta_cannot_run_stays_on_the_host_with_the_reason(  # type: ignore[no-untyped-def]
    build, kernels: tuple[str, ...], reasons: dict[str, str]
) -> None:
    _, transformed = run(build)
    assert transformed.operators == kernels
    assert transformed.on_host == reasons
