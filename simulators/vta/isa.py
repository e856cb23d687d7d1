"""VTA's instructions: 128-bit words and 32-bit micro-ops, encoded, decoded and written as text.

Source: the bit-field structures of `hw_spec.h` in apache/tvm-vta. Fields follow one another from the
least significant bit; a field that would straddle a 64-bit boundary starts at the boundary, as a C
compiler lays it out. Widths of indices and factors follow the configuration.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from simulators.vta.config import IMMEDIATE_BITS, LOOP_BITS, PYNQ, SRAM_ADDRESS_BITS, Config


class Opcode(IntEnum):
    """Bits 0 to 2 of an instruction."""

    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


class Memory(IntEnum):
    """`memory_type` of LOAD and STORE."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    ACC_8BIT = 5


class AluOpcode(IntEnum):
    """`alu_opcode` of ALU."""

    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3
    MUL = 4


@dataclass(frozen=True, kw_only=True)
class _Instruction:
    """The dependency flags, which every instruction has: neighbours in the order load, compute, store."""

    pop_prev: bool = False
    pop_next: bool = False
    push_prev: bool = False
    push_next: bool = False


@dataclass(frozen=True, kw_only=True)
class _Transfer(_Instruction):
    memory_type: int
    sram_base: int
    dram_base: int
    y_size: int
    x_size: int
    x_stride: int
    y_pad_0: int = 0
    y_pad_1: int = 0
    x_pad_0: int = 0
    x_pad_1: int = 0


@dataclass(frozen=True, kw_only=True)
class Load(_Transfer):
    """DRAM to an SRAM, two-dimensional, with zeros around it; bases, sizes and strides in elements."""


@dataclass(frozen=True, kw_only=True)
class Store(_Transfer):
    """OUT to DRAM, two-dimensional; the pad fields exist and must be zero."""


@dataclass(frozen=True, kw_only=True)
class _Compute(_Instruction):
    reset: bool = False
    uop_bgn: int
    uop_end: int
    iter_out: int
    iter_in: int
    dst_out: int = 0
    dst_in: int = 0
    src_out: int = 0
    src_in: int = 0


@dataclass(frozen=True, kw_only=True)
class Gemm(_Compute):
    """acc[dst] += inp[src] · wgt[wgt]ᵀ over micro-ops and two loops; with reset, acc[dst] = 0."""

    wgt_out: int = 0
    wgt_in: int = 0


@dataclass(frozen=True, kw_only=True)
class Alu(_Compute):
    """acc[dst] = op(acc[dst], imm or acc[src]) over micro-ops and two loops; `reset` has no effect."""

    alu_opcode: int
    use_imm: bool = False
    imm: int = 0


@dataclass(frozen=True, kw_only=True)
class Finish(_Instruction):
    """The end of a program."""


@dataclass(frozen=True, kw_only=True)
class Illegal(_Instruction):
    """A word whose opcode no instruction has; decode keeps it, so that a machine can report it."""

    opcode: int
    words: tuple[int, int]


Instruction: TypeAlias = Load | Store | Gemm | Alu | Finish | Illegal


class Uop(NamedTuple):
    """One micro-op: where an element is accumulated, and the elements it is computed from."""

    dst: int
    src: int
    wgt: int = 0


class _Field(NamedTuple):
    name: str
    width: int
    word: int
    shift: int
    signed: bool


_CLASSES: dict[int, type] = {
    Opcode.LOAD: Load,
    Opcode.STORE: Store,
    Opcode.GEMM: Gemm,
    Opcode.FINISH: Finish,
    Opcode.ALU: Alu,
}
_OPCODES: dict[type, int] = {each: opcode for opcode, each in _CLASSES.items()}
_FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")
_BOOLEANS = frozenset((*_FLAGS, "reset", "use_imm"))


def _transfer_widths() -> list[tuple[str, int]]:
    return [
        ("memory_type", 3),
        ("sram_base", SRAM_ADDRESS_BITS),
        ("dram_base", 32),
        ("y_size", 16),
        ("x_size", 16),
        ("x_stride", 16),
        ("y_pad_0", 4),
        ("y_pad_1", 4),
        ("x_pad_0", 4),
        ("x_pad_1", 4),
    ]


def _compute_widths(config: Config) -> list[tuple[str, int]]:
    return [
        ("reset", 1),
        ("uop_bgn", config.uop_bits),
        ("uop_end", config.uop_bits + 1),
        ("iter_out", LOOP_BITS),
        ("iter_in", LOOP_BITS),
        ("dst_out", config.acc_bits),
        ("dst_in", config.acc_bits),
        ("src_out", config.inp_bits),
        ("src_in", config.inp_bits),
    ]


@lru_cache(maxsize=64)
def _layout(opcode: int, config: Config) -> tuple[_Field, ...]:
    """Place the fields of one instruction."""
    widths: list[tuple[str, int]] = [("opcode", 3), *((flag, 1) for flag in _FLAGS)]
    if opcode in (Opcode.LOAD, Opcode.STORE):
        widths += _transfer_widths()
    elif opcode == Opcode.GEMM:
        widths += [*_compute_widths(config), ("wgt_out", config.wgt_bits), ("wgt_in", config.wgt_bits)]
    elif opcode == Opcode.ALU:
        widths += [*_compute_widths(config), ("alu_opcode", 3), ("use_imm", 1), ("imm", IMMEDIATE_BITS)]
    placed, bit = [], 0
    for name, width in widths:
        if bit % 64 + width > 64:
            bit += -bit % 64
        placed.append(_Field(name, width, bit // 64, bit % 64, name == "imm"))
        bit += width
    return tuple(placed)


def _bits(value: int, each: _Field, owner: str) -> int:
    """Return the value as the field holds it; ValueError where it does not fit."""
    low, high = (
        (-(1 << each.width - 1), (1 << each.width - 1) - 1) if each.signed else (0, (1 << each.width) - 1)
    )
    if not low <= value <= high:
        raise ValueError(f"{owner}: {each.name} is {value}, and the field holds {low} to {high}")
    return int(value) & (1 << each.width) - 1


def encode(instructions: Iterable[Instruction], config: Config = PYNQ) -> np.ndarray:
    """Turn the instructions into uint64[n, 2], low word first; ValueError names a field that does not fit."""
    words: list[tuple[int, int]] = []
    for index, instruction in enumerate(instructions):
        if isinstance(instruction, Illegal):
            words.append(instruction.words)
            continue
        opcode = _OPCODES[type(instruction)]
        owner = f"instruction {index} ({Opcode(opcode).name})"
        pair = [opcode, 0]
        for each in _layout(opcode, config)[1:]:
            value = getattr(instruction, each.name)
            if value:
                pair[each.word] |= _bits(value, each, owner) << each.shift
        words.append((pair[0], pair[1]))
    return np.array(words, dtype=np.uint64).reshape(-1, 2)


def words_of(stream: bytes) -> np.ndarray:
    """Turn a stream as it lies in memory (little-endian, 16 bytes each) into uint64[n, 2]."""
    if len(stream) % 16:
        raise ValueError(f"an instruction stream is a multiple of 16 bytes, and this one has {len(stream)}")
    return np.frombuffer(stream, dtype="<u8").reshape(-1, 2).astype(np.uint64)


def checked_words(words: np.ndarray) -> np.ndarray:
    """Return the words themselves where they are uint64[n, 2]; ValueError otherwise."""
    if (
        not isinstance(words, np.ndarray)
        or words.dtype != np.uint64
        or words.ndim != 2
        or words.shape[1] != 2
    ):
        shape = f"{words.dtype}{list(words.shape)}" if isinstance(words, np.ndarray) else type(words).__name__
        raise ValueError(f"instructions are uint64[n, 2], low word first, not {shape}")
    return words


def decode(words: np.ndarray, config: Config = PYNQ) -> list[Instruction]:
    """Read the instructions in uint64[n, 2]; a word whose opcode is none becomes Illegal."""
    checked_words(words)
    opcodes = (words[:, 0] & np.uint64(7)).astype(np.int64)
    decoded: list[Instruction | None] = [None] * len(words)
    for opcode in sorted(set(opcodes.tolist())):
        places = np.flatnonzero(opcodes == opcode)
        table = _table(opcode, config)
        flags, numbers = table.read(words[places])
        build = _CLASSES.get(opcode)
        for place, bools, row in zip(places.tolist(), flags, numbers, strict=True):
            keys: dict[str, Any] = dict(zip(table.names, bools + row, strict=True))
            if build is None:
                low, high = words[place].tolist()
                decoded[place] = Illegal(opcode=opcode, words=(low, high), **keys)
            else:
                decoded[place] = _made(build, keys)
    return [each for each in decoded if each is not None]


def _made(build: type, keys: dict[str, Any]) -> Instruction:
    """An instruction with all of its fields.

    The initialiser of a frozen dataclass sets them one by one, which takes most of the time of decoding.
    """
    instruction: Instruction = object.__new__(build)
    instruction.__dict__.update(keys)
    return instruction


class _Table(NamedTuple):
    """The fields of an opcode's instructions: `flags` of them, which are true or false, before numbers."""

    names: tuple[str, ...]
    flags: int
    words: np.ndarray
    shifts: np.ndarray
    masks: np.ndarray
    signs: np.ndarray

    def read(self, words: np.ndarray) -> tuple[list[list[bool]], list[list[int]]]:
        """Read all fields of uint64[n, 2] at once: those that are true or false, and the numbers."""
        fields = (words[:, self.words] >> self.shifts & self.masks).astype(np.int64)
        fields -= (fields & self.signs) << 1
        return (fields[:, : self.flags] != 0).tolist(), fields[:, self.flags :].tolist()


@lru_cache(maxsize=64)
def _table(opcode: int, config: Config) -> _Table:
    fields = sorted(_layout(opcode, config)[1:], key=lambda each: each.name not in _BOOLEANS)
    return _Table(
        names=tuple(each.name for each in fields),
        flags=sum(each.name in _BOOLEANS for each in fields),
        words=np.array([each.word for each in fields]),
        shifts=np.array([each.shift for each in fields], np.uint64),
        masks=np.array([(1 << each.width) - 1 for each in fields], np.uint64),
        # The highest bit of a number with a sign, whose weight is negative.
        signs=np.array([1 << each.width - 1 if each.signed else 0 for each in fields], np.int64),
    )


def _uop_shifts(config: Config) -> tuple[tuple[str, int, int], ...]:
    source_bits = max(config.acc_bits, config.inp_bits)
    return (
        ("dst", config.acc_bits, 0),
        ("src", source_bits, config.acc_bits),
        ("wgt", config.wgt_bits, config.acc_bits + source_bits),
    )


def encode_uops(uops: Sequence[Uop], config: Config = PYNQ) -> np.ndarray:
    """Turn the micro-ops into uint32[n]; ValueError names a field that does not fit."""
    table = np.array(uops, dtype=np.int64).reshape(-1, 3)
    words = np.zeros(len(table), dtype=np.int64)
    for column, (name, width, shift) in zip(table.T, _uop_shifts(config), strict=True):
        bad = np.flatnonzero((column < 0) | (column >= 1 << width))
        if bad.size:
            value, limit = column[bad[0]], (1 << width) - 1
            raise ValueError(f"micro-op {bad[0]}: {name} is {value}, and the field holds 0 to {limit}")
        words |= column << shift
    return words.astype(np.uint32)


def uop_columns(words: np.ndarray, config: Config = PYNQ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the three fields of uint32[n] micro-ops, as int64[n]: dst, src, wgt."""
    wide = np.asarray(words, dtype=np.uint32).astype(np.int64)
    dst, src, wgt = (wide >> shift & (1 << width) - 1 for _, width, shift in _uop_shifts(config))
    return dst, src, wgt


def decode_uops(words: np.ndarray, config: Config = PYNQ) -> list[Uop]:
    """Read the micro-ops in uint32[n]."""
    return [
        Uop(*row) for row in zip(*(column.tolist() for column in uop_columns(words, config)), strict=True)
    ]


def _named(value: int, names: type[IntEnum]) -> str:
    return names(value).name if value in names._value2member_map_ else f"{names.__name__.lower()} {value}"


def _loops(instruction: Gemm | Alu, factors: str) -> str:
    """`uop 0..9, 4 × 16 times, dst 4/1 ...`: micro-ops, loops, and the factors of each operand."""
    parts = [
        f"uop {instruction.uop_bgn}..{instruction.uop_end}",
        f"loop {instruction.iter_out}x{instruction.iter_in}",
    ]
    for name in factors.split():
        parts.append(f"{name} {getattr(instruction, name + '_out')}/{getattr(instruction, name + '_in')}")
    return ", ".join(parts)


def text(instruction: Instruction) -> str:
    """Write one instruction as a line of text."""
    match instruction:
        case Load() | Store():
            body = (
                f"{_named(instruction.memory_type, Memory)} sram {instruction.sram_base}, "
                f"dram {instruction.dram_base:#x}, {instruction.y_size}x{instruction.x_size} "
                f"stride {instruction.x_stride}"
            )
            pads = [instruction.y_pad_0, instruction.y_pad_1, instruction.x_pad_0, instruction.x_pad_1]
            if any(pads):
                body += ", pad top {} bottom {} left {} right {}".format(*pads)
        case Gemm(reset=True):
            body = "reset " + _loops(instruction, "dst")
        case Gemm():
            body = _loops(instruction, "dst src wgt")
        case Alu(use_imm=True):
            operation = f"{_named(instruction.alu_opcode, AluOpcode)} {instruction.imm}"
            body = f"{operation}, {_loops(instruction, 'dst src')}"
        case Alu():
            body = f"{_named(instruction.alu_opcode, AluOpcode)}, {_loops(instruction, 'dst src')}"
        case Illegal():
            body = "{:#018x} {:#018x}".format(*instruction.words)
        case _:
            body = ""
    flags = " ".join(flag for flag in _FLAGS if getattr(instruction, flag))
    head = f"{type(instruction).__name__.upper()} {body}".rstrip()
    return f"{head} [{flags}]" if flags else head


def disassemble(words: np.ndarray, config: Config = PYNQ) -> list[str]:
    """Write the instructions in uint64[n, 2] as text, a line each."""
    return [text(instruction) for instruction in decode(words, config)]
