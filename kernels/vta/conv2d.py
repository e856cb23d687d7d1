"""conv2d on packed tensors as a VTA program."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from kernels.vta.builder import ONCE, Builder, loop
from kernels.vta.epilogue import Step, emit_steps, steps_of, tensors_of
from kernels.vta.tiles import Span, ceil_splits, chunks, limits
from simulators.vta.config import PAD_LIMIT, PYNQ, Config
from simulators.vta.isa import Memory, Uop
from simulators.vta.program import Buffer, Program


def conv2d(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    epilogue: Sequence[tuple[str, int | str]] = (),
    config: Config = PYNQ,
) -> Program:
    """Generate the program of a convolution, int8 to int8 with int32 accumulators.

    data (N/b, C/c, H, W, b, c) and weight (O/c, C/c, KH, KW, c, c), out channel before in channel, are int8;
    the result "out" is int8 (N/b, O/c, OH, OW, b, c), the low 8 bits of the accumulators after the epilogue
    (kernels.vta.epilogue). padding is top, left, bottom, right, of zeros; dilation and groups are 1. The
    arguments are "data", "weight" and the epilogue's tensors. ValueError names a shape, pad or step that
    does not fit, or the memory that cannot hold the smallest tile, its need and its limit.
    """
    layer = Layer.of(data_shape, weight_shape, strides, padding, config)
    steps = steps_of(epilogue)
    tile = choose_tile(layer, len(tensors_of(steps)), config)
    return _generate(layer, steps, tile, config)


@dataclass(frozen=True)
class Axis:
    """One spatial axis: extents of data, kernel and result, stride, and zeros before and after."""

    size: int
    kernel: int
    stride: int
    before: int
    after: int

    @property
    def out(self) -> int:
        """Extent of the result."""
        return (self.size + self.before + self.after - self.kernel) // self.stride + 1

    def covered(self, count: int) -> int:
        """Return how many data, zeros included, `count` neighbouring results are computed from."""
        return (count - 1) * self.stride + self.kernel

    def window(self, first: int, count: int) -> tuple[int, int, int, int]:
        """Return first datum, number of data, zeros before and zeros after, for results from `first` on."""
        begin = first * self.stride - self.before
        end = begin + self.covered(count)
        inside = max(begin, 0), min(end, self.size)
        return inside[0], inside[1] - inside[0], inside[0] - begin, end - inside[1]


@dataclass(frozen=True)
class Layer:
    """A convolution in elements: batches, in and out channel blocks, and two axes."""

    batches: int
    inputs: int
    outputs: int
    rows: Axis
    columns: Axis
    batch: int
    block: int

    @property
    def taps(self) -> int:
        """Weight elements of one pair of channel blocks."""
        return self.rows.kernel * self.columns.kernel

    @classmethod
    def of(
        cls,
        data: Sequence[int],
        weight: Sequence[int],
        strides: tuple[int, int],
        padding: tuple[int, int, int, int],
        config: Config,
    ) -> "Layer":
        """Check the shapes of a layer against one another and the configuration."""
        b, c = config.batch, config.block
        if len(data) != 6 or tuple(data[4:]) != (b, c) or min(data) < 1:
            raise ValueError(f"data {tuple(data)} is not packed as (N/{b}, C/{c}, H, W, {b}, {c})")
        if len(weight) != 6 or tuple(weight[4:]) != (c, c) or min(weight) < 1:
            raise ValueError(f"weight {tuple(weight)} is not packed as (O/{c}, C/{c}, KH, KW, {c}, {c})")
        if weight[1] != data[1]:
            raise ValueError(f"weight has {weight[1]} blocks of input channels, and data has {data[1]}")
        if len(strides) != 2 or min(strides) < 1:
            raise ValueError(f"strides {strides} are not two positive numbers")
        if len(padding) != 4:
            raise ValueError(f"padding {padding} is not (top, left, bottom, right)")
        top, left, bottom, right = padding
        axes: list[Axis] = []
        for name, size, kernel, stride, before, after in (
            ("height", data[2], weight[2], strides[0], top, bottom),
            ("width", data[3], weight[3], strides[1], left, right),
        ):
            limit = min(PAD_LIMIT, kernel - 1)
            if not (0 <= before <= limit and 0 <= after <= limit):
                raise ValueError(
                    f"padding {before}, {after} of the {name}: 0 to {limit} (kernel {kernel}) is possible"
                )
            if size + before + after < kernel:
                raise ValueError(f"kernel {kernel} is larger than the padded {name} {size + before + after}")
            axes.append(Axis(size, kernel, stride, before, after))
        return cls(data[0], data[1], weight[0], axes[0], axes[1], b, c)


@dataclass(frozen=True)
class Tile:
    """What is in the memories at one time: blocks of out and in channels, rows and columns of the result."""

    outputs: int
    inputs: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Piece:
    """The part of the result that one tile computes."""

    batch: int
    outputs: Span
    rows: Span
    columns: Span

    @property
    def pixels(self) -> int:
        """Elements of the piece in one block of out channels."""
        return self.rows[1] * self.columns[1]


def needs(layer: Layer, tile: Tile, tensors: int) -> dict[str, int]:
    """Return the elements of each memory that a tile takes."""
    pixels = tile.rows * tile.columns
    data = layer.rows.covered(tile.rows) * layer.columns.covered(tile.columns)
    return {
        "INP": tile.inputs * data,
        "WGT": tile.outputs * tile.inputs * layer.taps,
        "ACC": tile.outputs * (pixels + tensors),
        "UOP": tile.outputs * tile.inputs * layer.taps,
    }


def choose_tile(layer: Layer, tensors: int, config: Config) -> Tile:
    """Return the tile that moves the fewest bytes; ValueError where even the smallest does not fit."""
    limit = limits(config)
    smallest = needs(layer, Tile(1, 1, 1, 1), tensors)
    for memory, need in smallest.items():
        if need > limit[memory]:
            raise ValueError(f"{memory}: the smallest tile takes {need} elements, and {limit[memory]} fit")
    for columns in ceil_splits(layer.columns.out):
        fitting = [
            tile
            for outputs, inputs, rows in product(
                ceil_splits(layer.outputs), ceil_splits(layer.inputs), ceil_splits(layer.rows.out)
            )
            if _fits(layer, tile := Tile(outputs, inputs, rows, columns), tensors, limit)
        ]
        if fitting:
            # Of equal traffic the larger tile: fewer instructions.
            return min(fitting, key=lambda each: (_traffic(layer, each, config), -each.rows, -each.outputs))
    raise AssertionError("the smallest tile fits, and is among those tried")


def _fits(layer: Layer, tile: Tile, tensors: int, limit: dict[str, int]) -> bool:
    need = needs(layer, tile, tensors)
    row = layer.rows.stride * layer.columns.covered(tile.columns)
    # Factors of a loop that turns more than once have a field as wide as an index of INP.
    steps = [row] * (tile.rows > 1) + [layer.columns.stride] * (tile.columns > 1)
    return all(need[memory] <= limit[memory] for memory in need) and max(steps, default=0) < limit["INP"]


def _traffic(layer: Layer, tile: Tile, config: Config) -> int:
    """Return about how many bytes of data and weights are loaded with this tile."""
    chunks = -(-layer.outputs // tile.outputs)
    tall, wide = -(-layer.rows.out // tile.rows), -(-layer.columns.out // tile.columns)
    area = (layer.rows.covered(tile.rows) * tall) * (layer.columns.covered(tile.columns) * wide)
    data = layer.batches * layer.inputs * area * chunks * config.inp_bytes
    weights = layer.outputs * layer.inputs * layer.taps * config.wgt_bytes
    stays = tile.inputs == layer.inputs
    return data + (weights if stays else weights * layer.batches * tall * wide)


def _generate(layer: Layer, steps: tuple[Step, ...], tile: Tile, config: Config) -> Program:
    builder = Builder(config)
    b, c = layer.batch, layer.block
    high, wide = layer.rows.out, layer.columns.out
    data = builder.buffer(
        "data", "input", (layer.batches, layer.inputs, layer.rows.size, layer.columns.size, b, c), "int8"
    )
    kernel = (layer.rows.kernel, layer.columns.kernel)
    weight = builder.buffer("weight", "weight", (layer.outputs, layer.inputs, *kernel, c, c), "int8")
    tensors = [
        builder.buffer(name, "bias", (layer.outputs, 1, 1, b, c), "int32") for name in tensors_of(steps)
    ]
    out = builder.buffer("out", "output", (layer.batches, layer.outputs, high, wide, b, c), "int8")
    first_tensor = tile.outputs * tile.rows * tile.columns
    places = {each.name: first_tensor + index * tile.outputs for index, each in enumerate(tensors)}
    pixels = list(product(chunks(high, tile.rows), chunks(wide, tile.columns)))
    channels = list(chunks(layer.inputs, tile.inputs))
    spans = list(chunks(layer.outputs, tile.outputs))
    for span in spans:
        for each in tensors:
            builder.load(
                Memory.ACC,
                each,
                sram=places[each.name],
                element=span[0],
                rows=1,
                columns=span[1],
                pitch=span[1],
            )
        for place, (batch, (rows, columns)) in enumerate(product(range(layer.batches), pixels)):
            piece = Piece(batch, span, rows, columns)
            count = span[1] * piece.pixels
            for chunk in channels:
                if place == 0 or len(channels) > 1:
                    _load_weights(builder, layer, weight, span, chunk)
                _load_data(builder, layer, data, chunk, piece)
                if chunk[0] == 0:
                    builder.clear([Uop(0, 0)], ONCE, loop(count, 1))
                _multiply(builder, layer, chunk[1], piece)
            channel = (loop(span[1], piece.pixels, 1), loop(piece.pixels, 1, 0))
            emit_steps(builder, steps, places, count, channel)
            _store(builder, layer, out, piece)
    return builder.finish()


def _load_weights(builder: Builder, layer: Layer, weight: Buffer, outputs: Span, inputs: Span) -> None:
    """Lay the weights of a tile out as [out channel block][in channel block][tap]."""
    builder.load(
        Memory.WGT,
        weight,
        sram=0,
        element=(outputs[0] * layer.inputs + inputs[0]) * layer.taps,
        rows=outputs[1],
        columns=inputs[1] * layer.taps,
        pitch=layer.inputs * layer.taps,
    )


def _load_data(builder: Builder, layer: Layer, data: Buffer, inputs: Span, piece: Piece) -> None:
    """Lay the data of a tile out as [in channel block][row][column], zeros around it included."""
    top, high, above, below = layer.rows.window(*piece.rows)
    edge, wide, before, after = layer.columns.window(*piece.columns)
    area = (above + high + below) * (before + wide + after)
    for index in range(inputs[1]):
        image = piece.batch * layer.inputs + inputs[0] + index
        builder.load(
            Memory.INP,
            data,
            sram=index * area,
            element=(image * layer.rows.size + top) * layer.columns.size + edge,
            rows=high,
            columns=wide,
            pitch=layer.columns.size,
            pads=(above, below, before, after),
        )


def _multiply(builder: Builder, layer: Layer, inputs: int, piece: Piece) -> None:
    """Accumulate one tile: micro-ops go through channels and taps, the two loops through the result."""
    outputs, rows, columns = piece.outputs[1], piece.rows[1], piece.columns[1]
    wide = layer.columns.covered(columns)
    area = layer.rows.covered(rows) * wide
    kernel = [
        Uop(
            dst=output * piece.pixels,
            src=input_ * area + y * wide + x,
            wgt=((output * inputs + input_) * layer.rows.kernel + y) * layer.columns.kernel + x,
        )
        for output, input_, y, x in product(
            range(outputs), range(inputs), range(layer.rows.kernel), range(layer.columns.kernel)
        )
    ]
    builder.gemm(
        kernel, loop(rows, columns, layer.rows.stride * wide), loop(columns, 1, layer.columns.stride)
    )


def _store(builder: Builder, layer: Layer, out: Buffer, piece: Piece) -> None:
    """Store one tile, [out channel block][row][column]; all blocks at once where their rows are whole."""
    high, wide = layer.rows.out, layer.columns.out
    image = (piece.batch * layer.outputs + piece.outputs[0]) * high * wide
    corner = image + piece.rows[0] * wide + piece.columns[0]
    if piece.columns[1] == wide:
        builder.store(
            out, sram=0, element=corner, rows=piece.outputs[1], columns=piece.pixels, pitch=high * wide
        )
        return
    for index in range(piece.outputs[1]):
        builder.store(
            out,
            sram=index * piece.pixels,
            element=corner + index * high * wide,
            rows=piece.rows[1],
            columns=piece.columns[1],
            pitch=wide,
        )
