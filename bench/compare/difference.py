"""Which elements of a tensor differ, small enough for the JSON of a run, and the values around the first."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

MOST_ELEMENTS = 1 << 19
"""Elements of the part that is kept: 64 KiB of bits, however they are distributed."""
WINDOW = 9


@dataclass(frozen=True)
class Window:
    """Both values of the elements around the first one that differs, along the last two axes.

    ``corner`` is the coordinate of the first element of the window; ``device`` and ``reference`` are rows of
    values, of which the tensor's last axis is the inner one.
    """

    corner: tuple[int, ...]
    device: list[list[int]]
    reference: list[list[int]]

    def __post_init__(self) -> None:
        lengths = {tuple(map(len, rows)) for rows in (self.device, self.reference)}
        if len(lengths) != 1 or any(len(set(each)) > 1 for each in lengths):
            raise ValueError("device and reference are not two tables of one shape")


@dataclass(frozen=True)
class Difference:
    """Which elements of one tensor differ, by their logical coordinates.

    ``axes`` name the axes, ``extents`` their lengths as they are stored, with padding, and ``logical`` those
    without. ``counts`` are, for each axis, how many elements differ at each of its positions, of the whole
    tensor. ``part`` is the box [start, stop) of each axis of which each element is kept: all of a tensor of
    up to :data:`MOST_ELEMENTS`, and of a larger one the slices around the first that differs. ``mask`` are
    its elements in the order of the axes, the last one innermost, one bit each and 1 where they differ:
    packed from the highest bit, deflated (zlib) and in base64.
    """

    axes: tuple[str, ...]
    extents: tuple[int, ...]
    logical: tuple[int, ...]
    counts: dict[str, list[int]]
    part: tuple[tuple[int, int], ...]
    mask: str
    window: Window

    def __post_init__(self) -> None:
        kept = (self.axes, self.extents, self.logical, self.counts, self.part, self.window.corner)
        if len({len(each) for each in kept}) != 1:
            raise ValueError("axes, extents, logical, counts, part and the corner are not of one length")
        for axis, extent, (start, stop) in zip(self.axes, self.extents, self.part, strict=True):
            if len(self.counts.get(axis, ())) != extent:
                raise ValueError(f"counts of axis {axis} are not {extent} numbers")
            if not 0 <= start < stop <= extent:
                raise ValueError(f"part {start} to {stop} of axis {axis} is not within 0 to {extent}")
        if prod(stop - start for start, stop in self.part) > MOST_ELEMENTS:
            raise ValueError(f"part has more than {MOST_ELEMENTS} elements")
        self.differs()

    def differs(self) -> np.ndarray:
        """``mask`` as booleans, of the shape of ``part``."""
        return unpack_mask(self.mask, tuple(stop - start for start, stop in self.part))


def difference_of(
    device: np.ndarray, reference: np.ndarray, axes: Mapping[str, int], first: tuple[int, ...]
) -> Difference:
    """The difference of two plain arrays of one shape.

    ``axes`` are the names of their axes with their extents without padding, ``first`` is the coordinate of
    the element that is called the first to differ.
    """
    differs = np.asarray(device != reference)
    part = part_around(device.shape, first)
    kept = differs[tuple(slice(*ends) for ends in part)]
    everywhere = set(range(device.ndim))
    return Difference(
        axes=tuple(axes),
        extents=tuple(int(extent) for extent in device.shape),
        logical=tuple(int(extent) for extent in axes.values()),
        counts={
            axis: np.count_nonzero(differs, axis=tuple(everywhere - {number})).tolist()
            for number, axis in enumerate(axes)
        },
        part=part,
        mask=pack_mask(kept),
        window=_window(device, reference, first),
    )


def part_around(shape: Sequence[int], first: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The box of at most :data:`MOST_ELEMENTS` elements that begins at the outermost slice of ``first``.

    Axes are taken whole from the innermost outwards, as long as they fit; of the next one as much as fits,
    from the position of ``first``, and of those outside it that position alone.
    """
    part: list[tuple[int, int]] = []
    room = MOST_ELEMENTS
    for extent, position in zip(reversed(shape), reversed(first), strict=True):
        fits = min(extent, max(room, 1))
        start = 0 if fits == extent else min(position, extent - fits)
        part.append((start, start + fits))
        room = room // fits if fits == extent else 0
    return tuple(reversed(part))


def pack_mask(mask: np.ndarray) -> str:
    """Booleans as text: bits, deflated, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def unpack_mask(text: str, shape: Sequence[int]) -> np.ndarray:
    """Undo :func:`pack_mask`; ValueError where ``text`` is not a mask of that shape."""
    count = prod(shape)
    length = (count + 7) // 8
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(base64.b64decode(text, validate=True), length + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"no mask of {count} bits: {error}") from None
    if len(data) != length:
        raise ValueError(
            f"no mask of {count} bits: it has {'more' if len(data) > length else len(data)} bytes"
        )
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool).reshape(shape)


def _window(device: np.ndarray, reference: np.ndarray, first: tuple[int, ...]) -> Window:
    """Up to :data:`WINDOW` rows and columns, with the first differing element in their midst."""
    starts = [max(0, position - WINDOW // 2) for position in first[-2:]]
    corner = (*first[:-2], *starts)
    rows = [
        np.atleast_2d(array[first[:-2]][tuple(slice(start, start + WINDOW) for start in starts)]).tolist()
        for array in (device, reference)
    ]
    return Window(corner, *rows)
