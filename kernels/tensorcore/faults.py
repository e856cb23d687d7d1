"""Faults to plant in the PTX of a tensor-core kernel: each edits the text that would really be executed.

A bench that does not report a planted fault is broken. Every fault leaves legal PTX behind, and raises
FaultNotPlanted where the text holds nothing that it could act on.
"""

from __future__ import annotations

import re

from kernels.faults import FaultNotPlanted

_LOAD_B = re.compile(r"wmma\.load\.b\.sync\S*\s+\{(?P<registers>[^}]*)\}")
_SIGNED_OPERANDS = re.compile(r"(wmma\.(?:load\.[ab]|mma)\.sync\S*)")
_SPLIT = re.compile(
    r"^\s*(?:(?P<label>\$\w+):|@(?P<guard>!?%p\d+)\s+bra\s+(?P<taken>\$\w+);|(?:bra\.uni\s+\$\w+|ret);)"
)
_LOADED = re.compile(r"^\s*ld\.global\S*\s+(?P<registers>[^\[]*)\[")
_COPIED = re.compile(r"^\s*mov\.\S+\s+(?P<register>%\w+),")


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
    """Take the outermost row or column of the image for padding: a bound of the test is off by one.

    Acts on every load from global memory whose registers another way through the kernel sets without
    loading (the zeros of padding), where the choice hangs on a comparison of a number with a constant.
    """
    lines = ptx_text.split("\n")
    copied = {match["register"] for match in map(_COPIED.match, lines) if match}
    edits: dict[int, str] = {}
    for position, line in enumerate(lines):
        loaded = _LOADED.match(line)
        if loaded and copied.issuperset(re.findall(r"%\w+", loaded["registers"])):
            for predicate, value in _choices(lines, position):
                edits.update(_tightened(lines, predicate, value))
    if not edits:
        raise FaultNotPlanted(
            "drop_padding_row: no comparison chooses between a load and zeros: is there padding?"
        )
    for position, edited in edits.items():
        lines[position] = edited
    return "\n".join(lines)


def _choices(lines: list[str], position: int) -> list[tuple[str, bool]]:
    """The predicates, and the value of each, by which the code at this line is reached."""
    start = position
    while not (found := _SPLIT.match(lines[start])):
        start -= 1
        if start < 0:
            return []
    if found["guard"]:
        return [_reached(found["guard"], taken=False)]
    if not found["label"]:
        return []
    label = found["label"]
    reached = []
    for at, line in enumerate(lines):
        branch = _SPLIT.match(line)
        if branch and branch["taken"] == label:
            reached.append(_reached(branch["guard"], taken=True))
        elif branch and re.match(rf"\s*bra\.uni\s+{re.escape(label)};", line):
            before = _SPLIT.match(lines[at - 1])
            if before and before["guard"]:
                reached.append(_reached(before["guard"], taken=False))
    return reached


def _reached(guard: str, *, taken: bool) -> tuple[str, bool]:
    return guard.removeprefix("!"), taken != guard.startswith("!")


def _tightened(lines: list[str], predicate: str, value: bool) -> dict[int, str]:
    """Make the comparisons with constants stricter that must hold for a predicate to have this value."""
    edits: dict[int, str] = {}
    for position, line in enumerate(lines):
        compared = re.match(
            rf"(\s*setp\.(?P<relation>lt|le|gt|ge)\.[su]32\s+{predicate},\s*%r\d+,\s*)(?P<limit>-?\d+);", line
        )
        if compared:
            below = compared["relation"] in ("lt", "le")
            edits[position] = f"{compared[1]}{int(compared['limit']) + (-1 if below == value else 1)};"
        both = re.match(rf"\s*(and|or)\.pred\s+{predicate},\s*(%p\d+),\s*(%p\d+);", line)
        if both and (both[1] == "and") == value:
            edits |= _tightened(lines, both[2], value) | _tightened(lines, both[3], value)
    return edits
