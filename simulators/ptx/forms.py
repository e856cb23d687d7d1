"""How an instruction is declared: its dotted form, the section it comes from, and what it does.

Two decorators make the table that the machine runs by and that docs/ptx.md shows. `computes` declares a
pure function of arrays: operands in, result out. `executes` declares anything else: it gets the `Site` and
returns the step that the machine will run.

A form is written as in the manual, `<name>` for a choice and `<name?>` for one that may be left out:
`"mul.<half>.<type>"` with `half="lo hi"`.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.errors import PtxSyntaxError, UnsupportedInstructionError
from simulators.ptx.special import SPECIAL
from simulators.ptx.syntax import (
    Immediate,
    Instruction,
    Negated,
    Operand,
    Parameter,
    Register,
    Special,
    Symbol,
)
from simulators.ptx.types import DTYPES, as_storage, storage

if TYPE_CHECKING:
    from simulators.ptx.group import Group

# A step runs one instruction for all active threads; it returns where to go on, None for the next one.
Step = Callable[["Group"], "int | None"]
Reader = Callable[["Group"], np.ndarray]
Form = SimpleNamespace


@dataclass(frozen=True)
class Slot:
    """One part of a form: its name ("" for a fixed word), the words it may be, and whether it is optional."""

    name: str
    words: tuple[str, ...]
    optional: bool


@dataclass(frozen=True)
class Definition:
    """An instruction that the machine has."""

    pattern: str
    slots: tuple[Slot, ...]
    section: str
    summary: str
    build: Callable[[Form, "Site"], Step]

    @property
    def tensor(self) -> bool:
        """Whether it is one of the instructions that tensor cores execute."""
        return self.opcode in ("wmma.mma", "mma")

    @property
    def opcode(self) -> str:
        """What the counters call it: the first word, and the second where only that says what it does."""
        words = self.pattern.split(".")
        if words[0] != "wmma":
            return words[0]
        return ".".join(words[:2])

    @property
    def holds(self) -> bool:
        """Whether threads may wait in it for others of their block."""
        return self.opcode in ("bar", "barrier") and self.pattern != "bar.warp.sync"

    @property
    def written(self) -> str:
        """The form with its choices, as the support table shows it."""
        parts = []
        for slot in self.slots:
            text = slot.words[0] if len(slot.words) == 1 else "{" + ",".join(slot.words) + "}"
            parts.append(f"[.{text}]" if slot.optional else f".{text}")
        return "".join(parts).removeprefix(".")

    def match(self, parts: tuple[str, ...]) -> "Form | int":
        """Return the chosen words by name, or the number of parts that fitted before one did not."""
        chosen: dict[str, str] = {slot.name: "" for slot in self.slots if slot.name}
        at = 0
        for slot in self.slots:
            if at < len(parts) and parts[at] in slot.words:
                if slot.name:
                    chosen[slot.name] = parts[at]
                at += 1
            elif not slot.optional:
                return at
        return Form(**chosen) if at == len(parts) else at


DEFINITIONS: dict[str, list[Definition]] = {}


def _define(pattern: str, section: str, choices: dict[str, str], build: Callable, summary: str) -> None:
    slots = []
    for part in pattern.split("."):
        match = re.fullmatch(r"<(\w+)(\??)>", part)
        if match:
            slots.append(Slot(match[1], tuple(choices[match[1]].split()), match[2] == "?"))
        else:
            slots.append(Slot("", (part,), False))
    definition = Definition(pattern, tuple(slots), section, summary, build)
    DEFINITIONS.setdefault(slots[0].words[0], []).append(definition)


def _summary(function: Callable) -> str:
    return (function.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def find(instruction: Instruction) -> tuple[Definition, Form]:
    """Find what an instruction's dotted name matches; UnsupportedInstructionError where nothing does."""
    parts = instruction.parts
    candidates = DEFINITIONS.get(parts[0], [])
    if not candidates:
        raise UnsupportedInstructionError(
            instruction.line, f"instruction {instruction.name}: no {parts[0]!r}"
        )
    fitted = 0
    for definition in candidates:
        form = definition.match(parts)
        if isinstance(form, Form):
            return definition, form
        fitted = max(fitted, form)
    what = f"modifier .{parts[fitted]}" if fitted < len(parts) else "a missing modifier"
    forms = "; ".join(d.written for d in candidates)
    raise UnsupportedInstructionError(
        instruction.line, f"instruction {instruction.name}: {what}; supported: {forms}"
    )


class Site:
    """One instruction where it stands in a kernel: what it needs to become a step."""

    def __init__(
        self,
        instruction: Instruction,
        pc: int,
        labels: dict[str, int],
        symbols: dict[str, tuple[str, int]],
        parameters: dict[str, Parameter],
    ) -> None:
        self.instruction = instruction
        self.operands = instruction.operands
        self.line = instruction.line
        self.pc = pc
        self.labels = labels
        self.symbols = symbols
        self.parameters = parameters

    def fail(self, message: str) -> PtxSyntaxError:
        """Make the error to raise where the operands are not what the instruction takes."""
        return PtxSyntaxError(self.line, f"{self.instruction.name}: {message}")

    def expect(self, *counts: int) -> None:
        """Check the number of operands."""
        if len(self.operands) not in counts:
            wanted = " or ".join(map(str, counts))
            raise self.fail(f"takes {wanted} operands, not {len(self.operands)}")

    def read(self, operand: Operand, type_: str, exact: bool = True) -> Reader:
        """Make a function of the group that gives the operand's value as that type.

        Where `exact` is false, a register may be wider than the type: its low bits count (ld, st and cvt).
        """
        dtype = DTYPES[type_]
        match operand:
            case Register(slot=slot):
                return self._read_register(operand, slot, dtype, exact)
            case Negated(register=register) if type_ == "pred":
                slot = register.slot
                return lambda group: ~group.registers[slot]
            case Immediate(value=value):
                constant = _constant(value, dtype)
                return lambda group: constant
            case Special(name=name) if not SPECIAL.fullmatch(name):
                raise UnsupportedInstructionError(self.line, f"special register {name}")
            case Special(name=name):
                return lambda group: group.special[name].astype(dtype, copy=False)
            case Symbol(name=name) if name in self.symbols:
                constant = _constant(self.symbols[name][1], dtype)
                return lambda group: constant
            case Symbol(name=name):
                return self._read_global_symbol(name, dtype)
        raise self.fail(f"cannot read operand {operand}")

    def _read_register(self, operand: Register, slot: int, dtype: np.dtype, exact: bool) -> Reader:
        kept = storage(operand.type)
        if (kept == np.bool_) != (dtype == np.bool_):
            raise self.fail(f"register {operand.name} is .{operand.type}")
        if kept == dtype:
            return lambda group: group.registers[slot]
        if kept.itemsize == dtype.itemsize:
            return lambda group: group.registers[slot].view(dtype)
        if exact or kept.itemsize < dtype.itemsize:
            raise self.fail(
                f"register {operand.name} is .{operand.type}, of another size than the instruction's type"
            )
        unsigned = np.dtype(f"u{dtype.itemsize}")
        return lambda group: group.registers[slot].astype(unsigned).view(dtype)

    def _read_global_symbol(self, name: str, dtype: np.dtype) -> Reader:
        line = self.line

        def read(group: "Group") -> np.ndarray:
            if name not in group.memory.symbols:
                raise PtxSyntaxError(line, f"{name} is not declared")
            return _constant(group.memory.symbols[name], dtype)

        return read

    def target(self, operand: Operand) -> int:
        """Take the operand as a label of this kernel: where it stands."""
        if not isinstance(operand, Symbol) or operand.name not in self.labels:
            raise self.fail(f"no label {getattr(operand, 'name', operand)} in this kernel")
        return self.labels[operand.name]

    def destination(self, operand: Operand) -> Register:
        """Take the operand as a register to write."""
        if not isinstance(operand, Register):
            raise self.fail(f"the destination must be a register, not {operand}")
        return operand

    def write(
        self, operand: Operand, type_: str, exact: bool = True
    ) -> Callable[["Group", np.ndarray], None]:
        """Make a function that keeps a result of that type in a register, for the threads that are active.

        Where `exact` is false, the register may be wider: the result is extended, a signed one by its sign.
        """
        register = self.destination(operand)
        slot, kept, size = register.slot, storage(register.type), DTYPES[type_].itemsize
        predicates = (kept == np.bool_, type_ == "pred")
        if any(predicates) and not all(predicates):
            raise self.fail(f"destination {register.name} is .{register.type}, the result .{type_}")
        if kept.itemsize < size or (exact and kept.itemsize != size):
            raise self.fail(
                f"destination {register.name} is .{register.type}, of another size than the result"
            )

        def write(group: "Group", value: np.ndarray) -> None:
            bits = as_storage(value, kept)
            if group.mask is not None:
                bits = np.where(group.mask, bits, group.registers[slot])
            group.registers[slot] = bits

        return write


def _constant(value: int, dtype: np.dtype) -> np.ndarray:
    """Hold an immediate as one value in three axes: the low bits of its two's complement."""
    if dtype == np.bool_:
        return np.full((1, 1, 1), value != 0)
    bits = value & ((1 << (8 * dtype.itemsize)) - 1)
    return np.full((1, 1, 1), bits, dtype=f"u{dtype.itemsize}").view(dtype)


def computes(
    pattern: str,
    section: str,
    sources: Callable[[Form], tuple[str, ...]] | None = None,
    result: Callable[[Form], str] | None = None,
    exact: bool = True,
    **choices: str,
) -> Callable:
    """Declare an instruction that is a pure function: `function(form, a, b, ...)` returns the result.

    `sources` gives the type of each source operand and `result` that of the destination; where they are
    absent, all are the form's `type`. `exact=False` lets registers be wider than these types.
    """

    def declare(function: Callable) -> Callable:
        count = len(inspect.signature(function).parameters) - 1

        def build(form: Form, site: Site) -> Step:
            site.expect(count + 1)
            types = sources(form) if sources else (form.type,) * count
            to = result(form) if result else form.type
            readers = [site.read(o, t, exact) for o, t in zip(site.operands[1:], types, strict=True)]
            return _step(function, form, readers, site.write(site.operands[0], to, exact))

        _define(pattern, section, choices, build, _summary(function))
        return function

    return declare


def _step(function: Callable, form: Form, readers: list[Reader], write: Callable) -> Step:
    """One closure for each number of operands: this is the machine's innermost loop."""
    if len(readers) == 1:
        (first,) = readers
        return lambda group: write(group, function(form, first(group)))
    if len(readers) == 2:
        first, second = readers
        return lambda group: write(group, function(form, first(group), second(group)))
    return lambda group: write(group, function(form, *[read(group) for read in readers]))


def executes(pattern: str, section: str, **choices: str) -> Callable:
    """Declare any other instruction: `build(form, site)` returns its step."""

    def declare(build: Callable[[Form, Site], Step]) -> Callable[[Form, Site], Step]:
        _define(pattern, section, choices, build, _summary(build))
        return build

    return declare


def fencing(beyond_the_block: bool) -> Step:
    """Make the step of a fence: who watches for races hears of it, where it orders more than one block."""

    def step(group: "Group") -> None:
        if beyond_the_block and group.races is not None:
            group.races.fence(group.everybody())

    return step


def ordered(form: Form, step: Step) -> Step:
    """Put the fences that .release, .acquire and .acq_rel stand for around an access."""
    order = getattr(form, "order", "")
    fence = fencing(form.scope != "cta")
    releases, acquires = order in ("release", "acq_rel"), order in ("acquire", "acq_rel")
    if not (releases or acquires):
        return step

    def between(group: "Group") -> int | None:
        if releases:
            fence(group)
        step(group)
        return fence(group) if acquires else None

    return between
