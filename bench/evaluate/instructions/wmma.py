"""HWNC convolution and dense layers as WMMA instructions of m8n32k16 (docs/tensorcore.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.evaluate.instructions.windows import taps
from bench.evaluate.registry import Evaluator, OperatorCall
from simulators.wmma import mma

M, N, K = 8, 32, 16


def conv2d(call: OperatorCall) -> np.ndarray:
    """HWNC data and HWOI32o16i weights, accumulated tile by tile: int32 (OH, OW, N, O)."""
    if call.attributes["kernel_layout"] != f"HWOI{N}o{K}i":
        return call.default()
    data, weight = call.arguments
    assert call.shape is not None
    out_height, out_width, batch, channels = call.shape
    kernel_height, kernel_width, out_tiles, in_tiles = weight.shape[:4]
    accumulator = np.zeros((out_height, out_width, batch // M, out_tiles, M, N), np.int32)
    for y, x, window in taps(call, data, (kernel_height, kernel_width), (out_height, out_width), axes=(0, 1)):
        tiles = window.reshape(out_height, out_width, batch // M, M, in_tiles, K)
        for step in range(in_tiles):
            a = tiles[:, :, :, None, :, step, :]
            b = weight[y, x, :, step].swapaxes(-1, -2)
            accumulator = mma(a, b, accumulator)
    return accumulator.swapaxes(3, 4).reshape(out_height, out_width, batch, channels)


def dense(call: OperatorCall) -> np.ndarray:
    """Data NC and weights NK32n16k: int32 (N, units)."""
    if call.attributes["weight_layout"] != f"NK{N}n{K}k":
        return call.default()
    data, weight = call.arguments
    out_tiles, in_tiles = weight.shape[:2]
    rows = data.reshape(-1, M, in_tiles, K)
    accumulator = np.zeros((rows.shape[0], out_tiles, M, N), np.int32)
    for step in range(in_tiles):
        accumulator = mma(rows[:, None, :, step], weight[:, step].swapaxes(-1, -2), accumulator)
    return accumulator.swapaxes(1, 2).reshape(data.shape[0], out_tiles * N)


OVERRIDES: Mapping[str, Evaluator] = {"relax.nn.conv2d": conv2d, "bitexact.dense": dense}
