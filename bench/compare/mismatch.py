"""Where two evaluations of a graph first differ, and what was multiplied there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import relax

from bench.compare.operands import Operands, operands_of
from bench.flows.transformed import Correspondence, Transformed
from bench.layout import logical, pack, unpack
from bench.passes.lift_kernels import bindings_of

LISTED = 6


@dataclass(frozen=True)
class Mismatch:
    """The first difference between what was computed and what should have been.

    ``between`` says which two evaluations differ. ``coordinate`` is the logical one, by axis;
    ``packed_index`` and ``packed_address`` (in elements) are those of the stored tensor, ``layout`` its
    layout, ``tile`` the outer and ``lane`` the innermost packed position. ``device`` and ``reference`` are
    the two values, ``differing`` of ``elements`` differ, ``pattern`` names the coordinates they touch.
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


def find_device_mismatch(
    transformed: Transformed, device: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> Mismatch | None:
    """The first tensor, in the order of the graph, in which the device differs from the NumPy evaluation.

    Both map the bindings of the transformed ``main`` to arrays. A tensor that the device does not give is a
    ValueError: a comparison that leaves something out proves nothing.
    """
    for binding in bindings_of(transformed.mod["main"]):
        name = binding.var.name
        if name not in reference:
            continue
        if name not in device:
            raise ValueError(f"the device gave no tensor {name!r}")
        if not _equal(device[name], reference[name]):
            entry = transformed.correspondence(name)
            return _locate(
                transformed, binding, entry, device[name], reference[name], reference, "device and transformed graph"
            )
    return None


def find_pass_mismatch(
    transformed: Transformed, evaluated: Mapping[str, np.ndarray], original: Mapping[str, np.ndarray]
) -> Mismatch | None:
    """The first tensor in which the transformed graph does not hold the values of the integer graph.

    Padding is left out: it has no counterpart in the integer graph.
    """
    bindings = {binding.var.name: binding for binding in bindings_of(transformed.mod["main"])}
    for entry in transformed.correspondences:
        if entry.transformed not in bindings or entry.original not in original:
            continue
        values = plain_values(evaluated[entry.transformed], entry)
        if not _equal(values, original[entry.original]):
            expected = _with_padding_of(evaluated[entry.transformed], original[entry.original], entry)
            return _locate(
                transformed,
                bindings[entry.transformed],
                entry,
                evaluated[entry.transformed],
                expected,
                evaluated,
                "transformed and integer graph",
            )
    return None


def plain_values(array: np.ndarray, entry: Correspondence) -> np.ndarray:
    """The values of the integer graph's tensor that a tensor of the transformed graph holds."""
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


def _locate(
    transformed: Transformed,
    binding: relax.VarBinding,
    entry: Correspondence | None,
    got: np.ndarray,
    expected: np.ndarray,
    reference: Mapping[str, np.ndarray],
    between: str,
) -> Mismatch:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        raise ValueError(
            f"{binding.var.name}: {got.dtype} of shape {got.shape} where {expected.dtype} of shape "
            f"{expected.shape} is expected"
        )
    different = got != expected
    index = tuple(int(position) for position in np.unravel_index(int(np.argmax(different)), got.shape))
    coordinates = [_coordinate(entry, position) for position in np.argwhere(different)]
    coordinate = coordinates[0]
    layer = next((layer for layer in transformed.report if layer.result == binding.var.name), None)
    return Mismatch(
        between=between,
        binding=binding.var.name,
        operator=layer.operator if layer else operator_name(binding.value),
        layer=layer.name if layer else None,
        coordinate=coordinate,
        layout=entry.layout if entry else None,
        packed_index=index,
        packed_address=int(np.ravel_multi_index(index, got.shape)) if index else 0,
        tile=index[:-1],
        lane=index[-1] if index else 0,
        padding=bool(entry) and _in_padding(entry, coordinate),
        device=int(got[index]),
        reference=int(expected[index]),
        differing=int(different.sum()),
        elements=int(got.size),
        pattern=_pattern(coordinates, entry, got.shape),
        operands=operands_of(transformed, binding, coordinate, index, reference),
    )


def operator_name(value: relax.Expr) -> str:
    """The name of the operator or function that a binding calls."""
    if isinstance(value, relax.Call):
        return value.op.name if isinstance(value.op, tvm.ir.Op) else value.op.name_hint
    return type(value).__name__


def _coordinate(entry: Correspondence | None, index: np.ndarray) -> dict[str, int]:
    positions = tuple(int(position) for position in index)
    if entry and entry.layout:
        found = logical(entry.layout, positions)
        return {axis: found[axis] for axis in entry.axes}
    axes = entry.axes if entry and len(entry.axes) == len(positions) else ""
    return {
        axes[number] if axes else f"dimension {number}": position for number, position in enumerate(positions)
    }


def _in_padding(entry: Correspondence | None, coordinate: dict[str, int]) -> bool:
    assert entry is not None
    return any(
        coordinate.get(axis, 0) >= extent for axis, extent in zip(entry.axes, entry.shape, strict=False)
    )


def _pattern(
    coordinates: list[dict[str, int]], entry: Correspondence | None, shape: tuple[int, ...]
) -> dict[str, str]:
    """Which positions of each axis the differences touch."""
    extents = dict(zip(entry.axes, entry.shape, strict=False)) if entry and entry.axes else {}
    pattern = {}
    for number, axis in enumerate(coordinates[0]):
        touched = sorted({coordinate[axis] for coordinate in coordinates})
        extent = extents.get(axis, shape[number] if number < len(shape) else len(touched))
        if len(touched) >= extent:
            pattern[axis] = f"all {extent}"
        else:
            listed = ", ".join(map(str, touched[:LISTED])) + (", …" if len(touched) > LISTED else "")
            pattern[axis] = f"{listed} ({len(touched)} of {extent})"
    return pattern
