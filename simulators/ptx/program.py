"""A kernel made ready to run: shared memory laid out, every instruction a closure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import simulators.ptx.instructions  # noqa: F401  (fills the table of definitions)
from simulators.ptx.control_flow import ranks
from simulators.ptx.forms import Definition, Site, Step, find
from simulators.ptx.functions import inlined
from simulators.ptx.syntax import Instruction, Kernel, Symbol, Variable, Vector
from simulators.ptx.types import DTYPES

if TYPE_CHECKING:
    from simulators.ptx.group import Group

_CONTROL = {"bra", "brx", "ret", "exit"}


@dataclass(frozen=True)
class Program:
    """The steps of a kernel, the definition behind each, and the bytes of static shared memory it wants."""

    kernel: Kernel
    instructions: list[Instruction]
    steps: list[Step]
    definitions: list[Definition]
    shared_size: int
    local_size: int
    # Where each instruction stands in the order in which divided threads run (control_flow.py), and back.
    rank: list[int]
    at_rank: list[int]


def build(kernel: Kernel, outside: list[Variable], functions: dict[str, Kernel]) -> Program:
    """Decode a kernel. PtxSyntaxError or UnsupportedInstructionError name the line that cannot be run."""
    kernel = inlined(kernel, functions)
    symbols, sizes = _lay_out(kernel, outside)
    parameters = {p.name: p for p in kernel.parameters}
    # A kernel whose text runs out returns.
    instructions = [*kernel.instructions, Instruction(kernel.last_line, "ret", ())]
    steps: list[Step] = []
    definitions = []
    for pc, instruction in enumerate(instructions):
        definition, form = find(instruction)
        site = Site(instruction, pc, kernel.labels, symbols, parameters)
        step = definition.build(form, site)
        if instruction.guard is not None and definition.opcode not in _CONTROL:
            step = (
                _guarded_barrier(step, instruction, pc) if definition.holds else _guarded(step, instruction)
            )
        steps.append(step)
        definitions.append(definition)
    rank = ranks([_successors(i, pc, kernel.labels) for pc, i in enumerate(instructions)])
    at_rank = [pc for _, pc in sorted(zip(rank, range(len(rank)), strict=True))]
    return Program(kernel, instructions, steps, definitions, sizes["shared"], sizes["local"], rank, at_rank)


def _successors(instruction: Instruction, pc: int, labels: dict[str, int]) -> tuple[int, ...]:
    """Where an instruction may go on to; nowhere after the end of a thread."""
    opcode = instruction.parts[0]
    following = (pc + 1,) if opcode not in _CONTROL or instruction.guard is not None else ()
    if opcode not in ("bra", "brx"):
        return following
    named = [i for o in instruction.operands for i in (o.items if isinstance(o, Vector) else (o,))]
    return (*following, *(labels[o.name] for o in named if isinstance(o, Symbol)))


def _lay_out(kernel: Kernel, outside: list[Variable]) -> tuple[dict[str, tuple[str, int]], dict[str, int]]:
    """Space and address of shared and local variables, and the bytes of each space.

    In shared memory the static variables come in order, dynamic shared memory after them.
    """
    used = {o.name for i in kernel.instructions for o in _symbols(i)}
    variables = kernel.variables + [v for v in outside if v.space == "shared" and v.name in used]
    symbols: dict[str, tuple[str, int]] = {}
    sizes = {"shared": 0, "local": 0}
    for variable in sorted(variables, key=lambda v: v.size == 0):
        at = -(-sizes[variable.space] // variable.align) * variable.align
        symbols[variable.name] = (variable.space, at)
        sizes[variable.space] = at + variable.size
    return symbols, sizes


def _symbols(instruction: Instruction) -> list[Symbol]:
    found = []
    for operand in instruction.operands:
        base = getattr(operand, "base", operand)
        if isinstance(base, Symbol):
            found.append(base)
    return found


def _guarded(step: Step, instruction: Instruction) -> Step:
    """`@p`: the instruction runs only in the active threads whose predicate holds."""
    assert instruction.guard is not None
    slot, negated = instruction.guard.slot, instruction.guard_negated

    def guarded(group: "Group") -> int | None:
        holds = group.registers[slot]
        if negated:
            holds = ~holds
        outer = group.mask
        mask = holds if outer is None else holds & outer
        if mask.all():
            return step(group)
        if not mask.any():
            return None
        group.mask = mask
        try:
            return step(group)
        finally:
            group.mask = outer

    return guarded


def _guarded_barrier(step: Step, instruction: Instruction, pc: int) -> Step:
    """`@p` before a barrier: the other threads do not arrive, and go on."""
    assert instruction.guard is not None
    slot, negated = instruction.guard.slot, instruction.guard_negated

    def guarded(group: "Group") -> int | None:
        holds = group.registers[slot]
        holds = ~holds if negated else holds
        mask = holds if group.mask is None else holds & group.mask
        if not mask.any():
            return None
        if np.array_equal(np.broadcast_to(mask, group.shape), group.everybody()):
            return step(group)
        group.split(holds, pc, pc + 1)
        group.mask = np.broadcast_to(mask, group.shape)
        return step(group)

    return guarded


def parameter_bytes(kernel: Kernel, values: list[int | float | bytes]) -> dict[str, np.ndarray]:
    """Each parameter as bytes."""
    return {
        p.name: np.frombuffer(v if isinstance(v, bytes) else np.array(v, DTYPES[p.type]).tobytes(), np.uint8)
        for p, v in zip(kernel.parameters, values, strict=True)
    }
