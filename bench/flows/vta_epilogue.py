"""What follows the tensor operator of a VTA kernel, as steps of the ALU."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir import GenericConst

from bench.flows.kernel import PackedKernel
from bench.passes.lift_kernels import bindings_of
from bench.passes.vta.alu import left_shift_of
from kernels.vta import Residual

Step = tuple[str, int | str | Residual]

_OPERATIONS = {
    "relax.add": "add",
    "relax.maximum": "max",
    "relax.minimum": "min",
    "relax.multiply": "mul",
    "relax.right_shift": "shr",
}


def epilogue_of(kernel: PackedKernel) -> list[Step]:
    """The operators behind a kernel's tensor operator as ALU steps, in order (kernels.vta.epilogue).

    An int8 parameter that is widened, and perhaps shifted left, is a residual. Raises ValueError for an
    operand that VTA's ALU cannot have.
    """
    return steps_of(kernel.function, bindings_of(kernel.function)[1:])


def steps_of(function: relax.Function, bindings: Sequence[relax.VarBinding]) -> list[Step]:
    """Some bindings of a kernel's function as ALU steps, with the errors of `epilogue_of`."""
    operands: dict[relax.Var, str | Residual] = {each: each.name for each in function.params}
    steps: list[Step] = []
    for binding in bindings:
        call = binding.value
        if not isinstance(call, relax.Call):
            continue
        first = operands.get(call.args[0])
        if call.op.name == "relax.astype":
            # Of the accumulators it is what STORE does, or of a result clipped to int8 nothing.
            if isinstance(first, str):
                operands[binding.var] = Residual(first)
        elif isinstance(first, Residual) and (shift := left_shift_of(call)) is not None:
            operands[binding.var] = first._replace(shift=first.shift + shift)
        else:
            steps.extend(_steps(call, operands))
    return steps


def _steps(call: relax.Call, operands: dict[relax.Var, str | Residual]) -> list[Step]:
    name = call.op.name
    if name == "relax.nn.relu":
        return [("max", 0)]
    if name == "relax.clip":
        low, high = (int(bound.value) for bound in call.args[1:])
        return [("min", high), ("max", low)]
    # A residual may be the first operand of the two.
    operand = call.args[0] if call.args[0] in operands else call.args[1]
    return [(_OPERATIONS[name], _operand(operand, operands))]


def _operand(operand: relax.Expr, operands: dict[relax.Var, str | Residual]) -> int | str | Residual:
    if isinstance(operand, GenericConst):
        return int(operand.value.numpy().reshape(()))
    if operand not in operands:
        raise ValueError(f"VTA's ALU takes a number, one value a channel or an int8 tensor, not {operand}")
    return operands[operand]
