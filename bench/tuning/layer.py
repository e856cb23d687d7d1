"""What is tuned: one kernel, by its description, with operands and the result that it must have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm_ffi import structural_equal

from bench.artifact import TensorSpec
from bench.evaluate import evaluate
from bench.flows.kernel import PackedKernel, packed_kernel, packed_kernels
from bench.flows.tensorcore import TensorCoreFlow, primfunc
from bench.flows.transformed import Transformed
from bench.operators.convolution import conv2d
from bench.passes.legal_shapes import LEGAL
from bench.passes.lift_kernels import bindings_of
from bench.verification.inputs import draw
from kernels.tensorcore.operands import PER_WORD, is_packed


@dataclass(frozen=True)
class TunedLayer:
    """One kernel: its name, its function before scheduling, operands by parameter, and the right result.

    The result is that of plain NumPy operators, through no model of an instruction.
    """

    name: str
    function: tvm.tirx.PrimFunc
    operands: tuple[np.ndarray, ...]
    expected: np.ndarray


def layers_of(transformed: Transformed, *, seed: int = 0) -> list[TunedLayer]:
    """The kernels of a transformed graph, each once.

    Data and weight are drawn from ``seed`` over the full range; the operands of an epilogue are the graph's
    own where it has constants.
    """
    calls: dict[str, relax.Call] = {}
    for binding in bindings_of(transformed.mod["main"]):
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, relax.GlobalVar):
            calls.setdefault(binding.value.op.name_hint, binding.value)
    layers: list[TunedLayer] = []
    for kernel in packed_kernels(transformed):
        function = primfunc(kernel)
        if not any(structural_equal(function, layer.function) for layer in layers):
            layers.append(_layer(kernel, function, calls[kernel.name].args, seed))
    return layers


def network_layers(module: tvm.IRModule, *, seed: int = 0) -> list[TunedLayer]:
    """The kernels that the target ``tensorcore`` makes of an integer graph."""
    return layers_of(TensorCoreFlow(tuning="").transform(module), seed=seed)


def convolution_layer(  # noqa: PLR0917 - the order in which a convolution is written at the prompt
    batch: int,
    channels: int,
    size: int,
    out_channels: int,
    kernel: int,
    stride: int,
    padding: int,
    *,
    dtype: str,
    seed: int = 0,
) -> TunedLayer:
    """A single convolution of square images without an epilogue, int8 or int4.

    Raises ValueError for sizes that no kernel has: the message of the kernel's generator.
    """
    if (dtype, dtype) not in LEGAL:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(dict.fromkeys(of for of, _ in LEGAL))}")
    legal = LEGAL[dtype, dtype]
    for what, value, multiple in (
        ("N", batch, legal.batch),
        ("IC", channels, legal.inputs),
        ("OC", out_channels, legal.outputs),
    ):
        if value < 1 or value % multiple:
            raise ValueError(
                f"{what} = {value} is not a positive multiple of {multiple}, as {dtype} requires"
            )
    if kernel < 1 or stride < 1 or padding < 0:
        raise ValueError(f"kernel {kernel}, stride {stride}, padding {padding}: at least 1, 1, 0 are needed")
    if size + 2 * padding < kernel:
        raise ValueError(f"a kernel of {kernel} is larger than the padded image of {size + 2 * padding}")
    packing = PER_WORD if is_packed(dtype) else 1
    stored = "int32" if packing > 1 else dtype
    o, i = legal.outputs, legal.inputs
    data = relax.Var("data", relax.TensorType((size, size, batch, channels // packing), stored))
    weight = relax.Var(
        "weight",
        relax.TensorType((kernel, kernel, out_channels // o, channels // i, o, i // packing), stored),
    )
    words = {"data_dtype": dtype, "weight_dtype": dtype} if packing > 1 else {}
    call = conv2d(
        data,
        weight,
        data_layout="HWNC",
        kernel_layout=legal.kernel_layout,
        strides=(stride, stride),
        padding=(padding,) * 4,
        **words,  # type: ignore[arg-type]
    )
    builder = relax.BlockBuilder()
    with builder.function("layer", [data, weight]):
        builder.emit_func_output(builder.emit(call))
    function = builder.get()["layer"]
    name = f"{dtype} {batch},{channels},{size},{out_channels},{kernel},{stride},{padding}"
    packed = packed_kernel("layer", function)
    layer = _layer(packed, primfunc(packed), [data, weight], seed)
    return TunedLayer(name, layer.function, layer.operands, layer.expected)


def _layer(
    kernel: PackedKernel, function: tvm.tirx.PrimFunc, arguments: Sequence[relax.Expr], seed: int
) -> TunedLayer:
    generator = np.random.default_rng(seed)
    operands = []
    for index, (argument, parameter) in enumerate(zip(arguments, kernel.parameters, strict=True)):
        if isinstance(argument, GenericConst) and index > 1:
            operands.append(argument.value.numpy())
        else:
            operands.append(draw(TensorSpec(str(index), parameter.shape, parameter.dtype), generator))
    expected = evaluate(kernel.function, operands)
    return TunedLayer(kernel.name, function, tuple(operands), expected)
