"""NCHW32c convolution and dense layers as Hexagon's vrmpy (docs/hexagon.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.evaluate.instructions.windows import taps
from bench.evaluate.registry import Evaluator, OperatorCall
from simulators.hvx import vrmpy

LANES, PRODUCTS = 32, 4


def conv2d(call: OperatorCall) -> np.ndarray:
    """NCHW{b}c data and OIHW{b/4}i32o4i weights: int32 (N, O/32, OH, OW, 32).

    One vrmpy multiplies four input channels of a pixel, repeated in all lanes, with 32 filters.
    """
    data, weight = call.arguments
    assert call.shape is not None
    images, out_blocks, out_height, out_width, _ = call.shape
    _, in_blocks, kernel_height, kernel_width, words = weight.shape[:5]
    accumulator = np.zeros((out_blocks, images, out_height, out_width, LANES), np.int32)
    for y, x, window in taps(call, data, (kernel_height, kernel_width), (out_height, out_width), axes=(2, 3)):
        for block in range(in_blocks):
            for word in range(words):
                pixel = window[:, block, :, :, PRODUCTS * word : PRODUCTS * (word + 1)]
                filters = weight[:, block, y, x, word].reshape(out_blocks, 1, 1, 1, LANES * PRODUCTS)
                accumulator = vrmpy(accumulator, _in_all_lanes(pixel), filters)
    return np.ascontiguousarray(accumulator.swapaxes(0, 1))


def dense(call: OperatorCall) -> np.ndarray:
    """Data NC and weights NC32n4c: int32 (N, units)."""
    data, weight = call.arguments
    out_blocks, words = weight.shape[:2]
    accumulator = np.zeros((out_blocks, data.shape[0], LANES), np.int32)
    for word in range(words):
        inputs = _in_all_lanes(data[:, PRODUCTS * word : PRODUCTS * (word + 1)])
        filters = weight[:, word].reshape(out_blocks, 1, LANES * PRODUCTS)
        accumulator = vrmpy(accumulator, inputs, filters)
    return accumulator.swapaxes(0, 1).reshape(data.shape[0], out_blocks * LANES)


def _in_all_lanes(words: np.ndarray) -> np.ndarray:
    """A vector register of 128 bytes that holds the same four bytes in each of its 32 lanes."""
    return np.tile(words, LANES)


OVERRIDES: Mapping[str, Evaluator] = {"bitexact.conv2d": conv2d, "bitexact.dense": dense}
