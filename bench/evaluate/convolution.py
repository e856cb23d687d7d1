"""Convolution in any layout, grouped, strided and dilated. Integer sums wrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.evaluate.arithmetic import product
from bench.evaluate.int4 import operands
from bench.evaluate.registry import OperatorCall, evaluates
from bench.layout import pack, unpack


def windows(
    data: np.ndarray,
    kernel: Sequence[int],
    *,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    fill: int | float = 0,
) -> np.ndarray:
    """View NCHW data, padded by (top, left, bottom, right), as (N, C, OH, OW, KH, KW)."""
    top, left, bottom, right = padding
    if any(padding):
        data = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = [step * (taps - 1) + 1 for taps, step in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(data, reach, axis=(2, 3))
    return view[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]


def convolve(
    data: np.ndarray,
    weight: np.ndarray,
    *,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    dtype: np.dtype,
) -> np.ndarray:
    """Convolve NCHW data with an OIHW weight; the result is NCHW of `dtype`."""
    outputs, depth, height, width = weight.shape
    view = windows(data, (height, width), strides=strides, padding=padding, dilation=dilation)
    batch, _, rows, columns = view.shape[:4]
    # One row of taps for each group and position, in the order of the weight's own: I, KH, KW.
    taps = view.reshape(batch, groups, depth, rows, columns, height, width).transpose(1, 0, 3, 4, 2, 5, 6)
    taps = taps.reshape(groups, batch * rows * columns, depth * height * width)
    kernels = weight.reshape(groups, outputs // groups, depth * height * width).transpose(0, 2, 1)
    result = product(taps, kernels, dtype).reshape(groups, batch, rows, columns, outputs // groups)
    return np.ascontiguousarray(result.transpose(1, 0, 4, 2, 3).reshape(batch, outputs, rows, columns))


@evaluates("relax.nn.conv2d", "bitexact.conv2d")
def conv2d(call: OperatorCall) -> np.ndarray:
    """Evaluate a convolution on the unpacked operands, all channel padding included."""
    data, weight = operands(call)
    attributes = call.attributes
    result = convolve(
        unpack(data, attributes["data_layout"], target="NCHW"),
        unpack(weight, attributes["kernel_layout"], target="OIHW"),
        strides=attributes["strides"],
        padding=attributes["padding"],
        dilation=attributes["dilation"],
        groups=attributes.get("groups", 1),
        dtype=call.result_dtype,
    )
    return pack(result, attributes["out_layout"] or attributes["data_layout"], source="NCHW")
