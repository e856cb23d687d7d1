"""`bitexact.depthwise_conv2d`: a depthwise convolution whose weight has the taps of a row side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax
from tvm.ir import Call, Expr

from bench.operators.convolution import output_extent
from bench.operators.registration import call, dtype_of, register, static_shape

LANES, TAPS = 32, 4


def depthwise_conv2d(
    data: Expr,
    weight: Expr,
    *,
    kernel: Sequence[int],
    strides: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Call:
    """Build a depthwise convolution with int32 accumulators, wrapped mod 2^32.

    `data` is NCHW32c, 8 bits; `weight` has the shape (C/32, KH, ceil(KW / t), 32, 4) that
    :func:`pack_taps` gives, and `kernel` is (KH, KW). The result is NCHW32c. `padding` is (top, left,
    bottom, right) in zeros. ValueError names what does not fit.
    """
    return call(
        _OPERATOR,
        [data, weight],
        kernel=[int(extent) for extent in kernel],
        strides=[int(step) for step in strides],
        padding=[int(width) for width in padding],
        dilation=[int(step) for step in dilation],
        data_layout=f"NCHW{LANES}c",
        out_dtype="int32",
    )


def taps_of(dilation: int) -> int:
    """How many neighbours of a row are side by side: 4, or 1 where the dilation leaves gaps between them."""
    return TAPS if dilation == 1 else 1


def pack_taps(weight: np.ndarray, *, dilation: int) -> np.ndarray:
    """A weight (C, 1, KH, KW) as (C/32, KH, ceil(KW / t), 32, 4), for a horizontal dilation.

    C is a multiple of 32. The factor of tap (y, x) of channel c is at [c // 32, y, x // t, c % 32, x % t];
    the rest is zero.
    """
    channels, _, height, width = weight.shape
    taps = taps_of(dilation)
    groups = -(-width // taps)
    rows = np.pad(weight[:, 0], ((0, 0), (0, 0), (0, groups * taps - width)))
    split = rows.reshape(channels // LANES, LANES, height, groups, taps).transpose(0, 2, 3, 1, 4)
    return np.ascontiguousarray(np.pad(split, [(0, 0)] * 4 + [(0, TAPS - taps)]))


def unpack_taps(weight: np.ndarray, kernel: Sequence[int], *, dilation: int) -> np.ndarray:
    """The weight (C, 1, KH, KW) that :func:`pack_taps` packed."""
    blocks, height, groups, lanes, _ = weight.shape
    taps = taps_of(dilation)
    rows = weight[..., :taps].transpose(0, 3, 1, 2, 4).reshape(blocks * lanes, 1, height, groups * taps)
    return np.ascontiguousarray(rows[..., : kernel[1]])


def _infer(expression: Call) -> relax.TensorType:
    name = "bitexact.depthwise_conv2d"
    data, weight = expression.args
    kernel, strides, padding, dilation = (
        [int(value) for value in expression.attrs[option]]
        for option in ("kernel", "strides", "padding", "dilation")
    )
    shape = static_shape(data, f"{name}: data")
    if len(shape) != 5 or shape[4] != LANES:
        raise ValueError(f"{name}: data {shape} must be NCHW{LANES}c")
    for what, tensor in (("data", data), ("weight", weight)):
        if dtype_of(tensor) not in ("int8", "uint8"):
            raise ValueError(f"{name}: {what} is {dtype_of(tensor)}, which must be int8 or uint8")
    expected = (shape[1], kernel[0], -(-kernel[1] // taps_of(dilation[1])), LANES, TAPS)
    if static_shape(weight, f"{name}: weight") != expected:
        raise ValueError(
            f"{name}: weight {static_shape(weight, name)} does not fit data {shape}: it must be {expected}"
        )
    output = [
        output_extent(
            shape[2 + axis],
            kernel[axis],
            stride=strides[axis],
            dilation=dilation[axis],
            before=padding[axis],
            after=padding[2 + axis],
        )
        for axis in range(2)
    ]
    if min(output) < 1:
        raise ValueError(f"{name}: the kernel {kernel} is larger than the padded data {shape}")
    return relax.TensorType((*shape[:2], *output, LANES), "int32")


_OPERATOR = register(
    "bitexact.depthwise_conv2d",
    "Integer depthwise convolution of NCHW32c data; the weight has the taps of a row side by side.",
    arguments=("data", "weight"),
    infer=_infer,
)
