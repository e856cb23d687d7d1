"""Counters as ratios: shapes are read back, compulsory work is that of plain loops, limits are as asked."""

import itertools
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compare.verdict import LayerVerdict
from bench.efficiency import MEASURES, LayerShapes, layer_shapes, measures_of
from bench.passes.plain_layer import PlainLayer
from bench.perf.layers import RESNET18, convolution


def plain(shapes: LayerShapes, operator: str, **changes: object) -> PlainLayer:
    values = {
        "operator": operator,
        "data": None,
        "weight": None,
        "data_dtype": "int8",
        "weight_dtype": "int8",
        "data_shape": shapes.data,
        "weight_shape": shapes.weight,
        "result_shape": (),
        "result_dtype": "int32",
        "axes": "NCHW",
        "strides": shapes.strides,
        "padding": shapes.padding,
        "dilation": shapes.dilation,
    }
    return PlainLayer(**{**values, **changes})  # type: ignore[arg-type]


SHAPES = {
    "square": LayerShapes((2, 3, 9, 9), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1)),
    "uneven": LayerShapes((1, 16, 9, 11), (32, 16, 3, 2), (2, 1), (1, 0, 2, 3), (1, 2)),
    "dense": LayerShapes((8, 64), (10, 64)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_the_short_form_of_a_layer_is_read_back(case):
    shapes = SHAPES[case]
    operator = "dense" if case == "dense" else "conv2d"
    layer = LayerVerdict("l", operator, plain(shapes, operator).shapes, None)
    assert layer_shapes(layer) == shapes


@pytest.mark.parametrize(
    ("operator", "text"),
    [
        ("conv2d", "1x96x8x8 * 96x1x3x3 s1 p1 g96"),
        ("conv2d_transpose", "1x3x8x8 * 3x4x2x2 s2 p0"),
        ("kernel", "data int8[64, 128]"),
        ("conv2d", "1x8x8 * 3x8x1x1 s1 p0"),
    ],
    ids=["grouped", "transposed", "kernel", "ranks"],
)
def test_what_no_measure_takes_has_no_shapes(operator, text):
    assert layer_shapes(LayerVerdict("l", operator, text, None)) is None


@st.composite
def convolutions(draw):
    small = st.integers(1, 3)
    taps, reach = (draw(small), draw(small)), (draw(small), draw(small))
    least = [(count - 1) * step + 1 for count, step in zip(taps, reach, strict=True)]
    return LayerShapes(
        (draw(small), draw(small), *(each + draw(st.integers(0, 4)) for each in least)),
        (draw(small), 0, *taps),
        (draw(small), draw(small)),
        tuple(draw(st.integers(0, 2)) for _ in range(4)),
        reach,
    )


@given(convolutions())
def test_products_and_elements_are_those_of_plain_loops(case):
    shapes = LayerShapes(
        case.data, (case.weight[0], case.data[1], *case.weight[2:]), case.strides, case.padding, case.dilation
    )
    top, left, bottom, right = shapes.padding
    tall, wide = shapes.data[2] + top + bottom, shapes.data[3] + left + right
    reach = [(count - 1) * step for count, step in zip(shapes.weight[2:], shapes.dilation, strict=True)]
    rows = range(0, tall - reach[0], shapes.strides[0])
    columns = range(0, wide - reach[1], shapes.strides[1])
    assert shapes.result == (shapes.data[0], shapes.weight[0], len(rows), len(columns))
    assert shapes.products() == prod((*shapes.result, *shapes.weight[1:]))
    read = {
        (row + y * shapes.dilation[0] - top, column + x * shapes.dilation[1] - left)
        for row, column in itertools.product(rows, columns)
        for y, x in itertools.product(*map(range, shapes.weight[2:]))
    }
    inside = [(y, x) for y, x in read if 0 <= y < shapes.data[2] and 0 <= x < shapes.data[3]]
    data, weight, result = shapes.elements()
    assert data == prod(shapes.data[:2]) * len(inside)
    assert (weight, result) == (prod(shapes.weight), prod(shapes.result))


def test_channels_are_rounded_up():
    shapes = LayerShapes((1, 3, 4, 4), (33, 3, 1, 1))
    assert shapes.products(inputs=4, outputs=32) == 16 * 64 * 4
    assert shapes.elements(channels=16) == (16 * 16, 48 * 16, 48 * 16)


def test_reading_each_operand_once_is_29_percent_below_the_old_schedules():
    """Of the ten convolutions of ResNet-18, in which those move 8,982,024 bytes (docs/vta_compiler.md)."""
    compulsory = sum(sum(convolution(1, *row).elements(channels=16)) for row in RESNET18.values())
    assert round(1 - compulsory / 8_982_024, 2) == 0.29
    (limit,) = (each.limit for each in measures_of("vta") if each.name.startswith("DRAM"))
    assert limit == round(0.85 * 8_982_024 / compulsory, 2)


CASES = {
    "warp instructions per tensor instruction": ({"warp_instructions": 60, "tensor_instructions": 10}, 6.0),
    "global bytes over compulsory": (
        {"global_load_bytes": 20, "global_store_bytes": 5, "global_compulsory_bytes": 10},
        2.5,
    ),
    "shared transactions lost to bank conflicts": (
        {"shared_bank_conflicts": 5, "shared_transactions": 100},
        0.05,
    ),
    "packets per vrmpy": ({"packets": 19, "vrmpy": 20}, 0.95),
    "vrmpy over products / 128": ({"vrmpy": 30, "vrmpy_of_products": 20}, 1.5),
    "DRAM bytes over compulsory": (
        {"inp_load_nbytes": 2 * (2 * 48 * 64 + 48 * 48 * 9), "out_store_nbytes": 2 * 2 * 48 * 64, "gemm": 1},
        2.0,
    ),
    "GEMM micro-ops over products / 256": ({"gemm_counter": 2 * 8 * 8 * 48 * 48 * 9 // 256}, 1.0),
}


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_measure_is_its_ratio_and_nothing_where_it_was_not_counted(measure):
    counters, expected = CASES[measure.name]
    text = "2x36x8x8 * 40x36x3x3 s1 p1"
    layer = LayerVerdict("l", "conv2d", text, None, counters=counters)
    assert measure.of([layer]) == pytest.approx(expected)
    assert measure.of([LayerVerdict("l", "conv2d", text, None)]) is None
    assert measure.of([layer, layer]) == pytest.approx(expected)


def test_layers_together_are_weighed_by_what_they_count():
    (measure,) = (each for each in MEASURES if each.name == "packets per vrmpy")
    small, large = (
        LayerVerdict("l", "conv2d", "", None, counters={"packets": packets, "vrmpy": vrmpy})
        for packets, vrmpy in ((30, 10), (90, 110))
    )
    assert measure.of([small, large]) == 1.0
