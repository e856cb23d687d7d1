"""Where two evaluations of a graph first differ, and what was multiplied there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import relax

from bench.compare.difference import Difference, difference_of
from bench.compare.operands import Operands, operands_of
from bench.flows.transformed import Correspondence, Transformed
from bench.int4 import held, unpack_int4
from bench.layout import Layout, pack, unpack
from bench.passes.lift_kernels import bindings_of

LISTED = 6
BETWEEN_DEVICE = "device and transformed graph"
BETWEEN_GRAPHS = "transformed and integer graph"
BETWEEN_KERNEL = "device and reference"


@dataclass(frozen=True)
class Mismatch:
    """The first difference between what was computed and what should have been.

    ``between`` says which two evaluations differ. ``coordinate`` is the logical one, by axis;
    ``packed_index`` and ``packed_address`` (in elements) are those of the stored tensor, ``layout`` its
    layout, ``tile`` the outer and ``lane`` the innermost packed position. ``device`` and ``reference`` are
    the two values, ``differing`` of ``elements`` differ, ``pattern`` names the coordinates they touch and
    ``difference`` has all of them.
    """

    between: str
    binding: str
    operator: str
    layer: str | None
    coordinate: dict[str, int]
    layout: str | None
    packed_index: tuple[int, ...]
    packed_address: int
    tile: tuple[int, ...]
    lane: int
    padding: bool
    device: int
    reference: int
    differing: int
    elements: int
    pattern: dict[str, str] = field(default_factory=dict)
    operands: Operands | None = None
    difference: Difference | None = None


def find_device_mismatch(
    transformed: Transformed,
    device: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    *,
    prefix: str = "",
) -> Mismatch | None:
    """The first tensor, in the order of the graph, in which the device differs from the NumPy evaluation.

    Both map the bindings of the transformed ``main`` to arrays. A tensor that one of them lacks is a
    ValueError: a comparison that leaves something out proves nothing. Of a graph that is several, ``prefix``
    is what the names of one of them begin with.
    """
    for binding in bindings_of(transformed.mod["main"]):
        name = binding.var.name
        if not isinstance(binding.var.ty, relax.TensorType) or not name.startswith(prefix):
            continue
        for where, tensors in (("device", device), ("reference", reference)):
            if name not in tensors:
                raise ValueError(f"the {where} gave no tensor {name!r}")
        if not _equal(device[name], reference[name]):
            entry = transformed.correspondence(name)
            got, expected = (single_values(tensors[name], entry) for tensors in (device, reference))
            difference = _Difference(binding, entry, got, expected, BETWEEN_DEVICE)
            return difference.locate(transformed, reference)
    return None


def find_pass_mismatch(
    transformed: Transformed,
    evaluated: Mapping[str, np.ndarray],
    original: Mapping[str, np.ndarray],
    *,
    prefix: str = "",
) -> Mismatch | None:
    """The first tensor in which the transformed graph does not hold the values of the integer graph.

    Padding is left out: it has no counterpart in the integer graph. ``prefix`` is that of
    :func:`find_device_mismatch`.
    """
    bindings = {binding.var.name: binding for binding in bindings_of(transformed.mod["main"])}
    for entry in transformed.correspondences:
        if entry.transformed not in bindings or entry.original not in original:
            continue
        if not entry.transformed.startswith(prefix):
            continue
        got = single_values(evaluated[entry.transformed], entry)
        meant = held(original[entry.original])
        if not _equal(plain_values(got, entry), meant):
            expected = _with_padding_of(got, meant, entry)
            difference = _Difference(bindings[entry.transformed], entry, got, expected, BETWEEN_GRAPHS)
            return difference.locate(transformed, evaluated)
    return None


def single_values(array: np.ndarray, entry: Correspondence | None) -> np.ndarray:
    """A tensor of the transformed graph with one value an element: words of 4-bit values are unpacked."""
    if entry and entry.dtype and array.dtype == np.int32:
        return held(unpack_int4(array, entry.dtype))
    return array


def plain_values(array: np.ndarray, entry: Correspondence) -> np.ndarray:
    """The values of the integer graph's tensor that one of the transformed graph, of single values, holds."""
    if entry.layout is None:
        return array
    whole = unpack(array, entry.layout, target=entry.axes)
    return whole[tuple(slice(extent) for extent in entry.shape)]


def _with_padding_of(array: np.ndarray, original: np.ndarray, entry: Correspondence) -> np.ndarray:
    """``original`` in the packed form of ``array``, with the padding of ``array`` itself."""
    if entry.layout is None:
        return original
    padded = unpack(array, entry.layout, target=entry.axes)
    padded[tuple(slice(extent) for extent in entry.shape)] = original
    return pack(padded, entry.layout, source=entry.axes)


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def find_array_mismatch(name: str, got: np.ndarray, expected: np.ndarray) -> Mismatch | None:
    """The first element in which the result of a single kernel, the tensor ``name``, differs.

    The tensor is plain: its dimensions are numbered, and no operands are known.
    """
    if got.dtype == expected.dtype and np.array_equal(got, expected):
        return None
    if got.dtype != expected.dtype or got.shape != expected.shape:
        raise ValueError(
            f"{name}: {got.dtype}{list(got.shape)} where {expected.dtype}{list(expected.shape)} is expected"
        )
    different = np.argwhere(got != expected)
    index = tuple(int(position) for position in different[0])
    axes = [f"dimension {number}" for number in range(got.ndim)]
    return Mismatch(
        between=BETWEEN_KERNEL,
        binding=name,
        operator="kernel",
        layer=None,
        coordinate=dict(zip(axes, index, strict=True)),
        layout=None,
        packed_index=index,
        packed_address=int(np.ravel_multi_index(index, got.shape)) if index else 0,
        tile=index[:-1],
        lane=index[-1] if index else 0,
        padding=False,
        device=int(got[index]),
        reference=int(expected[index]),
        differing=len(different),
        elements=int(got.size),
        pattern={axis: _touched(different[:, number], got.shape[number]) for number, axis in enumerate(axes)},
        difference=difference_of(got, expected, dict(zip(axes, got.shape, strict=True)), index),
    )


@dataclass(frozen=True)
class _Difference:
    """Two arrays that should be equal: what was got, and what was expected, of one binding of ``main``."""

    binding: relax.VarBinding
    entry: Correspondence | None
    got: np.ndarray
    expected: np.ndarray
    between: str

    def locate(self, transformed: Transformed, values: Mapping[str, np.ndarray]) -> Mismatch:
        """The mismatch, with the operands of its first element taken from ``values``."""
        name = self.binding.var.name
        if self.got.dtype != self.expected.dtype or self.got.shape != self.expected.shape:
            raise ValueError(
                f"{name}: {self.got.dtype}{list(self.got.shape)} where "
                f"{self.expected.dtype}{list(self.expected.shape)} is expected"
            )
        different = np.argwhere(self.got != self.expected)
        index = tuple(int(position) for position in different[0])
        coordinates = self.coordinates(different)
        first = {axis: int(positions[0]) for axis, positions in coordinates.items()}
        layer = next((layer for layer in transformed.report if layer.result == name), None)
        return Mismatch(
            between=self.between,
            binding=name,
            operator=layer.operator if layer else operator_name(transformed, self.binding.value),
            layer=layer.name if layer else None,
            coordinate=first,
            layout=self.entry.layout if self.entry else None,
            packed_index=index,
            packed_address=int(np.ravel_multi_index(index, self.got.shape)) if index else 0,
            tile=index[:-1],
            lane=index[-1] if index else 0,
            padding=any(position >= self.extents()[axis] for axis, position in first.items()),
            device=int(self.got[index]),
            reference=int(self.expected[index]),
            differing=len(different),
            elements=int(self.got.size),
            pattern=self.pattern(coordinates),
            operands=operands_of(transformed, self.binding, first, index, values),
            difference=difference_of(
                self.plain(self.got), self.plain(self.expected), self.extents(), tuple(first.values())
            ),
        )

    def plain(self, array: np.ndarray) -> np.ndarray:
        """One of the two by its logical axes, padding included."""
        if self.entry and self.entry.layout:
            return unpack(array, self.entry.layout, target=self.entry.axes)
        return array

    def axes(self) -> tuple[str, ...]:
        """The names of the logical axes; numbered ones where the tensor has none."""
        if self.entry and (self.entry.layout or len(self.entry.axes) == self.got.ndim):
            return tuple(self.entry.axes)
        return tuple(f"dimension {number}" for number in range(self.got.ndim))

    def extents(self) -> dict[str, int]:
        """The logical extent of each axis, without padding."""
        shape = self.entry.shape if self.entry and self.entry.layout else self.got.shape
        return dict(zip(self.axes(), shape, strict=True))

    def coordinates(self, different: np.ndarray) -> dict[str, np.ndarray]:
        """The logical coordinates, axis by axis, of packed indices (one a row)."""
        if not self.entry or not self.entry.layout:
            return dict(zip(self.axes(), different.T, strict=True))
        found = {axis: np.zeros(len(different), np.int64) for axis in self.entry.axes}
        for (axis, size), positions in zip(
            Layout.parse(self.entry.layout).dimensions, different.T, strict=True
        ):
            found[axis] = found[axis] * (size or 1) + positions
        return found

    def pattern(self, coordinates: Mapping[str, np.ndarray]) -> dict[str, str]:
        """Which positions of each axis the differences touch."""
        extents = self.extents()
        return {axis: _touched(positions, extents[axis]) for axis, positions in coordinates.items()}


def _touched(positions: np.ndarray, extent: int) -> str:
    touched = np.unique(positions)
    if len(touched) >= extent:
        return f"all {extent}"
    listed = ", ".join(map(str, touched[:LISTED])) + (", …" if len(touched) > LISTED else "")
    return f"{listed} ({len(touched)} of {extent})"


def operator_name(transformed: Transformed, value: relax.Expr) -> str:
    """The name of the operator that a binding calls; of a function that of the first one in it."""
    if isinstance(value, relax.Call):
        if isinstance(value.op, tvm.ir.Op):
            return str(value.op.name)
        return operator_name(transformed, bindings_of(transformed.mod[value.op])[0].value)
    return type(value).__name__
