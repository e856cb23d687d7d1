"""What can be wrong with a convolution or a product of matrices: its operands, padding, reduction, sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.compare.causes.operand_changes import (
    OperandChange,
    lane_orders,
    lane_pairs,
    lost_parts,
    missing_steps,
    nibbles,
    signs,
)
from bench.compare.causes.signature import Signature
from bench.compare.causes.straight import Evaluate, Straight
from bench.evaluate.registry import OperatorCall
from bench.int4 import held, unpack_int4
from bench.layout import Layout

PRODUCTS = (
    "relax.nn.conv2d",
    "bitexact.conv2d",
    "bitexact.depthwise_conv2d",
    "bitexact.dense",
    "bitexact.batch_matmul",
)
REDUCED = {"I": "channels", "K": "channels", "C": "channels", "H": "tap row", "W": "tap column"}
"""The axes of weights that a layer adds over."""
SIDES = ("data", "weights")
PADDING_VALUES = (128, -128, 127, 255, 1, -1)
SUM_BITS = (8, 16, 24)
SHIFT = 128
"""What Hexagon's kernels add to signed weights, and take away again by sums of the data."""


def product_signatures(kernel: Straight, place: int, arguments: Sequence[Any]) -> Iterator[Signature]:
    """Each way in which the product at ``place`` can be wrong; ``arguments`` are the kernel's."""
    product = _Product(kernel, place, arguments)
    yield from product.signs()
    if any(product.attributes.get("padding", ())):
        yield from product.paddings()
    yield from product.sums()
    yield from product.orders()
    yield from product.steps()
    # The many: they are tried as long as there is time.
    yield from product.pairs()
    yield from product.parts()


class _Product:
    def __init__(self, kernel: Straight, place: int, arguments: Sequence[Any]) -> None:
        step = kernel.steps[place]
        self.place = place
        self.attributes = step.call.attributes
        operands = [arguments[read] if isinstance(read, int) else read for read in step.reads[:2]]
        self.types = [
            self.attributes.get(f"{which}_dtype") or str(operand.dtype)
            for which, operand in zip(("data", "weight"), operands, strict=True)
        ]
        self.is_packed = self.types[1].endswith("int4")
        self.weight_shape = list(operands[1].shape)
        if self.attributes.get("weight_dtype"):
            self.weight_shape[-1] *= 8
        layout = self.attributes.get("kernel_layout") or self.attributes.get("weight_layout")
        self.weight_layout = Layout.parse(layout) if layout else None
        # Hexagon multiplies signed weights as unsigned ones.
        self.compensated = self.types[1] == "int8" and self.weight_shape[-2:] == [32, 4]

    def signature(self, name: str, what: str, evaluate: Evaluate) -> Signature:
        return Signature(name, what, {self.place: evaluate})

    def changed(self, change: OperandChange, what: str, *numbers: int) -> Signature:
        """Some operands read wrongly."""
        return self.signature(change.name, what, _on_values(change.change, numbers))

    def signs(self) -> Iterator[Signature]:
        changes = [signs(4 if each.endswith("int4") else 8, not each.startswith("u")) for each in self.types]
        for number, (side, change) in enumerate(zip(SIDES, changes, strict=True)):
            yield self.changed(change, f"{side} {change.what}", number)
        if self.types[0] == self.types[1]:
            yield self.changed(changes[0], f"data and weights {changes[0].what}", 0, 1)
        if self.compensated:
            what = f"data {changes[0].what}, but not in the sums that make up for signed weights"
            yield self.signature("sign", what, _compensated_sign(changes[0]))

    def paddings(self) -> Iterator[Signature]:
        """Another value in the padding, and an image that is one row or column off in it."""
        layout = Layout.parse(self.attributes["data_layout"])
        axes = [layout.axes.index(axis) for axis in "HW"]
        top, left, bottom, right = self.attributes["padding"]
        for value in PADDING_VALUES:
            what = f"the padding holds {value} instead of 0"
            yield self.signature("padding value", what, _filled(value, axes, (top, left, bottom, right)))
        for what, padding in (
            ("one row up", (top - 1, left, bottom + 1, right)),
            ("one row down", (top + 1, left, bottom - 1, right)),
            ("one column to the left", (top, left - 1, bottom, right + 1)),
            ("one column to the right", (top, left + 1, bottom, right - 1)),
        ):
            if min(padding) >= 0:
                moved = f"the image is moved {what} in its padding"
                yield self.signature("padding position", moved, _padded(padding))

    def sums(self) -> Iterator[Signature]:
        """Sums in fewer bits."""
        for bits in SUM_BITS:
            yield self.signature("accumulator width", f"sums wrap at {bits} bits", _wrapped(bits))
            yield self.signature("accumulator width", f"sums saturate at {bits} bits", _saturated(bits))

    def orders(self) -> Iterator[Signature]:
        if self.is_packed:
            for number, side in enumerate(SIDES):
                change = nibbles()
                yield self.changed(change, f"{side}: {change.what}", number)
        for change in lane_orders(self.weight_shape[-1]):
            yield self.changed(change, f"of the weights, {change.what}", 1)

    def pairs(self) -> Iterator[Signature]:
        for change in lane_pairs(self.weight_shape[-1]):
            yield self.changed(change, f"of the weights, {change.what}", 1)

    def dimensions(self) -> list[tuple[int, str]]:
        """The dimensions of the packed weight that are added over, but for its innermost lanes."""
        if self.weight_layout is None:
            return []
        dimensions = list(enumerate(self.weight_layout.dimensions))[:-1]
        return [(position, REDUCED[axis]) for position, (axis, _) in dimensions if axis in REDUCED]

    def steps(self) -> Iterator[Signature]:
        for change in missing_steps(self.weight_shape, self.dimensions()):
            yield self.changed(change, change.what, 1)

    def parts(self) -> Iterator[Signature]:
        """Parts of the reduction, in either order: blocks of channels outside of the taps, or inside."""
        dimensions = self.dimensions()
        for order in (dimensions, sorted(dimensions, key=lambda dimension: dimension[1] == "channels")):
            for change in lost_parts(self.weight_shape, order):
                yield self.changed(change, change.what, 1)
                if self.compensated and change.name == "accumulation restarted":
                    yield self.signature(change.name, change.what, _compensated_restart(change))


def _values(call: OperatorCall) -> OperatorCall:
    """A call on numbers with room for another sign, and not on words of eight 4-bit values."""
    attributes = dict(call.attributes)
    arguments = list(call.arguments)
    for number, which in enumerate(("data_dtype", "weight_dtype")):
        if attributes.get(which):
            arguments[number] = held(unpack_int4(arguments[number], attributes.pop(which)))
        arguments[number] = arguments[number].astype(np.int16)
    return replace(call, arguments=tuple(arguments), attributes=attributes)


def _with_operands(call: OperatorCall, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    result: np.ndarray = replace(call, arguments=(data, weight, *call.arguments[2:])).default()
    return result


def _on_values(change: Callable[[np.ndarray], np.ndarray], numbers: Sequence[int]) -> Evaluate:
    def evaluated(call: OperatorCall) -> np.ndarray:
        call = _values(call)
        operands = [
            change(array) if number in numbers else array for number, array in enumerate(call.arguments[:2])
        ]
        return _with_operands(call, operands[0], operands[1])

    return evaluated


def _compensated_sign(change: OperandChange) -> Evaluate:
    def evaluated(call: OperatorCall) -> np.ndarray:
        right = call.default()
        call = _values(call)
        data, weight = call.arguments[:2]
        error = change.change(data) - data
        return np.asarray(right + _with_operands(call, error, weight + np.int16(SHIFT)))

    return evaluated


def _compensated_restart(change: OperandChange) -> Evaluate:
    def evaluated(call: OperatorCall) -> np.ndarray:
        call = _values(call)
        data, weight = call.arguments[:2]
        return _with_operands(call, data, change.change(weight + np.int16(SHIFT)))

    return evaluated


def _filled(value: int, axes: Sequence[int], padding: Sequence[int]) -> Evaluate:
    top, left, bottom, right = padding

    def evaluated(call: OperatorCall) -> np.ndarray:
        call = _values(call)
        widths = [(0, 0)] * call.arguments[0].ndim
        widths[axes[0]], widths[axes[1]] = (top, bottom), (left, right)
        data = np.pad(call.arguments[0], widths, constant_values=value)
        call = replace(call, attributes={**call.attributes, "padding": (0, 0, 0, 0)})
        return _with_operands(call, data, call.arguments[1])

    return evaluated


def _padded(padding: Sequence[int]) -> Evaluate:
    return lambda call: replace(call, attributes={**call.attributes, "padding": tuple(padding)}).default()


def _wrapped(bits: int) -> Evaluate:
    half, whole = 1 << (bits - 1), 1 << bits
    return lambda call: ((call.default().astype(np.int64) + half) % whole - half).astype(np.int32)


def _saturated(bits: int) -> Evaluate:
    half = 1 << (bits - 1)
    return lambda call: np.clip(call.default(), -half, half - 1)
