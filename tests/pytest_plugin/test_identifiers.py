"""Identifiers spell the case, the same way whoever writes them."""

import ml_dtypes
import numpy as np
import pytest

from bench.pytest_plugin import case_id

CONV = {"dtypes": ("uint8", "int8"), "shapes": ((1, 64, 56, 56), (256, 64, 3, 3))}

CASES = {
    "hexagon-conv2d-u8i8-1x64x56x56-256x64x3x3-s1p1": (
        ("hexagon", "conv2d"),
        {**CONV, "strides": (1, 1), "padding": (1, 1)},
    ),
    "hexagon-conv2d-u8i8-1x64x56x56-256x64x3x3-s2p0x1": (
        ("hexagon", "conv2d"),
        {**CONV, "strides": 2, "padding": (0, 1)},
    ),
    "vta-conv2d-u8i8-1x64x56x56-256x64x3x3-s2x1p1x2x0x1d2g64": (
        ("vta", "conv2d"),
        {**CONV, "strides": (2, 1), "padding": (1, 2, 0, 1), "dilation": (2, 2), "groups": 64},
    ),
    "vta-conv2d-u8i8-1x64x56x56-256x64x3x3-s1p0": (
        ("vta", "conv2d"),
        {**CONV, "strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": (1, 1), "groups": 1},
    ),
    "tensorcore-dense-i4u4-64x128-64x128": (
        ("tensorcore", "dense"),
        {"dtypes": (ml_dtypes.int4, np.dtype(ml_dtypes.uint4)), "shapes": ((64, 128), (64, 128))},
    ),
    "tensorcore-add-i32bf16f32b1-8": (
        ("tensorcore", "add"),
        {"dtypes": (np.int32, "bfloat16", np.float32, np.bool_), "shapes": ((8,),)},
    ),
    "vta-relu": (("vta", "relu"), {}),
    "vta-relu-8-shift3-saturate-tile2x4-order_of.rows": (
        ("vta", "relu"),
        {"shapes": (8,), "shift": 3, "saturate": True, "tile": (2, 4), "order_": "of.rows", "bias": None},
    ),
}


@pytest.mark.parametrize("expected", CASES)
def test_a_case_is_spelt(expected: str) -> None:
    names, options = CASES[expected]
    assert case_id(*names, **options) == expected


def test_extents_of_numpy_are_numbers_too() -> None:
    assert case_id("vta", "pad", shapes=(tuple(np.array([2, 3])),), padding=np.int64(1)) == "vta-pad-2x3-p1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtypes": ("s8",)}, "unknown dtype 's8': int, uint"),
        ({"shapes": (("1", "2"),)}, "shape .* is no whole number"),
        ({"shapes": ("12",)}, "shape '12' is no whole number"),
        ({"shapes": ((),)}, r"shape \(\) is no whole number"),
        ({"shapes": ((2.5, 3),)}, "shape .* is no whole number"),
        ({"strides": -1}, "strides -1 is no whole number"),
        ({"padding": (1, None)}, "padding .* is no whole number"),
        ({"layout": "NCHW 1n"}, "layout 'NCHW 1n' cannot be part of an identifier"),
    ],
    ids=["dtype", "text-shape", "text", "empty", "fraction", "negative", "none", "space"],
)
def test_what_cannot_be_spelt_is_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case_id("vta", "conv2d", **options)  # type: ignore[arg-type]


def test_a_target_with_a_dash_would_be_two_words() -> None:
    with pytest.raises(ValueError, match="target 'tensor-core' cannot be part of an identifier"):
        case_id("tensor-core", "dense")
