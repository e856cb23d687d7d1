"""NumPy's own product of int32 matrices, which is what one writes who needs exact sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def matrix_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(M, K) by (K, N), both widened to int32: sums modulo 2^32."""
    return left.astype(np.int32) @ right.astype(np.int32)


def convolution(
    data: np.ndarray,
    weight: np.ndarray,
    *,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> np.ndarray:
    """NCHW data and OIHW weights: int32 NCHW sums, as one product of gathered windows."""
    top, left, bottom, right = padding
    padded = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [(taps - 1) * step + 1 for taps, step in zip(weight.shape[2:], dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]
    images, _, rows, columns, *_ = windows.shape
    gathered = windows.transpose(0, 2, 3, 1, 4, 5).reshape(images * rows * columns, -1)
    sums = matrix_product(gathered, weight.reshape(len(weight), -1).T)
    return sums.reshape(images, rows, columns, -1).transpose(0, 3, 1, 2)
