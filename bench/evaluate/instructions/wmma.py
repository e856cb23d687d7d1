"""HWNC convolution and dense layers as tensor instructions, tile by tile (docs/tensorcore.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.evaluate.instructions.windows import taps
from bench.evaluate.int4 import operands
from bench.evaluate.registry import Evaluator, OperatorCall
from simulators.wmma import mma_chain

Tile = tuple[int, int, int]


def _tile(data: np.ndarray, weight: np.ndarray) -> Tile | None:
    """(m, n, k) of the instruction for operands of these types: wmma where they are alike, else mma.sync."""
    types = data.dtype.name, weight.dtype.name
    alike = types[0] == types[1]
    if all(name in ("int8", "uint8") for name in types):
        return (8, 32, 16) if alike else (16, 8, 32)
    if all(name in ("int4", "uint4") for name in types):
        return (8, 8, 32) if alike else (16, 8, 64)
    return None


def conv2d(call: OperatorCall) -> np.ndarray:
    """HWNC data and packed weights, accumulated tile by tile: int32 (OH, OW, N, O)."""
    data, weight = operands(call)
    tile = _tile(data, weight)
    if tile is None or call.attributes["kernel_layout"] != f"HWOI{tile[1]}o{tile[2]}i":
        return call.default()
    m, n, k = tile
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
    data, weight = operands(call)
    tile = _tile(data, weight)
    if tile is None or call.attributes["weight_layout"] != f"NK{tile[1]}n{tile[2]}k":
        return call.default()
    m, n, k = tile
    out_tiles, in_tiles = weight.shape[:2]
    rows = data.reshape(-1, 1, m, in_tiles, k)
    accumulator = np.zeros((rows.shape[0], out_tiles, m, n), np.int32)
    accumulator = mma_chain(rows.swapaxes(-3, -2), weight.swapaxes(-1, -2), accumulator)
    return accumulator.swapaxes(1, 2).reshape(data.shape[0], out_tiles * n)


def batch_matmul(call: OperatorCall) -> np.ndarray:
    """Data (B, N, C) and weights of their own for each product: int32 (B, N, units)."""
    data, weight = operands(call)
    tile = _tile(data, weight)
    if tile is None or call.attributes["weight_layout"] != f"BNK{tile[1]}n{tile[2]}k":
        return call.default()
    m, n, k = tile
    products, out_tiles, in_tiles = weight.shape[:3]
    rows = data.reshape(products, -1, 1, m, in_tiles, k)
    accumulator = np.zeros((products, rows.shape[1], out_tiles, m, n), np.int32)
    accumulator = mma_chain(rows.swapaxes(-3, -2), weight[:, None].swapaxes(-1, -2), accumulator)
    return accumulator.swapaxes(2, 3).reshape(*data.shape[:2], out_tiles * n)


OVERRIDES: Mapping[str, Evaluator] = {
    "bitexact.batch_matmul": batch_matmul,
    "bitexact.conv2d": conv2d,
    "bitexact.dense": dense,
    "relax.nn.conv2d": conv2d,
}
