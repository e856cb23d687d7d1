"""Calls: a kernel with the bodies of the functions it calls in their places.

Arguments and results lie in local memory, as the variables that the caller declares for them; the function's
own names for them stand for those. So a call needs no stack, and a function that calls itself cannot be run.
"""

from dataclasses import replace

from simulators.ptx.errors import UnsupportedInstructionError
from simulators.ptx.syntax import (
    Address,
    Instruction,
    Kernel,
    Negated,
    Operand,
    Pair,
    Register,
    Symbol,
    Variable,
    Vector,
)


def inlined(kernel: Kernel, functions: dict[str, Kernel]) -> Kernel:
    """The kernel without calls; UnsupportedInstructionError for one that cannot be resolved."""
    if not any(_is_call(i) for i in kernel.instructions):
        return kernel
    made = Kernel(
        kernel.name, kernel.line, kernel.last_line, kernel.parameters, list(kernel.registers),
        list(kernel.variables),
    )  # fmt: skip
    _Inliner(made, functions).add(kernel, {}, made.registers, "", (kernel.name,))
    return made


def _is_call(instruction: Instruction) -> bool:
    return instruction.parts[0] == "call"


def _fails_an_assertion(call: Instruction) -> bool:
    """Whether a call is what CUDA's assert() does where it does not hold."""
    return any(isinstance(o, Symbol) and o.name == "__assertfail" for o in call.operands)


class _Inliner:
    def __init__(self, kernel: Kernel, functions: dict[str, Kernel]) -> None:
        self.kernel = kernel
        self.functions = functions
        self.calls = 0

    def add(
        self, body: Kernel, names: dict[str, str], registers: list[Register], suffix: str,
        path: tuple[str, ...],
    ) -> None:  # fmt: skip
        """Append a body: its variables and labels by other names, its registers in other slots."""
        where = {pc: [label for label, at in body.labels.items() if at == pc] for pc in body.labels.values()}
        end = f"(end){suffix}"  # no name that a label can have
        for pc, instruction in enumerate(body.instructions):
            self._label(where.get(pc, ()), suffix)
            if _is_call(instruction) and _fails_an_assertion(instruction):
                self.kernel.instructions.append(replace(instruction, name="trap", operands=()))
                continue
            if _is_call(instruction):
                self._call(instruction, names, registers, path)
                continue
            renamed = [self._renamed(o, names, registers, body, suffix) for o in instruction.operands]
            guard = None if instruction.guard is None else registers[instruction.guard.slot]
            made = replace(instruction, operands=tuple(renamed), guard=guard)
            if suffix and instruction.parts[0] == "ret":
                made = replace(made, name="bra", operands=(Symbol(end),))
            if suffix and instruction.parts[:2] == ("ld", "param"):
                # A function's arguments lie in local memory, also where a register has their address.
                made = replace(made, name=".".join(["ld", "local", *instruction.parts[2:]]))
            self.kernel.instructions.append(made)
        self._label(where.get(len(body.instructions), ()), suffix)
        if suffix:
            self.kernel.labels[end] = len(self.kernel.instructions)

    def _label(self, labels: "list[str] | tuple[()]", suffix: str) -> None:
        for label in labels:
            self.kernel.labels[label + suffix] = len(self.kernel.instructions)

    def _call(
        self, call: Instruction, names: dict[str, str], registers: list[Register], path: tuple[str, ...]
    ) -> None:
        vectors = [o for o in call.operands if isinstance(o, Vector)]
        by_address = any(isinstance(o, Register) for o in call.operands)
        target = "" if by_address else next((o.name for o in call.operands if isinstance(o, Symbol)), "")
        function = self.functions.get(target)
        if function is None:
            what = f"function {target}, which has no body here" if target else "a function by its address"
            raise UnsupportedInstructionError(call.line, f"{call.name} of {what}")
        if target in path:
            raise UnsupportedInstructionError(call.line, f"{call.name} of {target}, which calls itself")
        if call.guard is not None:
            raise UnsupportedInstructionError(call.line, f"{call.name} with a guard")
        has_results = bool(call.operands) and isinstance(call.operands[0], Vector)
        results = vectors[0].items if has_results else ()
        arguments = vectors[1 if has_results else 0].items if len(vectors) > has_results else ()
        given = [
            *zip(function.results, results, strict=False),
            *zip(function.parameters, arguments, strict=False),
        ]
        if len(arguments) != len(function.parameters) or (results and len(results) != len(function.results)):
            raise UnsupportedInstructionError(
                call.line, f"{call.name} of {target} with {len(arguments)} arguments"
            )
        self.calls += 1
        suffix = f"#{self.calls}"
        inner: dict[str, str] = {p.name: p.name + suffix for p in function.results[len(results) :]}
        self.kernel.variables += [
            Variable(p.name + suffix, "local", p.size, p.align) for p in function.results[len(results) :]
        ]
        for parameter, argument in given:
            if not isinstance(argument, Symbol):
                raise UnsupportedInstructionError(call.line, f"{call.name}: an argument that is no .param")
            inner[parameter.name] = names.get(argument.name, argument.name)
        for variable in function.variables:
            # A shared variable of a function is one, however often it is called.
            shared = variable.space == "shared"
            inner[variable.name] = f"{variable.name}@{target}" if shared else variable.name + suffix
            known = any(v.name == inner[variable.name] for v in self.kernel.variables)
            if not known:
                self.kernel.variables.append(replace(variable, name=inner[variable.name]))
        first = len(self.kernel.registers)
        own = [replace(r, name=r.name + suffix, slot=first + r.slot) for r in function.registers]
        self.kernel.registers += own
        self.add(function, inner, own, suffix, (*path, target))

    def _renamed(
        self, operand: Operand, names: dict[str, str], registers: list[Register], body: Kernel, suffix: str
    ) -> Operand:
        """The operand as it is in the kernel: by the name, or in the slot, that its body has there."""

        def rename(inner: Operand) -> Operand:
            return self._renamed(inner, names, registers, body, suffix)

        made = operand
        match operand:
            case Register(slot=slot):
                made = registers[slot]
            case Negated(register=register):
                made = Negated(registers[register.slot])
            case Symbol(name=name):
                made = Symbol(name + suffix if name in body.labels else names.get(name, name))
            case Address(base=Register() | Symbol() as base):
                made = Address(rename(base), operand.offset)  # type: ignore[arg-type]
            case Vector(items=items):
                made = Vector(tuple(rename(i) for i in items))
            case Pair(first=first, second=second):
                made = Pair(rename(first), rename(second))
        return made
