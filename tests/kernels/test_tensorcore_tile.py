"""The table of tensor instructions, and the functions of CUDA C++ in which mma and ldmatrix are written."""

import pytest

from kernels.tensorcore.intrinsics import intrinsics
from kernels.tensorcore.mma import device_functions
from kernels.tensorcore.packing import conv2d_weight, dense_weight
from kernels.tensorcore.tile import HOUSE_TILE, SUBBYTE_TILE, SUPPORTED, Tile, check_supported, default_tile


def test_wmma_multiplies_operands_of_one_signedness_and_mma_any():
    shapes = {}
    for tile, dtype, weight_dtype in SUPPORTED:
        shapes.setdefault(str(tile), set()).add((dtype, weight_dtype))
    same = {"int8": {("int8", "int8"), ("uint8", "uint8")}, "int4": {("int4", "int4"), ("uint4", "uint4")}}
    mixed = {bits: same[bits] | {(bits, f"u{bits}"), (f"u{bits}", bits)} for bits in same}
    assert shapes == {
        "wmma.m8n32k16": same["int8"],
        "wmma.m16n16k16": same["int8"],
        "wmma.m32n8k16": same["int8"],
        "wmma.m8n8k32": same["int4"],
        "mma.m8n8k16": mixed["int8"],
        "mma.m16n8k32": mixed["int8"],
        "mma.m8n8k32": mixed["int4"],
        "mma.m16n8k64": mixed["int4"],
    }


@pytest.mark.parametrize(
    ("types", "tile"),
    [
        (("int8", None), HOUSE_TILE),
        (("uint4", "uint4"), SUBBYTE_TILE),
        (("uint8", "int8"), Tile(8, 8, 16, "mma")),
        (("int4", "uint4"), Tile(8, 8, 32, "mma")),
    ],
    ids=str,
)
def test_types_have_a_default_tile(types, tile):
    assert default_tile(*types) == tile
    check_supported(tile, types[0], types[1] or types[0])


def test_types_without_an_instruction_are_refused():
    with pytest.raises(ValueError, match="no tensor instruction multiplies int8 by int4"):
        default_tile("int8", "int4")
    with pytest.raises(ValueError, match="float16 is no operand of a tensor instruction"):
        default_tile("int8", "float16")
    with pytest.raises(
        ValueError, match=r"no tensor instruction wmma\.m8n32k16 int8\*uint8: supported are mma"
    ):
        intrinsics(HOUSE_TILE, "int8", "uint8")


def test_a_tile_is_read_as_it_is_spelled():
    for tile, _, _ in SUPPORTED:
        assert Tile.parse(str(tile)) == tile
    with pytest.raises(ValueError, match="'m8n32k16' is no tile"):
        Tile.parse("m8n32k16")


@pytest.mark.parametrize(
    ("tile", "weight", "dense"),
    [
        (HOUSE_TILE, "HWOI32o16i", "NK32n16k"),
        (SUBBYTE_TILE, "HWOI8o32i", "NK8n32k"),
        (Tile(16, 8, 64, "mma"), "HWOI8o64i", "NK8n64k"),
    ],
    ids=str,
)
def test_layout_names_follow_the_tile(tile, weight, dense):
    assert (conv2d_weight(tile), dense_weight(tile)) == (weight, dense)


def test_segments_are_what_ldmatrix_takes_at_a_time():
    assert Tile(16, 8, 64, "mma").segments("int4") == Tile(16, 8, 32, "mma").segments("uint8") == 2
    assert SUBBYTE_TILE.segments("uint4") == HOUSE_TILE.segments("int8") == 1


def test_only_functions_that_are_called_are_written():
    assert device_functions("void f() { g(1); }") == ""
    text = device_functions("bitexact_mma_m16n8k64_s4_u4(c, a, b); bitexact_mma_m16n8k64_s4_u4(c, a, b);")
    assert text.count("static __device__") == 1
    assert (
        "mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9},"
        in text
    )
