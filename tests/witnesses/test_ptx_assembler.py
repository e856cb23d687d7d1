"""What the PTX machine runs, NVIDIA's assembler takes: each tensor instruction, PTX written by hand."""

from __future__ import annotations

import re

import pytest

from bench.devices.machines.cuda import OLDEST_PTX
from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.tensorcore.ptx import compile_ptx
from kernels.tensorcore.tile import SUPPORTED, Tile
from tests.simulators import test_ptx_branch_tables as branch_tables
from tests.witnesses.ptx_assembler import assemble, assembler_missing

pytestmark = pytest.mark.skipif(assembler_missing() is not None, reason=str(assembler_missing()))

ARCHITECTURES = (80, 90, 120)
INSTRUCTIONS = {f"{tile} {a}·{b}": (tile, a, b) for tile, a, b in sorted(SUPPORTED, key=str)}


def kernel(tile: Tile, dtype: str, weight_dtype: str) -> str:
    shape = (3, 3, 2 * tile.m, 2 * tile.k)
    options = {"out_channels": 2 * tile.n, "kernel": (2, 2), "padding": (0, 1, 1, 0), "tile": tile}
    function = conv2d_primfunc(shape, dtype=dtype, weight_dtype=weight_dtype, **options)
    return compile_ptx(schedule_conv2d(function), name="layer").text


QUICK = ("wmma.m8n32k16 int8·int8", "mma.m16n8k64 uint4·int4")


@pytest.mark.parametrize(
    "instruction",
    [
        pytest.param(case, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, case in INSTRUCTIONS.items()
    ],
)
def test_kernels_assemble_as_they_are_and_for_older_drivers(instruction: tuple[Tile, str, str]) -> None:
    text = kernel(*instruction)
    older = re.sub(r"(?m)^\.version .*$", f".version {OLDEST_PTX.decode()}", text)
    assert older != text
    for capability in ARCHITECTURES:
        assert assemble(text, capability) == ""
    assert assemble(older, ARCHITECTURES[0]) == ""


@pytest.mark.parametrize("text", [branch_tables.SWITCH, branch_tables.LOOP], ids=["switch", "loop"])
def test_branch_tables_are_written_as_they_should_be(text: str) -> None:
    assert assemble(text, 80) == ""


def test_the_assembler_can_refuse() -> None:
    assert "mystery" in assemble(branch_tables.SWITCH.replace("neg.s32", "mystery.s32"), 80)
