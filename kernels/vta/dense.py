"""dense on packed tensors: its tiles, its schedule and its VTA program."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tvm import tirx
from tvm.s_tir import Schedule

from kernels.vta.compiler import VIRTUAL_THREADS, compile_program
from kernels.vta.epilogue import Epilogue, Extra
from kernels.vta.layers import Product
from kernels.vta.schedule import cut, in_memories, place_epilogue
from kernels.vta.tensorir import dense_primfunc
from kernels.vta.tiles import ALU_CYCLES, COPIES, Cost, ceil_splits, cheapest, limits, pieces
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def dense(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> Program:
    """Compile data · weightᵀ, int8 to int8 with int32 accumulators.

    data (M/b, K/c, b, c) and weight (O/c, K/c, c, c), out before in, are int8; the result "out" is int8
    (M/b, O/c, b, c), the low 8 bits of the accumulators after the epilogue (kernels.vta.epilogue; its
    tensors are (O/c, b, c)). The arguments are "data", "weight", the epilogue's tensors and its residuals.
    ValueError names a shape or step that does not fit, or the memory that cannot hold a tile.
    """
    layer = Product.of(data_shape, weight_shape, config)
    function = dense_primfunc(data_shape, weight_shape, epilogue=epilogue, config=config)
    tile = choose_tile(layer, Extra.of(epilogue), config)
    return compile_program(schedule_dense(function, layer, tile), config)


@dataclass(frozen=True)
class Tile:
    """What is in the memories at one time: row blocks, and blocks of in and out channels.

    threads: how many tiles of data and weights there are at a time, one computed while the next is loaded.
    accumulators: how many of the result, one stored while the next is computed.
    """

    rows: int
    inputs: int
    outputs: int
    threads: int = 1
    accumulators: int = 1


def schedule_dense(function: tirx.PrimFunc, layer: Product, tile: Tile) -> tirx.PrimFunc:
    """Schedule what `dense_primfunc` describes, for `compile_program`."""
    sch = Schedule(function)
    stages = in_memories(sch)
    data, weight = (
        sch.cache_read(stages.acc, index, f"local.{name}") for index, name in enumerate(("inp", "wgt"))
    )
    m, co, b, c = sch.get_loops(stages.store)
    chunk, co = cut(sch, co, tile.outputs)
    row, m = cut(sch, m, tile.rows)
    sch.reorder(chunk, row, m, co, b, c)
    sch.annotate(chunk, VIRTUAL_THREADS, tile.threads)
    place_epilogue(sch, stages, tile=row, channels=chunk)
    *_, m, co, b, c, k, i = sch.get_loops(stages.acc)
    part, k = cut(sch, k, tile.inputs)
    sch.reorder(part, m, co, k, b, c, i)
    sch.compute_at(data, part, preserve_unit_loops=True)
    sch.compute_at(weight, chunk if tile.inputs == layer.inputs else part, preserve_unit_loops=True)
    sch.annotate(row, VIRTUAL_THREADS, tile.accumulators)
    sch.annotate(part, VIRTUAL_THREADS, tile.threads)
    sch.decompose_reduction(stages.acc, part)
    return sch.mod["main"]


def needs(layer: Product, tile: Tile, extra: Extra) -> dict[str, int]:
    """Return the elements of each memory that a tile takes."""
    chunks, rows = pieces(layer.outputs, tile.outputs), pieces(layer.rows, tile.rows)
    parts = chunks * rows * pieces(layer.inputs, tile.inputs)
    fills = chunks if tile.inputs == layer.inputs else parts
    return {
        "INP": min(tile.threads, parts) * tile.rows * tile.inputs,
        "WGT": min(tile.threads, fills) * tile.outputs * tile.inputs,
        "ACC": min(tile.accumulators, chunks * rows) * tile.outputs * tile.rows * (1 + extra.residuals)
        + min(tile.threads, chunks) * tile.outputs * extra.tensors,
    }


def choose_tile(layer: Product, extra: Extra, config: Config) -> Tile:
    """Return the cheapest tile; ValueError where even the smallest does not fit."""
    limit = limits(config)
    for memory, need in needs(layer, Tile(1, 1, 1), extra).items():
        if need > limit[memory]:
            raise ValueError(f"{memory}: the smallest tile takes {need} elements, and {limit[memory]} fit")

    def fits(tile: Tile) -> bool:
        return all(need <= limit[memory] for memory, need in needs(layer, tile, extra).items())

    fitting = [
        tile
        for rows, inputs, outputs, copies in product(
            ceil_splits(layer.rows), ceil_splits(layer.inputs), ceil_splits(layer.outputs), COPIES
        )
        if fits(tile := Tile(rows, inputs, outputs, *copies))
    ]
    return cheapest(fitting, lambda tile: _cost(layer, tile, extra, config))


def _cost(layer: Product, tile: Tile, extra: Extra, config: Config) -> Cost:
    chunks, rows = pieces(layer.outputs, tile.outputs), pieces(layer.rows, tile.rows)
    parts = pieces(layer.inputs, tile.inputs)
    turns = chunks * rows * parts
    weights = layer.outputs * layer.inputs * config.wgt_bytes
    stored = layer.rows * layer.outputs * config.inp_bytes
    return Cost(
        nbytes=layer.rows * layer.inputs * config.inp_bytes * chunks
        + (weights if parts == 1 else weights * rows),
        first=tile.inputs * (tile.rows * config.inp_bytes + tile.outputs * config.wgt_bytes),
        computing=layer.rows * layer.outputs * (layer.inputs + ALU_CYCLES * extra.operations) * config.batch,
        overlapped=min(tile.threads, turns) > 1,
        waiting=0 if tile.accumulators > 1 else stored,
        turns=turns,
    )
