"""The windows of a convolution: which part of the padded data each kernel position multiplies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bench.evaluate.registry import OperatorCall


def padded(data: np.ndarray, padding: Sequence[int], *, axes: tuple[int, int], fill: int = 0) -> np.ndarray:
    """``data`` with ``fill`` around height and width (``axes``); padding is (top, left, bottom, right)."""
    widths = [(0, 0)] * data.ndim
    widths[axes[0]] = (padding[0], padding[2])
    widths[axes[1]] = (padding[1], padding[3])
    return np.pad(data, widths, constant_values=fill)


def taps(
    call: OperatorCall,
    data: np.ndarray,
    kernel: tuple[int, int],
    out: tuple[int, int],
    *,
    axes: tuple[int, int],
    fill: int = 0,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """For each kernel position (y, x): the data that it meets, one element for each output position."""
    strides, dilation = call.attributes["strides"], call.attributes["dilation"]
    image = padded(data, call.attributes["padding"], axes=axes, fill=fill)
    for y in range(kernel[0]):
        for x in range(kernel[1]):
            window = [slice(None)] * image.ndim
            for axis, offset, step, count in (
                (axes[0], y * dilation[0], strides[0], out[0]),
                (axes[1], x * dilation[1], strides[1], out[1]),
            ):
                window[axis] = slice(offset, offset + (count - 1) * step + 1, step)
            yield y, x, image[tuple(window)]
