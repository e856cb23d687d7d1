"""The choice of warps and tiles: every legal layer gets one, and a wrong one is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.tensorcore.intrinsics import HOUSE_TILE
from kernels.tensorcore.tiling import MAX_SHARED_BYTES, WARP, Extents, Tiling, default_tiling, largest_divisor

counts = st.integers(1, 40)


@given(
    st.builds(
        Extents,
        rows=counts,
        columns=counts,
        steps=counts,
        positions=counts,
        kernel_columns=st.integers(1, 128),
        stride=st.integers(1, 4),
        dilation=st.integers(1, 8),
    )
)
def test_every_layer_has_a_default_tiling(extents):
    tiling = default_tiling(extents, HOUSE_TILE)
    tiling.check(extents, HOUSE_TILE)
    accumulators = tiling.position_tiles * tiling.row_tiles * tiling.column_tiles
    assert accumulators * HOUSE_TILE.m * HOUSE_TILE.n // WARP <= 64
    assert tiling.warps <= 4


def test_a_small_batch_fills_the_warp_with_output_columns():
    tiling = default_tiling(Extents(rows=1, columns=2, steps=1, positions=8, kernel_columns=3), HOUSE_TILE)
    assert (tiling.row_tiles, tiling.position_tiles, tiling.column_tiles) == (1, 4, 2)


def test_shared_memory_counts_both_operands():
    tiling = Tiling(row_warps=2, row_tiles=2, column_tiles=2, chunk=4)
    extents = Extents(rows=4, columns=2, steps=4, kernel_columns=3, dilation=2)
    # A: 5 image columns of 4 tiles of 8 x 16 bytes; B: 3 kernel columns of 2 tiles of 32 x 16 bytes.
    assert tiling.shared_bytes(extents, HOUSE_TILE) == 4 * (5 * 4 * 128 + 3 * 2 * 512)


WRONG = {
    "output columns": (Tiling(position_tiles=3), "4 output columns cannot be divided by 3"),
    "rows": (Tiling(row_warps=2, row_tiles=4), "4 row tiles cannot be divided by 8"),
    "columns": (Tiling(column_tiles=4), "2 column tiles cannot be divided by 4"),
    "steps": (Tiling(chunk=16), "24 k steps cannot be divided by 16"),
    "zero": (Tiling(chunk=0), "24 k steps cannot be divided by 0"),
    "threads": (Tiling(position_warps=8, row_warps=8), "64 warps are more than 1024 threads"),
    "shared memory": (Tiling(chunk=24, column_tiles=2), f"bytes of shared memory exceed {MAX_SHARED_BYTES}"),
}


@pytest.mark.parametrize(("tiling", "message"), WRONG.values(), ids=WRONG)
def test_wrong_tilings_are_refused_by_name(tiling, message):
    extents = Extents(
        rows=8 if tiling.row_warps == 8 else 4,
        columns=2,
        steps=24,
        positions=8 if tiling.position_warps == 8 else 4,
        kernel_columns=3,
    )
    with pytest.raises(ValueError, match=message):
        tiling.check(extents, HOUSE_TILE)


@pytest.mark.parametrize(("extent", "limit", "divisor"), [(12, 4, 4), (7, 4, 1), (3, 8, 3), (1, 1, 1)])
def test_largest_divisor(extent, limit, divisor):
    assert largest_divisor(extent, limit) == divisor
