"""Causes of a single kernel's mismatch: its reference, with operands that are read wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bench.compare.causes.cause import Candidate, Cause, named_causes
from bench.compare.causes.operand_changes import Change, OperandChange, lane_orders, lane_pairs
from bench.compare.causes.results import result_candidates

STEPS = (1, 2, 4, 8, 16, 32, 64)
"""How many elements of a dimension may be one step of a reduction."""
MOST_SLICES = 16

Reference = Callable[[Sequence[np.ndarray]], np.ndarray]


def kernel_causes(
    reference: Reference,
    names: Sequence[str],
    inputs: Sequence[np.ndarray],
    got: np.ndarray,
    expected: np.ndarray,
) -> tuple[Cause, ...]:
    """What would make ``reference`` give ``got`` instead of ``expected``; dimensions mean nothing here.

    Raises nothing: a reference that does not take changed operands, of another signedness for instance, is
    not tried with them.
    """

    def predicted(number: int, change: Change) -> np.ndarray | None:
        changed = [array.copy() for array in inputs]
        try:
            changed[number] = change(changed[number])
            return np.asarray(reference(changed))
        except Exception:  # whatever a reference of others makes of operands that it was not written for
            return None

    def candidates() -> Iterator[Candidate]:
        for number, name in enumerate(names):
            for each in _changes(inputs[number]):
                yield Candidate(
                    each.name,
                    f"{name} {each.what}",
                    lambda number=number, change=each.change: predicted(number, change),  # type: ignore[misc]
                )
        yield from result_candidates(got, expected)

    return named_causes(candidates(), got, expected)


def _changes(array: np.ndarray) -> Iterator[OperandChange]:
    if array.dtype in (np.int8, np.uint8):
        other = np.dtype(np.uint8 if array.dtype == np.int8 else np.int8)
        yield OperandChange(
            "sign", f"read as {other.name} instead of {array.dtype.name}", lambda values: values.view(other)
        )
    yield from _slices(array)
    yield from lane_orders(array.shape[-1])
    yield from lane_pairs(array.shape[-1])


def _slices(array: np.ndarray) -> Iterator[OperandChange]:
    """Zeros in one slice of one dimension: a step of a reduction, if that is what the dimension is."""
    for axis in range(array.ndim - 1, -1, -1):
        for step in STEPS:
            count = array.shape[axis] // step
            if array.shape[axis] % step or not 1 < count <= MOST_SLICES:
                continue
            for number in range(count):
                place = (*[slice(None)] * axis, slice(number * step, (number + 1) * step))

                def change(values: np.ndarray, place: tuple[slice, ...] = place) -> np.ndarray:
                    values[place] = 0
                    return values

                what = f"not multiplied at {number * step} to {(number + 1) * step - 1} of dimension {axis}"
                yield OperandChange("one K step missing", what, change)
