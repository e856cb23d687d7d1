"""One translation of a float function into an integer one, binding by binding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, Expr

from bench.passes.quantization.options import Options
from bench.passes.quantization.registry import TRANSLATORS
from bench.passes.quantization.rescaling import multiply, shift_and_clip
from bench.passes.quantization.value import Value, check_sign, data_bound, limits
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
        self.requantized: dict[tuple[str, str], Value] = {}

    def run(self) -> tvm.IRModule:
        """Translate the function and return the module of the integer one."""
        (parameter,) = self.function.params
        dtype = self.options.data_dtype
        check_sign(parameter.name, bool(self.floats[parameter.name].min() >= 0), dtype)
        data = relax.Var(parameter.name, relax.TensorType(parameter.ty.shape, dtype))
        entry = Value(
            name=parameter.name,
            expression=data,
            scale=self.data_scale(parameter.name, dtype),
            bound=data_bound(dtype),
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
        """Bind an expression to a new variable of exactly this name."""
        expression = self.builder.normalize(expression)
        variable = relax.DataflowVar(name, expression.ty)
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

    def data(self, value: Value) -> Value:
        """Give a tensor as data: unchanged, or rescaled from its accumulators."""
        return value if value.quantized else self.requantize(value, self.options.data_dtype)

    def accumulator(self, value: Value) -> Value:
        """Give a tensor as int32: unchanged, or widened."""
        if not value.quantized:
            return value
        wide = self.emit(f"{value.name}_int32", relax.op.astype(value.expression, "int32"))
        return replace(value, expression=wide, quantized=False)

    def settle(self, value: Value) -> Value:
        """Carry out a ReLU that no rescaling takes over."""
        if not value.pending_relu:
            return value
        result = self.emit(value.name, relax.op.nn.relu(value.expression))
        return replace(value, expression=result, pending_relu=False)

    def requantize(self, value: Value, dtype: str) -> Value:
        """Rescale an accumulator to quantised data of the scale that calibration gives its float tensor."""
        key = value.name, dtype
        if key not in self.requantized:
            check_sign(value.name, value.non_negative, dtype)
            scale = float(self.data_scale(value.name, dtype))
            name = f"{value.name}_requantized"
            if self.options.power_of_two:
                expression = shift_and_clip(self, value, name, scale, dtype)
            else:
                if dtype != "uint8":
                    value = self.settle(value)
                expression = multiply(self, value, name, scale, dtype)
            self.requantized[key] = replace(
                value,
                expression=expression,
                scale=np.asarray(scale),
                bound=data_bound(dtype),
                quantized=True,
                pending_relu=False,
            )
        return self.requantized[key]

    def data_scale(self, name: str, dtype: str) -> np.ndarray:
        """Scale that calibration gives the float tensor of a binding."""
        low, high = limits(dtype)
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

    def finish(self, value: Value) -> Value:
        """Give the output the type that was asked for; its name is then that of its binding."""
        if self.options.output_dtype == "int32":
            result = self.settle(self.accumulator(value))
        elif value.quantized:
            if value.dtype != self.options.output_dtype:
                raise ValueError(f"quantize: the output {value.name!r} is {value.dtype} already")
            result = value
        else:
            result = self.requantize(value, self.options.output_dtype)
        return replace(result, name=getattr(result.expression, "name", result.name))
