"""The schedule of every layer of this package: a product of tiles on tensor cores.

Data flows global memory -> shared memory -> fragments -> accumulators -> global memory. A block takes a
rectangle of output places, row tiles and column tiles; its warps divide these among them and share what
lies in shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.tirx import IndexMap

from kernels.tensorcore.default_tiling import default_tiling
from kernels.tensorcore.intrinsics import Intrinsics, intrinsics
from kernels.tensorcore.operands import is_packed, per_item
from kernels.tensorcore.problem import Problem
from kernels.tensorcore.product import DTYPE, OUT_DTYPE, problem_of
from kernels.tensorcore.ptx import OWN_STORAGE
from kernels.tensorcore.tiling import WARP, Tiling, result_alignment

# A schedule hands out opaque references to blocks and loops.
Block = Any
Loop = Any


@dataclass(frozen=True)
class OutputLoops:
    """Loops over the output tiles of one warp, and where its accumulation goes."""

    block: Loop
    warp: Loop
    unrolled: tuple[Loop, ...]
    tile_row: Loop
    tile_column: Loop


def schedule_product(func: tirx.PrimFunc, *, tiling: Tiling | None = None) -> tirx.PrimFunc:
    """Schedule a described layer for a CUDA device with WMMA.

    Raises ValueError if a given tiling does not divide the layer.
    """
    problem = problem_of(func)
    sch = Schedule(func)
    apply_tiling(sch, problem, tiling or default_tiling(problem))
    return scheduled_function(sch.mod["main"])


def apply_tiling(sch: Schedule, problem: Problem, tiling: Tiling) -> None:
    """Take a schedule of a described layer through all steps that a tiling asks for.

    Raises ValueError, before the first step, if the tiling does not divide the layer.
    """
    tiling.check(problem)
    instruction = intrinsics(problem.tile, problem.dtype, problem.weight_dtype)
    packed, product, out = (sch.get_sblock(name) for name in ("packed", "product", "out"))
    output = _bind_output(sch, _output_loops(sch, out, problem), tiling)

    staged = _stage_sums(sch, out, output, problem, tiling) if problem.fused else None
    sch.set_scope(product, 0, instruction.scopes[2])
    sch.compute_at(product, output.warp, preserve_unit_loops=True)
    y1, x1, row1, column1, row_inner, column_inner, step, ky, kx, channel = sch.get_loops(product)[-10:]
    chunk, step1 = sch.split(step, [None, tiling.chunk])
    outer = [chunk, ky] if tiling.reorder_inner == ("ko", "kh") else [ky, chunk]
    sch.reorder(*outer, kx, step1, y1, x1, row1, column1, row_inner, column_inner, channel)

    a, b = _fragments(sch, product, problem, instruction)
    weight_shared = sch.cache_read(b, 0, "shared")
    sch.set_scope(packed, 0, "shared")
    for block in (packed, weight_shared):
        _segment(sch, block, problem)
    sch.compute_at(a, x1, preserve_unit_loops=True)
    a_y, a_x, a_row, a_inner, a_step, a_ky, a_kx, a_channel = sch.get_loops(a)[-8:]
    sch.reorder(a_y, a_x, a_ky, a_kx, a_step, a_row, a_inner, a_channel)
    sch.compute_at(b, step1, preserve_unit_loops=True)
    stage = {"kernel": chunk, "row": outer[1], "position": kx}[tiling.stage]
    _stage_in_shared(sch, packed, stage, tiling=tiling, vector_bytes=tiling.vector_as, contiguous=False)
    _stage_in_shared(sch, weight_shared, stage, tiling=tiling, vector_bytes=tiling.vector_ws, contiguous=True)
    for block, doubled in ((packed, tiling.as_double_buffer), (weight_shared, tiling.ws_double_buffer)):
        if doubled:
            sch.annotate(block, "double_buffer_scope", 0)

    fill = sch.decompose_reduction(product, outer[0])
    _tensorize_last_two(sch, fill, instruction.fill)
    _tensorize_last_two(sch, a, instruction.load_a)
    _tensorize_last_two(sch, b, instruction.load_b)
    sch.tensorize(row_inner, instruction.multiply)
    if staged:
        transposed = is_packed(problem.out_dtype)
        sch.unroll(sch.get_loops(staged)[-3])
        tensorized = f"{sch.get(staged).name_hint}_o"
        _tensorize_last_two(sch, staged, instruction.stage_transposed if transposed else instruction.stage)
        # Only now: a tensorized block does not keep what was said of its buffer.
        sch.storage_align(sch.get_sblock(tensorized), 0, -2, *result_alignment(problem))
    else:
        sch.tensorize(output.tile_row, instruction.store)
    for loop in (step1, y1, x1, row1, column1, *output.unrolled[: 3 if problem.fused else 4]):
        sch.unroll(loop)
    if staged:
        # Left to NVRTC: TVM allocates what is inside a loop once for each turn that it writes out.
        sch.annotate(output.unrolled[0], "pragma_unroll_explicit", 0)
    if tiling.auto_unroll_max_step and not _own_storage(fused=problem.fused, dtype=problem.dtype):
        sch.annotate(output.block, "pragma_auto_unroll_max_step", tiling.auto_unroll_max_step)
        sch.annotate(output.block, "pragma_unroll_explicit", 1)


def scheduled_function(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Say of a function that `apply_tiling` has scheduled how it is to be compiled."""
    fused, dtype = OUT_DTYPE in func.attrs, str(func.attrs[DTYPE])
    return func.with_attr(OWN_STORAGE, _own_storage(fused=fused, dtype=dtype))


def _own_storage(*, fused: bool, dtype: str) -> bool:
    # TVM 0.27 lets buffers share memory whose types differ, and then refuses to take a pointer to it.
    return fused and not is_packed(dtype)


def _output_loops(sch: Schedule, out: Block, problem: Problem) -> list[Loop]:
    """Give the output the loops of the product: y, x, row, column, row of the tile, column of the tile.

    Where eight channels share a word, the last loop counts words.
    """
    m, n = problem.tile.m, problem.tile.n // per_item(problem.out_dtype)
    places = len(sch.get_loops(out)) - 2

    def tiles(*index):  # type: ignore[no-untyped-def]
        *place, b, o = index
        return (*place, b // m, o // n, b % m, o % n)

    sch.transform_block_layout(out, IndexMap.from_func(tiles, ndim=places + 2, index_dtype="int32"))
    loops = sch.get_loops(out)
    units = [sch.add_unit_loop(loops[places]) for _ in range(2 - places)]
    return [*loops[:places], *units, *loops[places:]]


def _bind_output(sch: Schedule, loops: list[Loop], tiling: Tiling) -> OutputLoops:
    """Divide the output among blocks (x: places, y: batch, z: channels) and warps (threadIdx.y, .z)."""
    y, x, row, column, tile_row, tile_column = loops
    y_block, y_warp, y_tile = sch.split(y, [None, tiling.block_height_warps, tiling.warp_height_tiles])
    x_block, x_warp, x_tile = sch.split(x, [None, tiling.block_width_warps, tiling.warp_width_tiles])
    row_block, row_warp, row_tile = sch.split(row, [None, tiling.block_row_warps, tiling.warp_row_tiles])
    column_block, column_warp, column_tile = sch.split(
        column, [None, tiling.block_col_warps, tiling.warp_col_tiles]
    )
    tiles = (y_tile, x_tile, row_tile, column_tile)
    sch.reorder(
        y_block, x_block, row_block, column_block, y_warp, x_warp, row_warp, column_warp, *tiles, tile_row,
        tile_column,
    )  # fmt: skip
    places, again = sch.split(sch.fuse(y_block, x_block), [None, tiling.split_block_k_nums])
    sch.reorder(places, row_block, column_block, again)
    sch.bind(places, "blockIdx.x")
    sch.bind(row_block, "blockIdx.y")
    sch.bind(column_block, "blockIdx.z")
    sch.bind(sch.fuse(y_warp, x_warp, row_warp), "threadIdx.y")
    sch.bind(column_warp, "threadIdx.z")
    return OutputLoops(
        block=places, warp=column_warp, unrolled=tiles, tile_row=tile_row, tile_column=tile_column
    )


def _of_warp(index: Any, warps: int, tiles: int) -> tuple[tuple[Any, Any], Any]:
    """Take a tile's number apart: (its block, its number within the warp), and the warp."""
    return (index // (warps * tiles), index % tiles), index // tiles % warps


def _stage_sums(sch: Schedule, out: Block, output: OutputLoops, problem: Problem, tiling: Tiling) -> Block:
    """Pass the sums of one row of tiles at a time through shared memory, and divide them among the lanes."""
    m, n = problem.tile.m, problem.tile.n
    packed = is_packed(problem.out_dtype)
    names = [read.source.name for read in sch.get(out).reads]
    # Not shared yet: then each warp would be made to store the sums of all.
    staged = sch.cache_read(out, names.index("product"), "local")
    t = tiling
    heights, widths = (t.block_height_warps, t.warp_height_tiles), (t.block_width_warps, t.warp_width_tiles)
    rows = (t.block_row_warps, t.warp_row_tiles)

    def by_warp(y, x, r, c, i, j):  # type: ignore[no-untyped-def] # noqa: PLR0917
        """The tiles of the warps lie next to each other, those of one warp follow in the same place."""
        (y, warp_y), (x, warp_x), (r, warp_r) = (
            _of_warp(index, *share) for index, share in ((y, heights), (x, widths), (r, rows))
        )
        line = (j, c * m + i) if packed else (i, c * n + j)
        return (*y, *x, *r, warp_y, warp_x, warp_r, *line)

    sch.transform_layout(staged, ("write", 0), by_warp)
    _, _, row_tile, column_tile = output.unrolled
    sch.compute_at(staged, row_tile, preserve_unit_loops=True)
    sch.set_scope(staged, 0, "shared")
    row, column = output.tile_row, output.tile_column
    order = (column, column_tile, row) if packed else (row, column_tile, column)
    sch.reorder(*order)
    _, lane = sch.split(sch.fuse(*order), [None, WARP])
    sch.bind(lane, "threadIdx.x")
    return staged


def _fragments(
    sch: Schedule, product: Block, problem: Problem, instruction: Intrinsics
) -> tuple[Block, Block]:
    """Let the product read its operands from fragments, which are loaded from what is staged."""
    # Indexed by output place and kernel place apart: TVM 0.27 blockizes an index such as y + ky, a sum of
    # two loops that overlap, into a wrong one (y * KH + ky), and then tensorize fails.
    a = sch.reindex_cache_read(
        product,
        0,
        instruction.scopes[0],
        lambda y, x, row, column, row_inner, column_inner, step, ky, kx, channel: (
            y, x, ky, kx, row, step, row_inner, channel,
        ),
    )  # fmt: skip
    b = sch.cache_read(product, 1, instruction.scopes[1])
    if is_packed(problem.dtype):
        for elements in ("data_elements", "weight_elements"):
            sch.compute_inline(sch.get_sblock(elements))
        if problem.tile.instruction == "wmma":
            # Only now may the elements have their own type: what holds fragments needs no bytes.
            sch.unsafe_set_dtype(a, 0, problem.dtype)
            sch.unsafe_set_dtype(b, 0, problem.weight_dtype)
    return a, b


def _segment(sch: Schedule, block: Block, problem: Problem) -> None:
    """Lay out the tiles that a block stages as ldmatrix reads them: (segments, rows, 16 bytes)."""
    if problem.tile.instruction == "wmma" or problem.tile.segments(problem.dtype) == 1:
        return
    buffer = sch.get(block).writes[0].source
    width = 4 if is_packed(problem.dtype) else 16

    def segments(*index):  # type: ignore[no-untyped-def]
        *tile, row, item = index
        return (*tile, item // width, row, item % width)

    sch.transform_layout(
        block, ("write", 0), IndexMap.from_func(segments, ndim=len(buffer.shape), index_dtype="int32")
    )


def extent(sch: Schedule, loop: Loop) -> int:
    """Return the constant extent of a loop."""
    return int(sch.get(loop).extent)


def _is_power_of_two(value: int) -> bool:
    return value & (value - 1) == 0


def _stage_in_shared(
    sch: Schedule, block: Block, at: Loop, *, tiling: Tiling, vector_bytes: int, contiguous: bool
) -> None:
    """Let all threads of a block fill a shared buffer, `vector_bytes` each at a time.

    `contiguous` says that the buffer's items lie in global memory in the order of the buffer.

    The last four dimensions of the buffer are tiles, k steps, rows of a tile, and the items of one k step
    in a row: 16 contiguous bytes in global as in shared memory. Neighbouring threads take the rows of a
    tile, so that eight of them write all 32 banks once, and then the k steps, which continue a row.
    """
    dimensions = len(sch.get_loops(block))
    buffer = sch.get(block).writes[0].source
    sch.compute_at(block, at, preserve_unit_loops=True)
    *outer, items = sch.get_loops(block)[-dimensions:]
    if not contiguous:
        # A thread finds its place by dividing its number: with the powers of two innermost, the other
        # extents are often left to the loop, and none is divided by three.
        *tiles, row = outer
        outer = [*sorted(tiles, key=lambda loop: _is_power_of_two(extent(sch, loop))), row]
        sch.reorder(*outer)
    item_bytes = 4 if str(buffer.dtype) == "int32" else 1
    segment, rest, vector = sch.split(
        items, [None, 16 // vector_bytes, vector_bytes // item_bytes], preserve_unit_iters=True
    )
    *tiles, row = outer
    sch.reorder(segment, row, rest)
    outer = [*tiles, segment, row]
    _, z, y, x = sch.split(sch.fuse(*outer, rest), [None, tiling.block_col_warps, tiling.threads_y, WARP])
    sch.bind(z, "threadIdx.z")
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    sch.vectorize(vector)


def _tensorize_last_two(sch: Schedule, block: Block, intrinsic: str) -> None:
    """Replace the two innermost loops of a block, one tile, by an instruction."""
    sch.tensorize(sch.get_loops(block)[-2], intrinsic)
