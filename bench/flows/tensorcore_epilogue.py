"""Which operators behind a tensor-core layer its kernel computes as well, and as which steps.

A kernel finishes its sums in registers: bias, residual, ReLU, requantisation, clip, and packing to words of
4-bit values (:mod:`kernels.tensorcore.epilogue`). What it cannot do ends the chain, and runs on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.flows.kernel import PackedKernel
from bench.int4 import HELD
from bench.passes.lift_kernels import own_chain
from kernels.tensorcore.epilogue import Bias, Clip, Epilogue, Relu, Requantize, Residual, Step

PACK = "bitexact.pack_int4"
_PACKED_FROM = {held: dtype for dtype, held in HELD.items()}


def epilogue_chain(
    bindings: Sequence[relax.VarBinding], start: int, taken: Container[relax.Var]
) -> Sequence[relax.VarBinding]:
    """The part of a chain that the kernel before it computes: a :data:`bench.passes.lift_kernels.Absorb`."""
    chain = own_chain(bindings, start, taken)
    for index, binding in enumerate(chain):
        if binding.value.op.name == PACK:
            return chain[: index + 1]
        if _step(binding.value) is None:
            return chain[:index]
    return chain


def epilogue_of(kernel: PackedKernel) -> Epilogue:
    """The steps of a kernel behind its tensor operator; ValueError for an operand that it has twice."""
    steps: list[Step] = []
    out_dtype = "int32"
    for call in kernel.epilogue:
        if call.op.name == PACK:
            out_dtype = _PACKED_FROM[out_dtype]
            continue
        step = _step(call)
        assert step is not None
        steps.append(step)
        out_dtype = str(call.ty.dtype)
    epilogue = Epilogue(tuple(steps), out_dtype)
    operands = epilogue.placeholders(_shape(kernel.operator))
    if len(operands) != len(kernel.parameters) - 2:
        raise ValueError("an operand of its epilogue is there twice")
    return epilogue


def _step(call: relax.Call) -> Step | None:
    """The step that computes a call; None where there is none."""
    if not isinstance(call.op, tvm.ir.Op) or call.op.name not in _STEPS:
        return None
    return _STEPS[call.op.name](call)


def _add(call: relax.Call) -> Step | None:
    if str(call.ty.dtype) != "int32":
        return None
    if any(_is_per_channel(argument, call) for argument in call.args):
        return Bias()
    return Residual() if all(_shape(argument) == _shape(call) for argument in call.args) else None


def _clip(call: relax.Call) -> Step:
    low, high = (int(bound.value) for bound in call.args[1:])
    return Clip(low, high)


def _requantize(call: relax.Call) -> Step | None:
    attributes = attributes_of(call)
    if attributes["rounding"] != "half_up":
        return None
    factors = call.args[1:]
    common = {"zero_point": attributes["zero_point"], "to": attributes["out_dtype"]}
    if all(_is_per_channel(factor, call) for factor in factors):
        return Requantize(**common)
    if all(isinstance(factor, GenericConst) and factor.value.numpy().size == 1 for factor in factors):
        multiplier, shift = (int(factor.value.numpy().reshape(())) for factor in factors)
        return Requantize(multiplier, shift, **common)
    return None


_STEPS: dict[str, Callable[[relax.Call], Step | None]] = {
    "bitexact.requantize": _requantize,
    "relax.add": _add,
    "relax.clip": _clip,
    "relax.nn.relu": lambda _: Relu(),
}


def _is_per_channel(operand: relax.Expr, call: relax.Call) -> bool:
    """Whether an operand has one value for each channel, of more than one: the last axis of the result."""
    shape = _shape(call)
    return shape[-1] > 1 and _shape(operand) == (*[1] * (len(shape) - 1), shape[-1])


def _shape(expression: relax.Expr) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expression.ty.shape)
