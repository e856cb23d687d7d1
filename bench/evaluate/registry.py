"""The table of operators that can be evaluated, and what each of them is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.evaluate.dtypes import numpy_dtype


@dataclass(frozen=True)
class OperatorCall:
    """One call of an operator in a graph, with the values of its arguments.

    An evaluator takes it and returns the result; the caller checks that result against `shape` and
    `dtype`. Arguments are NumPy arrays; a tuple of the graph is a tuple, a shape a tuple of integers,
    a number an int or a float, a function a `tvm.ir.GlobalVar` or its name. Attributes are those of Relax,
    as plain Python values.
    """

    operator: str
    """Name of the operator, as `relax.nn.conv2d`."""
    name: str
    """Name of the binding that the call stands in; a function called from it adds `/` and its own."""
    arguments: tuple[Any, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    """Shape of the result, where the graph knows it."""
    dtype: str | None = None
    """Element type of the result; None where it is no tensor."""

    @property
    def result_dtype(self) -> np.dtype:
        """Element type of the result as a NumPy dtype; ValueError where the graph does not know it."""
        if self.dtype is None:
            raise ValueError(f"{self.operator} in {self.name!r}: the graph does not give the result's dtype")
        return numpy_dtype(self.dtype)

    def default(self) -> Any:
        """Evaluate with the bench's own NumPy model, which is what an override may fall back to."""
        try:
            evaluator = OPERATORS[self.operator]
        except KeyError:
            raise NotImplementedError(
                f"no NumPy evaluation of operator {self.operator!r} (binding {self.name!r}); "
                f"known are {', '.join(sorted(OPERATORS))}"
            ) from None
        return evaluator(self)


Evaluator = Callable[[OperatorCall], Any]

OPERATORS: dict[str, Evaluator] = {}


def evaluates(*operators: str) -> Callable[[Evaluator], Evaluator]:
    """Enter the decorated function into the table, under the names of the operators that it evaluates."""

    def enter(evaluator: Evaluator) -> Evaluator:
        OPERATORS.update(dict.fromkeys(operators, evaluator))
        return evaluator

    return enter
