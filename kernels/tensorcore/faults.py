"""Faults to plant in the PTX of a tensor-core kernel: each edits the text that would really be executed.

A bench that does not report a planted fault is broken. Every fault leaves legal PTX behind, and raises
FaultNotPlanted where the text holds nothing that it could act on.
"""

from __future__ import annotations

import re

from kernels.faults import FaultNotPlanted

# wmma.mma... {d}, {a}, {b}, {c};  b is the third list of registers.
_MULTIPLY = re.compile(r"wmma\.mma\.sync\S*\s+(?:\{[^}]*\},\s*){2}\{(?P<b>[^}]*)\}")
_SIGNED_OPERANDS = re.compile(r"(wmma\.(?:load\.[ab]|mma)\.sync\S*)")
# A test of an unsigned number against a constant that chooses between two places further down. A loop's
# own test goes back instead and is followed by no second branch.
_BOUND = re.compile(
    r"(?P<test>setp\.lt\.u32\s+(?P<predicate>%p\d+),\s*%r\d+,\s*)(?P<bound>\d+)"
    r"(?P<branches>;\s*@(?P=predicate)\s+bra\s+\S+;\s*bra\.uni\s)"
)


def swap_fragment_registers(ptx_text: str) -> str:
    """Swap the first two registers of one B fragment, so that its lanes multiply k elements of others.

    Acts on the first wmma.mma whose B fragment has two different registers.
    """
    for match in _MULTIPLY.finditer(ptx_text):
        registers = [register.strip() for register in match["b"].split(",")]
        if len(registers) > 1 and registers[0] != registers[1]:
            swapped = ", ".join([registers[1], registers[0], *registers[2:]])
            return ptx_text[: match.start("b")] + swapped + ptx_text[match.end("b") :]
    raise FaultNotPlanted("swap_fragment_registers: no B fragment has two different registers")


def unsigned_weights(ptx_text: str) -> str:
    """Take signed 8-bit weights as unsigned. WMMA knows operands of one signedness: so it takes the data.

    Turns .s8 into .u8 in every wmma.load.a, wmma.load.b and wmma.mma.
    """
    edited = _SIGNED_OPERANDS.sub(lambda match: match[1].replace(".s8", ".u8"), ptx_text)
    if edited == ptx_text:
        raise FaultNotPlanted("unsigned_weights: no WMMA instruction has signed 8-bit operands")
    return edited


def drop_padding_row(ptx_text: str) -> str:
    """Take the last row of the image for padding: the bound of the test on the row is one too low.

    NVRTC writes the test whether a row lies in an image of H rows as one unsigned comparison with H.
    """
    edited, planted = _BOUND.subn(
        lambda match: f"{match['test']}{int(match['bound']) - 1}{match['branches']}", ptx_text
    )
    if not planted:
        raise FaultNotPlanted("drop_padding_row: no load is guarded by an unsigned bound: is there padding?")
    return edited
