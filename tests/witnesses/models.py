"""Matrix products (M, K) by (N, K) by the NumPy models of the instructions, tiled as each wants."""

from __future__ import annotations

import numpy as np

from simulators import wmma
from simulators.hvx import vrmpy
from simulators.vta import models as vta


def padded(matrix: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The matrix with zeros below and to the right, up to multiples of these."""
    widths = [(0, -extent % multiple) for extent, multiple in zip(matrix.shape, (rows, columns), strict=True)]
    return np.pad(matrix.astype(np.int16), widths).astype(matrix.dtype)


def tensor_cores(data: np.ndarray, weight: np.ndarray, tile: tuple[int, int, int]) -> np.ndarray:
    """Instruction after instruction along K: int32 (M, N)."""
    m, n, k = tile
    a, b = padded(data, m, k), padded(weight, n, k)
    a = a.reshape(-1, m, a.shape[1] // k, k).transpose(2, 0, 1, 3)[:, :, None]
    b = b.reshape(-1, n, b.shape[1] // k, k).transpose(2, 0, 3, 1)[:, None]
    accumulator = np.zeros((a.shape[1], b.shape[2], m, n), np.int32)
    for left, right in zip(a, b, strict=True):
        accumulator = wmma.mma(left, right, accumulator)
    rows = accumulator.shape[0] * m
    return accumulator.swapaxes(1, 2).reshape(rows, -1)[: len(data), : len(weight)]


def hvx(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Four products a lane, a lane for each row of the second matrix; the unsigned come first."""
    if (data.dtype, weight.dtype) == (np.int8, np.uint8):
        return hvx(weight, data).T
    a, b = padded(data, 1, 4), padded(weight, 32, 4)
    result = np.zeros((len(b) // 32, len(a), 32), np.int32)
    for start in range(0, a.shape[1], 4):
        word = np.tile(a[:, start : start + 4], 32)
        lanes = b[:, start : start + 4].reshape(-1, 1, 128)
        result = vrmpy(result, word, lanes)
    return result.swapaxes(0, 1).reshape(len(a), -1)[:, : len(weight)]


def vta_gemm(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Tiles of one row by 16 by 16: VTA's default configuration."""
    a, b = padded(data, 1, 16), padded(weight, 16, 16)
    result = np.zeros((len(a), len(b) // 16, 1, 16), np.int32)
    for start in range(0, a.shape[1], 16):
        tiles = b[:, start : start + 16].reshape(1, -1, 16, 16)
        result = vta.gemm(result, a[:, None, None, start : start + 16], tiles)
    return result.reshape(len(a), -1)[:, : len(weight)]


def patches(data: np.ndarray, kernel: tuple[int, int], **window) -> np.ndarray:  # type: ignore[no-untyped-def]
    """What each output position of a convolution of NCHW data multiplies: (N, OH, OW, C, KH, KW)."""
    top, left, bottom, right = window["padding"]
    image = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, window["dilation"], strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(image, reach, axis=(2, 3))
    strides, dilation = window["strides"], window["dilation"]
    taken = view[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]
    return taken.transpose(0, 2, 3, 1, 4, 5)
