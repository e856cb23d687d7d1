"""What VTA's ALU computes behind a layer."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.passes.held import is_clipped_to
from bench.passes.lift_kernels import own_chain, readers_of
from bench.passes.vta.constants import is_per_channel

ALU_OPERATORS = frozenset(
    {
        "relax.add",
        "relax.clip",
        "relax.left_shift",
        "relax.maximum",
        "relax.minimum",
        "relax.multiply",
        "relax.nn.relu",
        "relax.right_shift",
        "relax.subtract",
    }
)
COMMUTATIVE = ("relax.add", "relax.maximum", "relax.minimum", "relax.multiply")
IMMEDIATE = range(-(2**15), 2**15)
"""What fits the immediate of an ALU instruction."""


def alu_chain(
    bindings: Sequence[relax.VarBinding], start: int, taken: Container[relax.Var]
) -> Sequence[relax.VarBinding]:
    """What VTA's ALU computes behind a layer of a packed graph, up to a cast to int8, which its STORE does.

    It is an :data:`bench.passes.lift_kernels.Absorb`. A residual addition belongs to it where the result so
    far was clipped to int8, so that no STORE need cut it, and where the other side is an int8 tensor, widened
    and perhaps shifted left: two layers that meet there are computed one after the other, and the first takes
    the addition.
    """
    absorbed = alu_chain_alone(bindings, start, taken)
    if not absorbed:
        return ()
    behind = own_chain(bindings, start, taken)[len(absorbed) :]
    return [*absorbed, *_residual(_Graph(bindings, taken), behind, absorbed[-1])]


def alu_chain_alone(
    bindings: Sequence[relax.VarBinding], start: int, taken: Container[relax.Var]
) -> Sequence[relax.VarBinding]:
    """As `alu_chain`, but without residual additions: what a kernel has that cannot hold another tensor."""
    absorbed: list[relax.VarBinding] = []
    for member in own_chain(bindings, start, taken):
        if not _is_step(member) and not _is_store(member):
            break
        absorbed.append(member)
        if _is_store(member):
            return absorbed
    return ()


def _residual(
    graph: _Graph, chain: Sequence[relax.VarBinding], stored: relax.VarBinding
) -> Sequence[relax.VarBinding]:
    """What follows a result of int8 up to the next one, with the other sides of its additions; or nothing."""
    clipped = graph.producers.get(stored.value.args[0])
    if not chain or not clipped or not is_clipped_to(clipped.value, "int8") or not is_widening(chain[0]):
        return ()
    steps = _up_to_store(graph, chain[1:], chain[0])
    return [chain[0], *steps] if steps else ()


def steps_behind(
    bindings: Sequence[relax.VarBinding],
    last: relax.VarBinding,
    chain: Sequence[relax.VarBinding],
    taken: Container[relax.Var],
) -> Sequence[relax.VarBinding]:
    """What the ALU computes of the int32 tensor ``last``, which ``chain`` follows, up to a cast to int8.

    Additions of an int8 tensor are among it, with the bindings that widen it. Nothing where there is no cast.
    """
    return _up_to_store(_Graph(bindings, taken), chain, last)


def _up_to_store(
    graph: _Graph, chain: Sequence[relax.VarBinding], last: relax.VarBinding
) -> Sequence[relax.VarBinding]:
    members: list[relax.VarBinding] = []
    sources: list[relax.Var] = []
    for member in chain:
        if _is_store(member):
            return [*members, member]
        side = graph.side(member, last)
        if not side and not (_is_step(member) and _has_place(member)):
            return ()
        # A tensor has one place in a program, and one shift.
        if side and side[0].value.args[0] in sources:
            return ()
        sources += [each.value.args[0] for each in side[:1]]
        members += [*side, member]
        last = member
    return ()


def _has_place(step: relax.VarBinding) -> bool:
    """Whether the constants of a step on packed tensors are one number or one value a channel."""
    shape = tuple(int(extent) for extent in step.var.ty.shape)
    channels = (shape[1], *(1,) * (len(shape) - 4), *shape[-2:])
    return all(constant.size == 1 or constant.shape == channels for constant in _constants(step.value))


class _Graph:
    """Who produces and who reads the tensors of a function, but for what another kernel computes."""

    def __init__(self, bindings: Sequence[relax.VarBinding], taken: Container[relax.Var]) -> None:
        self.producers = {each.var: each for each in bindings if each.var not in taken}
        self._readers = readers_of(bindings)

    def side(self, call: relax.VarBinding, chain: relax.VarBinding) -> Sequence[relax.VarBinding]:
        """The bindings that widen and shift the int8 tensor with which a call combines the chain; or none."""
        tensors = [argument for argument in call.value.args if isinstance(argument, relax.Var)]
        others = [tensor for tensor in tensors if not tensor.same_as(chain.var)]
        if _operator(call) not in COMMUTATIVE or len(tensors) != 2 or len(others) != 1:
            return ()
        found: list[relax.VarBinding] = []
        variable = others[0]
        while True:
            binding = self.producers.get(variable)
            if (
                binding is None
                or len(self._readers[variable]) != 1
                or not isinstance(binding.value, relax.Call)
            ):
                return ()
            found.insert(0, binding)
            if is_widening(binding):
                return found
            if len(found) > 1 or left_shift_of(binding.value) is None:
                return ()
            variable = binding.value.args[0]


def left_shift_of(call: relax.Call) -> int | None:
    """How far a product by a power of two shifts to the left; None for any other call."""
    if call.op.name != "relax.multiply" or not isinstance(call.args[1], GenericConst):
        return None
    factor = call.args[1].value.numpy()
    if factor.size != 1 or factor.item() < 1 or factor.item() & (factor.item() - 1):
        return None
    return int(factor.item()).bit_length() - 1


def is_widening(binding: relax.VarBinding) -> bool:
    """Whether a binding casts int8 to int32."""
    if _operator(binding) != "relax.astype":
        return False
    return (str(binding.value.args[0].ty.dtype), str(binding.var.ty.dtype)) == ("int8", "int32")


def why_no_alu_chain(chain: Sequence[relax.VarBinding], axes: str) -> str | None:
    """Why VTA cannot finish a layer that this chain follows, in the integer graph; None where it can.

    ``axes`` are those of the layer's result.
    """
    for binding in chain:
        operator = _operator(binding)
        if _is_store(binding):
            return None
        if not _is_step(binding):
            return f"{operator} follows, which VTA's ALU does not compute; VTA can store int8 only"
        shape = tuple(int(extent) for extent in binding.var.ty.shape)
        for constant in _constants(binding.value):
            if constant.size > 1 and not is_per_channel(constant, shape, axes):
                return (
                    f"{operator} has a constant of shape {constant.shape}; "
                    "VTA's ALU takes one value, or one for each channel"
                )
    return "its int32 result is used; VTA can store int8 only"


def _operator(binding: relax.VarBinding) -> str:
    operator = binding.value.op
    return str(operator.name if isinstance(operator, tvm.ir.Op) else operator)


def _is_store(binding: relax.VarBinding) -> bool:
    return _operator(binding) == "relax.astype" and str(binding.var.ty.dtype) == "int8"


def _is_step(binding: relax.VarBinding) -> bool:
    """Whether a binding is one of the ALU's operators on one tensor of the graph and constants."""
    name, arguments = _operator(binding), binding.value.args
    tensors = [argument for argument in arguments if isinstance(argument, relax.Var)]
    return (
        name in ALU_OPERATORS
        and str(binding.var.ty.dtype) == "int32"
        and len(tensors) == 1
        and (name in COMMUTATIVE or isinstance(arguments[0], relax.Var))
    )


def _constants(call: relax.Call) -> list[np.ndarray]:
    return [argument.value.numpy() for argument in call.args if isinstance(argument, GenericConst)]
