"""Layers on GEMM: their tiles, and the schedule that all of them have."""

from dataclasses import dataclass
from itertools import product

from tvm import tirx
from tvm.s_tir import Schedule

from kernels.vta.compiler import VIRTUAL_THREADS
from kernels.vta.epilogue import Extra
from kernels.vta.layers import Axis, Convolution, TransposedAxis
from kernels.vta.schedule import cut, in_memories, place_epilogue
from kernels.vta.tiles import ALU_CYCLES, COPIES, Cost, ceil_splits, cheapest, limits, pieces
from simulators.vta.config import Config

# Tiles less than this part of the result wide are not tried.
WIDTHS = 4


@dataclass(frozen=True)
class Tile:
    """What is in the memories at one time: blocks of out and in channels, rows and columns of the result.

    threads: how many tiles of data and weights there are at a time, one computed while the next is loaded.
    accumulators: how many of the result, one stored while the next is computed.
    """

    outputs: int
    inputs: int
    rows: int
    columns: int
    threads: int = 1
    accumulators: int = 1


def schedule_gemm(function: tirx.PrimFunc, layer: Convolution, tile: Tile) -> tirx.PrimFunc:
    """Schedule a layer of `kernels.vta.tensorir` that multiplies data by a weight, for `compile_program`.

    Out channels are outermost, so that weights stay where all in channels of a tile fit. Of a result that
    has height and width these are cut into tiles, of any other the rows of blocks.
    """
    sch = Schedule(function)
    stages = in_memories(sch)
    if sch.get_producers(stages.acc):
        (data,) = sch.get_producers(stages.acc)
        sch.set_scope(data, 0, "local.inp")
    else:
        data = sch.cache_read(stages.acc, 0, "local.inp")
    weight = sch.cache_read(stages.acc, 1, "local.wgt")
    first, co, *positions, b, c = sch.get_loops(stages.store)
    chunk, co = cut(sch, co, tile.outputs)
    outer, tiled = ([first], positions) if positions else ([], [first])
    cuts = [cut(sch, loop, size) for loop, size in zip(tiled, (tile.rows, tile.columns), strict=False)]
    outer += [each for each, _ in cuts]
    sch.reorder(chunk, *outer, co, *(each for _, each in cuts), b, c)
    sch.annotate(chunk, VIRTUAL_THREADS, tile.threads)
    place_epilogue(sch, stages, tile=outer[-1], channels=chunk)
    inside = sch.get_loops(stages.acc)[-(6 + 2 * len(positions)) :]
    first, co, *positions, b, c = inside[: 4 + len(positions)]
    ci, *taps, i = inside[4 + len(positions) :]
    part, ci = cut(sch, ci, tile.inputs)
    split = [
        cut(sch, loop, axis.phases) if axis.phases > 1 else (loop, None)
        for loop, axis in zip(positions, (layer.rows, layer.columns), strict=False)
    ]
    # What is computed with the same taps is one product.
    phases = [phase for _, phase in split if phase is not None]
    sch.reorder(part, *phases, first, co, *(loop for loop, _ in split), ci, *taps, b, c, i)
    sch.compute_at(data, part, preserve_unit_loops=True)
    sch.compute_at(weight, chunk if tile.inputs == layer.inputs else part, preserve_unit_loops=True)
    sch.annotate(outer[-1], VIRTUAL_THREADS, tile.accumulators)
    sch.annotate(part, VIRTUAL_THREADS, tile.threads)
    sch.decompose_reduction(stages.acc, part)
    for phase in phases:
        sch.unroll(phase)
    return sch.mod["main"]


def needs(layer: Convolution, tile: Tile, extra: Extra) -> dict[str, int]:
    """Return the elements of each memory that a tile takes."""
    chunks = pieces(layer.outputs, tile.outputs)
    tall, wide = pieces(layer.rows.out, tile.rows), pieces(layer.columns.out, tile.columns)
    results = chunks * layer.batches * tall * wide
    parts = results * pieces(layer.inputs, tile.inputs)
    fills = chunks if tile.inputs == layer.inputs else parts
    data = layer.rows.covered(tile.rows) * layer.columns.covered(tile.columns)
    return {
        "INP": min(tile.threads, parts) * tile.inputs * data * (tile.outputs if layer.groups > 1 else 1),
        "WGT": min(tile.threads, fills) * tile.outputs * tile.inputs * layer.taps,
        "ACC": min(tile.accumulators, results)
        * tile.outputs
        * tile.rows
        * tile.columns
        * (1 + extra.residuals)
        + min(tile.threads, chunks) * tile.outputs * extra.tensors,
    }


def choose_tile(layer: Convolution, extra: Extra, config: Config) -> Tile:
    """Return the cheapest tile; ValueError where even the smallest does not fit."""
    limit = limits(config)
    smallest = needs(layer, Tile(1, 1, layer.rows.phases, layer.columns.phases), extra)
    for memory, need in smallest.items():
        if need > limit[memory]:
            raise ValueError(f"{memory}: the smallest tile takes {need} elements, and {limit[memory]} fit")

    def with_most_copies(outputs: int, inputs: int, rows: int, columns: int) -> Tile | None:
        # More copies load the same and take no longer.
        tiles = (Tile(outputs, inputs, rows, columns, *copies) for copies in COPIES)
        return next((tile for tile in tiles if _fits(needs(layer, tile, extra), limit)), None)

    extents = product(
        ceil_splits(layer.outputs),
        ceil_splits(layer.inputs),
        _extents(layer.rows),
        _extents(layer.columns)[:WIDTHS],
    )
    fitting = [tile for each in extents if (tile := with_most_copies(*each))]
    return cheapest(fitting, lambda tile: _cost(layer, tile, extra, config))


def _extents(axis: Axis | TransposedAxis) -> list[int]:
    """Return how many results a tile may have along an axis, largest first: all phases alike."""
    return [axis.phases * size for size in ceil_splits(pieces(axis.out, axis.phases))]


def _fits(need: dict[str, int], limit: dict[str, int]) -> bool:
    return all(need[memory] <= limit[memory] for memory in need)


def _cost(layer: Convolution, tile: Tile, extra: Extra, config: Config) -> Cost:
    """Return what a layer costs with this tile: bytes and cycles."""
    chunks = pieces(layer.outputs, tile.outputs)
    tall, wide = pieces(layer.rows.out, tile.rows), pieces(layer.columns.out, tile.columns)
    parts = pieces(layer.inputs, tile.inputs)
    area = (layer.rows.covered(tile.rows) * tall) * (layer.columns.covered(tile.columns) * wide)
    read = layer.outputs if layer.groups > 1 else chunks
    data = layer.batches * layer.inputs * area * read * config.inp_bytes
    weights = layer.outputs * layer.inputs * layer.taps * config.wgt_bytes
    results = layer.batches * layer.outputs * layer.rows.out * layer.columns.out
    turns = chunks * layer.batches * tall * wide * parts
    stored = results * config.inp_bytes
    # Taps of one result, on the average over the phases.
    products = pieces(layer.taps, layer.rows.phases * layer.columns.phases)
    window = layer.rows.covered(tile.rows) * layer.columns.covered(tile.columns)
    first = tile.inputs * window * (tile.outputs if layer.groups > 1 else 1) * config.inp_bytes
    return Cost(
        nbytes=data + (weights if parts == 1 else weights * layer.batches * tall * wide),
        first=first + tile.outputs * tile.inputs * layer.taps * config.wgt_bytes,
        computing=results * (layer.inputs * products + ALU_CYCLES * extra.operations) * config.batch,
        overlapped=min(tile.threads, turns) > 1,
        waiting=0 if tile.accumulators > 1 else stored,
        turns=turns,
    )
