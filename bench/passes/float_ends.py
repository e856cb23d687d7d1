"""Give a quantised graph float ends: what a user feeds and reads, as TVM's old quantisation left it."""

from __future__ import annotations

import tvm
from tvm import relax

from bench.passes.lift_kernels import bindings_of, substitute
from bench.passes.packing import function_attributes


def float_ends(mod: tvm.IRModule) -> tvm.IRModule:
    """Let ``main`` of a module from :func:`bench.passes.quantize` take and return float32.

    The input is multiplied by 1 / ``input_scale``, rounded to the nearest (ties to even), clipped and cast;
    the result is cast and multiplied by ``output_scale``. Both scales are attributes of ``main``. ValueError
    where they are missing.
    """
    main = mod["main"]
    attributes = function_attributes(main)
    for name in ("input_scale", "output_scale"):
        if name not in attributes:
            raise ValueError(f"float_ends: main has no attribute {name!r}: it does not come from quantize")
    (parameter,) = main.params
    dtype = str(parameter.ty.dtype)
    low, high = (0, 255) if dtype == "uint8" else (-127, 127)
    data = relax.Var(parameter.name, relax.TensorType(parameter.ty.shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [data], attrs=attributes):
        with builder.dataflow():
            scale = relax.const(1 / float(attributes["input_scale"]), "float32")
            scaled = builder.emit(relax.op.multiply(data, scale), f"{data.name}_scaled")
            rounded = builder.emit(relax.op.round(scaled), f"{data.name}_rounded")
            clipped = builder.emit(relax.op.clip(rounded, low, high), f"{data.name}_clipped")
            new = {parameter: builder.emit(relax.op.astype(clipped, dtype), f"{data.name}_{dtype}")}
            for binding in bindings_of(main):
                new[binding.var] = builder.emit(substitute(binding.value, new), binding.var.name)
            wide = builder.emit(relax.op.astype(new[main.body.body], "float32"), "output_float32")
            factor = relax.const(float(attributes["output_scale"]), "float32")
            result = builder.emit_output(relax.op.multiply(wide, factor), "output")
        builder.emit_func_output(result)
    return builder.finalize()
