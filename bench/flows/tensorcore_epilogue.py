"""Which operators behind a tensor-core layer its kernel computes as well, and as which steps.

A kernel finishes its sums in registers: bias, residual, ReLU, requantisation, clip, and packing to words of
4-bit values (:mod:`kernels.tensorcore.epilogue`). What it cannot do ends the chain, and runs on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.evaluate.graph import attributes_of
from bench.flows.kernel import PackedKernel
from bench.int4 import HELD
from bench.passes.lift_kernels import Readers, bindings_of, own_chain, readers_of
from kernels.tensorcore.epilogue import Bias, Clip, Epilogue, Relu, Requantize, Residual, Step

PACK = "bitexact.pack_int4"
UNPACK = "bitexact.unpack_int4"
_PACKED_FROM = {held: dtype for dtype, held in HELD.items()}

# What may stand between a tensor as it is stored and its addition, in the order in which it is computed.
_CONVERSIONS = (UNPACK, "relax.astype", "bitexact.requantize")


def epilogue_chain(
    bindings: Sequence[relax.VarBinding], start: int, taken: Container[relax.Var]
) -> Sequence[relax.VarBinding]:
    """The part of a chain that the kernel before it computes: a :data:`bench.passes.lift_kernels.Absorb`.

    Where it adds a tensor of 8 or 4 bits, what unpacks, widens and rescales that for the addition alone
    belongs to the kernel too.
    """
    readers = readers_of(bindings)
    producers = {binding.var: binding for binding in bindings}
    members: list[relax.VarBinding] = []
    last = bindings[start].var
    for binding in own_chain(bindings, start, taken, readers=readers):
        if binding.value.op.name == PACK:
            return [*members, binding]
        if _step(binding.value) is None:
            return members
        if binding.value.op.name == "relax.add":
            members += _conversions(_other(binding.value, last), producers, readers, taken)
        members.append(binding)
        last = binding.var
    return members


def epilogue_of(kernel: PackedKernel) -> Epilogue:
    """The steps of a kernel behind its tensor operator; ValueError for an operand that it has twice."""
    steps: list[Step] = []
    out_dtype = "int32"
    converted: dict[relax.Var, Residual] = {}
    first, *others = (each for each in bindings_of(kernel.function) if isinstance(each.value, relax.Call))
    last = first.var
    for binding in others:
        call = binding.value
        if not any(last.same_as(argument) for argument in call.args):
            converted[binding.var] = _converted(call, converted)
            continue
        last = binding.var
        if call.op.name == PACK:
            out_dtype = _PACKED_FROM[out_dtype]
            continue
        residual = next((converted[each] for each in call.args if each in converted), None)
        step = residual or _step(call)
        assert step is not None
        steps.append(step)
        out_dtype = str(call.ty.dtype)
    epilogue = Epilogue(tuple(steps), out_dtype)
    operands = epilogue.placeholders(_shape(kernel.operator))
    if len(operands) != len(kernel.parameters) - 2:
        raise ValueError("an operand of its epilogue is there twice")
    return epilogue


def _other(add: relax.Call, one: relax.Var) -> relax.Expr:
    """What is added to one of the two terms of a sum."""
    left, right = add.args
    return right if one.same_as(left) else left


def _conversions(
    term: relax.Expr,
    producers: Mapping[relax.Var, relax.VarBinding],
    readers: Readers,
    taken: Container[relax.Var],
) -> list[relax.VarBinding]:
    """What makes a term of a sum of a tensor of 8 or 4 bits, and serves nothing else; nothing of others."""
    found: list[relax.VarBinding] = []
    allowed = len(_CONVERSIONS)
    while term in producers and term not in taken and len(readers[term]) == 1:
        binding = producers[term]
        position = _conversion(binding.value)
        if position is None or position >= allowed or not isinstance(term, relax.DataflowVar):
            break
        found.insert(0, binding)
        allowed = position
        term = binding.value.args[0]
    # A term that is rescaled and never was narrow is rescaled by the kernel that it comes from.
    return found if any(each.value.op.name == "relax.astype" for each in found) else []


def _conversion(value: relax.Expr) -> int | None:
    """Which of the conversions an expression is, where a kernel has it."""
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return None
    name = value.op.name
    if name == UNPACK:
        return _CONVERSIONS.index(name)
    if str(value.ty.dtype) != "int32":
        return None
    if name == "relax.astype" and str(value.args[0].ty.dtype) in _PACKED_FROM:
        return _CONVERSIONS.index(name)
    return _CONVERSIONS.index(name) if name == "bitexact.requantize" and _requantize(value) else None


def _converted(call: relax.Call, known: Mapping[relax.Var, Residual]) -> Residual:
    """The residual that a conversion gives, of a parameter or of one that was converted before."""
    source = call.args[0]
    if call.op.name == UNPACK:
        return Residual(str(call.attrs["dtype"]))
    residual = known.get(source) or Residual(str(source.ty.dtype))
    return residual if call.op.name == "relax.astype" else replace(residual, requantize=_requantize(call))


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


def _requantize(call: relax.Call) -> Requantize | None:
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
