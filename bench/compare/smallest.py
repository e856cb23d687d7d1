"""The smallest operands with which a kernel still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.artifact import TensorSpec

MOST_CALLS = 300
LISTED = 16


@dataclass(frozen=True)
class SmallestOperands:
    """Operands that are zero but for ``values``, input by input: each an index and a value.

    ``output`` is the index of an element that is still wrong, ``device`` and ``reference`` its two values.
    ``others`` counts the elements that are not zero and are not listed.
    """

    values: dict[str, list[tuple[tuple[int, ...], int]]]
    others: int
    output: tuple[int, ...]
    device: int
    reference: int


def shrink(
    specs: Sequence[TensorSpec],
    inputs: Sequence[np.ndarray],
    compute: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]],
) -> SmallestOperands:
    """Set as many elements of ``inputs`` to zero as can be while ``compute`` still gives different arrays.

    ``compute`` returns what the device and what the reference makes of inputs; it is called at most
    :data:`MOST_CALLS` times. Halves are tried first, then quarters, and so on; at last what is left is
    tried as 1.
    """
    shrinker = _Shrinker([array.copy() for array in inputs], compute)
    for number in range(len(inputs)):
        shrinker.zero(number)
    for number in range(len(inputs)):
        shrinker.simplify(number)
    got, expected = shrinker.compute(shrinker.inputs)
    index = tuple(int(position) for position in np.argwhere(got != expected)[0])
    values = {}
    others = 0
    for spec, array in zip(specs, shrinker.inputs, strict=True):
        places = np.argwhere(array != 0)
        others += max(0, len(places) - LISTED)
        values[spec.name] = [
            (tuple(int(position) for position in place), int(array[tuple(place)]))
            for place in places[:LISTED]
        ]
    return SmallestOperands(values, others, index, int(got[index]), int(expected[index]))


@dataclass
class _Shrinker:
    inputs: list[np.ndarray]
    compute: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]]
    calls: int = 0

    def fails_with(self, number: int, array: np.ndarray) -> bool:
        """Take ``array`` as that input if the kernel still fails with it."""
        if self.calls >= MOST_CALLS:
            return False
        self.calls += 1
        candidate = [*self.inputs[:number], array, *self.inputs[number + 1 :]]
        got, expected = self.compute(candidate)
        if np.array_equal(got, expected):
            return False
        self.inputs = candidate
        return True

    def zero(self, number: int) -> None:
        """Zero the elements of one input that need not be anything else: delta debugging by halves."""
        parts = 1
        while True:
            places = np.flatnonzero(self.inputs[number])
            if parts > len(places):
                return
            gained = False
            for part in np.array_split(places, parts):
                array = self.inputs[number].copy()
                array.reshape(-1)[part] = 0
                gained |= self.fails_with(number, array)
            if not gained or parts == 1:
                parts *= 2

    def simplify(self, number: int) -> None:
        """Replace what is left by ones, where that fails too."""
        array = (self.inputs[number] != 0).astype(self.inputs[number].dtype)
        if not np.array_equal(array, self.inputs[number]):
            self.fails_with(number, array)
