"""NCHW32c convolution and dense layers as Hexagon's vrmpy (docs/hexagon.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.evaluate.instructions.windows import padded, taps
from bench.evaluate.registry import Evaluator, OperatorCall
from bench.operators.depthwise import taps_of
from simulators.hvx import vrmpy

LANES, PRODUCTS = 32, 4
SHIFT = 128


def conv2d(call: OperatorCall) -> np.ndarray:
    """NCHW{b}c data and OIHW{b/4}i32o4i weights: int32 (N, O/32, OH, OW, 32).

    One vrmpy multiplies 32 filters, the vector, with four input channels of a pixel, the scalar. Filters are
    unsigned there: signed ones are shifted by 128, and 128 times the sum of the window is taken away first.
    """
    data, weight = call.arguments
    assert call.shape is not None
    groups = call.attributes.get("groups", 1)
    results = [
        _group(call, part, filters)
        for part, filters in zip(
            np.split(data, groups, axis=1), np.split(weight, groups, axis=0), strict=True
        )
    ]
    return np.concatenate(results, axis=1)


def _group(call: OperatorCall, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    assert call.shape is not None
    images, _, out_height, out_width, _ = call.shape
    out_blocks, in_blocks, kernel_height, kernel_width, words = weight.shape[:5]
    kernel, out = (kernel_height, kernel_width), (out_height, out_width)
    accumulator = np.zeros((out_blocks, images, out_height, out_width, LANES), np.int32)
    if weight.dtype == np.int8:
        channel_sums = data.sum(axis=(1, 4), dtype=np.int32)
        for _, _, window in taps(call, channel_sums, kernel, out, axes=(1, 2)):
            accumulator -= np.int32(SHIFT) * window[..., np.newaxis]
    filters = _unsigned(weight)
    for y, x, window in taps(call, data, kernel, out, axes=(2, 3)):
        for block in range(in_blocks):
            for word in range(words):
                pixel = window[:, block, :, :, PRODUCTS * word : PRODUCTS * (word + 1)]
                vectors = filters[:, block, y, x, word].reshape(out_blocks, 1, 1, 1, LANES * PRODUCTS)
                accumulator = vrmpy(accumulator, vectors, pixel)
    return np.ascontiguousarray(accumulator.swapaxes(0, 1))


def depthwise_conv2d(call: OperatorCall) -> np.ndarray:
    """NCHW32c data and weights (C/32, KH, groups of taps, 32, 4): int32 (N, C/32, OH, OW, 32).

    One vrmpy multiplies four taps of a row, of 32 channels, with the four pixels that they meet.
    """
    data, weight = call.arguments
    assert call.shape is not None
    images, blocks, out_height, out_width, _ = call.shape
    strides, dilation = call.attributes["strides"], call.attributes["dilation"]
    step = taps_of(dilation[1])
    # Pixels behind a row meet taps that are zero.
    image = np.pad(
        padded(data, call.attributes["padding"], axes=(2, 3)), [(0, 0)] * 3 + [(0, 2 * PRODUCTS), (0, 0)]
    )
    accumulator = np.zeros((images, blocks, out_height, out_width, LANES), np.int32)
    for y in range(weight.shape[1]):
        rows = image[:, :, y * dilation[0] :][:, :, : (out_height - 1) * strides[0] + 1 : strides[0]]
        for part in range(weight.shape[2]):
            first = part * step * dilation[1]
            columns = first + strides[1] * np.arange(out_width)[:, np.newaxis] + np.arange(PRODUCTS)
            pixels = rows[:, :, :, columns].swapaxes(-1, -2)
            vectors = pixels.reshape(*pixels.shape[:-2], LANES * PRODUCTS)
            factors = weight[:, y, part].reshape(blocks, 1, 1, LANES * PRODUCTS)
            accumulator = _two_vectors(accumulator, vectors, factors)
    return accumulator


def dense(call: OperatorCall) -> np.ndarray:
    """Data NC and weights NC32n4c: int32 (N, units).

    As the convolution, which is the same modulo 2^32 as the forms for signed weights that the kernel takes
    where there are few rows.
    """
    data, weight = call.arguments
    out_blocks, words = weight.shape[:2]
    accumulator = np.zeros((out_blocks, data.shape[0], LANES), np.int32)
    if weight.dtype == np.int8:
        accumulator -= np.int32(SHIFT) * data.sum(axis=1, dtype=np.int32)[:, np.newaxis]
    filters = _unsigned(weight)
    for word in range(words):
        inputs = data[:, PRODUCTS * word : PRODUCTS * (word + 1)]
        vectors = filters[:, word].reshape(out_blocks, 1, LANES * PRODUCTS)
        accumulator = vrmpy(accumulator, vectors, inputs)
    return accumulator.swapaxes(0, 1).reshape(data.shape[0], out_blocks * LANES)


def _unsigned(weight: np.ndarray) -> np.ndarray:
    """Weights w as they are, or signed ones as w + 128."""
    return weight.view(np.uint8) ^ np.uint8(SHIFT) if weight.dtype == np.int8 else weight


def _two_vectors(accumulator: np.ndarray, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The form of two vectors for a pair of types: the first operand is unsigned where one is."""
    if data.dtype == np.int8 and weight.dtype == np.uint8:
        return vrmpy(accumulator, weight, data)
    return vrmpy(accumulator, data, weight)


OVERRIDES: Mapping[str, Evaluator] = {
    "bitexact.conv2d": conv2d,
    "bitexact.dense": dense,
    "bitexact.depthwise_conv2d": depthwise_conv2d,
}
