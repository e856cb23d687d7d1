"""Integer graphs that the checks transform: windows, dtypes and channels that nothing divides."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import tvm
from tvm import relax

from bench.operators import requantize

IMAGE = (3, 5, 7, 6)
OUTPUTS = 37


def full_range(shape: tuple[int, ...], dtype: str, *, seed: int = 0) -> np.ndarray:
    """Random values over the whole range of an integer type."""
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@cache
def odd_convolution() -> tvm.IRModule:
    """From 5 to 37 channels, int8, strides 2 and 1, each side padded otherwise, dilated across; then 1x1."""

    def build(emit: Callable[..., relax.Var], data: relax.Var) -> relax.Expr:
        weight = full_range((OUTPUTS, IMAGE[1], 3, 3), "int8", seed=1)
        wide = emit(
            "conv1",
            relax.op.nn.conv2d(
                data,
                relax.const(weight),
                strides=[2, 1],
                padding=[2, 1, 0, 3],
                dilation=[1, 2],
                out_dtype="int32",
            ),
        )
        factors = np.full(OUTPUTS, 1 << 30, np.int32), np.arange(OUTPUTS, dtype=np.int32) % 3 - 9
        narrow = emit("conv1_requantized", requantize(wide, *map(relax.const, factors), axis=1))
        point = full_range((4, OUTPUTS, 1, 1), "int8", seed=2)
        return emit("conv2", relax.op.nn.conv2d(narrow, relax.const(point), out_dtype="int32"))

    return _module(build)


@cache
def branches() -> tvm.IRModule:
    """Two convolutions side by side, their sum, and a third one: three layers, two deep."""

    def build(emit: Callable[..., relax.Var], data: relax.Var) -> relax.Expr:
        def conv(name: str, value: relax.Expr, inputs: int, seed: int) -> relax.Var:
            weight = relax.const(full_range((4, inputs, 1, 1), "int8", seed=seed))
            return emit(name, relax.op.nn.conv2d(value, weight, out_dtype="int32"))

        left, right = conv("left", data, IMAGE[1], 1), conv("right", data, IMAGE[1], 2)
        total = emit("total", relax.op.add(left, right))
        return conv("last", emit("narrow", relax.op.astype(total, "int8")), 4, 3)

    return _module(build)


def _module(build: Callable[..., relax.Expr]) -> tvm.IRModule:
    data = relax.Var("data", relax.TensorType(IMAGE, "int8"))
    builder = relax.BlockBuilder()
    with builder.function("main", [data]):
        with builder.dataflow():
            result = build(lambda name, value: builder.emit(value, name), data)
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    return builder.finalize()
