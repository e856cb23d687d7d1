"""From a float Relax graph to an integer one, with scales from calibration data.

Data are int8 or uint8, or int4 or uint4, with one symmetric scale a tensor (zero point 0), weights int8 or
int4, biases and accumulators int32. The integer graph keeps the names of the float one: the binding `conv1`
is the int32 result of the convolution, `conv1_bias` that with its bias, and the quantised tensor that stands
for the float binding `relu1` is `relu1_requantized`. docs/quantisation.md shows both schemes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm

# One file for each family of operators; importing it enters its operators into the table.
from bench.passes.quantization import activations, additions, layers, movement, reductions  # noqa: F401
from bench.passes.quantization.options import Options
from bench.passes.quantization.source import calibrate, float_main
from bench.passes.quantization.translation import Translation
from bench.passes.quantization.value import limits


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
    global_scale: float = 8.0,
    skip_layers: Sequence[str | int] = (),
    bits: int = 8,
    eight_bit_layers: Sequence[str | int] = (),
) -> tvm.IRModule:
    """Quantise `main` of a float module; the result takes and computes integers only.

    `calibration` are float inputs, any number of them (the first axis counts them), whose activations
    choose the scales.

    * `scheme`: "fixed" rescales by `bitexact.requantize`, a 31-bit multiplier and a shift; "pow2" has
      scales that are powers of two and rescales by add, shift, clip and astype, which is what VTA's ALU has.
    * `data_dtype`: "int8"; "uint8" for data that are never negative; or "mixed", uint8 for each tensor that
      is never negative and int8 for the others.
    * `rounding`: of "fixed" any of `bench.operators.ROUNDINGS`, of "pow2" half_up or floor.
    * `per_channel`: a weight scale for each output channel; by default so for "fixed", never for "pow2".
    * `output_dtype`: "int32" leaves the accumulators of the last layer, whose weight then has one scale, so
      that outputs can be compared; "int8" and "uint8" rescale them. By default int32 for "fixed" and int8
      for "pow2".
    * `data_scale`, `weight_scale`: "maximum" or "least_error" (`bench.passes.scales`); by default the
      maximum for "fixed" and the least error for "pow2". `data_scale` may be "global": all data then have
      the scale that reaches `global_scale`, whatever calibration says.
    * `skip_layers`: layers to leave out of the 8 bits, by name or by index in the order of execution,
      negative from the end. Their weights have up to 16 bits and their operands are int32, which no
      accelerator takes: such a layer stays on the host, in integers as everything else.
    * `bits`: 8, or 4 for int4 weights and int4 data (uint4 where `data_dtype` says uint8). The input has
      8 bits in any case, and is rescaled for a layer that takes 4.
    * `eight_bit_layers`: with 4 bits, layers that multiply 8 bits all the same, given as `skip_layers` are.

    The function's attributes record `scheme`, `rounding`, `input_scale`, `output_scale` and, in `scales`, the
    scale of every binding that is quantised data: the float tensor is about the scale times the integers.
    ValueError for an option that is not one of these, for a graph that is not one float function of one
    input, for an operator that is not quantised, and where a tensor that needs a sign would become uint8.
    """
    options = Options.check(
        scheme=scheme,
        data_dtype=data_dtype,
        rounding=rounding,
        per_channel=per_channel,
        output_dtype=output_dtype,
        data_scale=data_scale,
        weight_scale=weight_scale,
        global_scale=global_scale,
        skip_layers=skip_layers,
        bits=bits,
        eight_bit_layers=eight_bit_layers,
    )
    function = float_main(mod)
    return Translation(function, calibrate(function, calibration, values=options.needs_values), options).run()


def quantize_input(mod: tvm.IRModule, images: np.ndarray) -> np.ndarray:
    """Quantise float inputs for a module that `quantize` returned: nearest, ties to even, saturated."""
    function = mod["main"]
    if "input_scale" not in (function.attrs or {}):
        raise ValueError("main has no attribute 'input_scale': the module does not come from quantize")
    dtype = np.dtype(str(function.params[0].ty.dtype))
    low, high = limits(dtype.name)
    scaled = np.asarray(images, np.float64) / float(function.attrs["input_scale"])
    return np.clip(np.rint(scaled), low, high).astype(dtype)
