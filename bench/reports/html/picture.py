"""The picture of a mismatch: which elements of the tensor differ, slice by slice, and along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.compare.difference import Difference
from bench.compare.mismatch import Mismatch
from bench.reports.html.png import data_uri

MOST_PANELS = 64
MOST_BARS = 128
COLOUR = (214, 51, 96)
"""Of differing elements: at least 3:1 against the ground of a slice, light and dark."""
SMALL, LARGE = 56, 240
"""Pixels of the longer side of a slice, of many and of a single one, as far as whole elements allow."""
GRID_FROM = 6


@dataclass(frozen=True)
class Panel:
    """One slice of the tensor: the last two axes. Sizes are in elements, ``scale`` is pixels for each.

    ``first`` is the row and column of the first differing element if it is in this slice; ``valid`` are rows
    and columns that are no padding.
    """

    label: str
    rows: int
    columns: int
    valid: tuple[int, int]
    image: str | None
    first: tuple[int, int] | None
    scale: int

    @property
    def grid(self) -> bool:
        """Whether elements are large enough for lines between them."""
        return self.scale >= GRID_FROM

    @property
    def mark(self) -> tuple[float, float, float]:
        """Left, top and side of the box around the first element: at least 9 pixels, so that it is seen."""
        assert self.first is not None
        side = max(1.0, 9 / self.scale)
        row, column = self.first
        return column + 0.5 - side / 2, row + 0.5 - side / 2, side


@dataclass(frozen=True)
class Profile:
    """How many elements differ along one axis: a height from 0 to 1 for each ``bin`` positions."""

    axis: str
    extent: int
    touched: str
    heights: list[float]
    bin: int
    most: int


@dataclass(frozen=True)
class Cell:
    """Both values of one element of the window."""

    device: int
    reference: int
    first: bool


@dataclass(frozen=True)
class ValueWindow:
    """Values around the first element: a row of cells for each position of the last axis but one."""

    fixed: str
    row_axis: str
    column_axis: str
    columns: list[int]
    rows: list[tuple[int, list[Cell]]]


@dataclass(frozen=True)
class Picture:
    """All that is drawn of one mismatch.

    ``fixed`` says where the slices are taken, ``equal`` how many slices without a difference are not shown,
    ``more`` how many with one, ``part`` what of a large tensor is known.
    """

    row_axis: str
    column_axis: str
    panel_axis: str | None
    fixed: str
    panels: list[Panel]
    equal: int
    more: int
    part: str | None
    padded: bool
    profiles: list[Profile]
    window: ValueWindow


def short_axis(axis: str) -> str:
    """n, c, h or w; d0, d1 … of a tensor whose dimensions are numbered."""
    return axis.replace("dimension ", "d").lower()


def picture_of(mismatch: Mismatch) -> Picture | None:
    """The picture; None of a mismatch without its differing elements, as older runs have it.

    ValueError where the first element is not in the part of the tensor that is kept.
    """
    difference = mismatch.difference
    if difference is None or not difference.axes:
        return None
    first = tuple(mismatch.coordinate.values())
    if len(first) != len(difference.part) or any(
        not start <= position < stop for position, (start, stop) in zip(first, difference.part, strict=True)
    ):
        raise ValueError(
            f"mismatch in {mismatch.binding}: coordinate {mismatch.coordinate} is not in the part "
            f"{list(difference.part)} of its difference"
        )
    axes = [short_axis(axis) for axis in difference.axes]
    names = ["", *axes] if len(axes) == 1 else axes
    panels, equal, more = _panels(difference, first)
    return Picture(
        row_axis=names[-2],
        column_axis=names[-1],
        panel_axis=axes[-3] if len(axes) > 2 else None,
        fixed=_places(axes[:-3], first[:-3]),
        panels=panels,
        equal=equal,
        more=more,
        part=_part(difference, axes),
        padded=difference.extents != difference.logical,
        profiles=[_profile(difference, axis, mismatch.pattern.get(axis, "")) for axis in difference.axes],
        window=_window(difference, names, first),
    )


def _panels(difference: Difference, first: Sequence[int]) -> tuple[list[Panel], int, int]:
    """Slices of the part that is kept, at the outer coordinates of the first element; how many others."""
    starts = [start for start, _ in difference.part]
    outer = max(0, len(first) - 3)
    place = tuple(position - start for position, start in zip(first[:outer], starts, strict=False))
    block = difference.differs()[place]
    while block.ndim < 3:
        block = block[np.newaxis]
    offsets, extents, logical, at = (
        (0, 0, 0, *starts)[-3:],
        (1, 1, 1, *difference.extents)[-3:],
        (1, 1, 1, *difference.logical)[-3:],
        (0, 0, 0, *first)[-3:],
    )
    shown, equal, more = _shown(block, at[0] - offsets[0], logical[0] - offsets[0])
    longest = max(block.shape[1:])
    scale = max(1, min(12, (SMALL if extents[0] > 1 else LARGE) // longest))
    axis = short_axis(difference.axes[-3]) if len(first) > 2 else ""
    panels = []
    for number in shown:
        position = number + offsets[0]
        padding = position >= logical[0]
        valid = (
            (0, 0)
            if padding
            else tuple(
                min(size, max(0, whole - offset))
                for size, whole, offset in zip(block.shape[1:], logical[1:], offsets[1:], strict=True)
            )
        )
        mark = (at[1] - offsets[1], at[2] - offsets[2]) if position == at[0] else None
        image = data_uri(block[number], COLOUR) if block[number].any() else None
        panels.append(
            Panel(
                label=f"{axis} {position}".strip() if axis else "",
                rows=block.shape[1],
                columns=block.shape[2],
                valid=(valid[0], valid[1]),
                image=image,
                first=mark,
                scale=scale,
            )
        )
    return panels, equal, more


def _shown(block: np.ndarray, first: int, valid: int) -> tuple[list[int], int, int]:
    """Which slices are drawn: all but padding if they are few, else those that differ, the first among them.

    And how many others there are, equal ones and such as differ. Slices of padding (from ``valid``) are
    drawn where they differ.
    """
    differing = np.flatnonzero(block.any(axis=(1, 2))).tolist()
    candidates = sorted({*range(min(valid, len(block))), *differing})
    if len(candidates) <= MOST_PANELS:
        return candidates, 0, 0
    others = [number for number in differing if number != first]
    shown = sorted([first, *others[: MOST_PANELS - 1]])
    return shown, len(candidates) - len(differing), len(differing) - len(shown)


def _part(difference: Difference, axes: Sequence[str]) -> str | None:
    """What of the tensor is known element by element, where that is not all."""
    ranges = [
        f"{axis} {start} to {stop - 1}"
        for axis, extent, (start, stop) in zip(axes, difference.extents, difference.part, strict=True)
        if stop - start < extent
    ]
    return ", ".join(ranges) or None


def _profile(difference: Difference, axis: str, touched: str) -> Profile:
    counts = np.array(difference.counts[axis])
    size = -(-len(counts) // MOST_BARS)
    binned = np.add.reduceat(counts, np.arange(0, len(counts), size))
    most = int(binned.max())
    heights = (binned / max(1, most)).round(3).tolist()
    return Profile(short_axis(axis), len(counts), touched, heights, size, most)


def _window(difference: Difference, names: Sequence[str], first: Sequence[int]) -> ValueWindow:
    window = difference.window
    top, left = (0, 0, *window.corner)[-2:] if len(first) > 1 else (0, window.corner[0])
    here = (0, *first)[-2:]
    rows = [
        (
            top + row,
            [
                Cell(device, reference, (top + row, left + column) == tuple(here))
                for column, (device, reference) in enumerate(zip(*values, strict=True))
            ],
        )
        for row, values in enumerate(zip(window.device, window.reference, strict=True))
    ]
    width = len(window.device[0]) if window.device else 0
    return ValueWindow(
        fixed=_places(names[:-2], first[:-2]),
        row_axis=names[-2],
        column_axis=names[-1],
        columns=list(range(left, left + width)),
        rows=rows,
    )


def _places(axes: Sequence[str], positions: Sequence[int]) -> str:
    return ", ".join(f"{axis} = {position}" for axis, position in zip(axes, positions, strict=True))
