"""What follows the accumulation of a layer: ALU steps, in order, on the int32 accumulators.

A step is (operation, operand). Operations are those of VTA's ALU: add, mul, min, max, shr. The operand is
an immediate of 16 bits, or the name of a tensor with one int32 a channel, shape (O/c, 1, 1, b, c)
for a convolution and (O/c, b, c) for a dense layer, which
becomes an argument of the layer under that name. The result's low 8 bits are stored.
"""

from collections.abc import Sequence
from typing import NamedTuple

from simulators.vta.isa import AluOpcode

OPERATIONS = ("add", "mul", "min", "max", "shr")
RESERVED = ("data", "weight", "uop", "out")


class Step(NamedTuple):
    """One ALU step: an immediate, or else the name of a per-channel tensor."""

    opcode: AluOpcode
    immediate: int | None
    tensor: str | None


def steps_of(epilogue: Sequence[tuple[str, int | str]]) -> tuple[Step, ...]:
    """Read an epilogue; ValueError names the step that VTA has not, and what would be valid."""
    return tuple(_step(index, each) for index, each in enumerate(epilogue))


def tensors_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the names of the per-channel tensors in the order of their first use."""
    return tuple(dict.fromkeys(each.tensor for each in steps if each.tensor is not None))


def _step(index: int, step: tuple[str, int | str]) -> Step:
    where = f"epilogue step {index} {step!r}"
    if not isinstance(step, tuple) or len(step) != 2 or step[0] not in OPERATIONS:
        raise ValueError(f"{where} is not (operation, operand) with an operation of {', '.join(OPERATIONS)}")
    operation, operand = step
    opcode = AluOpcode[operation.upper()]
    if isinstance(operand, str):
        if operation == "shr":
            raise ValueError(f"{where}: shr takes an immediate from 0 to 31")
        if operand in RESERVED or not operand.isidentifier():
            raise ValueError(
                f"{where}: {operand!r} cannot name a tensor; it is an identifier, not {RESERVED}"
            )
        return Step(opcode, None, operand)
    low, high = (0, 31) if operation == "shr" else (-(2**15), 2**15 - 1)
    if isinstance(operand, bool) or not isinstance(operand, int) or not low <= operand <= high:
        raise ValueError(f"{where}: an immediate of {operation} is a number from {low} to {high}")
    return Step(opcode, operand, None)
