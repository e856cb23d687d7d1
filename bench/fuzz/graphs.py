"""Random small integer graphs: layers, what stands behind them, residual additions, pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from bench.fuzz.operands import biases, limits, operand
from bench.fuzz.support import Support
from bench.int4 import HELD
from bench.operators import ROUNDINGS, requantize

MOST_LAYERS = 3
MOST_ELEMENTS = 4096
"""Of a tensor: cases are many and small."""
_RARELY = 0.04


@dataclass(frozen=True)
class Graph:
    """A module whose ``main`` has one parameter, and an input for it."""

    module: tvm.IRModule
    inputs: Mapping[str, np.ndarray]


def draw_graph(rng: np.random.Generator, support: Support) -> Graph:
    """Draw a graph for a target."""
    return _Drawing(rng, support).graph()


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the graph and what it means: ``dtype`` in the graph, the axes of its shape."""

    var: relax.Var
    axes: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(extent) for extent in self.var.ty.shape)

    @property
    def dtype(self) -> str:
        return str(self.var.ty.dtype)

    def extent(self, axis: str) -> int:
        return self.shape[self.axes.index(axis)]


class _Drawing:
    """One graph in the making."""

    def __init__(self, rng: np.random.Generator, support: Support) -> None:
        self._rng = rng
        self._support = support
        self._builder = relax.BlockBuilder()
        self._names: dict[str, int] = {}
        self._earlier: list[_Tensor] = []

    def graph(self) -> Graph:
        data_dtype, weight_dtype = self._choose(self._support.pairs)
        axes = self._choose(("NCHW",) * 4 + self._support.layouts)
        if self._chance(_RARELY if not self._support.batched else 0.15):
            axes = "BNC"
        elif self._chance(0.25):
            axes = "NC"
        shape = self._shape(axes)
        held = HELD.get(data_dtype, data_dtype)
        parameter = relax.Var("data", relax.TensorType(shape, held))
        with self._builder.function("main", [parameter]):
            with self._builder.dataflow():
                tensor = _Tensor(parameter, axes)
                if held != data_dtype:
                    tensor = self._emit("data4", relax.op.astype(parameter, data_dtype), axes)
                result = self._layers(tensor, weight_dtype)
                output = self._builder.emit_output(result.var, "result")
            self._builder.emit_func_output(output)
        module = self._builder.finalize()
        return Graph(module, {"data": operand(self._rng, shape, data_dtype)})

    # -- choices ---------------------------------------------------------------------------------------

    def _choose(self, values: Any) -> Any:
        return values[int(self._rng.integers(len(values)))]

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def _between(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high, endpoint=True))

    def _channels(self) -> int:
        """Mostly few, sometimes at the edge of a tile."""
        return self._between(1, 9) if self._chance(0.6) else self._choose((15, 16, 17, 24, 31, 32, 33, 40))

    def _shape(self, axes: str) -> tuple[int, ...]:
        if axes == "BNC":
            return self._between(1, 3), self._between(1, 9), self._channels()
        if axes == "NC":
            return self._choose((1, 1, 2, 3, 8, 9, 17)), self._channels()
        extents = {
            "N": self._choose((1, 1, 1, 2, 3, 8, 9)),
            "C": self._channels(),
            "H": self._between(1, 8),
            "W": self._between(1, 8),
        }
        while np.prod(list(extents.values())) > MOST_ELEMENTS:
            largest = max(extents, key=lambda axis: extents[axis])
            extents[largest] = -(-extents[largest] // 2)
        return tuple(extents[axis] for axis in axes)

    def _emit(self, name: str, value: relax.Expr, axes: str) -> _Tensor:
        number = self._names[name] = self._names.get(name, 0) + 1
        return _Tensor(self._builder.emit(value, f"{name}{number}"), axes)

    # -- layers ----------------------------------------------------------------------------------------

    def _layers(self, tensor: _Tensor, weight_dtype: str) -> _Tensor:
        data_dtype = tensor.dtype
        count = self._choose((1, 1, 1, 1, 1, 2, 2, MOST_LAYERS))
        for number in range(count):
            last = number == count - 1
            self._earlier.append(tensor)
            reads = limits(tensor.dtype)
            sums = self._layer(tensor, weight_dtype)
            sums = self._behind(sums)
            if last and self._support.scheme == "fixed" and self._chance(0.4):
                return sums
            bits = self._bits_of_sums(tensor, reads)
            tensor = self._rescaled(sums, data_dtype, bits=bits)
            tensor = self._between_layers(tensor, data_dtype)
        return tensor

    def _layer(self, tensor: _Tensor, weight_dtype: str) -> _Tensor:
        if tensor.axes == "BNC":
            return self._batch_matmul(tensor, weight_dtype)
        if tensor.axes == "NC":
            return self._dense(tensor, weight_dtype)
        return self._convolution(tensor, weight_dtype)

    def _weight(self, shape: tuple[int, ...], dtype: str) -> relax.Expr:
        constant = relax.const(operand(self._rng, shape, dtype))
        if dtype not in HELD:
            return constant
        return self._emit("weight", relax.op.astype(constant, dtype), "").var

    def _dense(self, tensor: _Tensor, weight_dtype: str) -> _Tensor:
        weight = self._weight((tensor.extent("C"), self._channels()), weight_dtype)
        return self._emit("dense", relax.op.matmul(tensor.var, weight, out_dtype="int32"), "NC")

    def _batch_matmul(self, tensor: _Tensor, weight_dtype: str) -> _Tensor:
        batch, _, columns = tensor.shape
        weight = self._weight((batch, columns, self._channels()), weight_dtype)
        return self._emit("product", relax.op.matmul(tensor.var, weight, out_dtype="int32"), "BNC")

    def _convolution(self, tensor: _Tensor, weight_dtype: str) -> _Tensor:
        channels = tensor.extent("C")
        groups, outputs = self._groups(channels)
        dilation_share = 0.2 if self._support.dilated else _RARELY
        kernel: list[int] = []
        strides: list[int] = []
        padding: tuple[list[int], list[int]] = [], []
        dilation: list[int] = []
        for axis in "HW":
            extent = tensor.extent(axis)
            size, step = self._choose((1, 1, 2, 3, 3, 3, 5)), self._choose((1, 1, 1, 2, 3))
            dilated = self._choose((2, 3)) if size > 1 and self._chance(dilation_share) else 1
            widest = 2 if self._support.padded or self._chance(_RARELY) else min(2, size - 1)
            before, after = (min(self._choose((0, 0, 1, 1, 2)), widest) for _ in range(2))
            while extent + before + after < dilated * (size - 1) + 1:
                size -= 1
            kernel.append(size)
            strides.append(step)
            dilation.append(dilated)
            padding[0].append(before)
            padding[1].append(after)
        extents = {"O": outputs, "I": channels // groups, "H": kernel[0], "W": kernel[1]}
        kernel_axes = {"NCHW": "OIHW", "NHWC": "HWIO", "HWNC": "HWOI"}[tensor.axes]
        weight = self._weight(tuple(extents[axis] for axis in kernel_axes), weight_dtype)
        convolution = relax.op.nn.conv2d(
            tensor.var,
            weight,
            strides=strides,
            padding=[*padding[0], *padding[1]],
            dilation=dilation,
            groups=groups,
            data_layout=tensor.axes,
            kernel_layout=kernel_axes,
            out_dtype="int32",
        )
        return self._emit("conv", convolution, tensor.axes)

    def _groups(self, channels: int) -> tuple[int, int]:
        """Groups and output channels: mostly one group, sometimes one for each channel, or some."""
        if channels == 1 or not self._chance(0.3 if self._support.grouped else _RARELY):
            return 1, self._channels()
        if self._chance(0.6):
            return channels, channels
        groups = self._choose([each for each in range(1, channels + 1) if channels % each == 0])
        return groups, groups * self._between(1, 4)

    # -- behind a layer --------------------------------------------------------------------------------

    def _per_channel(self, tensor: _Tensor, values: np.ndarray) -> relax.Expr:
        shape = [1] * len(tensor.axes)
        shape[tensor.axes.index("C")] = values.size
        return relax.const(values.reshape(shape).astype(np.int32))

    def _behind(self, sums: _Tensor) -> _Tensor:
        """Bias, and perhaps some arithmetic in int32."""
        if self._chance(0.7):
            values = biases(self._rng, (sums.extent("C"),))
            sums = self._emit("bias", relax.op.add(sums.var, self._per_channel(sums, values)), sums.axes)
        if self._chance(0.25):
            sums = self._emit("relu", relax.op.nn.relu(sums.var), sums.axes)
        if self._chance(0.2):
            sums = self._arithmetic(sums)
        if self._chance(0.15):
            low, high = sorted(self._between(-(2**18), 2**18) for _ in range(2))
            sums = self._emit("clip", relax.op.clip(sums.var, low, high), sums.axes)
        if self._chance(0.25):
            sums = self._residual(sums)
        return sums

    def _arithmetic(self, sums: _Tensor) -> _Tensor:
        name = self._choose(self._support.arithmetic)
        low, high = {
            "multiply": (-9, 9),
            "left_shift": (0, 8),
            "right_shift": (0, 8),
        }.get(name, (-(2**15), 2**15 - 1))
        if self._chance(0.5):
            other: relax.Expr = relax.const(np.int32(self._between(low, high)))
        else:
            values = self._rng.integers(low, high, sums.extent("C"), endpoint=True)
            other = self._per_channel(sums, values)
        return self._emit(name, getattr(relax.op, name)(sums.var, other), sums.axes)

    def _residual(self, sums: _Tensor) -> _Tensor:
        """An addition of an earlier tensor, where one has the shape."""
        fitting = [each for each in self._earlier if (each.shape, each.axes) == (sums.shape, sums.axes)]
        if not fitting:
            return sums
        wide = self._emit("wide", relax.op.astype(self._choose(fitting).var, "int32"), sums.axes)
        if self._chance(0.5):
            shift = relax.const(np.int32(self._between(1, 6)))
            wide = self._emit("shifted", relax.op.left_shift(wide.var, shift), sums.axes)
        operands = (sums.var, wide.var) if self._chance(0.7) else (wide.var, sums.var)
        return self._emit("residual", relax.op.add(*operands), sums.axes)

    # -- rescaling -------------------------------------------------------------------------------------

    def _bits_of_sums(self, tensor: _Tensor, reads: tuple[int, int]) -> int:
        """About how many bits sums of products of full-range operands have."""
        return max(reads[1].bit_length() + 6 + int(np.log2(tensor.extent("C") * 3)) // 2, 8)

    def _rescaled(self, sums: _Tensor, dtype: str, *, bits: int) -> _Tensor:
        """To the type of the data, so that most values are neither zero nor at an end."""
        width = 3 if dtype in HELD else 7
        right = max(bits - width + self._between(-2, 2), 0)
        pow2 = self._support.scheme == "pow2"
        if dtype == "int8" and self._chance(0.95 if pow2 else 0.1):
            return self._shifted(sums, right)
        return self._requantized(sums, dtype, right)

    def _requantized(self, sums: _Tensor, dtype: str, right: int) -> _Tensor:
        channels = sums.extent("C")
        shape: tuple[int, ...] = (channels,) if self._chance(0.6) else ()
        multipliers = self._rng.integers(2**30, 2**31, shape).astype(np.int32)
        shifts = (-right + self._rng.integers(-1, 2, shape)).astype(np.int32)
        zero_point = self._between(*limits(dtype)) if self._chance(0.2) else 0
        call = requantize(
            sums.var,
            relax.const(np.array(multipliers)),
            relax.const(np.array(np.clip(shifts, -31, 31).astype(np.int32))),
            axis=sums.axes.index("C"),
            zero_point=zero_point,
            rounding=self._choose(ROUNDINGS),
            out_dtype=dtype,
        )
        return self._emit("requantized", call, sums.axes)

    def _shifted(self, sums: _Tensor, right: int) -> _Tensor:
        """Rescaled by a power of two: maybe half of the divisor, a shift, the ends, and the cast."""
        if right and self._chance(0.6):
            half = relax.const(np.int32(1 << (right - 1)))
            sums = self._emit("rounded", relax.op.add(sums.var, half), sums.axes)
        sums = self._emit("shift", relax.op.right_shift(sums.var, relax.const(np.int32(right))), sums.axes)
        low, high = self._choose(((-127, 127), (-128, 127), (0, 127), (-100, 50)))
        if self._chance(0.7):
            sums = self._emit("clip", relax.op.clip(sums.var, low, high), sums.axes)
        else:
            sums = self._emit("low", relax.op.minimum(sums.var, relax.const(np.int32(high))), sums.axes)
            sums = self._emit("high", relax.op.maximum(sums.var, relax.const(np.int32(low))), sums.axes)
        return self._emit("cast", relax.op.astype(sums.var, "int8"), sums.axes)

    # -- between layers --------------------------------------------------------------------------------

    def _between_layers(self, tensor: _Tensor, dtype: str) -> _Tensor:
        if tensor.axes != "NCHW" or dtype in HELD:
            return tensor
        if self._chance(0.15):
            tensor = self._max_pool(tensor)
        if self._chance(0.15):
            return self._global_sum(tensor, dtype)
        return tensor

    def _max_pool(self, tensor: _Tensor) -> _Tensor:
        window: list[int] = []
        strides: list[int] = []
        padding: tuple[list[int], list[int]] = [], []
        for axis in "HW":
            size = self._choose((2, 2, 3))
            before, after = (self._choose((0, 0, 1)) for _ in range(2))
            size = min(size, tensor.extent(axis))
            window.append(size)
            strides.append(self._choose((1, 2)))
            padding[0].append(min(before, size - 1))
            padding[1].append(min(after, size - 1))
        pooled = relax.op.nn.max_pool2d(
            tensor.var, pool_size=window, strides=strides, padding=[*padding[0], *padding[1]]
        )
        return self._emit("pool", pooled, tensor.axes)

    def _global_sum(self, tensor: _Tensor, dtype: str) -> _Tensor:
        """The sum over height and width, rescaled; a dense layer may follow."""
        places = tensor.extent("H") * tensor.extent("W")
        wide = self._emit("wide", relax.op.astype(tensor.var, "int32"), tensor.axes)
        keepdims = self._chance(0.3)
        total = self._emit(
            "sum", relax.op.sum(wide.var, axis=[2, 3], keepdims=keepdims), "NCHW" if keepdims else "NC"
        )
        return self._rescaled(total, dtype, bits=7 + int(np.log2(places)))
