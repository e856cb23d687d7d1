"""A tensor of the integer graph, with the scale and the bound that go with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm.ir import Expr, GenericConst


@dataclass(frozen=True)
class Value:
    """A tensor of the integer graph and what it stands for.

    The float tensor of binding `name` is about `expression` · `scale`; `scale` is a scalar, or has the
    shape of the channels along `axis`. `pending` are bounds of the real values, those of a ReLU for
    instance, that the next rescaling takes over.
    """

    name: str
    expression: Expr
    scale: np.ndarray
    bound: int
    """No element is larger in magnitude, whatever the input."""
    quantized: bool
    """Of the type of data, and not an int32 accumulator."""
    non_negative: bool
    axis: int = 1
    pending: Bounds | None = None

    @property
    def dtype(self) -> str:
        """Element type of the integers."""
        return str(self.expression.ty.dtype)

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return int(self.dtype.lstrip("uint"))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(int(extent) for extent in self.expression.ty.shape)


@dataclass(frozen=True)
class Bounds:
    """A range of real values that an activation keeps its results in."""

    low: float
    high: float

    def within(self, other: Bounds | None) -> Bounds:
        """Both, one after the other in whatever order."""
        if other is None:
            return self
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Bounds(min(low, high), high)

    def steps(self, scale: float, dtype: str) -> tuple[int, int]:
        """The bounds as integers of a scale, within the range of a type of data."""
        return tuple(int(np.clip(np.rint(bound / scale), *limits(dtype))) for bound in (self.low, self.high))  # type: ignore[return-value]


RELU = Bounds(0.0, np.inf)


def limits(dtype: str) -> tuple[int, int]:
    """Range of quantised data and weights: symmetric for int8, so that -128 is left to saturation."""
    return {"int8": (-127, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}[dtype]


def data_bound(dtype: str) -> int:
    """The largest magnitude that an input of the type can have, -128 included."""
    return {"int8": 128, "uint8": 255, "int4": 8, "uint4": 15}[dtype]


def within_int32(name: str, bound: int) -> int:
    """Return the bound itself; ValueError where an int32 tensor could leave it."""
    if bound > np.iinfo(np.int32).max:
        raise ValueError(f"quantize: {name!r} can reach {bound}, beyond int32")
    return bound


def check_sign(name: str, non_negative: bool, dtype: str) -> None:
    """Raise ValueError where a tensor that can be negative would become unsigned."""
    if dtype.startswith("uint") and not non_negative:
        raise ValueError(
            f"quantize: {name!r} can be negative and cannot be {dtype}, whose zero point is 0; "
            "use data_dtype='int8', or a graph whose data come out of a ReLU"
        )


def constant(expression: Expr) -> np.ndarray | None:
    """The value of a constant, None of anything else."""
    return expression.value.numpy() if isinstance(expression, GenericConst) else None


def along(scale: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Shape per-channel scales so that they broadcast against a tensor of `rank`."""
    if scale.ndim == 0:
        return scale
    return scale.reshape([-1 if position == axis else 1 for position in range(rank)])
