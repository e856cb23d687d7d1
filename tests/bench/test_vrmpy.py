"""Hexagon: every pair of signed and unsigned data and weights, groups and dilation, as vrmpy kernels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compare.mismatch import find_pass_mismatch
from bench.compare.operands import operands_of
from bench.evaluate import evaluate_all
from bench.flows.hexagon import HexagonFlow
from bench.flows.transformed import Transformed
from bench.operators.depthwise import pack_taps, unpack_taps
from bench.passes.lift_kernels import bindings_of
from bench.pipeline import run
from simulators.hvx import qemu
from tests.bench.integer_graphs import ConvCase, convolution, dense, full_range

PAIRS = list(itertools.product(("int8", "uint8"), repeat=2))
CASES = {
    "plain": (ConvCase(), {}),
    "dilated": (ConvCase(dilation=(2, 1), padding=(2, 1, 1, 2)), {}),
    "36 to 48": (ConvCase(inputs=36, outputs=48, kernel=1, padding=(0, 0, 0, 0)), {}),
    "2 groups": (ConvCase(inputs=6, outputs=6, groups=2), {"groups": 1}),
    "2 groups of whole blocks": (ConvCase(batch=1, inputs=64, outputs=64, groups=2), {"groups": 2}),
    "groups that share a block": (ConvCase(batch=1, inputs=40, outputs=80, groups=4), {"groups": 1}),
    "depthwise": (ConvCase(inputs=36, outputs=36, groups=36), {"kernel": (3, 3)}),
    "depthwise, strided": (
        ConvCase(inputs=33, outputs=33, groups=33, strides=(2, 1), padding=(0, 1, 2, 3)),
        {"kernel": (3, 3)},
    ),
    "depthwise, 5x5": (ConvCase(inputs=7, outputs=7, groups=7, kernel=5), {"kernel": (5, 5)}),
    "depthwise, dilated": (
        ConvCase(inputs=32, outputs=32, groups=32, dilation=(1, 2)),
        {"kernel": (3, 3)},
    ),
    "two filters a channel": (ConvCase(inputs=6, outputs=12, groups=6), {"groups": 1}),
}


def checked(case: ConvCase, data_dtype: str, weight_dtype: str) -> Transformed:
    """The transformed graph, which holds the values of the integer one, by plain NumPy and by vrmpy."""
    module = convolution(case, data_dtype=data_dtype, weight_dtype=weight_dtype)
    data = inputs(case, data_dtype)
    transformed = HexagonFlow().transform(module)
    original = evaluate_all(module, data)
    for overrides in (None, HexagonFlow.overrides):
        evaluated = evaluate_all(transformed.mod, data, overrides=overrides)
        assert find_pass_mismatch(transformed, evaluated, original) is None
    return transformed


def inputs(case: ConvCase, dtype: str) -> np.ndarray:
    return full_range(np.random.default_rng(1), (case.batch, case.inputs, case.size, case.size), dtype)


@pytest.mark.parametrize(("data", "weight"), PAIRS, ids="-".join)
@pytest.mark.parametrize("case", CASES)
def test_every_layer_is_a_kernel_that_keeps_its_values(case: str, data: str, weight: str) -> None:
    shape, expected = CASES[case]
    transformed = checked(shape, data, weight)
    assert [layer.why_not for layer in transformed.report] == [None, None]
    operator = bindings_of(transformed.mod[str(transformed.report[0].kernel)])[0].value
    assert {name: _plain(operator.attrs[name]) for name in expected} == expected


def _plain(value: object) -> object:
    return int(value) if isinstance(value, int) else tuple(int(entry) for entry in value)  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES)
def test_the_operands_of_an_element_give_its_value(case: str) -> None:
    shape, _ = CASES[case]
    module = convolution(shape, data_dtype="int8")
    transformed = HexagonFlow().transform(module)
    values = evaluate_all(transformed.mod, inputs(shape, "int8"))
    values["data"] = inputs(shape, "int8")
    layer = transformed.report[0]
    (binding,) = [each for each in bindings_of(transformed.mod["main"]) if each.var.name == layer.result]
    coordinate = {"N": 0, "C": shape.outputs - 1, "H": 1, "W": 0}
    block, lane = divmod(coordinate["C"], 32)
    index = (0, block, 1, 0, lane)
    found = operands_of(transformed, binding, coordinate, index, values)
    assert found is not None
    if case.startswith("depthwise"):
        assert len(found.data) == shape.kernel**2
    assert found.accumulator == values[layer.result][index]


INSTRUCTIONS = {
    # (data, weight) -> of a convolution, of a depthwise one, of a dense layer with few rows
    ("uint8", "uint8"): ("vrmpyub", "vrmpyubv", "vrmpyub"),
    ("uint8", "int8"): ("vrmpyub", "vrmpybusv", "vrmpybusv"),
    ("int8", "uint8"): ("vrmpybus", "vrmpybusv", "vrmpybus"),
    ("int8", "int8"): ("vrmpybus", "vrmpybv", "vrmpybv"),
}


@pytest.mark.parametrize(("data", "weight"), PAIRS, ids="-".join)
def test_the_report_names_the_form_of_vrmpy(data: str, weight: str) -> None:
    plain, depthwise, few_rows = INSTRUCTIONS[data, weight]
    for case, expected in (("plain", plain), ("depthwise", depthwise)):
        module = convolution(CASES[case][0], data_dtype=data, weight_dtype=weight)
        assert HexagonFlow().transform(module).report[0].instruction == expected
    if weight == "int8":
        for rows, expected in ((1, few_rows), (4, plain)):
            assert (
                HexagonFlow().transform(dense(rows, 128, 8, data_dtype=data)).report[0].instruction
                == expected
            )


@settings(max_examples=15)
@given(data=st.data(), pair=st.sampled_from(PAIRS))
def test_any_grouped_convolution_keeps_its_values(data: st.DataObject, pair: tuple[str, str]) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups = draw(1, 40)
    case = ConvCase(
        batch=draw(1, 2),
        inputs=groups * draw(1, 3),
        size=draw(5, 7),
        outputs=groups * draw(1, 3),
        kernel=draw(1, 3),
        strides=(draw(1, 3), draw(1, 3)),
        padding=(draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2)),
        dilation=(draw(1, 2), draw(1, 2)),
        groups=groups,
    )
    checked(case, *pair)


@given(
    blocks=st.integers(1, 3), height=st.integers(1, 5), width=st.integers(1, 9), dilation=st.integers(1, 3)
)
def test_packed_taps_hold_each_weight_once(blocks: int, height: int, width: int, dilation: int) -> None:
    weight = full_range(np.random.default_rng(0), (32 * blocks, 1, height, width), "int8")
    packed = pack_taps(weight, dilation=dilation)
    np.testing.assert_array_equal(unpack_taps(packed, (height, width), dilation=dilation), weight)
    assert np.abs(packed.astype(int)).sum() == np.abs(weight.astype(int)).sum()


ON_DEVICES = [
    ("plain", "int8", "int8"),
    ("dilated", "int8", "uint8"),
    ("2 groups of whole blocks", "uint8", "int8"),
    ("depthwise", "int8", "uint8"),
    ("depthwise, dilated", "int8", "int8"),
]


@pytest.mark.parametrize("device", ["host", pytest.param("sim", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("case", "data", "weight"), ON_DEVICES)
def test_devices_compute_the_kernels(case: str, data: str, weight: str, device: str) -> None:
    if device == "sim" and (reason := qemu.available()):
        pytest.skip(reason)
    shape, _ = CASES[case]
    module = convolution(shape, data_dtype=data, weight_dtype=weight)
    verdict = run(module, inputs(shape, data), "hexagon", device)
    assert (verdict.verdict, verdict.reason) == ("exact", None)
