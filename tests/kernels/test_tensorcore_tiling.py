"""The choice of warps and tiles: every legal layer gets one, and a wrong one is refused by name."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.tensorcore.default_tiling import (
    ACCUMULATORS,
    MOST_WARPS,
    blocks,
    compulsory_bytes,
    default_tiling,
)
from kernels.tensorcore.problem import Extents, Problem
from kernels.tensorcore.tile import HOUSE_TILE, SUBBYTE_TILE, default_tile
from kernels.tensorcore.tiling import MAX_SHARED_BYTES, WARP, Tiling, divisors, largest_divisor

counts = st.integers(1, 40)


@given(
    st.builds(
        Extents,
        rows=counts,
        columns=counts,
        steps=counts,
        height=counts,
        width=counts,
        kernel=st.tuples(st.integers(1, 8), st.integers(1, 128)),
        stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
        dilation=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    ),
    st.sampled_from(["int8", "uint4"]),
    st.sampled_from(["int32", "int8", "int4"]),
)
def test_every_layer_has_a_default_tiling(extents, dtype, out_dtype):
    tile = default_tile(dtype)
    problem = Problem(extents, tile, dtype, dtype, out_dtype, fused=out_dtype != "int32")
    tiling = default_tiling(problem)
    tiling.check(problem)
    assert tiling.warp_tiles * tile.m * tile.n // WARP <= ACCUMULATORS
    assert tiling.warps <= MOST_WARPS


def test_a_small_batch_fills_the_warp_with_output_columns():
    extents = Extents(rows=1, columns=2, steps=1, height=8, width=8, kernel=(3, 3))
    tiling = default_tiling(Problem(extents, HOUSE_TILE, "int8", "int8"))
    assert tiling.warp_row_tiles == 1
    assert tiling.warp_tiles == 8


def test_weights_that_outweigh_the_data_are_read_few_times():
    # 512 to 512 channels on 9 x 9 places: a block of one output row would read 1.2 MB of weights nine times.
    extents = Extents(rows=1, columns=64, steps=16, height=9, width=9, kernel=(3, 3))
    tiling = default_tiling(Problem(extents, SUBBYTE_TILE, "int4", "int4"))
    assert extents.height // tiling.rectangle[0] <= 2


def test_shared_memory_counts_both_operands():
    tiling = Tiling(block_row_warps=2, warp_row_tiles=2, warp_col_tiles=2, chunk=4)
    extents = Extents(rows=4, columns=2, steps=4, kernel=(1, 3), dilation=(1, 2))
    # A: 5 image columns of 4 tiles of 8 x 16 bytes; B: 3 kernel columns of 2 tiles of 32 x 16 bytes.
    problem = Problem(extents, HOUSE_TILE, "int8", "int8")
    assert tiling.staged_bytes(problem) == (4 * 5 * 4 * 128, 4 * 3 * 2 * 512)
    assert tiling.shared_bytes(problem) == 4 * (5 * 4 * 128 + 3 * 2 * 512)
    doubled = replace(tiling, ws_double_buffer=True)
    assert doubled.shared_bytes(problem) == 4 * (5 * 4 * 128 + 2 * 3 * 2 * 512)


@pytest.mark.parametrize(("stage", "window"), [("kernel", (9, 13)), ("row", (5, 13)), ("position", (5, 5))])
def test_a_window_covers_what_is_staged(stage, window):
    extents = Extents(
        rows=1, columns=1, steps=1, height=8, width=6, kernel=(3, 5), stride=(2, 2), dilation=(2, 2)
    )
    tiling = Tiling(warp_height_tiles=3, block_width_warps=3, stage=stage)
    assert tiling.window(extents) == window


def test_compulsory_bytes_of_a_layer():
    extents = Extents(rows=1, columns=8, steps=2, height=56, width=56)
    expected = 56 * 56 * 8 * 64 // 2 + 64 * 64 // 2 + 56 * 56 * 8 * 64 * 4
    assert compulsory_bytes(Problem(extents, SUBBYTE_TILE, "int4", "int4")) == expected
    assert blocks(Tiling(warp_width_tiles=8, warp_col_tiles=4), extents) == 56 * 7 * 2


WRONG = {
    "output rows": (Tiling(warp_height_tiles=3), "4 output rows cannot be divided by 3"),
    "output columns": (Tiling(warp_width_tiles=3), "4 output columns cannot be divided by 3"),
    "rows": (Tiling(block_row_warps=2, warp_row_tiles=4), "4 row tiles cannot be divided by 8"),
    "columns": (Tiling(warp_col_tiles=4), "2 column tiles cannot be divided by 4"),
    "steps": (Tiling(chunk=16), "24 k steps cannot be divided by 16"),
    "zero": (Tiling(chunk=0), "24 k steps cannot be divided by 0"),
    "rectangles": (Tiling(split_block_k_nums=3), "16 rectangles cannot be divided by split_block_k_nums = 3"),
    "threads": (Tiling(block_width_warps=8, block_row_warps=8), "64 warps are more than 1024 threads"),
    "shared memory": (
        Tiling(chunk=24, warp_col_tiles=2),
        f"bytes of shared memory exceed {MAX_SHARED_BYTES}",
    ),
    "stage": (Tiling(stage="block"), "stage = 'block' is none of kernel, row, position"),
    "order": (
        Tiling(stage="kernel", reorder_inner=("kh", "ko")),
        "stages all kernel rows at once: ko must be outside kh",
    ),
    "no order": (Tiling(reorder_inner=("kw", "kh")), "reorder_inner = .* is none of"),
    "vector": (Tiling(vector_as=32), "vector_as = 32 is none of 4, 8, 16"),
}


@pytest.mark.parametrize(("tiling", "message"), WRONG.values(), ids=WRONG)
def test_wrong_tilings_are_refused_by_name(tiling, message):
    extents = Extents(
        rows=8 if tiling.block_row_warps == 8 else 4,
        columns=2,
        steps=24,
        height=4,
        width=8 if tiling.block_width_warps == 8 else 4,
        kernel=(3, 3),
    )
    with pytest.raises(ValueError, match=message):
        tiling.check(Problem(extents, HOUSE_TILE, "int8", "int8"))


@pytest.mark.parametrize(("extent", "limit", "divisor"), [(12, 4, 4), (7, 4, 1), (3, 8, 3), (1, 1, 1)])
def test_largest_divisor(extent, limit, divisor):
    assert largest_divisor(extent, limit) == divisor == divisors(extent, limit)[-1]
