"""Convolution in any layout, grouped, strided, dilated or transposed. Integer sums wrap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.evaluate.dtypes import is_integer, wrap
from bench.evaluate.int4 import operands
from bench.evaluate.products import WeightedSums, largest
from bench.evaluate.registry import OperatorCall, evaluates
from bench.layout import pack, unpack
from bench.operators.depthwise import unpack_taps

# Bytes of operands that one matrix product may gather: more than a cache holds, far less than a memory.
_GATHERED_BYTES = 1 << 25


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
    data = _padded(data, padding, fill)
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
    window: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
    # A view of one channel, for its shape alone.
    batch, _, rows, columns = windows(data[:, :1], (height, width), **window).shape[:4]
    if depth == 1 and outputs == groups:
        return _depthwise(data, weight, (rows, columns), dtype=dtype, **window)
    sums = _sums(data, weight.reshape(groups, outputs // groups, depth * height * width))
    result = np.empty((batch, outputs, rows, columns), dtype)
    itemsize = np.dtype(sums.working).itemsize
    images = max(1, _GATHERED_BYTES // (groups * depth * height * width * rows * columns * itemsize or 1))
    for start in range(0, batch, images):
        part: np.ndarray = data[start : start + images].astype(sums.working)
        count = len(part)
        view = windows(part, (height, width), **window)
        # (group, channel, tap) by (image, position): the order of the weight's own I, KH, KW.
        terms = view.transpose(1, 4, 5, 0, 2, 3).reshape(groups, depth * height * width, -1)
        value = sums.of(terms).reshape(outputs, count, rows, columns)
        result[start : start + count] = (wrap(value, dtype) if is_integer(dtype) else value).swapaxes(0, 1)
    return result


class _FloatSums:
    """Sums of float products, with the interface of `WeightedSums`."""

    def __init__(self, weight: np.ndarray) -> None:
        self.working = weight.dtype.type
        self._weight = weight

    def of(self, terms: np.ndarray) -> np.ndarray:
        return np.matmul(self._weight, terms)


def _sums(data: np.ndarray, weight: np.ndarray) -> WeightedSums | _FloatSums:
    if not is_integer(data.dtype):
        return _FloatSums(weight)
    return WeightedSums(weight, largest(data))


def _depthwise(
    data: np.ndarray,
    weight: np.ndarray,
    extents: Sequence[int],
    *,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    dtype: np.dtype,
) -> np.ndarray:
    """One filter a channel: no sums over channels, so tap by tap. int32 products and sums wrap."""
    working = np.int32 if is_integer(data.dtype) else data.dtype.type
    image = _padded(data.astype(working), padding, 0)
    result = np.zeros((len(data), len(weight), *extents), working)
    for y, x, part in _taps(image, weight.shape[2:], extents, strides, dilation):
        result += part * weight[:, 0, y, x].astype(working)[:, np.newaxis, np.newaxis]
    return wrap(result, dtype) if is_integer(dtype) else result


def _taps(
    image: np.ndarray,
    kernel: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> Iterator[tuple[int, int, np.ndarray]]:
    """For each tap of a kernel the padded data that it meets, one element for each output position."""
    for y in range(kernel[0]):
        for x in range(kernel[1]):
            first = y * dilation[0], x * dilation[1]
            last = [at + (n - 1) * step + 1 for at, n, step in zip(first, extents, strides, strict=True)]
            yield y, x, image[:, :, first[0] : last[0] : strides[0], first[1] : last[1] : strides[1]]


def _padded(data: np.ndarray, padding: Sequence[int], fill: int | float) -> np.ndarray:
    top, left, bottom, right = padding
    if not any(padding):
        return data
    return np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)


def convolve_transposed(
    data: np.ndarray,
    weight: np.ndarray,
    *,
    strides: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    dtype: np.dtype,
) -> np.ndarray:
    """Convolve NCHW data, transposed, with an IOHW weight (I, O/groups, KH, KW): NCHW of `dtype`.

    Each element adds its multiple of the filter to the result, `strides` apart: the same as a convolution,
    with the filter turned round, of the data with zeros between its elements and around it.
    """
    inputs, outputs, *kernel = weight.shape
    batch, _, *extents = data.shape
    spread = [(extent - 1) * step + 1 for extent, step in zip(extents, strides, strict=True)]
    reach = [step * (taps - 1) for taps, step in zip(kernel, dilation, strict=True)]
    around = [
        (reach[axis] - padding[axis], reach[axis] - padding[2 + axis] + output_padding[axis])
        for axis in range(2)
    ]
    # A padding beyond the filter's reach takes elements away instead.
    zeros = [[max(0, width) for width in pair] for pair in around]
    image = np.zeros(
        (batch, inputs, *(zeros[axis][0] + spread[axis] + zeros[axis][1] for axis in range(2))), data.dtype
    )
    (top, _), (left, _) = zeros
    image[:, :, top : top + spread[0] : strides[0], left : left + spread[1] : strides[1]] = data
    cut = [
        slice(max(0, -before), image.shape[2 + axis] - max(0, -after))
        for axis, (before, after) in enumerate(around)
    ]
    turned = weight.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)[..., ::-1, ::-1]
    return convolve(
        image[:, :, cut[0], cut[1]],
        turned.reshape(groups * outputs, inputs // groups, *kernel),
        strides=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=dilation,
        groups=groups,
        dtype=dtype,
    )


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


@evaluates("bitexact.depthwise_conv2d")
def depthwise_conv2d(call: OperatorCall) -> np.ndarray:
    """Evaluate a depthwise convolution on the unpacked operands."""
    data, weight = call.arguments
    attributes = call.attributes
    plain = unpack(data, attributes["data_layout"], target="NCHW")
    result = convolve(
        plain,
        unpack_taps(weight, attributes["kernel"], dilation=attributes["dilation"][1]),
        groups=plain.shape[1],
        dtype=call.result_dtype,
        **{name: attributes[name] for name in ("strides", "padding", "dilation")},
    )
    return pack(result, attributes["data_layout"], source="NCHW")


@evaluates("relax.nn.conv2d_transpose")
def conv2d_transpose(call: OperatorCall) -> np.ndarray:
    """Evaluate a transposed convolution on the unpacked operands."""
    data, weight = call.arguments
    attributes = call.attributes
    names = ("strides", "padding", "output_padding", "dilation", "groups")
    result = convolve_transposed(
        unpack(data, attributes["data_layout"], target="NCHW"),
        unpack(weight, attributes["kernel_layout"], target="IOHW"),
        dtype=call.result_dtype,
        **{name: attributes[name] for name in names},
    )
    return pack(result, attributes["out_layout"] or attributes["data_layout"], source="NCHW")
