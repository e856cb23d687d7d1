"""A packed graph holds the values of the integer graph, for every target and any number of channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from bench import workloads
from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.flows.flow import flow_for
from bench.flows.tensorcore import TensorCoreFlow
from bench.passes import quantize, quantize_input
from bench.passes.lift_kernels import bindings_of
from bench.pipeline import run
from tests.bench.integer_graphs import ConvCase, convolution, dense, full_range, module_of

TARGETS = ("tensorcore", "hexagon", "vta")

CASES = [
    ConvCase(batch=1, inputs=1, outputs=1, kernel=1, padding=(0, 0, 0, 0)),
    ConvCase(batch=8, inputs=16, outputs=32),
    ConvCase(batch=9, inputs=33, outputs=31),
    ConvCase(inputs=36, outputs=48),
    ConvCase(strides=(2, 1), padding=(0, 1, 2, 3)),
    ConvCase(size=7, strides=(2, 2), padding=(1, 0, 0, 1)),
]


def options(target: str) -> dict[str, str]:
    flow = flow_for(target)
    return {"scheme": flow.scheme, "data_dtype": flow.data_dtype}


def check(target, module, data):  # type: ignore[no-untyped-def]
    flow = flow_for(target)
    transformed = flow.transform(module)
    original = evaluate_all(module, data)
    for overrides in (None, flow.overrides):
        evaluated = evaluate_all(transformed.mod, data, overrides=overrides)
        assert find_pass_mismatch(transformed, evaluated, original) is None
    return transformed


CONVOLUTIONS = {
    case.identifier(target, options(target)["data_dtype"], "int8"): (target, case)
    for target in TARGETS
    for case in CASES
}


@pytest.mark.parametrize(("target", "case"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_keep_their_values(target: str, case: ConvCase) -> None:
    module = convolution(case, **options(target))
    shape = (case.batch, case.inputs, case.size, case.size)
    data = full_range(np.random.default_rng(1), shape, options(target)["data_dtype"])
    transformed = check(target, module, data)
    taken = [layer.kernel is not None for layer in transformed.report]
    # VTA's LOAD writes at most one kernel's worth of padding.
    too_much_padding = target == "vta" and max(case.padding) >= case.kernel
    assert taken == [not too_much_padding, True]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("batch", "inputs", "units"), [(1, 1, 1), (8, 16, 32), (9, 17, 33), (3, 64, 10)])
def test_dense_layers_keep_their_values(target: str, batch: int, inputs: int, units: int) -> None:
    module = dense(batch, inputs, units, **options(target))
    data = full_range(np.random.default_rng(1), (batch, inputs), options(target)["data_dtype"])
    assert check(target, module, data).report[0].kernel


@settings(max_examples=15)
@given(data=st.data(), target=st.sampled_from(TARGETS))
def test_any_convolution_keeps_its_values(data: st.DataObject, target: str) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    case = ConvCase(
        batch=draw(1, 3),
        inputs=draw(1, 40),
        size=draw(3, 6),
        outputs=draw(1, 40),
        kernel=draw(1, 3),
        strides=(draw(1, 2), draw(1, 2)),
        padding=(draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2)),
    )
    shape = (case.batch, case.inputs, case.size, case.size)
    values = full_range(np.random.default_rng(draw(0, 99)), shape, options(target)["data_dtype"])
    check(target, convolution(case, **options(target)), values)


@pytest.mark.parametrize("target", TARGETS)
def test_layers_in_a_row_stay_packed(target: str) -> None:
    """Between two convolutions stand elementwise operators only: no tensor is moved."""
    transformed = flow_for(target).transform(convolution(ConvCase(), **options(target)))
    names = [binding.var.name for binding in bindings_of(transformed.mod["main"])]
    first, second = (names.index(layer.result) for layer in transformed.report)
    between = [bindings_of(transformed.mod["main"])[position] for position in range(first + 1, second)]
    moving = {"relax.permute_dims", "relax.reshape", "relax.nn.pad", "relax.strided_slice"}
    assert not moving & {getattr(binding.value.op, "name", "") for binding in between}


def test_a_correspondence_names_every_tensor_of_the_integer_graph() -> None:
    module = convolution(ConvCase())
    transformed = TensorCoreFlow(fuse=False).transform(module)
    named = {entry.original for entry in transformed.correspondences}
    emitted = {binding.var.name for binding in bindings_of(module["main"])} - {"result"}
    assert emitted <= named


# --- operators that are no layers -----------------------------------------------------------------------

MOVING = {"relax.permute_dims", "relax.reshape", "relax.nn.pad", "relax.strided_slice"}


def moved(transformed) -> list[str]:  # type: ignore[no-untyped-def]
    """The bindings of main that only move elements from one layout to another, or pad them for it."""
    return [
        binding.var.name
        for binding in bindings_of(transformed.mod["main"])
        if getattr(getattr(binding.value, "op", None), "name", "") in MOVING
    ]


def between_layers(target: str, build, *, inputs: int = 32, outputs: int = 64):  # type: ignore[no-untyped-def]
    """A module of a convolution, ``build(emit, data)`` on its data and a convolution behind it."""
    rng = np.random.default_rng(0)
    dtype = options(target)["data_dtype"]

    def rescaled(emit, name, accumulator):  # type: ignore[no-untyped-def]
        shifted = emit(f"{name}_shifted", relax.op.right_shift(accumulator, relax.const(np.int32(10))))
        low, high = (0, 255) if dtype == "uint8" else (-127, 127)
        clipped = emit(f"{name}_clipped", relax.op.clip(shifted, low, high))
        return emit(f"{name}_data", relax.op.astype(clipped, dtype))

    def convolved(emit, name, data, channels):  # type: ignore[no-untyped-def]
        weight = full_range(rng, (channels, int(data.ty.shape[1]), 1, 1), "int8")
        return rescaled(
            emit, name, emit(name, relax.op.nn.conv2d(data, relax.const(weight), out_dtype="int32"))
        )

    def whole(emit, data):  # type: ignore[no-untyped-def]
        inner = build(emit, lambda name, tensor, channels: convolved(emit, name, tensor, channels), data)
        if len(inner.ty.shape) != 4:
            return inner
        return convolved(emit, "last", inner, outputs)

    shape = (3, inputs, 6, 7)
    module = module_of({"data": (shape, dtype)}, whole)
    return module, full_range(np.random.default_rng(1), shape, dtype)


def max_pool(emit, convolved, data):  # type: ignore[no-untyped-def]
    first = convolved("first", data, 48)
    return emit("pool", relax.op.nn.max_pool2d(first, (3, 2), (2, 1), (1, 0, 1, 1), ceil_mode=True))


def enlarged(emit, convolved, data):  # type: ignore[no-untyped-def]
    size = {"method": "nearest_neighbor", "coordinate_transformation_mode": "asymmetric"}
    first = convolved("first", data, 40)
    return emit("resized", relax.op.image.resize2d(first, (12, 21), rounding_method="floor", **size))


def around(emit, convolved, data):  # type: ignore[no-untyped-def]
    padded = relax.op.nn.pad(convolved("first", data, 40), [0, 0, 0, 0, 1, 0, 2, 3], pad_value=5)
    return emit("padded", padded)


def joined(emit, convolved, data):  # type: ignore[no-untyped-def]
    first, second = convolved("first", data, 32), convolved("second", data, 40)
    return emit("joined", relax.op.concat([first, first, second], axis=1))


def joined_with_the_input(emit, convolved, data):  # type: ignore[no-untyped-def]
    return emit("joined", relax.op.concat([data, convolved("first", data, 40)], axis=1))


def summed(emit, convolved, data):  # type: ignore[no-untyped-def]
    wide = emit("wide", relax.op.astype(convolved("first", data, 40), "int32"))
    return emit("sum", relax.op.sum(wide, axis=[2, 3]))


KEPT = {
    "max pool": max_pool,
    "resize": enlarged,
    "pad": around,
    "concat": joined,
    "concat with a plain tensor": joined_with_the_input,
    "sum over positions": summed,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", KEPT)
def test_an_operator_between_layers_keeps_them_packed(case: str, target: str) -> None:
    module, data = between_layers(target, KEPT[case])
    transformed = check(target, module, data)
    middle = [name for name in moved(transformed) if not name.startswith(("data_", "result_"))]
    assert [name for name in middle if name != "padded"] == []


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", KEPT)
def test_tvm_computes_the_packed_operator(case: str, target: str) -> None:
    module, data = between_layers(target, KEPT[case])
    verdict = run(module, data, target, "host")
    assert (verdict.verdict, verdict.reason) == ("exact", None)


def joined_inside_a_block(emit, convolved, data):  # type: ignore[no-untyped-def]
    first, second = convolved("first", data, 40), convolved("second", data, 32)
    return emit("joined", relax.op.concat([first, second], axis=1))


def joined_along_rows(emit, convolved, data):  # type: ignore[no-untyped-def]
    first, second = convolved("first", data, 40), convolved("second", data, 40)
    return emit("joined", relax.op.concat([first, second], axis=2))


def summed_over_channels(emit, convolved, data):  # type: ignore[no-untyped-def]
    wide = emit("wide", relax.op.astype(convolved("first", data, 40), "int32"))
    return emit("sum", relax.op.sum(wide, axis=[1]))


def resized_by_no_whole_factor(emit, convolved, data):  # type: ignore[no-untyped-def]
    size = {"method": "nearest_neighbor", "coordinate_transformation_mode": "asymmetric"}
    first = convolved("first", data, 40)
    return emit("resized", relax.op.image.resize2d(first, (9, 7), rounding_method="floor", **size))


def padded_channels(emit, convolved, data):  # type: ignore[no-untyped-def]
    padded = relax.op.nn.pad(convolved("first", data, 40), [0, 0, 3, 2, 0, 0, 0, 0], pad_value=5)
    return emit("padded", padded)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "build",
    [
        joined_inside_a_block,
        joined_along_rows,
        summed_over_channels,
        resized_by_no_whole_factor,
        padded_channels,
    ],
    ids=lambda build: build.__name__,
)
def test_any_operator_between_layers_keeps_its_values(build, target: str) -> None:  # type: ignore[no-untyped-def]
    module, data = between_layers(target, build)
    check(target, module, data)


@pytest.mark.parametrize("target", TARGETS)
def test_a_plain_tensor_is_packed_once_for_all_that_read_it(target: str) -> None:
    module, _ = between_layers(target, joined)
    packed = [name for name in moved(flow_for(target).transform(module)) if name.startswith("data_")]
    assert len(packed) == len({name.rstrip("0123456789") for name in packed})


RESNET50_MOVES = {
    # Of the input, of the result, and for the dense layer the flattening of blocks.
    "tensorcore": 3,
    "hexagon": 5,
    "vta": 6,
}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_resnet50_is_packed_at_its_input_and_unpacked_at_its_end(target: str) -> None:
    workload = workloads.load("resnet50", image=32, width=0.125)
    flow = flow_for(target)
    module = quantize(workload.module, workload.calibration, **options(target))
    transformed = flow.transform(module)
    assert [layer.why_not for layer in transformed.report if layer.why_not] == []
    assert len(moved(transformed)) <= RESNET50_MOVES[target]
    data = quantize_input(module, workload.images)
    original = evaluate_all(module, data)
    assert find_pass_mismatch(transformed, evaluate_all(transformed.mod, data), original) is None
