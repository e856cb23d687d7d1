"""Faults to plant in the PTX of a tensor-core kernel: each edits the text that would really be executed.

A bench that does not report a planted fault is broken. Every fault leaves legal PTX behind, and raises
FaultNotPlanted where the text holds nothing that it could act on.
"""

from __future__ import annotations

import re

from kernels.faults import FaultNotPlanted

_LOAD_B = re.compile(r"wmma\.load\.b\.sync\S*\s+\{(?P<registers>[^}]*)\}")
_SIGNED_OPERANDS = re.compile(r"(wmma\.(?:load\.[ab]|mma)\.sync\S*)")
_CHOICE = re.compile(r"@(?P<predicate>%p\d+)\s+bra\s+(?P<taken>\$\w+);\s*bra\.uni\s+(?P<other>\$\w+);")
_LEAVE = re.compile(r"bra\.uni\s+(\$\w+);")


def swap_fragment_registers(ptx_text: str) -> str:
    """Swap the first two registers that one wmma.load.b fills, so that B's elements change places.

    Acts on the first wmma.load.b that fills more than one register.
    """
    for match in _LOAD_B.finditer(ptx_text):
        first, second, *others = [register.strip() for register in match["registers"].split(",")] + [""]
        if second:
            swapped = ", ".join([second, first, *others[:-1]])
            return ptx_text[: match.start("registers")] + swapped + ptx_text[match.end("registers") :]
    raise FaultNotPlanted("swap_fragment_registers: no wmma.load.b fills more than one register")


def unsigned_weights(ptx_text: str) -> str:
    """Take signed 8-bit weights as unsigned. WMMA knows operands of one signedness: so it takes the data.

    Turns .s8 into .u8 in every wmma.load.a, wmma.load.b and wmma.mma.
    """
    edited = _SIGNED_OPERANDS.sub(lambda match: match[1].replace(".s8", ".u8"), ptx_text)
    if edited == ptx_text:
        raise FaultNotPlanted("unsigned_weights: no WMMA instruction has signed 8-bit operands")
    return edited


def drop_padding_row(ptx_text: str) -> str:
    """Take the outermost row of the image for padding: the bound of the test on the row is off by one.

    Acts on every branch that either loads from global memory or stores zeros to shared memory, where the
    choice hangs on a comparison of a number with a constant. NVRTC writes the test whether a row lies in
    an image of H rows so, unless it merges it with the test on the column.
    """
    edits: dict[int, tuple[int, str]] = {}
    for choice in _CHOICE.finditer(ptx_text):
        if _loads_or_pads(ptx_text, choice["taken"], choice["other"]):
            bound = _bound(ptx_text, choice["predicate"])
            if bound:
                step = -1 if bound["relation"] == "lt" else 1
                edits[bound.start("limit")] = (bound.end("limit"), str(int(bound["limit"]) + step))
    if not edits:
        raise FaultNotPlanted(
            "drop_padding_row: no comparison chooses between a load and zeros: is there padding?"
        )
    for start in sorted(edits, reverse=True):
        end, limit = edits[start]
        ptx_text = ptx_text[:start] + limit + ptx_text[end:]
    return ptx_text


def _loads_or_pads(text: str, taken: str, other: str) -> bool:
    """Whether the code at `taken` loads from global memory, and that at `other` only fills shared memory."""
    loading = text.find(f"\n{taken}:")
    leave = _LEAVE.search(text, loading) if loading >= 0 else None
    filling = text.find(f"\n{other}:")
    join = text.find(f"\n{leave[1]}:", filling) if leave and filling >= 0 else -1
    if leave is None or join < 0:
        return False
    fill = text[filling:join]
    return "ld.global" in text[loading : leave.start()] and "ld.global" not in fill and "st.shared" in fill


def _bound(text: str, predicate: str) -> re.Match[str] | None:
    """Find the comparison that a predicate, or one that it is the conjunction of, comes from."""
    compared = rf"setp\.(?P<relation>lt|gt)\.[su]32\s+{predicate},\s*%r\d+,\s*(?P<limit>-?\d+);"
    found = re.search(compared, text)
    if found:
        return found
    both = re.search(rf"and\.pred\s+{predicate},\s*(%p\d+),\s*(%p\d+);", text)
    return (_bound(text, both[1]) or _bound(text, both[2])) if both else None
