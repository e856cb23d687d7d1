"""Signed data and weights of an integer graph to unsigned ones, exactly: the legalisation of TVM's PR #12911.

For machines whose instructions multiply unsigned data only. With x the data, w the weight, x' = x + 128 and
w' = w + 128, and all sums modulo 2^32:

    sum x w = sum x' w - 128 sum w            for signed data
    sum x w = sum x w' - 128 sum x            for signed weights

The sum of w is a constant. The sum of x does not depend on the output channel: of a convolution it is a sum
over windows of the sums over channels. Both together give sum x' w' - 128 sum x' - 128 sum w.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm
from tvm import relax

from bench.evaluate.dtypes import wrap
from bench.operators.convolution import output_extent
from bench.passes.constants import constant_bindings
from bench.passes.lift_kernels import bindings_of, substitute
from bench.passes.packing import function_attributes, tensor_shape
from bench.passes.plain_layer import PlainLayer, plain_layer

SHIFT = 128
WEIGHTS = ("keep", "unsigned")
BYTES = ("int8", "uint8")


def vrmpy_legalize(mod: tvm.IRModule, weights: str = "keep") -> tvm.IRModule:
    """Rewrite the convolutions and dense layers of ``main`` so that their data is uint8.

    Taken are NCHW convolutions (OIHW), grouped, strided, dilated and padded in any way, and matrix products
    (N, C) by (C, O), of int8 or uint8 by a constant int8 or uint8 weight, in int32; all else stays as it is.
    int8 data is shifted by 128 and padded explicitly with the value 128, which stands for zero. With
    ``weights`` "unsigned" int8 weights become uint8 as well; with "keep" they stay. The result of each layer
    keeps its name and, modulo 2^32, its values.

    Returns a new module. ValueError for other ``weights``.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"vrmpy_legalize: weights {weights!r} is none of {' and '.join(WEIGHTS)}")
    main = mod["main"]
    constants = constant_bindings(main)
    builder = relax.BlockBuilder()
    parameters = [relax.Var(parameter.name, parameter.ty) for parameter in main.params]
    new: dict[relax.Var, relax.Expr] = dict(zip(main.params, parameters, strict=True))
    with builder.function("main", parameters, attrs=function_attributes(main)):
        with builder.dataflow():
            for binding in bindings_of(main):
                value, name = binding.value, binding.var.name
                layer = plain_layer(value, constants) if isinstance(value, relax.Call) else None
                if layer and _is_signed(layer, weights):
                    rewritten = _Legalized(builder, layer, name, new[layer.data], weights).result()
                else:
                    rewritten = substitute(value, new)
                new[binding.var] = builder.emit(rewritten, name)
            output = builder.emit_output(substitute(main.body.body, new), "output")
        builder.emit_func_output(output)
    functions = dict(mod.functions_items())
    return tvm.IRModule({**functions, mod.get_global_var("main"): builder.finalize()["main"]})


def _is_signed(layer: PlainLayer, weights: str) -> bool:
    """Whether a layer can be rewritten, and has something signed that is to be unsigned."""
    if layer.why_not(data_dtypes=BYTES, weight_dtypes=BYTES, dilated=True, grouped=True):
        return False
    return layer.data_dtype == "int8" or (weights == "unsigned" and layer.weight_dtype == "int8")


class _Legalized:
    """The operators that compute one layer on unsigned data."""

    def __init__(
        self, builder: relax.BlockBuilder, layer: PlainLayer, name: str, data: relax.Expr, weights: str
    ) -> None:
        assert layer.weight is not None
        self._builder = builder
        self._layer = layer
        self._name = name
        self._data = data
        self._weight = layer.weight
        self._padding = list(layer.padding)
        self._shift_data = layer.data_dtype == "int8"
        self._shift_weight = weights == "unsigned" and layer.weight_dtype == "int8"

    def result(self) -> relax.Expr:
        """The last operator, not bound to a variable yet."""
        if self._shift_data:
            self._data = self._shifted_data()
        weight = self._weight
        if self._shift_weight:
            weight = (weight.astype(np.int16) + SHIFT).astype(np.uint8)
        result = self._product(weight)
        if self._shift_weight:
            scaled = self._emit("sums_scaled", relax.op.multiply(self._sums(), _int32(SHIFT)))
            result = relax.op.subtract(self._emit("unsigned", result), scaled)
        if self._shift_data:
            step = "unsigned_data" if self._shift_weight else "unsigned"
            result = relax.op.subtract(self._emit(step, result), relax.const(self._weight_sums()))
        return result

    def _emit(self, step: str, value: relax.Expr) -> relax.Var:
        return self._builder.emit(value, f"{self._name}_{step}")

    def _shifted_data(self) -> relax.Var:
        """The data as uint8, with its padding: 128 is what zero has become."""
        wide = self._emit("data_int32", relax.op.astype(self._data, "int32"))
        shifted = self._emit("data_shifted", relax.op.add(wide, _int32(SHIFT)))
        data = self._emit("data_uint8", relax.op.astype(shifted, "uint8"))
        if any(self._padding):
            data = self._emit("data_padded", _pad(data, self._padding, SHIFT))
            self._padding = [0, 0, 0, 0]
        return data

    def _product(self, weight: np.ndarray) -> relax.Expr:
        layer = self._layer
        if layer.operator == "dense":
            return relax.op.matmul(self._data, relax.const(np.ascontiguousarray(weight.T)), out_dtype="int32")
        return relax.op.nn.conv2d(
            self._data,
            relax.const(np.ascontiguousarray(weight)),
            strides=list(layer.strides),
            padding=self._padding,
            dilation=list(layer.dilation),
            groups=layer.groups,
            out_dtype="int32",
        )

    def _weight_sums(self) -> np.ndarray:
        """128 times the sum of the weights of each output channel, as it is taken away from the result."""
        axes = tuple(range(1, self._weight.ndim))
        sums = wrap(SHIFT * self._weight.astype(np.int64).sum(axis=axes), np.dtype(np.int32))
        return sums.reshape(1, -1, *(1,) * (self._weight.ndim - 2))

    def _sums(self) -> relax.Expr:
        """The sum of the data that meet a filter: (N, 1) of a dense layer, else (N, 1 or O, OH, OW)."""
        layer = self._layer
        wide = self._emit("wide", relax.op.astype(self._data, "int32"))
        if layer.operator == "dense":
            return self._emit("sums", relax.op.sum(wide, axis=[1], keepdims=True))
        if layer.groups == 1:
            sums = self._emit("channel_sums", relax.op.sum(wide, axis=[1], keepdims=True))
        else:
            images, channels, height, width = tensor_shape(wide)
            split = [images, layer.groups, channels // layer.groups, height, width]
            grouped = self._emit("groups", relax.op.reshape(wide, split))
            sums = self._emit("channel_sums", relax.op.sum(grouped, axis=[2]))
        if any(self._padding):
            sums = self._emit("channel_sums_padded", _pad(sums, self._padding, 0))
        for axis in (2, 3):
            sums = self._window_sums(sums, axis)
        repeats = layer.weight_shape[0] // layer.groups
        if layer.groups == 1 or repeats == 1:
            return sums
        return self._emit("sums_repeated", relax.op.repeat(sums, repeats, axis=1))

    def _window_sums(self, tensor: relax.Var, axis: int) -> relax.Var:
        """Sums over the taps of a window along one axis; a window's sum is those along both, in turn."""
        extent = tensor_shape(tensor)[axis]
        taps, stride, dilation = (
            each[axis - 2]
            for each in (self._layer.weight_shape[2:], self._layer.strides, self._layer.dilation)
        )
        count = output_extent(extent, taps, stride=stride, dilation=dilation, before=0, after=0)
        if (taps, stride) == (1, 1):
            return tensor
        total: relax.Var | None = None
        for tap in range(taps):
            begin = tap * dilation
            end = begin + (count - 1) * stride + 1
            part = self._emit("tap", relax.op.strided_slice(tensor, [axis], [begin], [end], [stride]))
            total = part if total is None else self._emit("window", relax.op.add(total, part))
        assert total is not None
        return total


def _pad(tensor: relax.Expr, padding: Sequence[int], value: int) -> relax.Expr:
    top, left, bottom, right = padding
    return relax.op.nn.pad(tensor, [0, 0, 0, 0, top, bottom, left, right], pad_value=value)


def _int32(value: int) -> relax.Expr:
    return relax.const(np.int32(value))
