"""Tensors in blocks of 32 channels, and parameters with one value for each channel."""

from dataclasses import dataclass
from math import prod

from tvm import tirx

from kernels.hexagon.loop_nest import WORDS


@dataclass(frozen=True)
class Channels:
    """A tensor as (outer, blocks, inner, 32): NCHW32c is (N, C/32, H * W, 32), NC is (N, C/32, 1, 32)."""

    outer: int
    blocks: int
    inner: int

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "Channels":
        """Raise ValueError for a shape that is neither NCHW32c nor NC of a multiple of 32 channels."""
        if len(shape) == 5 and shape[4] == WORDS and min(shape) > 0:
            return cls(shape[0], shape[1], shape[2] * shape[3])
        if len(shape) == 2 and shape[1] % WORDS == 0 and min(shape) > 0:
            return cls(shape[0], shape[1] // WORDS, 1)
        raise ValueError(
            f"a tensor is NCHW32c of 5 dimensions, or NC of a multiple of 32 channels, not {shape}"
        )


def check_parameter(name: str, parameter: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Say whether a parameter's shape has one value for each channel (True) or one for all (False).

    One for all is of size 1; one for each channel is (1, C/32, 1, 1, 32) beside NCHW32c, and (1, C) or (C,)
    beside NC. Raises ValueError for anything else.
    """
    if prod(parameter) == 1:
        return False
    expected = [(1, shape[1], 1, 1, WORDS)] if len(shape) == 5 else [(1, shape[1]), (shape[1],)]
    if parameter not in expected:
        raise ValueError(f"{name} beside {shape} has one element, or is {expected[0]}, not {parameter}")
    return True


def element(parameter: tirx.Var, shape: tuple[int, ...], indices: tuple[tirx.Var, ...]) -> tirx.Expr:
    """Give the element of a parameter tensor (te) that belongs to an element of the data."""
    if not shape:
        return parameter()
    aligned = indices[len(indices) - len(shape) :]
    return parameter(*(0 if extent == 1 else index for extent, index in zip(shape, aligned, strict=True)))
