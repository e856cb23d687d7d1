"""Signed layers become unsigned ones with the same values, whatever their types, window and groups."""

import itertools

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from bench.evaluate import evaluate, evaluate_all
from bench.passes import vrmpy_legalize
from bench.passes.lift_kernels import bindings_of
from bench.passes.plain_layer import plain_layer
from tests.bench.integer_graphs import ConvCase, convolution, full_range, module_of

PAIRS = list(itertools.product(("int8", "uint8"), repeat=2))
WEIGHTS = ("keep", "unsigned")


def one_layer(data_shape, weight, **window):  # type: ignore[no-untyped-def]
    """A module of one layer, and its data type."""

    def build(emit, data):  # type: ignore[no-untyped-def]
        constant = relax.const(weight)
        if weight.ndim == 2:
            return emit("layer", relax.op.matmul(data, constant, out_dtype="int32"))
        return emit("layer", relax.op.nn.conv2d(data, constant, out_dtype="int32", **window))

    return lambda dtype: module_of({"data": (data_shape, dtype)}, build)


def types(mod: tvm.IRModule) -> list[tuple[str, str]]:
    """The data and weight types of the layers."""
    calls = [each.value for each in bindings_of(mod["main"]) if isinstance(each.value, relax.Call)]
    layers = [plain_layer(call) for call in calls]
    return [(layer.data_dtype, layer.weight_dtype) for layer in layers if layer]


def operators(mod: tvm.IRModule) -> list[str]:
    values = (each.value for each in bindings_of(mod["main"]))
    return [value.op.name for value in values if isinstance(value, relax.Call)]


def check(mod: tvm.IRModule, data: np.ndarray, weights: str) -> tvm.IRModule:
    legal = vrmpy_legalize(mod, weights=weights)
    np.testing.assert_array_equal(evaluate(legal, data), evaluate(mod, data))
    for data_dtype, weight_dtype in types(legal):
        assert data_dtype == "uint8"
        assert weights == "keep" or weight_dtype == "uint8"
    return legal


WINDOWS = {
    "1x1": ((2, 5, 4, 4), (3, 5, 1, 1), {}),
    "3x3 padded": ((2, 5, 6, 6), (7, 5, 3, 3), {"padding": [1, 1, 1, 1]}),
    "asymmetric padding": ((1, 3, 5, 6), (4, 3, 3, 2), {"padding": [0, 2, 3, 1]}),
    "strides and dilation": (
        (1, 3, 9, 8),
        (4, 3, 3, 2),
        {"strides": [2, 3], "dilation": [2, 1], "padding": [1, 0, 2, 1]},
    ),
    "1x1 strided": ((1, 4, 7, 7), (4, 4, 1, 1), {"strides": [2, 2]}),
    "grouped": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2, "padding": [1, 1, 1, 1]}),
    "depthwise": ((1, 6, 5, 5), (6, 1, 3, 3), {"groups": 6, "padding": [1, 1, 1, 1]}),
    "dense": ((3, 17), (17, 5), {}),
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("data", "weight"), PAIRS, ids="-".join)
@pytest.mark.parametrize("case", WINDOWS)
def test_a_layer_keeps_its_values(case: str, data: str, weight: str, weights: str) -> None:
    data_shape, weight_shape, window = WINDOWS[case]
    rng = np.random.default_rng(0)
    module = one_layer(data_shape, full_range(rng, weight_shape, weight), **window)(data)
    check(module, full_range(rng, data_shape, data), weights)


CORNERS = [
    (data, weight, data_value, weight_value)
    for data, weight in PAIRS
    for data_value in (np.iinfo(data).min, np.iinfo(data).max)
    for weight_value in (np.iinfo(weight).min, np.iinfo(weight).max)
]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("corner", CORNERS, ids=lambda corner: "-".join(map(str, corner)))
def test_corners(corner: tuple[str, str, int, int], weights: str) -> None:
    data_dtype, weight_dtype, data_value, weight_value = corner
    weight = np.full((2, 3, 3, 3), weight_value, weight_dtype)
    module = one_layer((1, 3, 4, 4), weight, padding=[1, 0, 1, 2])(data_dtype)
    check(module, np.full((1, 3, 4, 4), data_value, data_dtype), weights)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_sums_that_wrap_are_still_right(weights: str) -> None:
    """-128 * -128 * 140000 is beyond 2^31, and so are the compensations alone."""
    weight = np.full((140_000, 1), -128, np.int8)
    module = one_layer((1, 140_000), weight)("int8")
    data = np.full((1, 140_000), -128, np.int8)
    check(module, data, weights)
    assert int(evaluate(module, data)[0, 0]) == 128 * 128 * 140_000 - 2**32


@settings(max_examples=40)
@given(data=st.data(), pair=st.sampled_from(PAIRS), weights=st.sampled_from(WEIGHTS))
def test_any_convolution_keeps_its_values(data: st.DataObject, pair: tuple[str, str], weights: str) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, depth, kernel = draw(1, 3), draw(1, 3), (draw(1, 3), draw(1, 3))
    window = {
        "strides": [draw(1, 3), draw(1, 3)],
        "dilation": [draw(1, 2), draw(1, 2)],
        "padding": [draw(0, 3), draw(0, 3), draw(0, 3), draw(0, 3)],
        "groups": groups,
    }
    shape = (draw(1, 2), groups * depth, draw(5, 8), draw(5, 8))
    rng = np.random.default_rng(draw(0, 99))
    weight = full_range(rng, (groups * draw(1, 2), depth, *kernel), pair[1])
    check(one_layer(shape, weight, **window)(pair[0]), full_range(rng, shape, pair[0]), weights)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_graph_keeps_every_tensor_by_its_name(weights: str) -> None:
    case = ConvCase()
    module = convolution(case)
    data = full_range(np.random.default_rng(0), (case.batch, case.inputs, case.size, case.size), "int8")
    legal = check(module, data, weights)
    before, after = evaluate_all(module, data), evaluate_all(legal, data)
    for name in ("conv1", "conv1_requantized", "conv2", "residual"):
        np.testing.assert_array_equal(after[name], before[name])


def test_what_is_unsigned_already_stays_as_it_is() -> None:
    module = convolution(ConvCase(), data_dtype="uint8")
    assert operators(vrmpy_legalize(module)) == operators(module)


def test_layers_of_other_types_stay_as_they_are() -> None:
    weight = np.ones((2, 3, 1, 1), np.float32)

    def build(emit, data):  # type: ignore[no-untyped-def]
        return emit("conv", relax.op.nn.conv2d(data, relax.const(weight)))

    module = module_of({"data": ((1, 3, 2, 2), "float32")}, build)
    assert types(vrmpy_legalize(module, weights="unsigned")) == [("float32", "float32")]


def test_the_compensation_is_no_layer() -> None:
    """The sums over windows are additions: no further convolution has to be computed."""
    legal = vrmpy_legalize(convolution(ConvCase()), weights="unsigned")
    assert types(legal) == [("uint8", "uint8"), ("uint8", "uint8")]


def test_another_word_for_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="weights 'signed' is none of keep and unsigned"):
        vrmpy_legalize(convolution(ConvCase()), weights="signed")
