"""A planted difference is located: binding, coordinate, packed address, lane, values, operands, pattern."""

import numpy as np
import pytest

from bench.compare.mismatch import Mismatch, find_device_mismatch, find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.flows.flow import flow_for
from bench.flows.tensorcore import TensorCoreFlow
from bench.flows.transformed import Transformed
from bench.reports.table import mismatch_text
from tests.bench.integer_graphs import ConvCase, convolution, dense, full_range
from tests.bench.test_graph_pack import Graph, graph

CASE = ConvCase(batch=9, inputs=5, outputs=35, strides=(2, 1), padding=(0, 1, 2, 2))
LAYOUTS = {
    "tensorcore": ("int8", "fixed", "HWNC", (1, 4, 8, 33)),
    "hexagon": ("uint8", "fixed", "NCHW32c", (8, 1, 1, 4, 1)),
    "vta": ("int8", "pow2", "NCHW1n16c", (8, 2, 1, 4, 0, 1)),
}
COORDINATE = {"N": 8, "C": 33, "H": 1, "W": 4}


def unfused(module, target):  # type: ignore[no-untyped-def]
    """The transformed graph with every accumulator a tensor of its own."""
    flow = TensorCoreFlow(fuse=False) if target == "tensorcore" else flow_for(target)
    return flow.transform(module)


def evaluated(target: str) -> tuple[Transformed, dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    dtype, scheme, *_ = LAYOUTS[target]
    module = convolution(CASE, data_dtype=dtype, scheme=scheme)
    data = full_range(np.random.default_rng(7), (CASE.batch, CASE.inputs, CASE.size, CASE.size), dtype)
    transformed = unfused(module, target)
    return transformed, evaluate_all(transformed.mod, data), data, evaluate_all(module, data)


def located(target: str) -> tuple[Mismatch, np.ndarray]:
    transformed, reference, data, _ = evaluated(target)
    name, index = transformed.report[0].result, LAYOUTS[target][3]
    device = {key: value.copy() for key, value in reference.items()}
    device[name][index] ^= 1
    mismatch = find_device_mismatch(transformed, device, reference)
    assert mismatch is not None
    assert (mismatch.device, mismatch.reference) == (device[name][index], reference[name][index])
    return mismatch, data


@pytest.mark.parametrize("target", LAYOUTS)
def test_one_wrong_element_is_located(target: str) -> None:
    mismatch, _ = located(target)
    _, _, layout, index = LAYOUTS[target]
    assert mismatch.layer == "conv1"
    assert mismatch.operator == "conv2d"
    assert mismatch.coordinate == COORDINATE
    assert mismatch.layout == layout
    assert mismatch.packed_index == index
    assert (mismatch.tile, mismatch.lane) == (index[:-1], index[-1])
    assert (mismatch.differing, mismatch.padding) == (1, False)
    assert mismatch.pattern == {
        "N": "8 (1 of 9)",
        "C": "33 (1 of 35)",
        "H": "1 (1 of 3)",
        "W": "4 (1 of 7)",
    }


@pytest.mark.parametrize("target", LAYOUTS)
def test_the_differing_elements_are_kept_by_logical_coordinate(target: str) -> None:
    mismatch, _ = located(target)
    difference = mismatch.difference
    assert difference is not None
    assert (difference.axes, difference.logical) == (tuple("NCHW"), (9, 35, 3, 7))
    np.testing.assert_array_equal(np.argwhere(difference.differs()), [[8, 33, 1, 4]])
    window = difference.window
    row, column = 1 - window.corner[2], 4 - window.corner[3]
    assert window.device[row][column] == mismatch.device
    assert window.reference[row][column] == mismatch.reference


@pytest.mark.parametrize("target", LAYOUTS)
def test_operands_are_those_of_the_dot_product(target: str) -> None:
    """Recomputed by plain loops over the plain image."""
    mismatch, data = located(target)
    padded = np.pad(data, ((0, 0), (0, 0), (0, 2), (1, 2)))
    expected = [
        int(padded[8, channel, 1 * 2 + y, 4 * 1 + x])
        for y in range(3)
        for x in range(3)
        for channel in range(5)
    ]
    operands = mismatch.operands
    assert operands is not None
    assert operands.data == expected
    assert operands.accumulator == sum(a * b for a, b in zip(operands.data, operands.weight, strict=True))
    if target != "vta":  # VTA's kernel adds the bias and rescales
        assert operands.accumulator == mismatch.reference


def test_an_element_in_the_padding_is_said_to_be_there() -> None:
    transformed, reference, _, _ = evaluated("tensorcore")
    device = {key: value.copy() for key, value in reference.items()}
    device["conv1"][0, 0, 0, 40] += 1
    mismatch = find_device_mismatch(transformed, device, reference)
    assert mismatch is not None
    assert mismatch.padding
    assert "in the padding" in mismatch_text(mismatch)


def test_the_first_binding_in_the_order_of_the_graph_is_named() -> None:
    transformed, reference, _, _ = evaluated("tensorcore")
    device = {key: value.copy() for key, value in reference.items()}
    for name in ("residual", "conv2", "conv1_requantized"):
        device[name] += 1
    mismatch = find_device_mismatch(transformed, device, reference)
    assert mismatch is not None
    assert (mismatch.binding, mismatch.operator, mismatch.layer) == (
        "conv1_requantized",
        "bitexact.requantize",
        None,
    )
    assert mismatch.pattern["C"] == "all 35"
    accumulator, multiplier, shift = mismatch.operands.data if mismatch.operands else (0, 0, 0)
    assert (multiplier, shift) == (1 << 30, -8)
    assert accumulator == reference["conv1_bias"][mismatch.packed_index]


def test_a_dense_layer_has_its_operands() -> None:
    module = dense(9, 20, 35)
    data = full_range(np.random.default_rng(3), (9, 20), "int8")
    transformed = unfused(module, "tensorcore")
    reference = evaluate_all(transformed.mod, data)
    device = {key: value.copy() for key, value in reference.items()}
    device["dense"][8, 34] -= 5
    mismatch = find_device_mismatch(transformed, device, reference)
    assert mismatch is not None
    assert mismatch.coordinate == {"N": 8, "C": 34}
    assert mismatch.operands is not None
    assert mismatch.operands.data == data[8].tolist()
    assert mismatch.operands.accumulator == mismatch.reference


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_has_its_operands(groups: int) -> None:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        options = {"strides": (2, 3), "padding": (1, 0, 0, 1), "output_padding": (1, 2), "groups": groups}
        return g.int8(g.transposed(data, 20, **options))

    module, data = graph(build, (2, 6, 3, 4)), full_range(np.random.default_rng(5), (2, 6, 3, 4), "int8")
    transformed = unfused(module, "vta")
    accumulators = evaluate_all(module, data)["transposed"]
    reference = evaluate_all(transformed.mod, data)
    name = transformed.report[0].result
    for row, column in np.ndindex(accumulators.shape[2:]):
        device = {key: value.copy() for key, value in reference.items()}
        device[name][1, 1, row, column, 0, 3] ^= 1
        mismatch = find_device_mismatch(transformed, device, reference)
        assert mismatch is not None
        assert mismatch.operands is not None
        assert mismatch.coordinate == {"N": 1, "C": 19, "H": row, "W": column}
        assert mismatch.operands.accumulator == accumulators[1, 19, row, column]


@pytest.mark.parametrize("target", LAYOUTS)
def test_a_pass_that_changes_values_is_found_without_a_device(target: str) -> None:
    transformed, reference, _, original = evaluated(target)
    assert find_pass_mismatch(transformed, reference, original) is None
    name, index = transformed.report[0].result, LAYOUTS[target][3]
    reference[name][index] ^= 1
    mismatch = find_pass_mismatch(transformed, reference, original)
    assert mismatch is not None
    assert (mismatch.coordinate, mismatch.packed_index) == (COORDINATE, index)
    assert mismatch.differing == 1
    assert "transformed graph" in mismatch_text(mismatch)


@pytest.mark.parametrize("side", ["device", "reference"])
def test_a_tensor_that_is_left_out_is_an_error(side: str) -> None:
    transformed, reference, _, _ = evaluated("tensorcore")
    tensors = {"device": dict(reference), "reference": dict(reference)}
    del tensors[side]["conv2"]
    with pytest.raises(ValueError, match=f"the {side} gave no tensor 'conv2'"):
        find_device_mismatch(transformed, tensors["device"], tensors["reference"])


def test_a_tensor_of_another_shape_is_an_error() -> None:
    transformed, reference, _, _ = evaluated("tensorcore")
    device = {**reference, "conv2": reference["conv2"][:1]}
    with pytest.raises(ValueError, match=r"conv2: int32\[1, .* is expected"):
        find_device_mismatch(transformed, device, reference)


def test_values_and_products_are_printed() -> None:
    mismatch, _ = located("hexagon")
    text = mismatch_text(mismatch)
    for part in (
        "n=8, c=33, h=1, w=4",
        "NCHW32c [8, 1, 1, 4, 1]",
        "lane 1",
        "layer conv1",
        "differing     1 of",
    ):
        assert part in text
    assert text.rstrip().endswith(f"= {mismatch.reference}")
