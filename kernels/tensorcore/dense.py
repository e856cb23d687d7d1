"""Dense layer of 8-bit integers: what it computes, and its schedule for tensor cores.

out[i, j] = sum over l of data[i, l] * weight[j, l], in int32, wrapping mod 2^32.
"""

from __future__ import annotations

from tvm import te, tirx
from tvm.s_tir import Schedule

from kernels.tensorcore import schedule
from kernels.tensorcore.intrinsics import HOUSE_TILE, Tile, intrinsics
from kernels.tensorcore.tiling import Extents, Tiling, default_tiling


def dense_primfunc(
    data_shape: tuple[int, int], *, units: int, dtype: str = "int8", tile: Tile = HOUSE_TILE
) -> tirx.PrimFunc:
    """Describe the layer as a TensorIR function (data, weight, out), which TVM also builds for a CPU.

    data (M, K) `dtype`; weight (N/32, K/16, 32, 16) `dtype`, that is NK32n16k; out (M, N) int32, where N
    is `units`. Raises ValueError naming M, N or K where it is no multiple of the tile's.
    """
    intrinsics(tile, dtype)
    batch, length = data_shape
    m, n, k = tile.m, tile.n, tile.k
    schedule.check_tile(tile, [("M", batch, m), ("N", units, n), ("K", length, k)])
    rows, columns, steps = batch // m, units // n, length // k
    data = te.placeholder(data_shape, dtype, name="data")
    weight = te.placeholder((columns, steps, n, k), dtype, name="weight")
    packed = te.compute(
        (rows, steps, m, k),
        lambda row, step, row_inner, channel: data[row * m + row_inner, step * k + channel],
        name="packed",
    )
    step = te.reduce_axis((0, steps), name="step")
    channel = te.reduce_axis((0, k), name="channel")
    dense = te.compute(
        (rows, columns, m, n),
        lambda row, column, row_inner, column_inner: te.sum(
            packed[row, step, row_inner, channel].astype("int32")
            * weight[column, step, column_inner, channel].astype("int32"),
            axis=[step, channel],
        ),
        name="dense",
    )
    out = te.compute((batch, units), lambda b, o: dense[b // m, o // n, b % m, o % n], name="out")
    return te.create_prim_func([data, weight, out])


def dense_extents(func: tirx.PrimFunc) -> Extents:
    """Find what a tiling of this layer (as `dense_primfunc` makes it) has to divide."""
    sch = Schedule(func)
    rows, columns, _, _, steps, _ = (
        schedule.extent(sch, loop) for loop in sch.get_loops(sch.get_sblock("dense"))
    )
    return Extents(rows=rows, columns=columns, steps=steps)


def schedule_dense(
    func: tirx.PrimFunc, *, tiling: Tiling | None = None, tile: Tile = HOUSE_TILE
) -> tirx.PrimFunc:
    """Schedule what `dense_primfunc` made, for a CUDA device with WMMA.

    The grid is (1, M blocks, N blocks). Without `tiling`, `default_tiling` decides. Raises ValueError if
    a given tiling does not divide the layer.
    """
    extents = dense_extents(func)
    tiling = tiling or default_tiling(extents, tile)
    tiling.check(extents, tile)
    instruction = intrinsics(tile, str(func.params[0].dtype))

    sch = Schedule(func)
    packed, dense, out = (sch.get_sblock(name) for name in ("packed", "dense", "out"))
    m, n = tile.m, tile.n
    sch.transform_block_layout(out, lambda b, o: (b // m, o // n, b % m, o % n))
    row, column, *tile_loops = sch.get_loops(out)
    output = schedule.bind_output(
        sch,
        spatial=[],
        position=sch.add_unit_loop(row),
        row=row,
        column=column,
        tile_loops=(tile_loops[0], tile_loops[1]),
        tiling=tiling,
    )

    sch.set_scope(dense, 0, "wmma.accumulator")
    sch.compute_at(dense, output.warp, preserve_unit_loops=True)
    row1, column1, row_inner, column_inner, step, channel = sch.get_loops(dense)[-6:]
    chunk, step1 = sch.split(step, [None, tiling.chunk])
    sch.reorder(chunk, step1, row1, column1, row_inner, column_inner, channel)

    sch.set_scope(packed, 0, "shared")
    schedule.stage_in_shared(sch, packed, chunk, dimensions=4, tiling=tiling, contiguous=False)
    weight_shared = sch.cache_read(dense, 1, "shared")
    schedule.stage_in_shared(sch, weight_shared, chunk, dimensions=4, tiling=tiling, contiguous=True)
    a = sch.cache_read(dense, 0, "wmma.matrix_a")
    sch.compute_at(a, step1, preserve_unit_loops=True)
    b = sch.cache_read(dense, 1, "wmma.matrix_b")
    sch.compute_at(b, step1, preserve_unit_loops=True)

    fill = sch.decompose_reduction(dense, chunk)
    schedule.tensorize_last_two(sch, fill, instruction.fill)
    schedule.tensorize_last_two(sch, a, instruction.load_a)
    schedule.tensorize_last_two(sch, b, instruction.load_b)
    sch.tensorize(row_inner, instruction.multiply)
    sch.tensorize(output.tile_row, instruction.store)
    for loop in (step1, row1, column1, *output.unrolled):
        sch.unroll(loop)
    return sch.mod["main"]
