"""dense on packed tensors as a VTA program."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from kernels.vta.builder import Builder, loop
from kernels.vta.epilogue import Step, emit_steps, steps_of, tensors_of
from kernels.vta.tiles import Span, ceil_splits, chunks, limits
from simulators.vta.config import PYNQ, Config
from simulators.vta.isa import Memory, Uop
from simulators.vta.program import Program


def dense(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    epilogue: Sequence[tuple[str, int | str]] = (),
    config: Config = PYNQ,
) -> Program:
    """Generate the program of data · weightᵀ, int8 to int8 with int32 accumulators.

    data (M/b, K/c, b, c) and weight (O/c, K/c, c, c), out before in, are int8; the result "out" is int8
    (M/b, O/c, b, c), the low 8 bits of the accumulators after the epilogue (kernels.vta.epilogue; its
    tensors are (O/c, b, c)). The arguments are "data", "weight" and the epilogue's
    tensors. ValueError names a shape or step that does not fit, or the memory that cannot hold a tile.
    """
    layer = Layer.of(data_shape, weight_shape, config)
    steps = steps_of(epilogue)
    return _generate(layer, steps, choose_tile(layer, len(tensors_of(steps)), config), config)


@dataclass(frozen=True)
class Layer:
    """A dense layer in elements: row blocks, and blocks of in and out channels."""

    rows: int
    inputs: int
    outputs: int
    batch: int
    block: int

    @classmethod
    def of(cls, data: Sequence[int], weight: Sequence[int], config: Config) -> "Layer":
        """Check the shapes of a layer against one another and the configuration."""
        b, c = config.batch, config.block
        if len(data) != 4 or tuple(data[2:]) != (b, c) or min(data) < 1:
            raise ValueError(f"data {tuple(data)} is not packed as (M/{b}, K/{c}, {b}, {c})")
        if len(weight) != 4 or tuple(weight[2:]) != (c, c) or min(weight) < 1:
            raise ValueError(f"weight {tuple(weight)} is not packed as (O/{c}, K/{c}, {c}, {c})")
        if weight[1] != data[1]:
            raise ValueError(f"weight has {weight[1]} blocks of input channels, and data has {data[1]}")
        return cls(data[0], data[1], weight[0], b, c)


@dataclass(frozen=True)
class Tile:
    """What is in the memories at one time: row blocks, and blocks of in and out channels."""

    rows: int
    inputs: int
    outputs: int


def needs(tile: Tile, tensors: int) -> dict[str, int]:
    """Return the elements of each memory that a tile takes."""
    return {
        "INP": tile.rows * tile.inputs,
        "WGT": tile.outputs * tile.inputs,
        "ACC": tile.outputs * (tile.rows + tensors),
        "UOP": tile.outputs * tile.inputs,
    }


def choose_tile(layer: Layer, tensors: int, config: Config) -> Tile:
    """Return the tile that moves the fewest bytes; ValueError where even the smallest does not fit."""
    limit = limits(config)
    for memory, need in needs(Tile(1, 1, 1), tensors).items():
        if need > limit[memory]:
            raise ValueError(f"{memory}: the smallest tile takes {need} elements, and {limit[memory]} fit")

    def fits(tile: Tile) -> bool:
        return all(need <= limit[memory] for memory, need in needs(tile, tensors).items())

    def traffic(tile: Tile) -> tuple[int, int]:
        data = layer.rows * layer.inputs * config.inp_bytes * -(-layer.outputs // tile.outputs)
        weights = layer.outputs * layer.inputs * config.wgt_bytes
        stays = tile.inputs == layer.inputs
        return data + (weights if stays else weights * -(-layer.rows // tile.rows)), -tile.rows

    splits = product(*map(ceil_splits, (layer.rows, layer.inputs, layer.outputs)))
    return min((tile for split in splits if fits(tile := Tile(*split))), key=traffic)


def _generate(layer: Layer, steps: tuple[Step, ...], tile: Tile, config: Config) -> Program:
    builder = Builder(config)
    b, c = layer.batch, layer.block
    data = builder.buffer("data", "input", (layer.rows, layer.inputs, b, c), "int8")
    weight = builder.buffer("weight", "weight", (layer.outputs, layer.inputs, c, c), "int8")
    tensors = [builder.buffer(name, "bias", (layer.outputs, b, c), "int32") for name in tensors_of(steps)]
    out = builder.buffer("out", "output", (layer.rows, layer.outputs, b, c), "int8")
    first_tensor = tile.outputs * tile.rows
    places = {each.name: first_tensor + index * tile.outputs for index, each in enumerate(tensors)}
    rows_of, inputs_of = list(chunks(layer.rows, tile.rows)), list(chunks(layer.inputs, tile.inputs))
    spans = list(chunks(layer.outputs, tile.outputs))
    remaining = len(spans) * len(rows_of) * len(inputs_of)
    started = False
    for outputs in spans:
        for each in tensors:
            builder.load(
                Memory.ACC,
                each,
                sram=places[each.name],
                element=outputs[0],
                rows=1,
                columns=outputs[1],
                pitch=outputs[1],
            )
        for place, rows in enumerate(rows_of):
            for inputs in inputs_of:
                if started:
                    # What the GEMM before this one reads is about to be replaced.
                    builder.wait("load", "compute")
                if place == 0 or len(inputs_of) > 1:
                    builder.load(
                        Memory.WGT,
                        weight,
                        sram=0,
                        element=outputs[0] * layer.inputs + inputs[0],
                        rows=outputs[1],
                        columns=inputs[1],
                        pitch=layer.inputs,
                    )
                builder.load(
                    Memory.INP,
                    data,
                    sram=0,
                    element=rows[0] * layer.inputs + inputs[0],
                    rows=rows[1],
                    columns=inputs[1],
                    pitch=layer.inputs,
                )
                builder.signal("load", "compute")
                if inputs[0] == 0:
                    if started:
                        # The accumulators hold the tile before until it is stored.
                        builder.signal("store", "compute")
                        builder.wait("compute", "store")
                    builder.clear(outputs[1] * rows[1])
                builder.wait("compute", "load")
                _multiply(builder, outputs, inputs, rows)
                started, remaining = True, remaining - 1
                if remaining:
                    builder.signal("compute", "load")
            channel = (loop(rows[1], outputs[1], 0), loop(outputs[1], 1, 1))
            emit_steps(builder, steps, places, outputs[1] * rows[1], channel)
            builder.signal("compute", "store")
            builder.wait("store", "compute")
            builder.store(
                out,
                sram=0,
                element=rows[0] * layer.outputs + outputs[0],
                rows=rows[1],
                columns=outputs[1],
                pitch=layer.outputs,
            )
    return builder.finish()


def _multiply(builder: Builder, outputs: Span, inputs: Span, rows: Span) -> None:
    """Accumulate one tile, [row][out channel block]: micro-ops go through channels, a loop through rows."""
    kernel = [
        Uop(dst=output, src=input_, wgt=output * inputs[1] + input_)
        for output, input_ in product(range(outputs[1]), range(inputs[1]))
    ]
    builder.gemm(kernel, loop(rows[1], outputs[1], inputs[1]))
