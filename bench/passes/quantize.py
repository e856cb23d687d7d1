"""From a float Relax graph to an integer one, with scales from calibration data.

Data are int8 or uint8, or int4 or uint4, with one symmetric scale a tensor (zero point 0), weights int8 or
int4, biases and accumulators int32. The integer graph keeps the names of the float one: the binding `conv1`
is the int32 result of the convolution, `conv1_bias` that with its bias, and the quantised tensor that stands
for the float binding `relu1` is `relu1_requantized`. docs/quantisation.md shows both schemes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, Expr, GenericConst, Op

from bench.evaluate import dtypes, evaluate_all
from bench.evaluate.graph import attributes_of
from bench.operators import ROUNDINGS, requantize
from bench.passes.execution_order import executed_calls, layer_indices, selected_layers
from bench.passes.scales import choose_channel_scales, choose_scale, fixed_point

SCHEMES = ("fixed", "pow2")
DATA_DTYPES = ("int8", "uint8")
OUTPUT_DTYPES = ("int8", "uint8", "int32")
BITS = (8, 4)
LAYERS = frozenset({"relax.nn.conv2d", "relax.matmul"})
_NARROW = {"int8": "int4", "uint8": "uint4"}
# Bits below a quantised step in which the two sides of a residual addition meet ("fixed").
_ALIGNMENT_BITS = 8


def quantize(
    mod: tvm.IRModule,
    calibration: np.ndarray,
    *,
    scheme: str = "fixed",
    data_dtype: str = "int8",
    rounding: str = "half_up",
    per_channel: bool | None = None,
    output_dtype: str | None = None,
    data_scale: str | None = None,
    weight_scale: str | None = None,
    bits: int = 8,
    skip_layers: Collection[int] | None = None,
) -> tvm.IRModule:
    """Quantise `main` of a float module; the result takes and computes integers only.

    `calibration` are float inputs, any number of them (the first axis counts them), whose activations
    choose the scales.

    * `scheme`: "fixed" rescales by `bitexact.requantize`, a 31-bit multiplier and a shift; "pow2" has
      scales that are powers of two and rescales by add, shift, clip and astype, which is what VTA's ALU has.
    * `data_dtype`: "int8", or "uint8" for data that are never negative.
    * `rounding`: of "fixed" any of `bench.operators.ROUNDINGS`, of "pow2" half_up or floor.
    * `per_channel`: a weight scale for each output channel; by default so for "fixed", never for "pow2".
    * `output_dtype`: "int32" leaves the accumulators of the last layer, whose weight then has one scale, so
      that outputs can be compared; "int8" and "uint8" rescale them. By default int32 for "fixed" and int8
      for "pow2".
    * `data_scale`, `weight_scale`: "maximum" or "least_error" (`bench.passes.scales`); by default the
      maximum for "fixed" and the least error for "pow2".
    * `bits`: 8, or 4 for layers that multiply int4 (or uint4, if `data_dtype` is uint8) by int4. The input
      is of `data_dtype` in any case.
    * `skip_layers`: indices of the layers that stay at 8 bits, in the order of execution over convolutions
      and matrix products; negative ones count from the end.

    The function's attributes record `scheme`, `rounding`, `input_scale`, `output_scale` and, in `scales`, the
    scale of every binding that is quantised data: the float tensor is about the scale times the integers.
    ValueError for an option that is not one of these, for a graph that is not one float function of one
    input, for an operator that is not quantised, and where a tensor that needs a sign would become uint8.
    """
    options = _Options.check(
        scheme=scheme,
        data_dtype=data_dtype,
        rounding=rounding,
        per_channel=per_channel,
        output_dtype=output_dtype,
        data_scale=data_scale,
        weight_scale=weight_scale,
        bits=bits,
        skip_layers=skip_layers,
    )
    function = _main(mod)
    return _Quantizer(function, _calibrate(function, calibration), options).run()


def quantize_input(mod: tvm.IRModule, images: np.ndarray) -> np.ndarray:
    """Quantise float inputs for a module that `quantize` returned: nearest, ties to even, saturated."""
    function = mod["main"]
    if "input_scale" not in (function.attrs or {}):
        raise ValueError("main has no attribute 'input_scale': the module does not come from quantize")
    dtype = np.dtype(str(function.params[0].ty.dtype))
    low, high = _limits(dtype.name)
    scaled = np.asarray(images, np.float64) / float(function.attrs["input_scale"])
    return np.clip(np.rint(scaled), low, high).astype(dtype)


def _limits(dtype: str) -> tuple[int, int]:
    """Range of quantised data and weights: symmetric for int8, so that -128 is left to saturation."""
    return {"int8": (-127, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}[dtype]


def _bound(dtype: str) -> int:
    """Largest magnitude of a type of data."""
    return max(map(abs, dtypes.limits(dtypes.numpy_dtype(dtype))))


def _one_of(name: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"{name} {value!r} is none of {', '.join(valid)}")


@dataclass(frozen=True)
class _Options:
    power_of_two: bool
    data_dtype: str
    rounding: str
    per_channel: bool
    output_dtype: str
    data_scale: str
    weight_scale: str
    bits: int
    skip_layers: tuple[int, ...]

    @staticmethod
    def check(
        *,
        scheme: str,
        data_dtype: str,
        rounding: str,
        per_channel: bool | None,
        output_dtype: str | None,
        data_scale: str | None,
        weight_scale: str | None,
        bits: int,
        skip_layers: Collection[int] | None,
    ) -> _Options:
        _one_of("scheme", scheme, SCHEMES)
        _one_of("data_dtype", data_dtype, DATA_DTYPES)
        power_of_two = scheme == "pow2"
        _one_of(
            f"rounding of scheme {scheme!r}", rounding, ("half_up", "floor") if power_of_two else ROUNDINGS
        )
        if power_of_two and per_channel:
            raise ValueError(
                "per_channel: scheme 'pow2' has one weight scale a tensor, a shift has no channels"
            )
        if bits not in BITS:
            raise ValueError(f"bits {bits} is none of {', '.join(map(str, BITS))}")
        default_method = "least_error" if power_of_two else "maximum"
        return _Options(
            power_of_two=power_of_two,
            data_dtype=data_dtype,
            rounding=rounding,
            per_channel=not power_of_two if per_channel is None else per_channel,
            output_dtype=output_dtype or ("int8" if power_of_two else "int32"),
            data_scale=data_scale or default_method,
            weight_scale=weight_scale or default_method,
            bits=bits,
            skip_layers=tuple(skip_layers or ()),
        )

    @property
    def narrow_dtype(self) -> str:
        """Type of the data of layers that are not skipped."""
        return self.data_dtype if self.bits == 8 else _NARROW[self.data_dtype]

    def __post_init__(self) -> None:
        _one_of("output_dtype", self.output_dtype, OUTPUT_DTYPES)
        _one_of("data_scale", self.data_scale, ("maximum", "least_error"))
        _one_of("weight_scale", self.weight_scale, ("maximum", "least_error"))


@dataclass(frozen=True)
class _Value:
    """A tensor of the integer graph and what it stands for.

    The float tensor of binding `name` is about `expression` · `scale`; `scale` is a scalar, or has the
    shape of the channels along `axis`. `pending_relu` is a ReLU that the next rescaling takes over.
    """

    name: str
    expression: Expr
    scale: np.ndarray
    bound: int
    """No element is larger in magnitude, whatever the input."""
    quantized: bool
    """Of the type of data, and not an int32 accumulator."""
    non_negative: bool
    axis: int = 1
    pending_relu: bool = False

    @property
    def dtype(self) -> str:
        """Element type of `expression`."""
        return str(self.expression.ty.dtype)


def _main(mod: tvm.IRModule) -> relax.Function:
    functions = {variable.name_hint: function for variable, function in mod.functions.items()}
    if set(functions) != {"main"} or not isinstance(functions["main"], relax.Function):
        raise ValueError(
            f"quantize takes a module of one Relax function, main; this one has {sorted(functions)}"
        )
    function = functions["main"]
    if len(function.params) != 1 or str(function.params[0].ty.dtype) != "float32":
        parameters = ", ".join(f"{parameter.name}: {parameter.ty}" for parameter in function.params)
        raise ValueError(
            f"quantize takes a main with one float32 input, weights as constants; not ({parameters})"
        )
    names = [function.params[0].name]
    for binding in (binding for block in function.body.blocks for binding in block.bindings):
        if binding.var.name in names:
            raise ValueError(f"quantize: two tensors are named {binding.var.name!r}; scales are kept by name")
        names.append(binding.var.name)
        value = binding.value
        operator = value.op.name if isinstance(value, Call) and isinstance(value.op, Op) else None
        if operator not in _TRANSLATIONS and not isinstance(value, relax.Var):
            raise ValueError(
                f"quantize: binding {binding.var.name!r} is {operator or type(value).__name__}, which is not "
                f"quantised; what is: {', '.join(_TRANSLATIONS)}"
            )
    return function


def _calibrate(function: relax.Function, calibration: np.ndarray) -> dict[str, np.ndarray]:
    """Evaluate the float graph on the calibration data: every binding, and the input by its name."""
    (parameter,) = function.params
    shape = tuple(int(extent) for extent in parameter.ty.shape)
    calibration = np.asarray(calibration, np.float32)
    if calibration.shape[1:] != shape[1:] or not len(calibration):
        raise ValueError(f"calibration data of shape {calibration.shape} do not fit the input {shape}")
    batch, count = shape[0], len(calibration)
    recorded: dict[str, list[np.ndarray]] = {}
    for start in range(0, count, batch):
        chunk = calibration[start : start + batch]
        # The batch of the graph is fixed: what is missing is repeated and not looked at.
        filled = np.resize(chunk, shape)
        for name, value in {parameter.name: filled, **evaluate_all(function, filled)}.items():
            recorded.setdefault(name, []).append(
                value[: len(chunk)] if value.shape[:1] == (batch,) else value
            )
    return {name: np.concatenate(values) for name, values in recorded.items()}


class _Quantizer:
    """One translation of a float function, binding by binding.

    A rescaling is emitted where a consumer wants data, once a tensor: an accumulator that feeds nothing
    but a residual addition or the output is never squeezed to 8 bits in between.
    """

    def __init__(self, function: relax.Function, floats: dict[str, np.ndarray], options: _Options) -> None:
        self.function = function
        self.floats = floats
        self.options = options
        self.builder = relax.BlockBuilder()
        self.bindings: list[relax.VarBinding] = []
        self.values: dict[relax.Var, _Value] = {}
        self.producers: dict[relax.Var, Expr] = {}
        self.requantized: dict[tuple[str, str], _Value] = {}
        indices = layer_indices(executed_calls(function), LAYERS)
        self.narrow = frozenset(selected_layers(indices, options.skip_layers, what="quantize"))

    def run(self) -> tvm.IRModule:
        """Translate the function and return the module of the integer one."""
        (parameter,) = self.function.params
        dtype = self.options.data_dtype
        _check_sign(parameter.name, bool(self.floats[parameter.name].min() >= 0), dtype)
        data = relax.Var(parameter.name, relax.TensorType(parameter.ty.shape, dtype))
        entry = _Value(
            name=parameter.name,
            expression=data,
            scale=self.data_scale(parameter.name, dtype),
            bound=_bound(dtype),
            quantized=True,
            non_negative=dtype == "uint8",
        )
        self.values[parameter] = entry
        float_bindings = [binding for block in self.function.body.blocks for binding in block.bindings]
        self.producers = {binding.var: binding.value for binding in float_bindings}
        self.last_layer = self.layer_of_output()
        for binding in float_bindings:
            self.values[binding.var] = self.translate(binding.var, binding.value)
        result = self.finish(self.values[self.function.body.body])
        function = self.assemble(data, result).with_attrs(
            {
                "scheme": "pow2" if self.options.power_of_two else "fixed",
                "rounding": self.options.rounding,
                "bits": self.options.bits,
                "input_scale": float(entry.scale),
                "output_scale": float(result.scale),
                "scales": {value.expression.name: float(value.scale) for value in self.requantized.values()},
            }
        )
        # Normalisation gives the body, which was put together by hand, its type.
        module = relax.transform.Normalize()(tvm.IRModule({"main": function}))
        relax.analysis.well_formed(module)
        return module

    def assemble(self, data: relax.Var, result: _Value) -> relax.Function:
        """Make the function of the emitted bindings; the result's keeps its name and leaves the block."""
        output = relax.Var(result.name, result.expression.ty)
        if self.bindings and self.bindings[-1].var.same_as(result.expression):
            self.bindings[-1] = relax.VarBinding(output, self.bindings[-1].value)
        else:
            self.bindings.append(relax.VarBinding(output, result.expression))
        body = relax.SeqExpr([relax.DataflowBlock(self.bindings)], output)
        return relax.Function([data], body, output.ty).with_attr("global_symbol", "main")

    def emit(self, name: str, expression: Expr) -> relax.Var:
        """Bind an expression to a new variable of exactly this name."""
        expression = self.builder.normalize(expression)
        variable = relax.DataflowVar(name, expression.ty)
        self.bindings.append(relax.VarBinding(variable, expression))
        return variable

    # --- the operators of the float graph -------------------------------------------------------------

    def translate(self, variable: relax.Var, expression: Expr) -> _Value:
        """Translate one binding of the float graph."""
        if isinstance(expression, relax.Var):
            return self.values[expression]
        return _TRANSLATIONS[expression.op.name](self, variable, expression)

    def convolution(self, variable: relax.Var, call: Call) -> _Value:
        """Translate a convolution, NCHW by OIHW: int32 accumulators."""
        attributes = attributes_of(call)
        if (attributes["data_layout"], attributes["kernel_layout"]) != ("NCHW", "OIHW"):
            raise ValueError(f"quantize: convolution {variable.name!r} must be NCHW by OIHW")
        options = {name: attributes[name] for name in ("strides", "padding", "dilation", "groups")}

        def build(data: Expr, weight: Expr) -> Call:
            return relax.op.nn.conv2d(data, weight, out_dtype="int32", **options)

        return self.layer(variable, call, build, weight_axis=0, axis=1)

    def dense(self, variable: relax.Var, call: Call) -> _Value:
        """Translate a product by a constant matrix (K, N): int32 accumulators."""

        def build(data: Expr, weight: Expr) -> Call:
            return relax.op.matmul(data, weight, out_dtype="int32")

        axis = len(call.args[0].ty.shape) - 1
        return self.layer(variable, call, build, weight_axis=1, axis=axis)

    def layer(
        self,
        variable: relax.Var,
        call: Call,
        build: Callable[[Expr, Expr], Call],
        *,
        weight_axis: int,
        axis: int,
    ) -> _Value:
        """Quantise the weight of a convolution or dense layer and emit it on quantised data."""
        name = variable.name
        narrow = variable in self.narrow
        data_dtype = self.options.narrow_dtype if narrow else self.options.data_dtype
        weight_dtype = "int4" if narrow and self.options.bits == 4 else "int8"
        data, weight = self.data(self.operand(call.args[0]), data_dtype), _constant(call.args[1])
        if weight is None:
            raise ValueError(f"quantize: the weight of {name!r} must be a constant")
        if call.op.name == "relax.matmul" and weight.ndim != 2:
            raise ValueError(f"quantize: the weight of {name!r} has shape {weight.shape}; it must be (K, N)")
        one_scale = not self.options.per_channel or (variable == self.last_layer)
        low, high = _limits(weight_dtype)
        choice: dict[str, Any] = {
            "low": low,
            "high": high,
            "power_of_two": self.options.power_of_two,
            "method": self.options.weight_scale,
        }
        if one_scale:
            scale = np.asarray(choose_scale(weight, **choice))
        else:
            scale = choose_channel_scales(weight, weight_axis, **choice)
        steps = np.rint(weight / _along(scale, weight_axis, weight.ndim))
        integers = np.clip(steps, low, high).astype(np.int8)
        taps = np.abs(np.moveaxis(integers.astype(np.int64), weight_axis, 0)).reshape(
            weight.shape[weight_axis], -1
        )
        return _Value(
            name=name,
            expression=self.emit(name, build(data.expression, self.weight(name, integers, weight_dtype))),
            scale=scale * data.scale,
            bound=_within_int32(name, int(taps.sum(axis=1).max()) * data.bound),
            quantized=False,
            non_negative=False,
            axis=axis,
        )

    def weight(self, name: str, integers: np.ndarray, dtype: str) -> Expr:
        """Give a weight as a constant of its type; TVM has no 4-bit constants, but converts 8-bit ones."""
        constant = relax.const(integers)
        return constant if dtype == "int8" else self.emit(f"{name}_weight", relax.op.astype(constant, dtype))

    def add(self, variable: relax.Var, call: Call) -> _Value:
        """Translate a bias or a residual addition."""
        left, right = call.args
        if _constant(left) is not None:
            left, right = right, left
        bias = _constant(right)
        if bias is not None:
            return self.bias(variable, self.accumulator(self.operand(left)), bias)
        return self.residual(variable, *(self.residual_side(side) for side in (left, right)))

    def residual_side(self, expression: Expr) -> _Value:
        """Give one side of an addition: what others use as well is stored as data, and added as such.

        Of scheme "pow2" with int8 every side is: a machine that stores 8 bits of an accumulator, as VTA
        does, can then compute the layer before the addition.
        """
        value = self.operand(expression)
        if self.options.power_of_two and self.options.data_dtype == "int8":
            return self.data(value)
        uses = sum(
            argument.same_as(expression)
            for producer in self.producers.values()
            if isinstance(producer, Call)
            for argument in producer.args
        )
        return value if uses == 1 else self.data(value)

    def bias(self, variable: relax.Var, value: _Value, bias: np.ndarray) -> _Value:
        """Add a constant in units of the accumulator."""
        value = self.settle(value)
        rank = len(value.expression.ty.shape)
        steps = np.rint(bias.astype(np.float64) / _along(value.scale, value.axis, rank))
        bound = _within_int32(variable.name, value.bound + int(np.abs(steps).max(initial=0)))
        total = relax.op.add(value.expression, relax.const(steps.astype(np.int32)))
        expression = self.emit(variable.name, total)
        if list(expression.ty.shape) != list(value.expression.ty.shape):
            raise ValueError(
                f"quantize: the constant of {variable.name!r} changes the shape of {value.name!r}"
            )
        return replace(value, name=variable.name, expression=expression, bound=bound, non_negative=False)

    def residual(self, variable: relax.Var, left: _Value, right: _Value) -> _Value:
        """Add two tensors of one shape as integers of one scale, that of finer steps than the result's."""
        if list(left.expression.ty.shape) != list(right.expression.ty.shape):
            raise ValueError(f"quantize: {variable.name!r} adds tensors of different shapes")
        sides = [self.settle(self.accumulator(side)) for side in (left, right)]
        non_negative = all(side.non_negative for side in sides)
        if self.options.power_of_two:
            # Both to the finer of the two scales: a shift to the left loses nothing.
            scale = min(float(side.scale) for side in sides)
            aligned = [self.shift_left(side, scale) for side in sides]
        else:
            step = np.abs(self.floats[variable.name]).max() / _limits(self.options.narrow_dtype)[1] or 1.0
            scale = step / 2**_ALIGNMENT_BITS
            aligned = [self.rescale(side, scale) for side in sides]
        bound = _within_int32(variable.name, sum(side.bound for side in aligned))
        return _Value(
            name=variable.name,
            expression=self.emit(variable.name, relax.op.add(*(side.expression for side in aligned))),
            scale=np.asarray(scale),
            bound=bound,
            quantized=False,
            non_negative=non_negative,
        )

    def relu(self, variable: relax.Var, call: Call) -> _Value:
        """Translate a ReLU: into the rescaling that follows where that bounds its result anyway.

        A rounding keeps the order of its operands and 0, so that it does not matter which comes first.
        """
        value = replace(self.operand(call.args[0]), name=variable.name, non_negative=True)
        if not value.quantized:
            value = replace(value, pending_relu=True)
            folds = self.options.power_of_two or self.options.data_dtype == "uint8"
            return value if folds else self.settle(value)
        if value.dtype.startswith("uint"):
            return value
        return replace(value, expression=self.emit(variable.name, relax.op.nn.relu(value.expression)))

    def move(self, variable: relax.Var, call: Call) -> _Value:
        """Translate an operator that only selects or moves values: the same one, on quantised data."""
        value = self.data(self.operand(call.args[0]))
        moved = Call(call.op, [value.expression, *call.args[1:]], call.attrs, call.ty_args)
        return replace(value, name=variable.name, expression=self.emit(variable.name, moved))

    def mean(self, variable: relax.Var, call: Call) -> _Value:
        """Translate a mean: an int32 sum, whose scale takes the number of its terms."""
        value = self.data(self.operand(call.args[0]))
        attributes = attributes_of(call)
        extents = [int(extent) for extent in value.expression.ty.shape]
        axes = attributes["axis"] if attributes["axis"] is not None else tuple(range(len(extents)))
        count = int(np.prod([extents[axis] for axis in axes]))
        if self.options.power_of_two and count & (count - 1):
            raise ValueError(
                f"quantize: {variable.name!r} is a mean of {count} values; "
                "scheme 'pow2' only divides by powers of two"
            )
        wide = self.emit(f"{variable.name}_int32", relax.op.astype(value.expression, "int32"))
        total = relax.op.sum(wide, axis=list(axes), keepdims=bool(attributes["keepdims"]))
        return replace(
            value,
            name=variable.name,
            expression=self.emit(variable.name, total),
            scale=value.scale / count,
            bound=_within_int32(variable.name, value.bound * count),
            quantized=False,
        )

    # --- between the operators ------------------------------------------------------------------------

    def operand(self, expression: Expr) -> _Value:
        """Look up an operand of the float graph."""
        if expression not in self.values:
            raise ValueError(f"quantize: operand {expression} is not the result of a binding")
        return self.values[expression]

    def data(self, value: _Value, dtype: str | None = None) -> _Value:
        """Give a tensor as data: unchanged, or rescaled from its accumulators.

        With a `dtype` data of the other width is converted to it: to more bits at the same scale, to fewer
        by rescaling.
        """
        if not value.quantized:
            return self.requantize(value, dtype or self.options.narrow_dtype)
        if dtype in (None, value.dtype):
            return value
        if value.dtype in _NARROW:
            return self.requantize(self.accumulator(value), str(dtype))
        wide = self.emit(f"{value.name}_{dtype}", relax.op.astype(value.expression, dtype))
        return replace(value, expression=wide)

    def accumulator(self, value: _Value) -> _Value:
        """Give a tensor as int32: unchanged, or widened."""
        if not value.quantized:
            return value
        wide = self.emit(f"{value.name}_int32", relax.op.astype(value.expression, "int32"))
        return replace(value, expression=wide, quantized=False)

    def settle(self, value: _Value) -> _Value:
        """Carry out a ReLU that no rescaling takes over."""
        if not value.pending_relu:
            return value
        result = self.emit(value.name, relax.op.nn.relu(value.expression))
        return replace(value, expression=result, pending_relu=False)

    def requantize(self, value: _Value, dtype: str) -> _Value:
        """Rescale an accumulator to quantised data of the scale that calibration gives its float tensor."""
        key = value.name, dtype
        if key not in self.requantized:
            _check_sign(value.name, value.non_negative, dtype)
            scale = float(self.data_scale(value.name, dtype))
            again = any(name == value.name for name, _ in self.requantized)
            name = f"{value.name}_{dtype if again else 'requantized'}"
            if self.options.power_of_two:
                expression = self.shift_and_clip(value, name, scale, dtype)
            else:
                if not dtype.startswith("uint"):
                    value = self.settle(value)
                expression = self.multiply(value, name, scale, dtype)
            self.requantized[key] = replace(
                value,
                expression=expression,
                scale=np.asarray(scale),
                bound=_bound(dtype),
                quantized=True,
                pending_relu=False,
            )
        return self.requantized[key]

    def multiply(self, value: _Value, name: str, scale: float, dtype: str) -> relax.Var:
        """Emit the rescaling of "fixed"."""
        multiplier, shift = fixed_point(value.scale / scale)
        call = requantize(
            value.expression,
            relax.const(multiplier),
            relax.const(shift),
            axis=value.axis,
            rounding=self.options.rounding,
            out_dtype=dtype,
        )
        return self.emit(name, call)

    def rescale(self, value: _Value, scale: float) -> _Value:
        """Rescale an int32 tensor to another scale, in int32."""
        expression = self.multiply(value, f"{value.name}_aligned", scale, "int32")
        bound = int(np.ceil(value.bound * np.max(value.scale / scale))) + 1
        return replace(value, expression=expression, scale=np.asarray(scale), bound=bound)

    def shift_and_clip(self, value: _Value, name: str, scale: float, dtype: str) -> relax.Var:
        """Emit the rescaling of "pow2": add half, shift, clip (a ReLU is its lower bound), convert."""
        expression, bits = value.expression, _bits(scale, float(value.scale))
        stem = value.name
        if bits > 0:
            if self.options.rounding == "half_up":
                _within_int32(stem, value.bound + (1 << (bits - 1)))
                half = relax.const(1 << (bits - 1), "int32")
                expression = self.emit(f"{stem}_rounded", relax.op.add(expression, half))
            expression = self.emit(
                f"{stem}_shifted", relax.op.right_shift(expression, relax.const(bits, "int32"))
            )
        elif bits < 0:
            shifted = self.shift_left(replace(value, expression=expression), scale)
            expression = shifted.expression
        low, high = _limits(dtype)
        if value.pending_relu:
            low = 0
        expression = self.emit(f"{stem}_clipped", relax.op.clip(expression, low, high))
        return self.emit(name, relax.op.astype(expression, dtype))

    def shift_left(self, value: _Value, scale: float) -> _Value:
        """Shift an int32 tensor to a scale that is as fine or finer, a power of two away."""
        bits = _bits(float(value.scale), scale)
        if bits == 0:
            return value
        if bits > 31:
            raise ValueError(f"quantize: {value.name!r} would have to be shifted by {bits} bits")
        bound = _within_int32(value.name, value.bound << bits)
        shifted = relax.op.left_shift(value.expression, relax.const(bits, "int32"))
        expression = self.emit(f"{value.name}_aligned", shifted)
        return replace(value, expression=expression, scale=np.asarray(scale), bound=bound)

    def data_scale(self, name: str, dtype: str) -> np.ndarray:
        """Scale that calibration gives the float tensor of a binding."""
        low, high = _limits(dtype)
        options = self.options
        scale = choose_scale(
            self.floats[name],
            low=low,
            high=high,
            power_of_two=options.power_of_two,
            method=options.data_scale,
        )
        return np.asarray(scale)

    # --- the end of the graph -------------------------------------------------------------------------

    def layer_of_output(self) -> relax.Var | None:
        """Find the layer whose accumulators are the output, through its bias and ReLU alone."""
        variable = self.function.body.body
        while self.options.output_dtype == "int32" and variable in self.producers:
            expression = self.producers[variable]
            if isinstance(expression, relax.Var):
                variable = expression
                continue
            operands = [argument for argument in expression.args if isinstance(argument, relax.Var)]
            if expression.op.name in ("relax.nn.conv2d", "relax.matmul"):
                return variable
            if expression.op.name not in ("relax.add", "relax.nn.relu") or len(operands) != 1:
                return None
            variable = operands[0]
        return None

    def finish(self, value: _Value) -> _Value:
        """Give the output the type that was asked for; its name is then that of its binding."""
        if self.options.output_dtype == "int32":
            result = self.settle(self.accumulator(value))
        elif value.quantized:
            if value.dtype not in (self.options.output_dtype, _NARROW.get(self.options.output_dtype)):
                raise ValueError(f"quantize: the output {value.name!r} is {value.dtype} already")
            result = self.data(value, self.options.output_dtype)
        else:
            result = self.requantize(value, self.options.output_dtype)
        return replace(result, name=getattr(result.expression, "name", result.name))


_TRANSLATIONS: dict[str, Callable[[_Quantizer, relax.Var, Call], _Value]] = {
    "relax.nn.conv2d": _Quantizer.convolution,
    "relax.matmul": _Quantizer.dense,
    "relax.add": _Quantizer.add,
    "relax.nn.relu": _Quantizer.relu,
    "relax.nn.max_pool2d": _Quantizer.move,
    "relax.reshape": _Quantizer.move,
    "relax.flatten": _Quantizer.move,
    "relax.permute_dims": _Quantizer.move,
    "relax.mean": _Quantizer.mean,
}


def _constant(expression: Expr) -> np.ndarray | None:
    return expression.value.numpy() if isinstance(expression, GenericConst) else None


def _along(scale: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Shape per-channel scales so that they broadcast against a tensor of `rank`."""
    if scale.ndim == 0:
        return scale
    return scale.reshape([-1 if position == axis else 1 for position in range(rank)])


def _bits(coarse: float, fine: float) -> int:
    return round(np.log2(coarse / fine))


def _check_sign(name: str, non_negative: bool, dtype: str) -> None:
    if dtype.startswith("uint") and not non_negative:
        raise ValueError(
            f"quantize: {name!r} can be negative and cannot be {dtype}, whose zero point is 0; "
            "use data_dtype='int8', or a graph whose data come out of a ReLU"
        )


def _within_int32(name: str, bound: int) -> int:
    if bound > np.iinfo(np.int32).max:
        raise ValueError(f"quantize: {name!r} can reach {bound}, beyond int32")
    return bound
