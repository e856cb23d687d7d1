"""Layout notation: parsing, packing, unpacking and coordinates."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.layout import Layout, locate, logical, logical_shape, pack, packed_shape, unpack

PATTERNS = {
    # pattern: (plain order of the axes, logical shape, packed shape)
    "NCHW": ("NCHW", (2, 3, 4, 5), (2, 3, 4, 5)),
    "HWNC": ("NCHW", (2, 3, 4, 5), (4, 5, 2, 3)),
    "HWOI": ("OIHW", (2, 3, 4, 5), (4, 5, 2, 3)),
    "NCHW32c": ("NCHW", (2, 40, 4, 4), (2, 2, 4, 4, 32)),
    "NCHW1n16c": ("NCHW", (2, 40, 4, 4), (2, 3, 4, 4, 1, 16)),
    "OIHW16o16i": ("OIHW", (40, 24, 3, 3), (3, 2, 3, 3, 16, 16)),
    "HWOI32o16i": ("OIHW", (40, 24, 3, 3), (3, 3, 2, 2, 32, 16)),
    "HWOI8o32i": ("OIHW", (8, 32, 1, 1), (1, 1, 1, 1, 8, 32)),
    "OIHW8i32o4i": ("OIHW", (40, 24, 3, 3), (2, 1, 3, 3, 8, 32, 4)),
    "OIHW1i32o4i": ("OIHW", (64, 3, 3, 3), (2, 1, 3, 3, 1, 32, 4)),
    "NK32n16k": ("NK", (10, 64), (1, 4, 32, 16)),
    "NC32n4c": ("NC", (10, 64), (1, 16, 32, 4)),
    "NC1n16c": ("NC", (3, 64), (3, 4, 1, 16)),
}


@pytest.mark.parametrize("text", PATTERNS)
def test_packed_shape_is_rounded_up_to_the_blocks(text):
    order, shape, expected = PATTERNS[text]
    assert packed_shape(text, shape, source=order) == expected
    assert packed_shape(text, dict(zip(order, shape, strict=True))) == expected


@pytest.mark.parametrize("text", PATTERNS)
def test_every_element_is_where_locate_says_and_the_rest_is_zero(text):
    order, shape, expected = PATTERNS[text]
    array = 1 + np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    packed = pack(array, text, source=order)
    assert packed.shape == expected
    assert packed.dtype == array.dtype
    assert packed.flags.c_contiguous
    rebuilt = np.zeros(expected, np.int64)
    for coordinate in itertools.product(*map(range, shape)):
        rebuilt[locate(text, coordinate, source=order)] = array[coordinate]
    np.testing.assert_array_equal(packed, rebuilt)


def test_the_two_factors_of_an_axis_go_from_the_outer_to_the_inner():
    # The definition in plain loops: i = I*32 + i8*4 + i4, o = O*32 + o32.
    weight = np.random.default_rng(0).integers(-128, 128, (64, 64, 1, 1)).astype(np.int8)
    packed = pack(weight, "OIHW8i32o4i", source="OIHW")
    for outer_o, outer_i, i8, o32, i4 in itertools.product(range(2), range(2), range(8), range(32), range(4)):
        assert (
            packed[outer_o, outer_i, 0, 0, i8, o32, i4]
            == weight[outer_o * 32 + o32, outer_i * 32 + i8 * 4 + i4, 0, 0]
        )


@st.composite
def layouts(draw):
    axes = "".join(draw(st.permutations("ABCD"))[: draw(st.integers(1, 4))])
    factor = st.tuples(st.integers(1, 5), st.sampled_from(axes))
    factors = draw(st.lists(factor, max_size=4))
    return axes + "".join(f"{size}{axis.lower()}" for size, axis in factors)


@given(layouts(), st.data())
def test_pack_then_unpack_is_the_identity(text, data):
    axes = Layout.parse(text).axes
    order = "".join(data.draw(st.permutations(axes)))
    shape = tuple(data.draw(st.integers(1, 7)) for _ in axes)
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape) - 5
    packed = pack(array, text, source=order)
    assert packed.shape == packed_shape(text, shape, source=order)
    np.testing.assert_array_equal(unpack(packed, text, shape, target=order), array)


@given(layouts(), st.data())
def test_locate_and_logical_are_inverse(text, data):
    layout = Layout.parse(text)
    coordinate = {axis: data.draw(st.integers(0, 50)) for axis in layout.axes}
    index = locate(text, coordinate)
    assert logical(text, index) == coordinate
    shape = packed_shape(text, {axis: position + 1 for axis, position in coordinate.items()})
    assert all(0 <= position < extent for position, extent in zip(index, shape, strict=True))


def test_unpack_without_a_shape_keeps_the_padding():
    packed = pack(np.ones((1, 3, 1, 1), np.int8), "NCHW4c")
    assert unpack(packed, "NCHW4c").ravel().tolist() == [1, 1, 1, 0]


def test_logical_shape_multiplies_the_dimensions_of_an_axis():
    assert logical_shape("OIHW8i32o4i", (2, 1, 3, 3, 8, 32, 4)) == {"O": 64, "I": 32, "H": 3, "W": 3}


def test_a_pattern_is_parsed_once():
    assert Layout.parse("NCHW1n16c") is Layout.parse("NCHW1n16c")
    assert Layout.parse("NCHW1n16c").block("C") == 16
    assert str(Layout.parse("NCHW1n16c")) == "NCHW1n16c"


ARRAY = np.zeros((2, 3, 4, 5), np.int8)
ERRORS = {
    "lower-case axis": (lambda: Layout.parse("nchw"), "layout 'nchw': expected upper-case axes"),
    "factor first": (lambda: Layout.parse("4cNCHW"), "layout '4cNCHW': expected"),
    "empty": (lambda: Layout.parse(""), "layout ''"),
    "axis twice": (lambda: Layout.parse("NCHC"), "layout 'NCHC': an axis is named twice"),
    "factor of no axis": (
        lambda: Layout.parse("NC4k"),
        "layout 'NC4k': factor 4k splits an axis that is not in NC",
    ),
    "factor zero": (lambda: Layout.parse("NC0c"), "layout 'NC0c': factor 0c is not positive"),
    "pack: rank": (
        lambda: pack(ARRAY[0], "NCHW4c"),
        r"shape \(3, 4, 5\) is not NCHW; packing it to 'NCHW4c'",
    ),
    "pack: source": (
        lambda: pack(ARRAY, "NCHW4c", source="OIHW"),
        "source 'OIHW' must name the axes of layout 'NCHW4c'",
    ),
    "unpack: rank": (
        lambda: unpack(ARRAY, "NCHW4c"),
        r"shape \(2, 3, 4, 5\) does not fit layout 'NCHW4c'.*\(N, C, H, W, 4\)",
    ),
    "unpack: factor": (lambda: unpack(ARRAY, "NCH4h"), r"shape \(2, 3, 4, 5\) does not fit layout 'NCH4h'"),
    "unpack: shape": (
        lambda: unpack(np.zeros((1, 2, 1, 1, 4)), "NCHW4c", (1, 4, 1, 1)),
        r"NCHW shape \(1, 4, 1, 1\) packs to \(1, 1, 1, 1, 4\) in layout 'NCHW4c'.*\(1, 2, 1, 1, 4\)",
    ),
    "unpack: target": (lambda: unpack(ARRAY, "NCHW", target="NCH"), "target 'NCH' must name the axes"),
    "shape: length": (lambda: packed_shape("NCHW4c", (1, 2)), r"logical shape \(1, 2\) has 2 entries"),
    "shape: axes": (
        lambda: packed_shape("NC", {"N": 1, "K": 2}),
        "must name exactly the axes of layout 'NC'",
    ),
    "shape: negative": (lambda: packed_shape("NC", (1, -2)), "negative extent"),
    "locate: negative": (lambda: locate("NC4c", (0, -1)), "negative position"),
    "logical: rank": (
        lambda: logical("NC4c", (0, 1)),
        r"packed index \(0, 1\) has 2 entries; layout 'NC4c' has 3",
    ),
    "logical: factor": (
        lambda: logical("NC4c", (0, 1, 4)),
        r"packed index \(0, 1, 4\) is outside the factors",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_repeat_the_pattern_and_the_shapes(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()
