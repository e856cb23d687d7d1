"""Pooling over windows."""

from __future__ import annotations

import numpy as np

from bench.evaluate.convolution import windows
from bench.evaluate.dtypes import is_integer, limits
from bench.evaluate.registry import OperatorCall, evaluates
from bench.layout import pack, unpack


def _windows(call: OperatorCall, data: np.ndarray, fill: int | float) -> np.ndarray:
    attributes = call.attributes
    padding = list(attributes["padding"])
    kernel, strides, dilation = (attributes[name] for name in ("pool_size", "strides", "dilation"))
    if attributes["ceil_mode"]:
        # Positions that begin inside the data but reach beyond it count too: pad for them.
        for axis in range(2):
            extent = data.shape[2 + axis] + padding[axis] + padding[2 + axis]
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            padding[2 + axis] += -(extent - reach) % strides[axis]
    return windows(data, kernel, strides=strides, padding=padding, dilation=dilation, fill=fill)


@evaluates("relax.nn.max_pool2d")
def max_pool2d(call: OperatorCall) -> np.ndarray:
    """Evaluate the maximum of each window; padding is below every value."""
    data = unpack(call.arguments[0], call.attributes["layout"], target="NCHW")
    lowest = limits(data.dtype)[0] if is_integer(data.dtype) else -np.inf
    # The maximum of 4-bit values over two axes comes out of NumPy as int8.
    result = _windows(call, data, lowest).max(axis=(4, 5)).astype(data.dtype)
    return pack(result, call.attributes["out_layout"] or call.attributes["layout"], source="NCHW")


@evaluates("relax.nn.avg_pool2d")
def avg_pool2d(call: OperatorCall) -> np.ndarray:
    """Evaluate the mean of each window, of floats only: how an integer one rounds is not defined."""
    data = unpack(call.arguments[0], call.attributes["layout"], target="NCHW")
    if is_integer(data.dtype):
        raise ValueError(
            f"relax.nn.avg_pool2d in {call.name!r}: not of {data.dtype}; use a sum and a requantisation"
        )
    totals = _windows(call, data, 0).sum(axis=(4, 5))
    if call.attributes["count_include_pad"]:
        counts: np.ndarray | int = int(np.prod(call.attributes["pool_size"]))
    else:
        counts = _windows(call, np.ones_like(data), 0).sum(axis=(4, 5))
    result = (totals / counts).astype(data.dtype)
    return pack(result, call.attributes["out_layout"] or call.attributes["layout"], source="NCHW")
