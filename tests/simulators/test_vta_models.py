"""The instruction models, against numbers worked out by hand or in Python's own integers."""

import numpy as np
import pytest

from simulators.vta import models
from simulators.vta.isa import AluOpcode

CORNERS = [-(2**31), -(2**31) + 1, -65536, -129, -128, -1, 0, 1, 127, 128, 65535, 2**31 - 1]


def wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


@pytest.mark.parametrize(
    ("opcode", "meaning"),
    [
        ("min", min),
        ("max", max),
        ("add", lambda x, y: x + y),
        ("mul", lambda x, y: x * y),
        ("shr", lambda x, y: x >> y if y >= 0 else x << -y),
    ],
    ids=["min", "max", "add", "mul", "shr"],
)
def test_alu_is_python_arithmetic_modulo_2_to_the_32(opcode, meaning):
    others = [*range(-40, 41)] if opcode == "shr" else CORNERS
    for y in others:
        expected = [wrapped(meaning(x, y)) for x in CORNERS]
        dst = np.array(CORNERS, np.int32)
        assert models.alu(opcode, dst, y).tolist() == expected
        assert models.alu(AluOpcode[opcode.upper()], dst, np.full_like(dst, y)).tolist() == expected
        assert models.alu(opcode, dst, y).dtype == np.int32


def test_gemm_is_python_arithmetic_over_the_full_range():
    rng = np.random.default_rng(0)
    inp = rng.choice(np.array([-128, -1, 0, 127], np.int8), (2, 4))
    wgt = rng.integers(-128, 128, (3, 4)).astype(np.int8)
    acc = rng.choice(np.array([-(2**31), 2**31 - 1, 0], np.int32), (2, 3))
    expected = [
        [
            wrapped(int(acc[b, o]) + sum(int(x) * int(y) for x, y in zip(inp[b], wgt[o], strict=True)))
            for o in range(3)
        ]
        for b in range(2)
    ]
    assert models.gemm(acc, inp, wgt).tolist() == expected


def test_one_gemm_element_adds_at_most_2_to_the_18_and_8192_of_them_wrap():
    acc = np.zeros((1, 16), np.int32)
    low = np.full((1, 16), -128, np.int8), np.full((16, 16), -128, np.int8)
    assert models.gemm(acc, *low).tolist() == [[2**18] * 16]
    nearly = np.full((1, 16), 8191 * 2**18, np.int32)
    assert models.gemm(nearly, *low).tolist() == [[-(2**31)] * 16]


def test_gemm_broadcasts_leading_dimensions():
    rng = np.random.default_rng(1)
    inp = rng.integers(-128, 128, (5, 1, 2, 4)).astype(np.int8)
    wgt = rng.integers(-128, 128, (3, 4, 4)).astype(np.int8)
    result = models.gemm(np.zeros((5, 3, 2, 4), np.int32), inp, wgt)
    np.testing.assert_array_equal(result, inp.astype(np.int64) @ wgt.astype(np.int64).swapaxes(1, 2))


def test_a_product_of_matrices_of_tiles_is_the_products_of_their_tiles():
    rng = np.random.default_rng(2)
    inp = rng.integers(-128, 128, (3, 2, 5, 16)).astype(np.int8)  # rows of tiles, columns of tiles, b, i
    wgt = rng.integers(-128, 128, (4, 2, 16, 16)).astype(np.int8)
    start = rng.integers(-(2**31), 2**31, (3, 4, 5, 16)).astype(np.int32)
    tile_by_tile = start.copy()
    for row, column, inner in np.ndindex(3, 4, 2):
        tile_by_tile[row, column] = models.gemm(
            tile_by_tile[row, column], inp[row, inner], wgt[column, inner]
        )
    at_once = models.gemm(
        start.swapaxes(1, 2).reshape(15, 64),
        inp.swapaxes(1, 2).reshape(15, 32),
        wgt.swapaxes(1, 2).reshape(64, 32),
    )
    np.testing.assert_array_equal(at_once.reshape(3, 5, 4, 16).swapaxes(1, 2), tile_by_tile)


def test_gemm_of_int16_is_exact_in_the_longest_sum_and_refuses_longer_ones():
    columns = models.EXACT_COLUMNS - 1
    low = np.full((1, columns), -(2**15), np.int16)
    odd = low.copy()
    odd[0, 0] = -(2**15) + 1
    # 2^30 for each column but 2^15 less: the 2^15 vanish where a sum is rounded.
    exact = wrapped(columns * 2**30 - 2**15)
    assert models.gemm(np.zeros((1, 1), np.int32), odd, low).tolist() == [[exact]]
    wider = np.zeros((1, columns + 1), np.int16)
    with pytest.raises(ValueError, match="sums of 8388608 and more are not exact"):
        models.gemm(np.zeros((1, 1), np.int32), wider, wider)


@pytest.mark.parametrize(
    ("acc", "inp", "wgt", "words"),
    [
        (np.zeros((1, 4), np.int64), np.zeros((1, 4), np.int8), np.zeros((4, 4), np.int8), "acc is int64"),
        (np.zeros((1, 4), np.int32), np.zeros((1, 4), np.uint8), np.zeros((4, 4), np.int8), "inp is uint8"),
        (np.zeros((1, 4), np.int32), np.zeros((1, 4), np.int8), np.zeros(4, np.int8), "wgt is int8"),
        (
            np.zeros((1, 4), np.int32),
            np.zeros((1, 3), np.int8),
            np.zeros((4, 4), np.int8),
            "tiles do not fit",
        ),
        (
            np.zeros((2, 4), np.int32),
            np.zeros((1, 4), np.int8),
            np.zeros((4, 4), np.int8),
            "tiles do not fit",
        ),
    ],
    ids=["acc-dtype", "inp-dtype", "wgt-rank", "inner", "rows"],
)
def test_gemm_refuses_what_is_no_tile(acc, inp, wgt, words):
    with pytest.raises(ValueError, match=words):
        models.gemm(acc, inp, wgt)


def test_alu_refuses_another_operation_and_another_dtype():
    with pytest.raises(ValueError, match="no ALU operation 'sub'; there are min, max, add, shr, mul"):
        models.alu("sub", np.zeros(1, np.int32), 1)
    with pytest.raises(ValueError, match="int32"):
        models.alu("add", np.zeros(1, np.int64), 1)
    with pytest.raises(ValueError, match="int32"):
        models.alu("add", np.zeros(1, np.int32), np.zeros(1, np.int8))
