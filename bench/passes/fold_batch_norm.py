"""Batch normalisation becomes part of the convolution before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.passes.lift_kernels import bindings_of, following_chain, substitute
from bench.passes.packing import function_attributes

# Axis of the output channels in the weight.
_CHANNELS = {"relax.nn.conv2d": 0, "relax.nn.conv2d_transpose": 1}


def fold_batch_norm(mod: tvm.IRModule) -> tvm.IRModule:
    """Fold each inference batch normalisation of ``main`` into the convolution before it.

    conv(x, w) + b, normalised by mean, variance, gamma and beta, is conv(x, w·f) + (b - mean)·f + beta with
    f = gamma / sqrt(variance + epsilon): a scaled weight and one addition, computed in float64 and rounded
    once. A bias may stand in between. What does not follow a convolution alone (another reader of its result,
    a weight that is no constant, a grouped transposed convolution) is left as it is.
    """
    main = mod["main"]
    bindings = bindings_of(main)
    folds: dict[relax.Var, _Fold] = {}
    inside: set[relax.Var] = set()
    for start, binding in enumerate(bindings):
        fold = _fold(binding, following_chain(bindings, start), bindings)
        if fold:
            folds[fold.result] = fold
            inside.update((binding.var, *fold.passed))
    new: dict[relax.Var, relax.Expr] = {each: each for each in main.params}
    builder = relax.BlockBuilder()
    with builder.function("main", list(main.params), attrs=function_attributes(main)):
        with builder.dataflow():
            for binding in bindings:
                if binding.var in folds:
                    new[binding.var] = folds[binding.var].emit(builder, new)
                elif binding.var not in inside:
                    new[binding.var] = builder.emit(substitute(binding.value, new), binding.var.name)
            output = builder.emit_output(substitute(main.body.body, new))
        builder.emit_func_output(output)
    return builder.finalize()


@dataclass(frozen=True)
class _Fold:
    """One convolution with its bias and normalisation; ``result`` is the binding of the normalised tensor."""

    convolution: relax.VarBinding
    weight: np.ndarray
    bias: np.ndarray
    passed: tuple[relax.Var, ...]
    result: relax.Var

    def emit(self, builder: relax.BlockBuilder, new: dict[relax.Var, relax.Expr]) -> relax.Var:
        """Emit the convolution by the scaled weight, and the addition."""
        call = self.convolution.value
        arguments = [substitute(call.args[0], new), relax.const(self.weight)]
        scaled = relax.Call(call.op, arguments, call.attrs, call.ty_args)
        convolution = builder.emit(scaled, self.convolution.var.name)
        return builder.emit(relax.op.add(convolution, relax.const(self.bias)), self.result.name)


def _fold(
    convolution: relax.VarBinding, chain: list[relax.VarBinding], bindings: list[relax.VarBinding]
) -> _Fold | None:
    """The fold of the normalisation that follows a convolution, or a convolution and its bias."""
    call = convolution.value
    if not isinstance(call, relax.Call) or getattr(call.op, "name", None) not in _CHANNELS:
        return None
    weight = call.args[1]
    transposed = call.op.name == "relax.nn.conv2d_transpose"
    if not isinstance(weight, GenericConst) or (transposed and int(call.attrs.groups) != 1):
        return None
    bias = np.zeros((1, 1, 1, 1))
    passed: list[relax.Var] = []
    for binding in chain:
        value = binding.value
        if isinstance(value, relax.Call) and value.op.name == "relax.nn.batch_norm":
            result = _normalised_tensor(binding.var, bindings)
            factors = _factors(value)
            if result is None or factors is None:
                return None
            scale, offset = factors
            passed.append(binding.var)
            shape = [1] * 4
            shape[_CHANNELS[call.op.name]] = -1
            scaled = (weight.value.numpy() * scale.reshape(shape)).astype(np.float32)
            total = (bias * scale.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1)).astype(np.float32)
            return _Fold(convolution, scaled, total, tuple(passed), result)
        addend = _addend(value)
        if addend is None:
            return None
        bias = bias + addend
        passed.append(binding.var)
    return None


def _addend(value: relax.Expr) -> np.ndarray | None:
    """The constant that a call adds to each channel, (1, C, 1, 1); None where it does something else."""
    if not isinstance(value, relax.Call) or value.op.name != "relax.add":
        return None
    constants = [argument.value.numpy() for argument in value.args if isinstance(argument, GenericConst)]
    if len(constants) != 1 or constants[0].ndim > 4:
        return None
    addend = constants[0].reshape((1,) * (4 - constants[0].ndim) + constants[0].shape).astype(np.float64)
    return addend if addend.size == addend.shape[1] else None


def _normalised_tensor(batch_norm: relax.Var, bindings: list[relax.VarBinding]) -> relax.Var | None:
    """The binding of the normalised tensor, element 0 of the result, where no other element is read."""
    items = [each for each in bindings if isinstance(each.value, relax.TupleGetItem)]
    readers = [each for each in items if each.value.tuple_value.same_as(batch_norm)]
    return readers[0].var if len(readers) == 1 and readers[0].value.index == 0 else None


def _factors(call: relax.Call) -> tuple[np.ndarray, np.ndarray] | None:
    """What a normalisation multiplies by and then adds, one a channel, in float64."""
    arguments = call.args[1:]
    if int(call.attrs.axis) != 1 or not all(isinstance(argument, GenericConst) for argument in arguments):
        return None
    gamma, beta, mean, variance = (argument.value.numpy().astype(np.float64) for argument in arguments)
    scale = (gamma if bool(call.attrs.scale) else 1.0) / np.sqrt(variance + float(call.attrs.epsilon))
    return scale, (beta if bool(call.attrs.center) else 0.0) - mean * scale
