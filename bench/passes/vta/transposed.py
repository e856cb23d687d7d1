"""The weight of a transposed convolution with its output channels first, and back."""

from __future__ import annotations

import numpy as np


def outputs_first(weight: np.ndarray, groups: int) -> np.ndarray:
    """OIHW (O, I/groups, KH, KW) from IOHW (I, O/groups, KH, KW)."""
    inputs, outputs, *kernel = weight.shape
    apart = weight.reshape(groups, inputs // groups, outputs, *kernel)
    return apart.swapaxes(1, 2).reshape(groups * outputs, inputs // groups, *kernel)


def inputs_first(weight: np.ndarray, groups: int, block: int) -> np.ndarray:
    """IOHW (I, O/groups, KH, KW) from OIHW (O, I/groups, KH, KW).

    With groups, of which each has whole blocks of output channels, the last block is filled with zeros.
    """
    outputs, depth, *kernel = weight.shape
    missing = -outputs % block if groups > 1 else 0
    whole = np.pad(weight, ((0, missing), *((0, 0),) * (weight.ndim - 1)))
    apart = whole.reshape(groups, len(whole) // groups, depth, *kernel)
    return np.ascontiguousarray(apart.swapaxes(1, 2).reshape(groups * depth, -1, *kernel))
