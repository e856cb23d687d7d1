"""Small integer graphs with full-range weights, for tests of passes, flows and devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from bench.operators import requantize
from bench.pytest_plugin import case_id

MULTIPLIER = 1 << 30


@dataclass(frozen=True)
class ConvCase:
    """One convolution: batch, input channels, extent of the square image, output channels, kernel extent."""

    batch: int = 3
    inputs: int = 5
    size: int = 6
    outputs: int = 7
    kernel: int = 3
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def identifier(self, target: str, *dtypes: str) -> str:
        """The case as its test is called; ``dtypes`` are those of data and weights."""
        return case_id(
            target,
            "conv2d",
            dtypes=dtypes,
            shapes=(
                (self.batch, self.inputs, self.size, self.size),
                (self.outputs, self.inputs // self.groups, self.kernel, self.kernel),
            ),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


def full_range(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Random values over the whole range of an integer type."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def module_of(parameters: dict[str, tuple[tuple[int, ...], str]], build) -> tvm.IRModule:  # type: ignore[no-untyped-def]
    """A module whose ``main`` binds what ``build(emit, *parameters)`` emits, by name."""
    variables = [
        relax.Var(name, relax.TensorType(shape, dtype)) for name, (shape, dtype) in parameters.items()
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(
                build(lambda name, value: builder.emit(value, name), *variables), "result"
            )
        builder.emit_func_output(result)
    return builder.finalize()


def convolution(
    case: ConvCase,
    *,
    data_dtype: str = "int8",
    weight_dtype: str = "int8",
    scheme: str = "fixed",
    seed: int = 0,
) -> tvm.IRModule:
    """Two convolutions in a row and a residual addition, requantised in between.

    ``scheme`` "fixed" requantises by bitexact.requantize, "pow2" by the operators of VTA's ALU.
    """
    rng = np.random.default_rng(seed)
    first = full_range(
        rng, (case.outputs, case.inputs // case.groups, case.kernel, case.kernel), weight_dtype
    )
    second = full_range(rng, (case.outputs, case.outputs, 1, 1), weight_dtype)
    bias = rng.integers(-(2**20), 2**20, (1, case.outputs, 1, 1), dtype=np.int32)

    def rescale(emit, name, accumulator):  # type: ignore[no-untyped-def]
        if scheme == "pow2":
            rounded = emit(f"{name}_rounded", relax.op.add(accumulator, relax.const(np.int32(256))))
            shifted = emit(f"{name}_shifted", relax.op.right_shift(rounded, relax.const(np.int32(9))))
            clipped = emit(f"{name}_clipped", relax.op.clip(shifted, -127, 127))
            return emit(f"{name}_requantized", relax.op.astype(clipped, "int8"))
        channels = int(accumulator.ty.shape[1])
        factors = (
            relax.const(np.full(channels, MULTIPLIER, np.int32)),
            relax.const(np.arange(channels, dtype=np.int32) % 3 - 8),
        )
        return emit(f"{name}_requantized", requantize(accumulator, *factors, axis=1, out_dtype=data_dtype))

    def build(emit, data):  # type: ignore[no-untyped-def]
        window = {
            "strides": list(case.strides),
            "padding": list(case.padding),
            "dilation": list(case.dilation),
        }
        conv1 = emit(
            "conv1",
            relax.op.nn.conv2d(data, relax.const(first), groups=case.groups, out_dtype="int32", **window),
        )
        one = rescale(emit, "conv1", emit("conv1_bias", relax.op.add(conv1, relax.const(bias))))
        two = rescale(
            emit, "conv2", emit("conv2", relax.op.nn.conv2d(one, relax.const(second), out_dtype="int32"))
        )
        return emit("residual", relax.op.add(relax.op.astype(one, "int32"), relax.op.astype(two, "int32")))

    shape = (case.batch, case.inputs, case.size, case.size)
    return module_of({"data": (shape, data_dtype)}, build)


def dense(
    batch: int, inputs: int, units: int, *, data_dtype: str = "int8", scheme: str = "fixed", seed: int = 0
) -> tvm.IRModule:
    """One dense layer with a bias; with ``scheme`` "pow2" its result is int8."""
    rng = np.random.default_rng(seed)
    weight = full_range(rng, (inputs, units), "int8")
    bias = rng.integers(-(2**20), 2**20, (1, units), dtype=np.int32)

    def build(emit, data):  # type: ignore[no-untyped-def]
        product = emit("dense", relax.op.matmul(data, relax.const(weight), out_dtype="int32"))
        total = emit("dense_bias", relax.op.add(product, relax.const(bias)))
        if scheme == "fixed":
            return total
        shifted = emit("dense_shifted", relax.op.right_shift(total, relax.const(np.int32(11))))
        return emit("dense_requantized", relax.op.astype(relax.op.clip(shifted, -127, 127), "int8"))

    return module_of({"data": ((batch, inputs), data_dtype)}, build)


def four_bit_convolution(case: ConvCase, *, dtype: str = "int4", seed: int = 0) -> tvm.IRModule:
    """Three 4-bit convolutions in a row with bias, ReLU and a residual addition in between.

    Data come in as the 8-bit type that holds ``dtype`` and are converted first; the result is int32.
    """
    rng = np.random.default_rng(seed)
    low, high = {"int4": (-8, 7), "uint4": (0, 15)}[dtype]
    held = {"int4": "int8", "uint4": "uint8"}[dtype]

    def weight(*shape: int) -> relax.Expr:
        values = rng.integers(low, high, shape, endpoint=True).astype(held)
        return relax.op.astype(relax.const(values), dtype)

    def build(emit, data):  # type: ignore[no-untyped-def]
        def layer(name, x, w, **window):  # type: ignore[no-untyped-def]
            conv = emit(name, relax.op.nn.conv2d(x, emit(f"{name}_weight", w), out_dtype="int32", **window))
            channels = int(conv.ty.shape[1])
            bias = rng.integers(-20, 20, (1, channels, 1, 1), dtype=np.int32)
            return emit(f"{name}_bias", relax.op.add(conv, relax.const(bias)))

        def rescale(name, accumulator):  # type: ignore[no-untyped-def]
            channels = int(accumulator.ty.shape[1])
            factors = (
                relax.const(np.full(channels, MULTIPLIER, np.int32)),
                relax.const(np.arange(channels, dtype=np.int32) % 3 - 6),
            )
            return emit(f"{name}_requantized", requantize(accumulator, *factors, axis=1, out_dtype=dtype))

        x = emit("data4", relax.op.astype(data, dtype))
        window = {
            "strides": list(case.strides),
            "padding": list(case.padding),
            "dilation": list(case.dilation),
        }
        first = weight(case.outputs, case.inputs // case.groups, case.kernel, case.kernel)
        one = layer("conv1", x, first, groups=case.groups, **window)
        one = rescale("conv1", emit("relu1", relax.op.nn.relu(one)))
        two = layer("conv2", one, weight(case.outputs, case.outputs, 1, 1))
        total = emit("sum", relax.op.add(two, emit("one_int32", relax.op.astype(one, "int32"))))
        return layer("conv3", rescale("sum", total), weight(case.outputs, case.outputs, 1, 1))

    shape = (case.batch, case.inputs, case.size, case.size)
    return module_of({"data": (shape, held)}, build)
