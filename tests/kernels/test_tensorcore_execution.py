"""The PTX of the layers, executed on the PTX machine, equals plain int64 NumPy on unpacked operands."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kernels.faults import FaultNotPlanted
from kernels.tensorcore import faults
from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from kernels.tensorcore.operands import PTX_NAME
from kernels.tensorcore.ptx import PtxKernel, compile_ptx
from kernels.tensorcore.tile import SUPPORTED, Tile, default_tile
from kernels.tensorcore.tiling import Tiling
from simulators import ptx
from tests.kernels.tensorcore_reference import RANGES, Conv, conv2d, operands, pack, stored, wrap

DIGITS = {
    "conv1, 1 to 24 channels, batch 8": Conv(8, 8, 8, 16, 32, (3, 3), padding=(1, 1, 1, 1)),
    "conv1, 1 to 24 channels, batch 16": Conv(8, 8, 16, 16, 32, (3, 3), padding=(1, 1, 1, 1)),
    "conv2, 24 to 40 channels, stride 2, batch 8": Conv(
        8, 8, 8, 32, 64, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1)
    ),
    "conv2, 24 to 40 channels, stride 2, batch 16": Conv(
        8, 8, 16, 32, 64, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1)
    ),
    "conv3, 40 to 40 channels, batch 8": Conv(4, 4, 8, 48, 64, (3, 3), padding=(1, 1, 1, 1)),
    "conv3, 40 to 40 channels, batch 16": Conv(4, 4, 16, 48, 64, (3, 3), padding=(1, 1, 1, 1)),
    "conv4, 40 to 64 channels, 1x1, batch 8": Conv(4, 4, 8, 48, 64, (1, 1)),
    "conv4, 40 to 64 channels, 1x1, batch 16": Conv(4, 4, 16, 48, 64, (1, 1)),
}
OTHERS = {
    "one tile": Conv(1, 1, 8, 16, 32, (1, 1)),
    "padding left and bottom": Conv(5, 6, 8, 16, 32, (3, 3), padding=(0, 2, 1, 0)),
    "padding top and right": Conv(5, 6, 8, 16, 32, (3, 3), padding=(2, 0, 0, 1)),
    "padding wider than the kernel": Conv(3, 3, 8, 16, 32, (2, 2), padding=(3, 4, 3, 2)),
    "dilation 2": Conv(7, 7, 8, 16, 32, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)),
    "dilation 2 and 3, strides 3 and 2": Conv(
        9, 11, 8, 16, 32, (3, 3), strides=(3, 2), padding=(1, 2, 3, 4), dilation=(2, 3)
    ),
    "uint8": Conv(5, 5, 16, 32, 32, (3, 3), padding=(1, 1, 1, 1), dtype="uint8"),
    "only padding is seen": Conv(1, 1, 8, 16, 32, (1, 1), strides=(2, 1), padding=(1, 0, 0, 0)),
    "three row tiles, three columns, five steps": Conv(2, 3, 24, 80, 96, (1, 2)),
    "int4": Conv(5, 5, 16, 64, 24, (3, 3), padding=(1, 1, 1, 1), dtype="int4"),
    "int4, stride 2, uneven padding": Conv(
        7, 6, 8, 32, 16, (3, 2), strides=(2, 1), padding=(0, 2, 1, 0), dtype="int4"
    ),
    "int4, 1x1, stride 2": Conv(6, 6, 8, 96, 40, (1, 1), strides=(2, 2), dtype="int4"),
    "int4, dilation 2": Conv(7, 7, 8, 32, 8, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2), dtype="int4"),
    "uint4": Conv(5, 5, 8, 64, 16, (3, 3), padding=(1, 1, 1, 1), dtype="uint4"),
}


@cache
def compiled_conv2d(conv, tiling=None, tile=None) -> PtxKernel:
    function = conv2d_primfunc(conv.data_shape, **conv.options(), tile=tile)
    return compile_ptx(schedule_conv2d(function, tiling=tiling), name="conv2d")


def quick(cases, *names):
    """Parameters of which only those named run by default; the others are as many again, and slow."""
    return [
        pytest.param(case, id=name, marks=() if name in names else pytest.mark.slow)
        for name, case in cases.items()
    ]


def launch(kernel, data, weight, *, dtype="int8", weight_dtype=None, tile=None, text=None):
    """Run a kernel (or an edited text of it) on the PTX machine: its output, and the report."""
    buffers = {"data": stored(data, dtype), "weight": pack(weight, weight_dtype or dtype, tile)}
    shape = next(argument.shape for argument in kernel.arguments if argument.name == "out")
    out = np.full(shape, 0x5A5A5A5A, np.int32)
    report = ptx.parse(kernel.text if text is None else text).launch(
        kernel.entry,
        kernel.grid,
        kernel.block,
        kernel.in_kernel_order({**buffers, "out": out}),
        dynamic_shared=kernel.dynamic_shared,
    )
    return out, report


def assert_exact(conv, kernel, data, weight, *, tile=None):
    tile = tile or default_tile(conv.dtype, conv.weight_dtype)
    out, report = launch(kernel, data, weight, dtype=conv.dtype, weight_dtype=conv.weight_dtype, tile=tile)
    np.testing.assert_array_equal(out, conv2d(conv, data, weight))
    assert report.findings == []
    height, width, batch, channels = out.shape
    products = height * width * batch * channels * conv.kernel[0] * conv.kernel[1] * conv.in_channels
    assert report.counters["tensor_instructions"] == products // (tile.m * tile.n * tile.k)
    return report


@pytest.mark.parametrize(
    "conv", quick(DIGITS | OTHERS, *(name for name in DIGITS | OTHERS if "batch 8" not in name))
)
def test_convolution_is_exact(conv):
    data, weight = operands(conv.data_shape, conv.dtype, 5), operands(conv.weight_shape, conv.dtype, 6)
    assert_exact(conv, compiled_conv2d(conv), data, weight)


@st.composite
def layers(draw):
    """Any small legal layer."""
    dtype = draw(st.sampled_from(["int8", "uint8", "int4", "uint4"]))
    tile = default_tile(dtype)
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    least = [
        max(1, (k - 1) * d + 1 - p - q)
        for k, d, p, q in zip(kernel, dilation, padding[:2], padding[2:], strict=True)
    ]
    return Conv(
        height=draw(st.integers(least[0], least[0] + 4)),
        width=draw(st.integers(least[1], least[1] + 8)),
        batch=tile.m * draw(st.integers(1, 6)),
        in_channels=tile.k * draw(st.integers(1, 7)),
        out_channels=tile.n * draw(st.integers(1, 5)),
        kernel=kernel,
        strides=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
        dtype=dtype,
    )


@settings(max_examples=6)
@given(layers())
def test_any_legal_layer_is_exact(conv):
    data, weight = operands(conv.data_shape, conv.dtype, 15), operands(conv.weight_shape, conv.dtype, 16)
    assert_exact(conv, compiled_conv2d(conv), data, weight)


@pytest.mark.slow
@settings(max_examples=300, phases=[Phase.generate])
@given(layers())
def test_many_legal_layers_are_exact(conv):
    data, weight = operands(conv.data_shape, conv.dtype, 17), operands(conv.weight_shape, conv.dtype, 18)
    assert_exact(conv, compiled_conv2d(conv), data, weight)


CORNERS = {
    "int8, least by least": ("int8", -128, -128),
    "int8, least by greatest": ("int8", -128, 127),
    "uint8, greatest by greatest": ("uint8", 255, 255),
    "uint8, zero by greatest": ("uint8", 0, 255),
    "int4, least by least": ("int4", -8, -8),
    "int4, least by greatest": ("int4", -8, 7),
    "uint4, greatest by greatest": ("uint4", 15, 15),
}


@pytest.mark.parametrize(("dtype", "datum", "weight"), CORNERS.values(), ids=CORNERS)
def test_ends_of_the_operand_range(dtype, datum, weight):
    conv = Conv(3, 3, 8, 32, 32, (3, 3), padding=(1, 1, 1, 1), dtype=dtype)
    assert_exact(
        conv,
        compiled_conv2d(conv),
        np.full(conv.data_shape, datum),
        np.full(conv.weight_shape, weight),
    )


TILINGS = {
    "one warp, one tile": Tiling(),
    "staged by kernel position": Tiling(warp_row_tiles=2, chunk=3, stage="position"),
    "staged by kernel row, rows outside chunks": Tiling(chunk=3, reorder_inner=("kh", "ko")),
    "staged by kernel position, rows outside chunks": Tiling(stage="position", reorder_inner=("kh", "ko")),
    "staged by kernel": Tiling(warp_row_tiles=2, stage="kernel"),
    "warps along all four axes": Tiling(
        block_height_warps=2, block_width_warps=2, block_row_warps=2, block_col_warps=2, chunk=3
    ),
    "tiles along all four axes": Tiling(
        warp_height_tiles=2, warp_width_tiles=2, warp_row_tiles=2, warp_col_tiles=2, chunk=3
    ),
    "several rectangles a block": Tiling(split_block_k_nums=4, block_row_warps=4, warp_col_tiles=4),
    "both operands double buffered": Tiling(
        as_double_buffer=True, ws_double_buffer=True, block_row_warps=2, block_col_warps=2
    ),
    "narrow vectors": Tiling(vector_as=4, vector_ws=8, block_row_warps=4),
    "nothing unrolled": Tiling(warp_row_tiles=2, auto_unroll_max_step=0),
}


@pytest.mark.parametrize("tiling", TILINGS.values(), ids=TILINGS)
@pytest.mark.parametrize("dtype", [pytest.param("int8", marks=pytest.mark.slow), "int4"])
def test_every_tiling_computes_the_same(dtype, tiling):
    tile = default_tile(dtype)
    conv = Conv(4, 4, 32, 3 * tile.k, 4 * tile.n, (3, 3), padding=(1, 1, 1, 1), strides=(2, 1), dtype=dtype)
    data, weight = operands(conv.data_shape, conv.dtype, 7), operands(conv.weight_shape, conv.dtype, 8)
    assert_exact(conv, compiled_conv2d(conv, tiling), data, weight)


# By default mixed signedness where there is any.
INSTRUCTIONS = {f"{tile} {a}*{b}": (tile, a, b) for tile, a, b in sorted(SUPPORTED, key=str)}
MOSTLY = [
    name
    for name, (tile, a, b) in INSTRUCTIONS.items()
    if a[0] == "u" and (b != a) == (tile.instruction == "mma")
]


@pytest.mark.parametrize("instruction", quick(INSTRUCTIONS, *MOSTLY))
def test_every_instruction_computes_the_same(instruction):
    tile, dtype, weight_dtype = instruction
    conv = Conv(
        3, 3, 2 * tile.m, 2 * tile.k, 2 * tile.n, (2, 2),
        padding=(0, 1, 1, 0), dtype=dtype, weight_dtype=weight_dtype,
    )  # fmt: skip
    data, weight = operands(conv.data_shape, dtype, 19), operands(conv.weight_shape, weight_dtype, 20)
    kernel = compiled_conv2d(conv, tile=tile)
    assert_exact(conv, kernel, data, weight, tile=tile)
    signs = f"{PTX_NAME[dtype]}.{PTX_NAME[weight_dtype]}"
    product = f"{tile.instruction}{'.mma' * (tile.instruction == 'wmma')}.sync.aligned"
    row_col = f"row.col.{tile.shape}" if tile.instruction == "wmma" else f"{tile.shape}.row.col"
    assert f"{product}.{row_col}.s32.{signs}.s32" in kernel.text
    assert ("ldmatrix.sync" in kernel.text) == (tile.instruction == "mma")


MMA = {
    "m16n8k32, int8 by uint8": (Tile(16, 8, 32, "mma"), "int8", "uint8"),
    "m16n8k64, int4 by int4": (Tile(16, 8, 64, "mma"), "int4", "int4"),
    "m16n8k64, uint4 by int4": (Tile(16, 8, 64, "mma"), "uint4", "int4"),
    "m8n8k32, int4 by uint4": (Tile(8, 8, 32, "mma"), "int4", "uint4"),
}


@pytest.mark.parametrize(("tile", "dtype", "weight_dtype"), MMA.values(), ids=MMA)
@pytest.mark.parametrize("vectors", quick({"16": 16, "8": 8, "4": 4}, "16"))
def test_segments_of_rows_are_staged_in_any_vectors(tile, dtype, weight_dtype, vectors):
    conv = Conv(
        4, 4, tile.m, 2 * tile.k, 4 * tile.n, (3, 3),
        padding=(1, 1, 1, 1), dtype=dtype, weight_dtype=weight_dtype,
    )  # fmt: skip
    tiling = Tiling(warp_width_tiles=2, block_col_warps=2, chunk=2, vector_as=vectors, vector_ws=vectors)
    data, weight = operands(conv.data_shape, dtype, 23), operands(conv.weight_shape, weight_dtype, 24)
    assert_exact(conv, compiled_conv2d(conv, tiling, tile), data, weight, tile=tile)


@pytest.mark.parametrize(("tile", "dtype", "weight_dtype"), MMA.values(), ids=MMA)
def test_ends_of_the_range_of_mixed_operands(tile, dtype, weight_dtype):
    conv = Conv(
        2, 2, tile.m, tile.k, tile.n, (2, 2), padding=(1, 0, 0, 1), dtype=dtype, weight_dtype=weight_dtype
    )
    kernel = compiled_conv2d(conv, tile=tile)
    for datum, value in product(RANGES[dtype], RANGES[weight_dtype]):
        data, weight = np.full(conv.data_shape, datum), np.full(conv.weight_shape, value)
        assert_exact(conv, kernel, data, weight, tile=tile)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint4"])
@pytest.mark.parametrize(
    "sizes", quick({"digits, batch 8": (8, 64, 32), "digits": (256, 64, 32), "odd": (24, 160, 96)}, "odd")
)
def test_dense_is_exact(sizes, dtype):
    batch, length, units = sizes
    tile = default_tile(dtype)
    data, weight = operands((batch, length), dtype, 9), operands((units, length), dtype, 10)
    function = schedule_dense(dense_primfunc((batch, length), units=units, dtype=dtype))
    out, report = launch(compile_ptx(function, name="dense"), data, weight, dtype=dtype)
    np.testing.assert_array_equal(out, wrap(data.astype(np.int64) @ weight.astype(np.int64).T))
    assert report.findings == []
    assert report.counters["tensor_instructions"] == batch * length * units // (tile.m * tile.n * tile.k)


# Layers of the digits network at batch 256: (layer, most warp instructions per tensor instruction).
BATCHED = {
    "conv1": (Conv(8, 8, 256, 16, 32, (3, 3), padding=(1, 1, 1, 1)), 6),
    "conv2": (Conv(8, 8, 256, 32, 64, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1)), 6),
    "conv3": (Conv(4, 4, 256, 48, 64, (3, 3), padding=(1, 1, 1, 1)), 6),
    "conv4": (Conv(4, 4, 256, 48, 64, (1, 1)), 6),
}


@pytest.mark.parametrize(("conv", "most"), BATCHED.values(), ids=BATCHED)
def test_few_instructions_surround_each_tensor_instruction(conv, most):
    data, weight = operands(conv.data_shape, conv.dtype, 11), operands(conv.weight_shape, conv.dtype, 12)
    counters = assert_exact(conv, compiled_conv2d(conv), data, weight).counters
    assert counters["warp_instructions"] < most * counters["tensor_instructions"]
    assert counters["shared_bank_conflicts"] <= 0.05 * counters["shared_transactions"]


FAULTS = {
    "swap_fragment_registers": faults.swap_fragment_registers,
    "unsigned_weights": faults.unsigned_weights,
    "drop_padding_row": faults.drop_padding_row,
}
PADDED = [
    "conv1, 1 to 24 channels, batch 16",
    "conv2, 24 to 40 channels, stride 2, batch 8",
    "conv2, 24 to 40 channels, stride 2, batch 16",
    "conv3, 40 to 40 channels, batch 8",
    "conv3, 40 to 40 channels, batch 16",
    "padding left and bottom",
    "padding top and right",
    "padding wider than the kernel",
    "dilation 2",
]
UNPADDED = [
    "one tile",
    "conv4, 40 to 64 channels, 1x1, batch 8",
    "three row tiles, three columns, five steps",
]


def assert_fault_shows(conv, fault):
    data, weight = operands(conv.data_shape, conv.dtype, 13), operands(conv.weight_shape, conv.dtype, 14)
    kernel = compiled_conv2d(conv)
    out, _ = launch(kernel, data, weight, text=fault(kernel.text))
    assert (out != conv2d(conv, data, weight)).any()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("layer", quick({name: name for name in PADDED}, PADDED[1], PADDED[-2]))
def test_a_planted_fault_changes_the_result(layer, fault):
    assert_fault_shows((DIGITS | OTHERS)[layer], fault)


@pytest.mark.parametrize("fault", [faults.swap_fragment_registers, faults.unsigned_weights])
@pytest.mark.parametrize("layer", quick({name: name for name in UNPADDED}, UNPADDED[0]))
def test_a_planted_fault_changes_the_result_without_padding(layer, fault):
    assert_fault_shows((DIGITS | OTHERS)[layer], fault)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("layer", quick({name: name for name in ("conv1", "conv2", "conv3")}, "conv1"))
def test_a_planted_fault_changes_a_batch_of_digits(layer, fault):
    assert_fault_shows(BATCHED[layer][0], fault)


@pytest.mark.parametrize("layer", UNPADDED)
def test_no_padding_can_be_dropped_where_there_is_none(layer):
    with pytest.raises(FaultNotPlanted, match="is there padding"):
        faults.drop_padding_row(compiled_conv2d((DIGITS | OTHERS)[layer]).text)


def test_faults_without_a_place_say_so():
    with pytest.raises(FaultNotPlanted, match="no WMMA instruction has signed"):
        faults.unsigned_weights(compiled_conv2d(OTHERS["uint8"]).text)
    with pytest.raises(FaultNotPlanted, match=r"no wmma\.load\.b fills more than one register"):
        faults.swap_fragment_registers(".version 9.0")
