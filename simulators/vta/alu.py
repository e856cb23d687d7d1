"""What the ALU computes, lane by lane, on every backend: int32 (or int16) arrays, modulo their width."""

from collections.abc import Callable

import numpy as np

from simulators.vta.isa import AluOpcode
from simulators.vta.profiles import Profile

Operand = np.ndarray | int
"""acc[src], or the immediate."""


MOVE = 5
"""The opcode of VTA++ that does not read dst."""


def opcodes(profile: Profile) -> range:
    """Return the opcodes that a backend's ALU has."""
    return range(7 if profile.more_opcodes == "move-multiply" else 5)


def _shift(x: np.ndarray, y: Operand, place: np.ndarray | None = None) -> np.ndarray:
    """Arithmetic shift right by y, or left by -y; beyond the width what the shifted-out bits leave behind."""
    bits = 8 * x.itemsize
    unsigned = np.dtype(f"uint{bits}")
    if isinstance(y, int):
        if y >= 0:
            return np.right_shift(x, min(y, bits - 1), out=place)
        if y <= -bits:
            return np.zeros_like(x)
        return (np.ascontiguousarray(x).view(unsigned) << unsigned.type(-y)).view(x.dtype)
    distance = y.astype(np.int64)
    right = x >> np.clip(distance, 0, bits - 1).astype(x.dtype)
    left = np.ascontiguousarray(x).view(unsigned) << np.clip(-distance, 0, bits - 1).astype(unsigned)
    return np.where(distance >= 0, right, np.where(distance > -bits, left.view(x.dtype), 0))


def _low_signed(y: Operand, bits: int) -> Operand:
    half = 1 << bits - 1
    return ((y + half) & 2 * half - 1) - half


def _left_5(y: Operand) -> Operand:
    """Distance of a shift left by the low 5 bits of the negated operand."""
    return -(-y & 31)


def distance(profile: Profile, y: Operand, immediate: int) -> Operand:
    """Return by how much SHR shifts, negative to the left; immediate is the field, used or not."""
    if isinstance(y, np.ndarray):
        y = y.astype(np.int64)
    match profile.shift:
        case "signed-5":
            return _low_signed(y, 5)
        case "signed-7":
            return _low_signed(y, 7)
        case "unsigned-5":
            return _left_5(y) if immediate < 0 else y & 31
    return y


_SIMPLE: dict[int, Callable[..., np.ndarray]] = {
    AluOpcode.MIN: np.minimum,
    AluOpcode.MAX: np.maximum,
    AluOpcode.ADD: np.add,
}


def _same_type(x: np.ndarray, y: Operand) -> np.ndarray:
    return y if isinstance(y, np.ndarray) else x.dtype.type(y)


def operate(  # noqa: PLR0917 - an instruction's own
    profile: Profile,
    opcode: int,
    x: np.ndarray,
    y: Operand,
    immediate: int,
    place: np.ndarray | None = None,
) -> tuple[np.ndarray, str, int]:
    """Return op(x, y) on one backend, and for how many lanes which behaviour differs from fsim's.

    The result may be in `place`, an array like x.

    A shift by as many bits as the accumulator has, or more, differs even on fsim: compilers disagree on it.
    """
    lanes, bits = x.size, 8 * x.itemsize
    if opcode in _SIMPLE:
        return _SIMPLE[opcode](x, _same_type(x, y), out=place), "", 0
    if opcode == AluOpcode.SHR:
        by = distance(profile, y, immediate)
        if isinstance(y, int):
            differs = lanes if abs(y) >= bits or by != y else 0
            return _shift(x, by, place), "shift", differs
        odd = (np.abs(y.astype(np.int64)) >= bits) | (by != y)
        return _shift(x, by), "shift", int(np.count_nonzero(odd))
    if opcode == AluOpcode.MUL:
        differs = 0 if profile.opcode_4 == "multiply" else lanes
        return _fourth(profile, x, y), "opcode_4", differs
    if opcode == MOVE:
        return np.broadcast_to(_same_type(x, y), x.shape), "more_opcodes", lanes
    low = np.asarray(y).astype(np.int8).astype(x.dtype)
    return x.astype(np.int8).astype(x.dtype) * low, "more_opcodes", lanes


def _fourth(profile: Profile, x: np.ndarray, y: Operand) -> np.ndarray:
    """Return what opcode 4 computes."""
    match profile.opcode_4:
        case "multiply":
            return x * _same_type(x, y)
        case "nothing":
            return x
        case "shift-left":
            return _shift(x, _left_5(y.astype(np.int64) if isinstance(y, np.ndarray) else y))
    limit = _same_type(x, y)
    return np.maximum(np.minimum(x, limit), np.negative(limit))
