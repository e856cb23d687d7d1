"""Copies between DRAM and the memories as LOAD and STORE: two dimensions, a stride, and zeros around."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from kernels.vta.builder import Transfer
from kernels.vta.compiler.affine import Affine, Box, Conditions, boxes
from simulators.vta.config import PAD_LIMIT

SIZE_LIMIT = (1 << 16) - 1


class PadError(ValueError):
    """Zeros around a copy that no LOAD writes."""


@dataclass(frozen=True)
class Side:
    """One loop of a copy: elements copied, zeros before and after, and steps in SRAM and DRAM."""

    count: int
    before: int
    after: int
    sram: int
    dram: int

    @property
    def extent(self) -> int:
        """Elements with the zeros."""
        return self.before + self.count + self.after

    @property
    def padded(self) -> bool:
        """Whether there are zeros."""
        return self.extent != self.count


def transfers(box: Box, inside: Conditions, sram: Affine, dram: Affine) -> Iterator[Transfer]:
    """Yield the transfers of a copy over a box.

    sram, dram: element addresses as functions of how far each variable is from the box's corner. inside: the
    conditions under which DRAM is read; elsewhere SRAM becomes zero. ValueError says what no LOAD can do,
    PadError which zeros.
    """
    offsets: Box = {each: range(len(values)) for each, values in box.items()}
    corner = {each: values.start for each, values in box.items()}
    shifted = []
    for each in inside:
        constant = each.constant + sum(factor * corner[name] for name, factor in each.factors.items())
        shifted.append(Affine(constant, each.factors))
    several = {
        name
        for each in shifted
        if len([f for f in each.factors if len(box[f]) > 1]) > 1
        for name in each.factors
    }
    # A condition on more than one loop is one on the last of them, the others unrolled.
    unrolled = [name for name in offsets if name in several][:-1]
    for at in product(*(offsets[name] for name in unrolled)):
        values = dict(zip(unrolled, at, strict=True))
        left = {name: each for name, each in offsets.items() if name not in values}
        here = [each.at(values) for each in shifted]
        yield from _copies(left, here, sram.at(values), dram.at(values))


def _copies(box: Box, inside: list[Affine], sram: Affine, dram: Affine) -> Iterator[Transfer]:
    copied = next(boxes(box, inside), None)
    if copied is None:
        yield _zeros(box, sram)
        return
    sides = [
        Side(
            count=len(copied[name]),
            before=copied[name].start,
            after=len(values) - copied[name].stop,
            sram=sram.factors.get(name, 0),
            dram=dram.factors.get(name, 0),
        )
        for name, values in box.items()
    ]
    # DRAM is addressed at the first element that is copied, SRAM at the first zero.
    first = dram.constant + sum(dram.factors.get(name, 0) * copied[name].start for name in box)
    yield from _cut(_fused(sides), sram.constant, first)


def _zeros(box: Box, sram: Affine) -> Transfer:
    """A LOAD of no row, whose padding above is all of a box."""
    size = 1
    for step, count in sorted((sram.factors.get(name, 0), len(values)) for name, values in box.items()):
        if count > 1 and step != size:
            raise PadError("a copy of which nothing lies in DRAM, to elements that are not neighbours")
        size *= count
    if size > SIZE_LIMIT:
        raise PadError(f"{size} zeros, and a LOAD writes a row of {SIZE_LIMIT}")
    return Transfer(sram.constant, 0, 0, size, size, (1, 0, 0, 0))


def _fused(sides: list[Side]) -> list[Side]:
    """Return the loops, innermost in SRAM first; one that another continues in both memories is joined."""
    ordered = sorted((each for each in sides if each.extent > 1), key=lambda each: each.sram)
    joined: list[Side] = []
    for each in ordered:
        inner = joined[-1] if joined else None
        if (
            inner
            and not inner.padded
            and each.sram == inner.count * inner.sram
            and each.dram == inner.count * inner.dram
            and each.count * inner.count <= SIZE_LIMIT
            and max(each.before, each.after) * inner.count <= PAD_LIMIT
        ):
            size = inner.count
            joined[-1] = Side(
                each.count * size, each.before * size, each.after * size, inner.sram, inner.dram
            )
        else:
            joined.append(each)
    return joined


def _cut(sides: list[Side], sram: int, dram: int) -> Iterator[Transfer]:
    """Take the loops that fit into one instruction, and unroll the others."""
    once = Side(1, 0, 0, 1, 1)
    x = once
    if sides and sides[0].sram == 1 and sides[0].dram == 1:
        x, sides = sides[0], sides[1:]
    y = once
    # Rows follow one another in SRAM.
    if sides and sides[0].sram == x.extent and sides[0].dram >= 0:
        y, sides = sides[0], sides[1:]
    for each in (x, y):
        pads = max(each.before, each.after) > PAD_LIMIT
        if pads or each.count > SIZE_LIMIT or y.dram > SIZE_LIMIT:
            raise (PadError if pads else ValueError)(
                f"a copy of {each.count} elements with {each.before} and {each.after} zeros around them, "
                f"{y.dram} apart, where LOAD and STORE have {SIZE_LIMIT}, {PAD_LIMIT} and {SIZE_LIMIT}"
            )
    if any(each.padded for each in sides):
        raise PadError("a copy with zeros around it in three dimensions or more, and LOAD pads two")
    for at in product(*(range(each.count) for each in reversed(sides))):
        moved = list(zip(at, reversed(sides), strict=True))
        yield Transfer(
            sram=sram + sum(turn * each.sram for turn, each in moved),
            dram=dram + sum(turn * each.dram for turn, each in moved),
            rows=y.count,
            columns=x.count,
            pitch=y.dram if y.count > 1 else x.count,
            pads=(y.before, y.after, x.before, x.after),
        )
