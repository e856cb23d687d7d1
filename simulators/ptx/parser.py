"""PTX text to kernels: a tokeniser and a recursive-descent parser.

Source: PTX ISA, "Syntax", "Directives" and "Instruction Operands".
"""

import re
from dataclasses import dataclass, field, replace

from simulators.ptx.errors import PtxSyntaxError, UnsupportedInstructionError
from simulators.ptx.special import LACKING, SPECIAL
from simulators.ptx.syntax import (
    Address,
    Immediate,
    Instruction,
    Kernel,
    Negated,
    Operand,
    Pair,
    Parameter,
    Register,
    Sink,
    Special,
    Symbol,
    Variable,
    Vector,
)
from simulators.ptx.types import DTYPES

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<string>"[^"\n]*")
      | (?P<float>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16})
      | (?P<decimal>\d+\.\d+(?:[eE][-+]?\d+)?)
      | (?P<integer>0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?)
      | (?P<word>[%.$A-Za-z_](?:[\w$.]|::)*)
      | (?P<punct>[-+@!|<>(){}\[\],;:=])
    """,
    re.VERBOSE | re.DOTALL,
)

_LINKAGE = {".visible", ".weak", ".common", ".extern"}
_TUNING = {".maxntid", ".reqntid", ".minnctapersm", ".maxnreg", ".maxnctapersm", ".noreturn"}


@dataclass(frozen=True)
class Token:
    """A word, number, string or punctuation mark, and its line."""

    kind: str
    text: str
    line: int


@dataclass
class ParsedModule:
    """What stands in a PTX file: kernels by name, and variables outside of them."""

    version: str = ""
    target: str = ""
    kernels: dict[str, Kernel] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
    functions: dict[str, Kernel] = field(default_factory=dict)


def tokenise(text: str) -> list[Token]:
    """All tokens but white space and comments; PtxSyntaxError at a character that starts none."""
    tokens = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise PtxSyntaxError(line, f"unexpected character {text[position]!r}")
        kind, word = str(match.lastgroup), match.group()
        if kind != "space":
            tokens.append(Token(kind, word, line))
        line += word.count("\n")
        position = match.end()
    return tokens


def parse_module(text: str) -> ParsedModule:
    """Parse a whole PTX file."""
    return _Parser(tokenise(text)).module()


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        # Names of registers by scope, innermost last: inline assembly opens scopes of its own.
        self.scopes: list[dict[str, Register | Symbol]] = []
        self.declared = 0

    # Tokens.

    @property
    def line(self) -> int:
        if not self.tokens:
            return 1
        return self.tokens[min(self.at, len(self.tokens) - 1)].line

    def peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def next(self) -> Token:
        if self.at >= len(self.tokens):
            raise PtxSyntaxError(self.line, "the text ends in the middle of a statement")
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, text: str) -> bool:
        if self.peek() != text:
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        line, found = self.line, self.peek()
        if not self.accept(text):
            self.next()
            raise PtxSyntaxError(line, f"expected {text!r}, found {found!r}")

    def word(self, what: str) -> Token:
        token = self.next()
        if token.kind != "word":
            raise PtxSyntaxError(token.line, f"expected {what}, found {token.text!r}")
        return token

    def integer(self) -> int:
        negative = self.accept("-")
        token = self.next()
        if token.kind != "integer":
            raise PtxSyntaxError(token.line, f"expected an integer, found {token.text!r}")
        digits = token.text.rstrip("U")
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        value = int(digits, 8) if octal else int(digits, 0)
        return -value if negative else value

    # Module scope.

    def module(self) -> ParsedModule:
        module = ParsedModule()
        while self.at < len(self.tokens):
            token = self.word("a directive")
            while token.text in _LINKAGE:
                token = self.word("a directive")
            match token.text:
                case ".version" | ".target" | ".address_size":
                    self.header(module, token)
                case ".entry":
                    kernel = self.entry()
                    if kernel.name in module.kernels:
                        raise PtxSyntaxError(kernel.line, f"kernel {kernel.name} is defined twice")
                    module.kernels[kernel.name] = kernel
                case ".global" | ".const" | ".shared":
                    module.variables += self.variables(token.text[1:])
                case ".func":
                    self.function(module)
                case ".file" | ".section" | ".alias" | ".tex":
                    raise UnsupportedInstructionError(token.line, f"directive {token.text}")
                case _:
                    raise PtxSyntaxError(token.line, f"unexpected {token.text!r} outside of a kernel")
        if not module.version:
            raise PtxSyntaxError(1, "no .version directive: this is not PTX")
        return module

    def header(self, module: ParsedModule, token: Token) -> None:
        if token.text == ".version":
            module.version = self.next().text
        elif token.text == ".target":
            module.target = self.word("a target").text
            while self.accept(","):
                self.word("a target")
        elif (bits := self.integer()) != 64:
            raise UnsupportedInstructionError(token.line, f".address_size {bits}; only 64 is supported")

    def entry(self) -> Kernel:
        name = self.word("the name of a kernel")
        kernel = Kernel(name.text, name.line)
        if self.accept("("):
            kernel.parameters = self.parameter_list()
        while self.peek() in _TUNING:
            self.next()
            while self.peek() not in ("{", "") and self.peek() not in _TUNING:
                self.next()
        self.expect("{")
        self.scopes = [{}]
        self.body(kernel)
        self.resolve_branches(kernel)
        kernel.last_line = self.tokens[self.at - 1].line
        self.scopes = []
        return kernel

    def function(self, module: ParsedModule) -> None:
        """`.func (.param .b32 result) name(.param .b32 a, ...) { ... }`, or ; in place of a body."""
        results = self.parameter_list() if self.accept("(") else []
        name = self.word("the name of a function")
        function = Kernel(name.text, name.line, results=results)
        if self.accept("("):
            function.parameters = self.parameter_list()
        while self.peek() in _TUNING:
            self.next()
        if self.accept(";"):
            return
        self.expect("{")
        self.scopes = [{p.name: Symbol(p.name) for p in (*results, *function.parameters)}]
        self.body(function)
        self.resolve_branches(function)
        function.last_line = self.tokens[self.at - 1].line
        self.scopes = []
        module.functions[name.text] = function

    def parameter_list(self) -> list[Parameter]:
        found: list[Parameter] = []
        while not self.accept(")"):
            if found:
                self.expect(",")
            found.append(self.parameter())
        return found

    def parameter(self) -> Parameter:
        """`.param .u64 .ptr .global .align 16 name` or `.param .align 8 .b8 name[24]`."""
        token = self.next()
        if token.text != ".param":
            raise UnsupportedInstructionError(token.line, f"a parameter that begins with {token.text}")
        align = self.skip_attributes()
        type_ = self.type()
        align = self.skip_attributes() or align
        name = self.word("the name of a parameter")
        size = DTYPES[type_].itemsize
        structured = self.accept("[")
        if structured:
            size *= self.integer()
            self.expect("]")
        return Parameter(name.text, type_, size, align or DTYPES[type_].itemsize, structured)

    def skip_attributes(self) -> int:
        """`.ptr .global .align 16` of a parameter, on either side of its type; returns the alignment."""
        align, pointer = 0, False
        while self.peek() in (".ptr", ".global", ".align"):
            word = self.next().text
            pointer = pointer or word == ".ptr"
            if word == ".align":
                align = self.integer()
        # After .ptr the alignment is that of what the pointer points to.
        return 0 if pointer else align

    def type(self) -> str:
        token = self.word("a type")
        if token.text[1:] not in DTYPES or not token.text.startswith("."):
            raise UnsupportedInstructionError(token.line, f"type {token.text}")
        return token.text[1:]

    def variables(self, space: str) -> list[Variable]:
        """`.align 16 .b8 name[1024] = {...}, other;` after the state space."""
        align = 0
        while self.peek() in (".align", ".attribute"):
            if self.next().text == ".align":
                align = self.integer()
            else:  # .attribute(.managed): where it lies is no concern of a kernel's
                while not self.accept(")"):
                    self.next()
        type_ = self.type()
        dtype = DTYPES[type_]
        found = []
        while True:
            name = self.word("the name of a variable")
            count = 1
            while self.accept("["):
                count *= 0 if self.peek() == "]" else self.integer()
                self.expect("]")
            items = self.initial(type_) if self.accept("=") else []
            size = dtype.itemsize
            found.append(
                Variable(
                    name.text, space, count * size, align or size,
                    initial=b"".join(i if isinstance(i, bytes) else bytes(size) for i in items),
                    pointers=tuple(
                        (at * size, i.base.name, i.offset)
                        for at, i in enumerate(items)
                        if isinstance(i, Address) and isinstance(i.base, Symbol)
                    ),
                )
            )  # fmt: skip
            if not self.accept(","):
                break
        self.expect(";")
        return found

    def initial(self, type_: str) -> "list[bytes | Address]":
        """One item, or `{item, ...}`: bytes, or an address, written `name + 4` or `generic(name)`."""
        size = DTYPES[type_].itemsize
        if self.accept("{"):
            values: list[bytes | Address] = []
            while not self.accept("}"):
                if values:
                    self.expect(",")
                values += self.initial(type_)
            return values
        if self.tokens[self.at : self.at + 1] and self.tokens[self.at].kind == "word":
            name = self.next()
            if name.text == "generic" and self.accept("("):
                name = self.word("the name of a variable")
                self.expect(")")
            offset = self.integer() if self.accept("+") or self.peek() == "-" else 0
            if size != 8:
                raise UnsupportedInstructionError(name.line, f"an address as a .{type_}; only of 64 bits")
            return [Address(Symbol(name.text), offset)]
        return [(self.immediate().value & ((1 << (8 * size)) - 1)).to_bytes(size, "little")]

    # Kernel scope.

    def body(self, kernel: Kernel) -> None:
        while not self.accept("}"):
            token = self.next()
            match token.text:
                case "{":
                    self.scopes.append(self.labels_ahead())
                    self.body(kernel)
                    self.scopes.pop()
                case "@":
                    negated = self.accept("!")
                    guard = self.operand()
                    if not isinstance(guard, Register) or guard.type != "pred":
                        raise PtxSyntaxError(
                            token.line, "the guard of an instruction must be a predicate register"
                        )
                    self.instruction(kernel, self.word("an instruction"), guard, negated)
                case text if token.kind == "word" and self.accept(":"):
                    self.label(kernel, token)
                case text if text.startswith("."):
                    self.directive(kernel, token)
                case ";":
                    pass
                case _ if token.kind == "word":
                    self.instruction(kernel, token)
                case text:
                    raise PtxSyntaxError(token.line, f"expected an instruction, found {text!r}")

    def directive(self, kernel: Kernel, token: Token) -> None:
        match token.text:
            case ".reg":
                self.registers(kernel)
            case ".shared" | ".local":
                kernel.variables += self.variables(token.text[1:])
            case ".param":
                # The place of an argument or a result of a call; scopes may use a name again.
                for variable in self.variables("local"):
                    unique = f"{variable.name}@{self.declared}"
                    self.declared += 1
                    self.scopes[-1][variable.name] = Symbol(unique)
                    kernel.variables.append(replace(variable, name=unique))
            case ".pragma":
                self.skip_statement()
            case ".loc":
                # Ends with its line.
                while self.at < len(self.tokens) and self.line == token.line:
                    self.next()
            case _:
                raise UnsupportedInstructionError(token.line, f"directive {token.text}")

    def label(self, kernel: Kernel, token: Token) -> None:
        """What a name and a colon stand before: an instruction, or a list of labels or functions."""
        known = self.scopes[-1].get(token.text)
        name = known.name if isinstance(known, Symbol) else token.text
        if self.accept(".branchtargets"):
            kernel.branch_targets[name] = self.label_list()
        elif self.peek() in (".callprototype", ".calltargets"):
            # A call that uses it is by address, and refused.
            self.skip_statement()
        elif name in kernel.labels:
            raise PtxSyntaxError(token.line, f"label {token.text} is defined twice")
        else:
            kernel.labels[name] = len(kernel.instructions)

    def labels_ahead(self) -> "dict[str, Register | Symbol]":
        """The labels of the scope that begins here, under names of their own: others may use theirs again."""
        found: dict[str, Register | Symbol] = {}
        depth, at = 0, self.at
        while at < len(self.tokens) and depth >= 0:
            text = self.tokens[at].text
            depth += {"{": 1, "}": -1}.get(text, 0)
            if text == ":" and depth == 0:
                found[self.tokens[at - 1].text] = Symbol(f"{self.tokens[at - 1].text}@{self.declared}")
            at += 1
        self.declared += 1
        return found

    def skip_statement(self) -> None:
        while not self.accept(";"):
            self.next()

    def label_list(self) -> tuple[str, ...]:
        """`$L_1, $L_2, ...;`."""
        labels = [self.word("a label")]
        while self.accept(","):
            labels.append(self.word("a label"))
        self.expect(";")
        known = [next((s[t.text] for s in reversed(self.scopes) if t.text in s), None) for t in labels]
        return tuple(k.name if k else t.text for k, t in zip(known, labels, strict=True))

    def resolve_branches(self, kernel: Kernel) -> None:
        """Put the labels of a list in the place of its name, in each brx.idx."""
        for pc, instruction in enumerate(kernel.instructions):
            if instruction.parts[0] != "brx":
                continue
            name = getattr(instruction.operands[-1] if instruction.operands else None, "name", "")
            if name not in kernel.branch_targets:
                raise PtxSyntaxError(instruction.line, f"{instruction.name}: no .branchtargets {name!r}")
            labels = Vector(tuple(Symbol(label) for label in kernel.branch_targets[name]))
            kernel.instructions[pc] = replace(instruction, operands=(*instruction.operands[:-1], labels))

    def registers(self, kernel: Kernel) -> None:
        """`.reg .b32 %r<400>, %x;`."""
        type_ = self.type()
        while True:
            name = self.word("the name of a register").text
            if self.accept("<"):
                names = [f"{name}{i}" for i in range(self.integer())]
                self.expect(">")
            else:
                names = [name]
            for each in names:
                register = Register(each, len(kernel.registers), type_)
                kernel.registers.append(register)
                self.scopes[-1][each] = register
            if not self.accept(","):
                break
        self.expect(";")

    def instruction(
        self, kernel: Kernel, name: Token, guard: Register | None = None, guard_negated: bool = False
    ) -> None:
        operands: list[Operand] = []
        while not self.accept(";"):
            if operands:
                self.expect(",")
            operands.append(self.operand())
        kernel.instructions.append(Instruction(name.line, name.text, tuple(operands), guard, guard_negated))

    def operand(self) -> Operand:
        first = self.single()
        if self.accept("|"):
            return Pair(first, self.single())
        return first

    def single(self) -> Operand:
        line = self.line
        if self.accept("["):
            return self.address()
        for opening, closing in (("{", "}"), ("(", ")")):
            # In parentheses: the arguments or the results of a call.
            if self.accept(opening):
                items = [] if self.peek() == closing else [self.operand()]
                while self.accept(","):
                    items.append(self.operand())
                self.expect(closing)
                return Vector(tuple(items))
        if self.accept("!"):
            register = self.operand()
            if not isinstance(register, Register):
                raise PtxSyntaxError(line, "only a predicate register can be negated")
            return Negated(register)
        if self.tokens[self.at : self.at + 1] and self.tokens[self.at].kind == "word":
            return self.named()
        return self.immediate()

    def named(self) -> Operand:
        token = self.next()
        if token.text == "_":
            return Sink()
        for scope in reversed(self.scopes):
            if token.text in scope:
                return scope[token.text]
        if token.text == "WARP_SZ":
            return Immediate(32)
        if not token.text.startswith("%"):
            return Symbol(token.text)
        if not (SPECIAL.fullmatch(token.text) or LACKING.fullmatch(token.text)):
            raise PtxSyntaxError(
                token.line, f"register {token.text} is not declared, nor a supported special register"
            )
        return Special(token.text)

    def immediate(self) -> Immediate:
        negative = self.accept("-")
        token = self.next()
        sign = -1 if negative else 1
        if token.kind == "float":
            bits = int(token.text[2:], 16)
            return Immediate(bits)
        if token.kind != "integer":
            raise PtxSyntaxError(token.line, f"expected an operand, found {token.text!r}")
        self.at -= 1
        return Immediate(sign * self.integer())

    def address(self) -> Address:
        line = self.line
        base: Register | Symbol | None = None
        if self.tokens[self.at].kind == "word":
            named = self.named()
            if not isinstance(named, Register | Symbol):
                raise PtxSyntaxError(
                    line, f"{self.tokens[self.at - 1].text} cannot be the base of an address"
                )
            base = named
            offset = 0
            if self.accept("+") or self.peek() == "-":
                offset = self.integer()
        else:
            offset = self.integer()
        self.expect("]")
        return Address(base, offset)
