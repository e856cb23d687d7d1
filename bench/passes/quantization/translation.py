"""One translation of a float function into an integer one, binding by binding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, Expr

from bench.passes.quantization.alignment import aligned_tensors
from bench.passes.quantization.options import GLOBAL, Options
from bench.passes.quantization.registry import TRANSLATORS
from bench.passes.quantization.rescaling import multiply_and_clip, shift_and_clip
from bench.passes.quantization.skipping import LAYERS, chosen_layers
from bench.passes.quantization.value import Value, along, check_sign, data_bound, limits
from bench.passes.scales import choose_scale


class Translation:
    """The integer graph as it grows; the translators of the operator families call its methods.

    A rescaling is emitted where a consumer wants data, once a tensor: an accumulator that feeds nothing
    but a residual addition or the output is never squeezed to 8 bits in between.
    """

    def __init__(self, function: relax.Function, floats: dict[str, np.ndarray], options: Options) -> None:
        self.function = function
        self.floats = floats
        self.options = options
        self.builder = relax.BlockBuilder()
        self.bindings: list[relax.VarBinding] = []
        self.values: dict[relax.Var, Value] = {}
        self.producers: dict[relax.Var, Expr] = {}
        self.names: set[str] = set()
        self.requantized: dict[tuple[str, str, float], Value] = {}
        self.skipped = chosen_layers(function, "skip_layers", options.skip_layers)
        self.eight_bit = chosen_layers(function, "eight_bit_layers", options.eight_bit_layers)
        self.aligned = aligned_tensors(function)

    def run(self) -> tvm.IRModule:
        """Translate the function and return the module of the integer one."""
        (parameter,) = self.function.params
        non_negative = bool(self.floats[parameter.name].min() >= 0)
        dtype = self.options.data_type(non_negative=non_negative, bits=8)
        check_sign(parameter.name, non_negative, dtype)
        data = relax.Var(parameter.name, relax.TensorType(parameter.ty.shape, dtype))
        entry = Value(
            name=parameter.name,
            expression=data,
            scale=np.asarray(self.data_scale(parameter.name, dtype)),
            bound=data_bound(dtype),
            quantized=True,
            non_negative=dtype == "uint8",
        )
        self.values[parameter] = entry
        self.names.add(parameter.name)
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

    def assemble(self, data: relax.Var, result: Value) -> relax.Function:
        """Make the function of the emitted bindings; the result's keeps its name and leaves the block."""
        output = relax.Var(result.name, result.expression.ty)
        if self.bindings and self.bindings[-1].var.same_as(result.expression):
            self.bindings[-1] = relax.VarBinding(output, self.bindings[-1].value)
        else:
            self.bindings.append(relax.VarBinding(output, result.expression))
        body = relax.SeqExpr([relax.DataflowBlock(self.bindings)], output)
        return relax.Function([data], body, output.ty).with_attr("global_symbol", "main")

    def translate(self, variable: relax.Var, expression: Expr) -> Value:
        """Translate one binding of the float graph."""
        if isinstance(expression, relax.Var):
            return self.values[expression]
        return TRANSLATORS[expression.op.name](self, variable, expression)

    # --- what translators call ------------------------------------------------------------------------

    def emit(self, name: str, expression: Expr) -> relax.Var:
        """Bind an expression to a new variable of this name, numbered where there is one already."""
        expression = self.builder.normalize(expression)
        unique, repeats = name, 0
        while unique in self.names:
            repeats += 1
            unique = f"{name}_{repeats}"
        self.names.add(unique)
        variable = relax.DataflowVar(unique, expression.ty)
        self.bindings.append(relax.VarBinding(variable, expression))
        return variable

    def operand(self, expression: Expr) -> Value:
        """Look up an operand of the float graph."""
        if expression not in self.values:
            raise ValueError(f"quantize: operand {expression} is not the result of a binding")
        return self.values[expression]

    def uses(self, expression: Expr) -> int:
        """Count how often a tensor of the float graph is an operand."""
        return sum(
            argument.same_as(expression)
            for producer in self.producers.values()
            if isinstance(producer, Call)
            for argument in producer.args
        )

    def data(self, value: Value, *, bits: int | None = None) -> Value:
        """Give a tensor as data: unchanged, or rescaled from its accumulators.

        With `bits` data of another width are converted: to more bits at the same scale, to fewer by
        rescaling.
        """
        if not value.quantized:
            dtype = self.options.data_type(non_negative=value.non_negative, bits=bits)
            return self.requantize(value, dtype)
        if bits is None or bits == value.bits:
            return value
        dtype = f"{value.dtype.rstrip('48')}{bits}"
        if bits < value.bits:
            return self.requantize(self.accumulator(value), dtype)
        wide = self.emit(f"{value.name}_{dtype}", relax.op.astype(value.expression, dtype))
        return replace(value, expression=wide)

    def constant(self, name: str, integers: np.ndarray, dtype: str) -> Expr:
        """Give integers as a constant; TVM has none of 4 bits, but converts those of 8, bound to `name`."""
        if dtype != "int4":
            return relax.const(integers.astype(dtype))
        return self.emit(name, relax.op.astype(relax.const(integers.astype(np.int8)), dtype))

    def data_of(self, value: Value, dtype: str, scale: float) -> Value:
        """Give a tensor as data of a type and scale: unchanged where it has both."""
        if value.quantized and value.dtype == dtype and float(value.scale) == scale:
            return value
        return self.requantize(self.accumulator(value), dtype, scale=scale)

    def accumulator(self, value: Value) -> Value:
        """Give a tensor as int32: unchanged, or widened."""
        if not value.quantized:
            return value
        wide = self.emit(f"{value.name}_int32", relax.op.astype(value.expression, "int32"))
        return replace(value, expression=wide, quantized=False)

    def settle(self, value: Value) -> Value:
        """Carry out the bounds that no rescaling takes over, on an int32 tensor."""
        if value.pending is None:
            return value
        low, high = value.pending.low, value.pending.high
        expression = value.expression
        if low == 0:
            expression = self.emit(value.name, relax.op.nn.relu(expression))
        elif low > -np.inf:
            expression = self.emit(value.name, relax.op.maximum(expression, _int32_bound(low, value)))
        if high < np.inf:
            expression = self.emit(value.name, relax.op.minimum(expression, _int32_bound(high, value)))
        return replace(value, expression=expression, pending=None)

    def requantize(self, value: Value, dtype: str, *, scale: float | None = None) -> Value:
        """Rescale an accumulator to quantised data, of the scale of its float tensor where none is given."""
        scale = self.data_scale(value.name, dtype) if scale is None else scale
        key = value.name, dtype, scale
        if key not in self.requantized:
            check_sign(value.name, value.non_negative, dtype)
            rescaling = shift_and_clip if self.options.power_of_two else multiply_and_clip
            expression = rescaling(self, value, f"{value.name}_requantized", scale, dtype)
            self.requantized[key] = replace(
                value,
                expression=expression,
                scale=np.asarray(scale),
                bound=data_bound(dtype),
                quantized=True,
                pending=None,
            )
        return self.requantized[key]

    def data_scale(self, name: str, dtype: str) -> float:
        """Scale of the float tensor of a binding as data: global, or as calibration gives it."""
        low, high = limits(dtype)
        options = self.options
        if options.data_scale == GLOBAL:
            real = options.global_scale
            if options.power_of_two:
                real = 2.0 ** np.ceil(np.log2(real))
            return float(real / (limits(dtype)[1] + 1))
        return choose_scale(
            self.floats[self.aligned.get(name, name)],
            low=low,
            high=high,
            power_of_two=options.power_of_two,
            method=options.data_scale,
        )

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
            if expression.op.name in LAYERS:
                return variable
            if expression.op.name not in ("relax.add", "relax.nn.relu") or len(operands) != 1:
                return None
            variable = operands[0]
        return None

    def finish(self, value: Value) -> Value:
        """Give the output the type that was asked for; its name is then that of its binding."""
        if self.options.output_dtype == "int32":
            result = self.settle(self.accumulator(value))
        elif value.quantized:
            result = self.data(value, bits=8)
            if result.dtype != self.options.output_dtype:
                raise ValueError(f"quantize: the output {value.name!r} is {result.dtype} already")
        else:
            result = self.requantize(value, self.options.output_dtype)
        return replace(result, name=getattr(result.expression, "name", result.name))


def _int32_bound(bound: float, value: Value) -> Expr:
    """A real bound in units of an accumulator, for each channel where its scale is one for each."""
    steps = along(np.rint(bound / value.scale), value.axis, len(value.shape))
    info = np.iinfo(np.int32)
    return relax.const(np.clip(steps, info.min, info.max).astype(np.int32))
