"""The vrmpy instructions in a Hexagon object or executable: find them, rewrite them.

Encodings: Hexagon HVX Programmer's Reference Manual (80-N2040), instruction class HVX/MPY, checked in the
tests against what LLVM assembles. A word of an HVX multiply is `0001 1ttt 000 vvvvv PP a uuuuu ooo ddddd`:
PP the parse bits (00 a duplex, 11 the end of a packet), `a` whether it accumulates, `v` the second operand,
`u` the first, `o` the operation, `d` the destination.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

EM_HEXAGON = 164

_OPERANDS = 0x001F_DF1F  # v, PP, u, d: what is not the operation
_PARSE = 0x0000_C000
_PACKET_END = 0x0000_C000
_ACCUMULATE = 0x0000_2000
_SECOND_OPERAND = 16
_NOP = 0x7F00_0000

# Operation bits of each form, without the accumulate bit where that bit is separate.
OPERATIONS: MappingProxyType[str, int] = MappingProxyType(
    {
        "vrmpyubv": 0x1C00_0000,  # Vd.uw = vrmpy(Vu.ub, Vv.ub)
        "vrmpyubv_acc": 0x1C00_2000,
        "vrmpybv": 0x1C00_0020,  # Vd.w = vrmpy(Vu.b, Vv.b)
        "vrmpybv_acc": 0x1C00_2020,
        "vrmpybusv": 0x1C00_0040,  # Vd.w = vrmpy(Vu.ub, Vv.b)
        "vrmpybusv_acc": 0x1C00_2040,
        "vrmpyub": 0x1900_0060,  # Vd.uw = vrmpy(Vu.ub, Rt.ub)
        "vrmpyub_acc": 0x1900_2080,
        "vrmpybus": 0x1900_0080,  # Vd.w = vrmpy(Vu.ub, Rt.b)
        "vrmpybus_acc": 0x1900_20A0,
    }
)
_NAMES = {bits: name for name, bits in OPERATIONS.items()}


@dataclass(frozen=True)
class Vrmpy:
    """One vrmpy instruction and the byte offset of its word in the file."""

    offset: int
    operation: str
    first: int
    second: int
    destination: int
    parse: int

    @property
    def word(self) -> int:
        """The instruction word."""
        operands = self.second << _SECOND_OPERAND | self.parse | self.first << 8 | self.destination
        return OPERATIONS[self.operation] | operands


def decode_vrmpy(word: int, offset: int = 0) -> Vrmpy | None:
    """Decode the vrmpy that a 32-bit instruction word encodes, or None."""
    name = _NAMES.get(word & ~_OPERANDS)
    parse = word & _PARSE
    if name is None or parse == 0:
        return None
    return Vrmpy(
        offset=offset,
        operation=name,
        first=word >> 8 & 31,
        second=word >> _SECOND_OPERAND & 31,
        destination=word & 31,
        parse=parse,
    )


def executable_ranges(elf: bytes) -> list[tuple[int, int]]:
    """Find the file offsets [begin, end) of the executable sections of a 32-bit little-endian Hexagon ELF.

    Raises ValueError where the bytes are no such ELF, or its section headers lead outside the file.
    """

    def half(at: int) -> int:
        return int.from_bytes(elf[at : at + 2], "little")

    def word(at: int) -> int:
        return int.from_bytes(elf[at : at + 4], "little")

    if elf[:6] != b"\x7fELF\x01\x01" or len(elf) < 52 or half(18) != EM_HEXAGON:
        raise ValueError("not a 32-bit little-endian Hexagon ELF")
    table, entry_bytes, count = word(32), half(46), half(48)
    if count and table + entry_bytes * count > len(elf):
        raise ValueError("the section headers lead outside the ELF file")
    ranges = []
    for header in range(table, table + entry_bytes * count, entry_bytes):
        kind, flags, begin, size = word(header + 4), word(header + 8), word(header + 16), word(header + 20)
        if kind == 1 and flags & 4:  # SHT_PROGBITS, SHF_EXECINSTR
            if begin + size > len(elf):
                raise ValueError("an executable section leads outside the ELF file")
            ranges.append((begin, begin + size))
    return ranges


def function_offsets(elf: bytes) -> list[int]:
    """Find the file offsets at which the functions of the symbol table begin, in order.

    Raises ValueError as `executable_ranges` does.
    """
    executable_ranges(elf)
    table, (entry_bytes, count) = int.from_bytes(elf[32:36], "little"), struct.unpack_from("<2H", elf, 46)
    sections = [struct.unpack_from("<10I", elf, table + entry_bytes * i) for i in range(count)]
    executable = elf[16:18] == b"\x02\x00"
    offsets = set()
    for _, kind, _, _, begin, size, *_ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        for at in range(begin, begin + size, 16):
            _, value, _, info, _, section = struct.unpack_from("<3I2BH", elf, at)
            if info & 15 == 2 and section < count:  # STT_FUNC
                # In an executable a symbol's value is an address, in an object its place in the section.
                base = sections[section][3] if executable else 0
                offsets.add(sections[section][4] + value - base)
    return sorted(offsets)


def _words(elf: bytes) -> Iterator[tuple[int, int]]:
    for begin, end in executable_ranges(elf):
        for offset in range(begin, end - 3, 4):
            yield offset, int.from_bytes(elf[offset : offset + 4], "little")


def find_vrmpy(elf: bytes) -> list[Vrmpy]:
    """Find every vrmpy in the executable sections of an object or executable, in file order.

    The vector-pair forms with an immediate or a register pair (vrmpybusi, vrmpyubi, v65's by Rtt) are not
    among them: no kernel here emits those.
    """
    found = (decode_vrmpy(word, offset) for offset, word in _words(elf))
    return [instruction for instruction in found if instruction is not None]


def rewrite(elf: bytes, instruction: Vrmpy, **changes: int | str) -> bytes:
    """Give the ELF with one instruction changed in the given fields (of `Vrmpy`)."""
    changed = replace(instruction, **changes)  # type: ignore[arg-type]
    at = instruction.offset
    return elf[:at] + changed.word.to_bytes(4, "little") + elf[at + 4 :]


def _is_hvx(word: int) -> bool:
    return word & _PARSE != 0 and word >> 27 in (0b00011, 0b00101)  # arithmetic, vmem


def _is_new_value_store(word: int) -> bool:
    """Whether the word is `vmem(...) = Os.new`: a store (bit 21) whose bits 7..5 or predicate say "new"."""
    if not _is_hvx(word) or word >> 27 != 0b00101 or word >> 21 & 1 == 0:
        return False
    predicated = word >> 23 & 1
    return word >> 5 & 7 in ((0b010, 0b011) if predicated else (0b001,))


def without_vrmpy(elf: bytes) -> bytes:
    """Make a twin of an ELF with a nop for every vrmpy, to count by subtraction how many are executed.

    Packets, addresses and control flow stay as they are, so the twin executes exactly as many HVX
    instructions less as the original executed vrmpy, as long as no branch depends on their results. A store
    that took the new value of a removed vrmpy stores the register's old value instead, and still counts.

    Raises ValueError where a predicated store takes the new value of a vrmpy: LLVM emits none here.
    """
    twin = bytearray(elf)
    packet: list[int] = []
    for offset, word in _words(elf):
        packet.append(offset)
        if word & _PARSE in (0, _PACKET_END):
            _remove_from_packet(twin, packet)
            packet = []
    return bytes(twin)


def _remove_from_packet(code: bytearray, packet: list[int]) -> None:
    words = [int.from_bytes(code[offset : offset + 4], "little") for offset in packet]
    removed = {i: v for i, word in enumerate(words) if (v := decode_vrmpy(word)) is not None}
    if not removed:
        return
    changed = [_NOP | word & _PARSE if i in removed else word for i, word in enumerate(words)]
    for i, word in enumerate(words):
        if not _is_new_value_store(word):
            continue
        # Bits 2..1 count HVX instructions backwards to the producer, and nops are none.
        vectors = [j for j in range(i) if _is_hvx(words[j])]
        producer = vectors[-(word >> 1 & 3)]
        if producer not in removed:
            between = sum(j in removed for j in vectors if j > producer)
            changed[i] = word - (between << 1)
        elif word >> 23 & 1:
            raise ValueError(f"the predicated store {word:#010x} takes the new value of a vrmpy")
        else:
            changed[i] = word & ~0xFF | removed[producer].destination
    for offset, word in zip(packet, changed, strict=True):
        code[offset : offset + 4] = word.to_bytes(4, "little")
