"""The differing elements of a tensor in the JSON of a run: all where they fit, a bounded part where not."""

import json
from dataclasses import asdict
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from bench.compare.difference import (
    MOST_ELEMENTS,
    difference_of,
    pack_mask,
    part_around,
    unpack_mask,
)
from bench.compare.mismatch import find_array_mismatch


def drawn(shape, share, seed=0):
    random = np.random.default_rng(seed)
    reference = random.integers(-128, 128, shape).astype(np.int8)
    device = reference ^ (random.random(shape) < share).astype(np.int8)
    first = tuple(int(position) for position in np.argwhere(device != reference)[0])
    return device, reference, first


def test_every_element_is_kept_with_counts_by_axis():
    device, reference, first = drawn((3, 5, 4, 7), 0.2)
    axes = {"N": 3, "C": 4, "H": 4, "W": 7}
    difference = difference_of(device, reference, axes, first)
    differs = device != reference
    assert (difference.axes, difference.extents) == (("N", "C", "H", "W"), (3, 5, 4, 7))
    assert difference.logical == (3, 4, 4, 7)
    np.testing.assert_array_equal(difference.differs(), differs)
    for number, axis in enumerate(axes):
        others = tuple(other for other in range(4) if other != number)
        np.testing.assert_array_equal(difference.counts[axis], differs.sum(others))


def test_the_window_has_both_values_around_the_first_element():
    device, reference, _ = drawn((2, 3, 20, 20), 0.1)
    window = difference_of(
        device, reference, dict(zip("NCHW", (2, 3, 20, 20), strict=True)), (1, 2, 10, 1)
    ).window
    assert window.corner == (1, 2, 6, 0)
    np.testing.assert_array_equal(window.device, device[1, 2, 6:15, 0:9])
    np.testing.assert_array_equal(window.reference, reference[1, 2, 6:15, 0:9])


@pytest.mark.parametrize(
    ("shape", "first", "part"),
    [
        ((256, 64, 4, 4), (3, 0, 0, 0), ((0, 256), (0, 64), (0, 4), (0, 4))),
        ((16, 64, 112, 112), (3, 9, 0, 0), ((3, 4), (9, 50), (0, 112), (0, 112))),
        ((2, 64, 112, 112), (1, 60, 5, 5), ((1, 2), (23, 64), (0, 112), (0, 112))),
        ((2, 1 << 20), (1, 7), ((1, 2), (7, 7 + MOST_ELEMENTS))),
        ((5,), (2,), ((0, 5),)),
        ((), (), ()),
    ],
    ids=["whole", "channels-from-the-first", "the-last-channels", "one-row", "vector", "scalar"],
)
def test_of_a_large_tensor_a_part_around_the_first_element_is_kept(shape, first, part):
    assert part_around(shape, first) == part
    assert all(start <= position < stop for position, (start, stop) in zip(first, part, strict=True))
    assert prod(stop - start for start, stop in part) <= MOST_ELEMENTS


def test_the_json_of_the_worst_case_stays_below_100_kilobytes():
    device, reference, first = drawn((1, 64, 112, 112), 0.5)
    difference = difference_of(device, reference, dict(zip("NCHW", device.shape, strict=True)), first)
    assert len(json.dumps(asdict(difference))) < 100_000
    part = tuple(slice(*ends) for ends in difference.part)
    np.testing.assert_array_equal(difference.differs(), (device != reference)[part])


def test_the_mismatch_of_one_kernel_has_its_difference():
    reference = np.arange(12, dtype=np.int32).reshape(3, 4)
    device = reference.copy()
    device[1, 2] = 99
    difference = find_array_mismatch("out", device, reference).difference
    assert difference.axes == ("dimension 0", "dimension 1")
    np.testing.assert_array_equal(np.argwhere(difference.differs()), [[1, 2]])
    assert difference.window.device[1][2] == 99


@given(arrays.arrays(bool, arrays.array_shapes(max_dims=4)))
def test_a_mask_comes_back(mask):
    np.testing.assert_array_equal(unpack_mask(pack_mask(mask), mask.shape), mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!", "no mask of 8 bits"),
        ("AAAA", "no mask of 8 bits"),
        (pack_mask(np.zeros(9, bool)), "more bytes"),
        (pack_mask(np.zeros(0, bool)), "0 bytes"),
    ],
    ids=["no-base64", "not-deflated", "too-long", "too-short"],
)
def test_what_is_no_mask_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        unpack_mask(text, (8,))
