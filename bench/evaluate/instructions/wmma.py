"""HWNC convolution and dense layers as WMMA instructions, tile by tile (docs/tensorcore.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.evaluate.instructions.windows import taps
from bench.evaluate.int4 import operands
from bench.evaluate.registry import Evaluator, OperatorCall
from simulators.wmma import mma_chain

# (m, n, k) by the layout of the packed weight.
CONVOLUTION_TILES = {"HWOI32o16i": (8, 32, 16), "HWOI8o32i": (8, 8, 32)}
DENSE_TILES = {"NK32n16k": (8, 32, 16), "NK8n32k": (8, 8, 32)}


def conv2d(call: OperatorCall) -> np.ndarray:
    """HWNC data and packed weights, accumulated tile by tile: int32 (OH, OW, N, O)."""
    tile = CONVOLUTION_TILES.get(call.attributes["kernel_layout"])
    if tile is None:
        return call.default()
    m, n, k = tile
    data, weight = operands(call)
    assert call.shape is not None
    out_height, out_width, batch, channels = call.shape
    kernel_height, kernel_width, out_tiles, in_tiles = weight.shape[:4]
    accumulator = np.zeros((out_height, out_width, batch // m, m, out_tiles, n), np.int32).swapaxes(3, 4)
    for y, x, window in taps(call, data, (kernel_height, kernel_width), (out_height, out_width), axes=(0, 1)):
        tiles = window.reshape(out_height, out_width, batch // m, 1, m, in_tiles, k)
        accumulator = mma_chain(tiles.swapaxes(-3, -2), weight[y, x].swapaxes(-1, -2), accumulator)
    return accumulator.swapaxes(3, 4).reshape(out_height, out_width, batch, channels)


def dense(call: OperatorCall) -> np.ndarray:
    """Data NC and packed weights: int32 (N, units)."""
    tile = DENSE_TILES.get(call.attributes["weight_layout"])
    if tile is None:
        return call.default()
    m, n, k = tile
    data, weight = operands(call)
    out_tiles, in_tiles = weight.shape[:2]
    rows = data.reshape(-1, 1, m, in_tiles, k)
    accumulator = np.zeros((rows.shape[0], out_tiles, m, n), np.int32)
    accumulator = mma_chain(rows.swapaxes(-3, -2), weight.swapaxes(-1, -2), accumulator)
    return accumulator.swapaxes(1, 2).reshape(data.shape[0], out_tiles * n)


OVERRIDES: Mapping[str, Evaluator] = {
    "bitexact.conv2d": conv2d,
    "bitexact.dense": dense,
    "relax.nn.conv2d": conv2d,
}
