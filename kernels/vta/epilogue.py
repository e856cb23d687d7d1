"""What follows the accumulation of a layer: ALU steps, in order, on the int32 accumulators.

A step is (operation, operand). Operations are those of VTA's ALU: add, mul, min, max, shr. The operand is
an immediate of 16 bits; or the name of a tensor with one int32 a channel, shape (O/c, 1, 1, b, c) for a layer
of images and (O/c, b, c) for a dense one; or a `Residual`, an int8 tensor of the result's shape. A tensor
becomes an argument of the layer under its name. The result's low 8 bits are stored.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from simulators.vta.isa import AluOpcode

OPERATIONS = ("add", "mul", "min", "max", "shr")
RESERVED = ("data", "weight", "uop", "out", "acc", "padded")


class Residual(NamedTuple):
    """An int8 tensor of the result's shape, widened and shifted left: a sum needs both at one scale."""

    name: str
    shift: int = 0


Operand: TypeAlias = int | str | Residual
Epilogue: TypeAlias = Sequence[tuple[str, Operand]]


class Step(NamedTuple):
    """One ALU step: an immediate, or else the name of a per-channel tensor, or else a residual."""

    opcode: AluOpcode
    immediate: int | None = None
    tensor: str | None = None
    residual: Residual | None = None


class Extra(NamedTuple):
    """An epilogue's number of tensors, of residuals, and of ALU operations on each accumulator."""

    tensors: int = 0
    residuals: int = 0
    operations: int = 0

    @classmethod
    def of(cls, epilogue: Epilogue) -> "Extra":
        """Count an epilogue's operands."""
        steps = steps_of(epilogue)
        residuals = residuals_of(steps)
        shifts = sum(each.shift > 0 for each in residuals)
        return cls(len(tensors_of(steps)), len(residuals), len(steps) + shifts)


def steps_of(epilogue: Epilogue) -> tuple[Step, ...]:
    """Read an epilogue; ValueError names the step that VTA has not, and what would be valid."""
    steps = tuple(_step(index, each) for index, each in enumerate(epilogue))
    twice = set(tensors_of(steps)) & {each.name for each in residuals_of(steps)}
    if twice or len({each.name for each in residuals_of(steps)}) != len(residuals_of(steps)):
        raise ValueError(f"a name stands for two operands of the epilogue {list(epilogue)}")
    return steps


def tensors_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the names of the per-channel tensors in the order of their first use."""
    return tuple(dict.fromkeys(each.tensor for each in steps if each.tensor is not None))


def residuals_of(steps: Sequence[Step]) -> tuple[Residual, ...]:
    """Return the residuals in the order of their first use."""
    return tuple(dict.fromkeys(each.residual for each in steps if each.residual is not None))


def _step(index: int, step: tuple[str, Operand]) -> Step:
    where = f"epilogue step {index} {step!r}"
    if not isinstance(step, tuple) or len(step) != 2 or step[0] not in OPERATIONS:
        raise ValueError(f"{where} is not (operation, operand) with an operation of {', '.join(OPERATIONS)}")
    operation, operand = step
    opcode = AluOpcode[operation.upper()]
    if isinstance(operand, Residual) and not 0 <= operand.shift < 24:
        raise ValueError(f"{where}: a residual of int8 is shifted by 0 to 23")
    if isinstance(operand, str | Residual):
        name = operand if isinstance(operand, str) else operand.name
        if operation == "shr":
            raise ValueError(f"{where}: shr takes an immediate from 0 to 31")
        if name in RESERVED or not name.isidentifier():
            raise ValueError(f"{where}: {name!r} cannot name a tensor; it is an identifier, not {RESERVED}")
        if isinstance(operand, Residual):
            return Step(opcode, residual=operand)
        return Step(opcode, tensor=operand)
    low, high = (0, 31) if operation == "shr" else (-(2**15), 2**15 - 1)
    if isinstance(operand, bool) or not isinstance(operand, int) or not low <= operand <= high:
        raise ValueError(f"{where}: an immediate of {operation} is a number from {low} to {high}")
    return Step(opcode, immediate=operand)
