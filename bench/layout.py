"""The notation of tensor layouts, `NCHW`, `NCHW1n16c`, `OIHW8i32o4i`, and what follows from it.

Upper-case letters name the axes of a tensor, outermost first. A number and a lower-case letter behind
them split that axis: `32c` is a dimension of 32 positions of axis C. Where an axis is split more than
once the factors stand from the outer to the inner one, so that in `OIHW8i32o4i`

    i = I·(8·4) + i₈·4 + i₄          (the packed index is O, I, H, W, i₈, o₃₂, i₄)

and the first dimension of an axis counts what its factors leave over, rounded up: the positions added
so are zero. The notation is TVM's (and, with blank factors, oneDNN's); TVM's own parser stops at a
second factor of one axis. A pattern is parsed once, and the recipe of a packing is cached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod

import numpy as np

_PATTERN = re.compile(r"([A-Z]+)((?:[0-9]+[a-z])*)")
_FACTOR = re.compile(r"([0-9]+)([a-z])")

Logical = Mapping[str, int] | Sequence[int]


@dataclass(frozen=True)
class Layout:
    """One parsed pattern.

    `axes` are the upper-case letters in their order, `factors` the pairs (axis, size) behind them. The
    packed tensor has `rank` dimensions: one for each axis, then one for each factor.
    """

    text: str
    axes: str
    factors: tuple[tuple[str, int], ...]

    @staticmethod
    def parse(text: str) -> Layout:
        """Read a pattern such as `OIHW8i32o4i`; ValueError says what is wrong with it."""
        return _parse(text)

    @property
    def rank(self) -> int:
        """Number of dimensions of the packed tensor."""
        return len(self.axes) + len(self.factors)

    @property
    def dimensions(self) -> tuple[tuple[str, int | None], ...]:
        """Axis and size of every packed dimension; the size of an unsplit or outer one is None."""
        return (*((axis, None) for axis in self.axes), *self.factors)

    def dimensions_of(self, axis: str) -> tuple[int, ...]:
        """Positions of the packed dimensions of `axis`, from the outermost to the innermost."""
        return tuple(index for index, (name, _) in enumerate(self.dimensions) if name == axis)

    def block(self, axis: str) -> int:
        """Product of the factors of `axis`: extents are rounded up to a multiple of it."""
        return prod(size for name, size in self.factors if name == axis)

    def __str__(self) -> str:
        return self.text


@cache
def _parse(text: str) -> Layout:
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"layout {text!r}: expected upper-case axes, then factors of a number and a lower-case axis, "
            "as in NCHW, NCHW1n16c or OIHW8i32o4i"
        )
    axes = match.group(1)
    if len(set(axes)) != len(axes):
        raise ValueError(f"layout {text!r}: an axis is named twice in {axes}")
    factors = tuple((letter.upper(), int(size)) for size, letter in _FACTOR.findall(match.group(2)))
    for axis, size in factors:
        if axis not in axes:
            raise ValueError(
                f"layout {text!r}: factor {size}{axis.lower()} splits an axis that is not in {axes}"
            )
        if size < 1:
            raise ValueError(f"layout {text!r}: factor {size}{axis.lower()} is not positive")
    return Layout(text=text, axes=axes, factors=factors)


def _as_layout(layout: Layout | str) -> Layout:
    return layout if isinstance(layout, Layout) else Layout.parse(layout)


def _plain(layout: Layout, order: str | None, what: str) -> str:
    """Return `order`, or the layout's own order of axes; it must permute the layout's axes."""
    if order is None:
        return layout.axes
    if sorted(order) != sorted(layout.axes):
        raise ValueError(
            f"{what} {order!r} must name the axes of layout {layout.text!r}, {layout.axes}, in some order"
        )
    return order


def _by_axis(layout: Layout, values: Logical, order: str, what: str) -> dict[str, int]:
    if isinstance(values, Mapping):
        if set(values) != set(layout.axes):
            raise ValueError(f"{what} {dict(values)} must name exactly the axes of layout {layout.text!r}")
        return {axis: int(values[axis]) for axis in order}
    if len(values) != len(order):
        raise ValueError(
            f"{what} {tuple(values)} has {len(values)} entries; "
            f"{order} of layout {layout.text!r} needs {len(order)}"
        )
    return dict(zip(order, map(int, values), strict=True))


def packed_shape(
    layout: Layout | str, logical_shape: Logical, *, source: str | None = None
) -> tuple[int, ...]:
    """Shape of the packed tensor.

    `logical_shape` is a mapping from axis to extent, or a sequence in the order of `source` (the
    layout's own order of axes where not given: OIHW for OIHW8i32o4i). Extents are rounded up to
    multiples of the blocks.
    """
    layout = _as_layout(layout)
    extents = _by_axis(layout, logical_shape, _plain(layout, source, "source"), "logical shape")
    if any(extent < 0 for extent in extents.values()):
        raise ValueError(f"logical shape {extents} of layout {layout.text!r} has a negative extent")
    return tuple(
        -(-extents[axis] // layout.block(axis)) if size is None else size for axis, size in layout.dimensions
    )


def logical_shape(layout: Layout | str, shape: Sequence[int]) -> dict[str, int]:
    """Extent of every axis of a packed tensor of `shape`, padding included, in the layout's order.

    ValueError where the shape is not one that the layout gives.
    """
    layout = _as_layout(layout)
    shape = tuple(map(int, shape))
    if len(shape) != layout.rank or any(
        size is not None and size != extent
        for (_, size), extent in zip(layout.dimensions, shape, strict=True)
    ):
        pattern = ", ".join(axis if size is None else str(size) for axis, size in layout.dimensions)
        raise ValueError(f"shape {shape} does not fit layout {layout.text!r}, whose shapes are ({pattern})")
    return {axis: prod(shape[position] for position in layout.dimensions_of(axis)) for axis in layout.axes}


@dataclass(frozen=True)
class _Recipe:
    """How an array in the order of the logical axes becomes a packed one: pad, split, transpose."""

    shape: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    split: tuple[int, ...]
    transpose: tuple[int, ...]


@lru_cache(maxsize=1024)
def _recipe(layout: Layout, shape: tuple[int, ...], order: str) -> _Recipe:
    packed = packed_shape(layout, shape, source=order)
    positions = [layout.dimensions_of(axis) for axis in order]
    # Splitting every axis in place puts the dimensions axis by axis; `flat` says which packed one each is.
    flat = [position for axis_positions in positions for position in axis_positions]
    padded = [prod(packed[position] for position in axis_positions) for axis_positions in positions]
    return _Recipe(
        shape=packed,
        padding=tuple((0, full - extent) for full, extent in zip(padded, shape, strict=True)),
        split=tuple(packed[position] for position in flat),
        transpose=tuple(flat.index(position) for position in range(layout.rank)),
    )


def pack(array: np.ndarray, layout: Layout | str, *, source: str | None = None) -> np.ndarray:
    """Reorder a plain array into `layout`: contiguous, of the same dtype, new positions zero.

    `source` names the axes of `array` in order, as in `pack(weight, "OIHW8i32o4i", source="OIHW")`; where
    not given it is the layout's own order of axes.
    """
    layout = _as_layout(layout)
    order = _plain(layout, source, "source")
    if array.ndim != len(order):
        raise ValueError(
            f"array of shape {array.shape} is not {order}; "
            f"packing it to {layout.text!r} needs rank {len(order)}"
        )
    recipe = _recipe(layout, array.shape, order)
    if any(after for _, after in recipe.padding):
        array = np.pad(array, recipe.padding)
    return np.ascontiguousarray(array.reshape(recipe.split).transpose(recipe.transpose))


def unpack(
    array: np.ndarray, layout: Layout | str, shape: Logical | None = None, *, target: str | None = None
) -> np.ndarray:
    """Undo `pack`: the plain array, axes in the order of `target`, cropped to `shape`.

    `shape` is a mapping from axis to extent or a sequence in the order of `target`; where not given the
    padding is kept. It must be a shape that packs to that of `array`.
    """
    layout = _as_layout(layout)
    order = _plain(layout, target, "target")
    full = logical_shape(layout, array.shape)
    extents = full if shape is None else _by_axis(layout, shape, order, "logical shape")
    plain = tuple(extents[axis] for axis in order)
    recipe = _recipe(layout, plain, order)
    if recipe.shape != array.shape:
        raise ValueError(
            f"{order} shape {plain} packs to {recipe.shape} in layout {layout.text!r}; "
            f"the array has shape {array.shape}"
        )
    # Packed dimension k came from the split one `transpose[k]`: the argsort puts it back.
    padded = array.transpose(np.argsort(recipe.transpose)).reshape([full[axis] for axis in order])
    return np.ascontiguousarray(padded[tuple(slice(extent) for extent in plain)])


def locate(layout: Layout | str, coordinate: Logical, *, source: str | None = None) -> tuple[int, ...]:
    """Packed index of a logical coordinate: a mapping from axis to position, or a sequence as in `source`."""
    layout = _as_layout(layout)
    rest = _by_axis(layout, coordinate, _plain(layout, source, "source"), "coordinate")
    if any(position < 0 for position in rest.values()):
        raise ValueError(f"coordinate {rest} of layout {layout.text!r} has a negative position")
    inner: list[int] = []
    # From the innermost factor outwards, each takes its remainder and leaves the quotient.
    for axis, size in reversed(layout.factors):
        rest[axis], position = divmod(rest[axis], size)
        inner.append(position)
    return (*(rest[axis] for axis in layout.axes), *reversed(inner))


def logical(layout: Layout | str, packed_index: Sequence[int]) -> dict[str, int]:
    """Logical coordinate of a packed index, axis by axis in the layout's order: the inverse of `locate`."""
    layout = _as_layout(layout)
    index = tuple(map(int, packed_index))
    if len(index) != layout.rank:
        raise ValueError(
            f"packed index {index} has {len(index)} entries; "
            f"layout {layout.text!r} has {layout.rank} dimensions"
        )
    coordinate = dict.fromkeys(layout.axes, 0)
    for (axis, size), position in zip(layout.dimensions, index, strict=True):
        if position < 0 or (size is not None and position >= size):
            raise ValueError(f"packed index {index} is outside the factors of layout {layout.text!r}")
        coordinate[axis] = coordinate[axis] * (size or 1) + position
    return coordinate
