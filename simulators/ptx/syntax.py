"""PTX as objects: operands, instructions, kernels."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Register:
    """A virtual register: its name, its slot in the register file and its declared type."""

    name: str
    slot: int
    type: str


@dataclass(frozen=True)
class Immediate:
    """A literal: an integer, or the bits of a 0f or 0d float."""

    value: int


@dataclass(frozen=True)
class Special:
    """A read-only register of the machine, such as %tid.x."""

    name: str


@dataclass(frozen=True)
class Symbol:
    """A name: a variable, a parameter or a label."""

    name: str


@dataclass(frozen=True)
class Address:
    """`[base + offset]`, offset in bytes; no base where the address is a literal."""

    base: "Register | Symbol | None"
    offset: int


@dataclass(frozen=True)
class Vector:
    """`{a, b, ...}`."""

    items: "tuple[Operand, ...]"


@dataclass(frozen=True)
class Negated:
    """`!%p`."""

    register: Register


@dataclass(frozen=True)
class Pair:
    """`%r|%p`: two destinations of one instruction."""

    first: "Operand"
    second: "Operand"


@dataclass(frozen=True)
class Sink:
    """`_`: a result that nobody wants."""


Operand = Register | Immediate | Special | Symbol | Address | Vector | Negated | Pair | Sink


@dataclass(frozen=True)
class Instruction:
    """One instruction: where it stands, its guard, its dotted name and its operands."""

    line: int
    name: str
    operands: tuple[Operand, ...]
    guard: Register | None = None
    guard_negated: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The dotted name in parts: `ld.global.u32` is ("ld", "global", "u32")."""
        return tuple(self.name.split("."))


@dataclass(frozen=True)
class Parameter:
    """A parameter: its type and its size in bytes; of a structure the type is that of its smallest part."""

    name: str
    type: str
    size: int
    align: int
    structured: bool = False


@dataclass(frozen=True)
class Variable:
    """A variable of a state space: bytes, alignment and, where given, initial contents.

    `size` is 0 for the unsized array of `.extern .shared`, dynamic shared memory. `pointers` say where the
    contents hold the address of another variable: at which byte, its name, and what is added to it.
    """

    name: str
    space: str
    size: int
    align: int
    initial: bytes = b""
    pointers: tuple[tuple[int, str, int], ...] = ()


@dataclass
class Kernel:
    """An entry or a function: parameters, registers, its variables and its instructions."""

    name: str
    line: int
    last_line: int = 0
    parameters: list[Parameter] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    # Lists of labels, by name, from which brx.idx chooses.
    branch_targets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Of a function: what it returns.
    results: list[Parameter] = field(default_factory=list)
