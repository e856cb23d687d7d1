"""Layers without products: their tiles and their schedule, all in ACC."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from tvm import tirx
from tvm.s_tir import Schedule

from kernels.vta.compiler import VIRTUAL_THREADS
from kernels.vta.epilogue import Extra
from kernels.vta.layers import Pooling
from kernels.vta.schedule import cut, in_memories, place_epilogue
from kernels.vta.tiles import ceil_splits, pieces
from simulators.vta.config import Config


@dataclass(frozen=True)
class Tile:
    """Blocks of channels, rows and columns of the result at one time, and how many such tiles."""

    channels: int
    rows: int
    columns: int
    threads: int = 1


def schedule_alu(function: tirx.PrimFunc, tile: Tile) -> tirx.PrimFunc:
    """Schedule what `pool2d_primfunc` and `elementwise_primfunc` describe, for `compile_program`."""
    sch = Schedule(function)
    stages = in_memories(sch)
    sources = sch.get_producers(stages.acc)
    n, co, y, x, b, c = sch.get_loops(stages.store)
    chunk, co = cut(sch, co, tile.channels)
    row, y = cut(sch, y, tile.rows)
    column, x = cut(sch, x, tile.columns)
    sch.reorder(chunk, n, row, column, co, y, x, b, c)
    sch.annotate(chunk, VIRTUAL_THREADS, tile.threads)
    place_epilogue(sch, stages, tile=column, channels=chunk)
    for block in sources:
        sch.set_scope(block, 0, "local.acc")
        sch.compute_at(block, column, preserve_unit_loops=True)
        sch.decompose_reduction(stages.acc, sch.get_loops(stages.acc)[4])
    return sch.mod["main"]


def choose_tile(layer: Pooling, extra: Extra, config: Config, *, windows: bool) -> Tile:
    """Return the tile that reads the fewest rows twice; ValueError where even the smallest does not fit.

    windows: whether the data lie beside the results; otherwise they become the results.
    """

    def need(tile: Tile) -> int:
        chunks = pieces(layer.channels, tile.channels)
        tiles = (
            chunks
            * layer.batches
            * pieces(layer.rows.out, tile.rows)
            * pieces(layer.columns.out, tile.columns)
        )
        area = tile.rows * tile.columns * (1 + extra.residuals)
        if windows:
            area += layer.rows.covered(tile.rows) * layer.columns.covered(tile.columns)
        return tile.channels * (min(tile.threads, tiles) * area + min(tile.threads, chunks) * extra.tensors)

    smallest = need(Tile(1, 1, 1))
    if smallest > config.acc_depth:
        raise ValueError(f"ACC: the smallest tile takes {smallest} elements, and {config.acc_depth} fit")
    for threads in (2, 1):
        fitting = [
            tile
            for channels, rows, columns in product(
                *map(ceil_splits, (layer.channels, layer.rows.out, layer.columns.out))
            )
            if need(tile := Tile(channels, rows, columns, threads)) <= config.acc_depth
        ]
        if fitting:
            return min(fitting, key=_order(layer))
    raise AssertionError("the smallest tile fits, and is among those tried")


def _order(layer: Pooling) -> Callable[[Tile], tuple[int, ...]]:
    def order(tile: Tile) -> tuple[int, ...]:
        tall, wide = pieces(layer.rows.out, tile.rows), pieces(layer.columns.out, tile.columns)
        area = layer.rows.covered(tile.rows) * tall * layer.columns.covered(tile.columns) * wide
        # Of as many tiles those of long rows, which are few transfers.
        return area, pieces(layer.channels, tile.channels) * tall * wide, wide, tall

    return order
