"""Signatures of operands: read with another sign, in another order, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

MOST_LANES = 32
MOST_STEPS = 160

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class OperandChange:
    """One way in which an operand (an array of integers) is read wrongly."""

    name: str
    what: str
    change: Change


def signs(bits: int, signed: bool) -> OperandChange:
    """Read with the other signedness: ``signed`` is the right one."""
    half, whole = 1 << (bits - 1), 1 << bits

    def change(values: np.ndarray) -> np.ndarray:
        wide = values.astype(np.int32)
        return wide % whole if signed else np.where(wide >= half, wide - whole, wide)

    return OperandChange(
        "sign", f"read as {'unsigned' if signed else 'signed'} numbers of {bits} bits", change
    )


def nibbles() -> OperandChange:
    """The two 4-bit values of a byte in each other's place."""

    def change(values: np.ndarray) -> np.ndarray:
        pairs = values.reshape(*values.shape[:-1], -1, 2)
        return pairs[..., ::-1].reshape(values.shape)

    return OperandChange(
        "nibble order", "the high and the low nibble of each byte in each other's place", change
    )


def lane_orders(lanes: int) -> Iterator[OperandChange]:
    """All positions of the innermost dimension in another order."""
    distance = 1
    while lanes % (2 * distance) == 0:
        yield _reordered(f"lanes that are {distance} apart exchanged", np.arange(lanes) ^ distance)
        distance *= 2
    if lanes > 2:
        yield _reordered("lanes in reverse order", np.arange(lanes)[::-1])


def lane_pairs(lanes: int) -> Iterator[OperandChange]:
    """Two positions of the innermost dimension in each other's place: neighbours first."""
    pairs = combinations(range(min(lanes, MOST_LANES)), 2)
    for one, other in sorted(pairs, key=lambda pair: pair[1] - pair[0]):
        order = np.arange(lanes)
        order[[one, other]] = other, one
        yield _reordered(f"lanes {one} and {other} exchanged", order)


def _reordered(what: str, order: np.ndarray) -> OperandChange:
    return OperandChange("lanes swapped", what, lambda values: values[..., order])


Steps = Sequence[tuple[int, str]]
"""The dimensions of a weight that are added over, with their names."""


def missing_steps(shape: Sequence[int], steps: Steps) -> Iterator[OperandChange]:
    """One step of a reduction left out."""
    for place in _places(shape, steps):
        what = f"nothing is multiplied at {_where(steps, place)}"
        yield OperandChange("one K step missing", what, _without(shape, steps, [place]))


def lost_parts(shape: Sequence[int], steps: Steps) -> Iterator[OperandChange]:
    """All steps of a reduction before one, or from one on, left out."""
    places = _places(shape, steps)
    for number, place in enumerate(places[1:], start=1):
        where = _where(steps, place)
        before, behind = (_without(shape, steps, part) for part in (places[:number], places[number:]))
        yield OperandChange("accumulation restarted", f"what comes before {where} is lost", before)
        yield OperandChange("accumulation ended early", f"what comes from {where} on is lost", behind)


def _places(shape: Sequence[int], steps: Steps) -> list[tuple[int, ...]]:
    places = list(np.ndindex(*(shape[axis] for axis, _ in steps)))
    return places if 1 < len(places) <= MOST_STEPS else []


def _where(steps: Steps, place: Sequence[int]) -> str:
    return ", ".join(f"{name} {position}" for (_, name), position in zip(steps, place, strict=True))


def _without(shape: Sequence[int], steps: Steps, places: Sequence[Sequence[int]]) -> Change:
    def change(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        for place in places:
            whole: list[int | slice] = [slice(None)] * len(shape)
            for (axis, _), position in zip(steps, place, strict=True):
                whole[axis] = position
            changed[tuple(whole)] = 0
        return changed

    return change
