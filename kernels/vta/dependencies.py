"""Dependency tokens, from what each instruction reads and writes.

Two instructions depend on one another where both touch the same element of a memory, or the same bytes of
DRAM, and at least one of them writes it. The stream's order says which comes first. Instructions of one
engine need no token: an engine executes in order. Between two neighbours in the line load, compute, store a
token is a pair (source, target), and as their queue is first in, first out, the pairs of a queue have to grow
in both. Of all pairs that the dependencies ask for those are kept that no other pair implies: fewer tokens
leave two dependent instructions without an order.

Load and store are no neighbours: what they share in DRAM is ordered through an instruction of compute.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from simulators.vta.config import DRAM_PAGE_BYTES, UOP_BYTES, Config
from simulators.vta.isa import Alu, Finish, Gemm, Instruction, Load, Memory, Store, Uop

LINE = ("load", "compute", "store")
_PHYSICAL = {Memory.OUT: Memory.ACC, Memory.ACC_8BIT: Memory.ACC}


def _no_rows() -> np.ndarray:
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class Access:
    """What one instruction touches: elements of the memories, and rows of bytes in DRAM.

    reads, writes: element indices by memory (OUT is ACC: a store reads the accumulators). dram_reads,
    dram_writes: int64[rows, 2], first byte and end of each row.
    """

    reads: Mapping[Memory, np.ndarray] = field(default_factory=dict)
    writes: Mapping[Memory, np.ndarray] = field(default_factory=dict)
    dram_reads: np.ndarray = field(default_factory=_no_rows)
    dram_writes: np.ndarray = field(default_factory=_no_rows)


def engine_of(instruction: Instruction) -> str:
    """Return the engine that executes an instruction: STORE, the LOADs of INP and WGT, and all else."""
    if isinstance(instruction, Store):
        return "store"
    if isinstance(instruction, Load) and instruction.memory_type in (Memory.INP, Memory.WGT):
        return "load"
    return "compute"


def with_tokens(
    instructions: Sequence[Instruction], accesses: Sequence[Access], config: Config
) -> list[Instruction]:
    """Return the stream with the fewest tokens that order every two dependent instructions.

    A FINISH follows everything before it. A LOAD that moves nothing is
    put in where load and store depend on one another and no compute instruction stands between them.
    """
    stream = _Stream(config)
    for instruction, access in zip(instructions, accesses, strict=True):
        stream.append(instruction, access)
    return stream.finished()


class _Stream:
    """Instructions so far, who touched what last, and which pairs need an order."""

    def __init__(self, config: Config) -> None:
        self._instructions: list[Instruction] = []
        self._last_of: dict[str, int] = {}
        # For each memory and engine: the last instruction that read, and that wrote, each element.
        self._touched = {
            (kind, memory, engine): np.full(depth, -1)
            for memory, depth in (
                (Memory.UOP, config.uop_depth),
                (Memory.INP, config.inp_depth),
                (Memory.WGT, config.wgt_depth),
                (Memory.ACC, config.acc_depth),
            )
            for engine in LINE
            for kind in ("read", "write")
        }
        # By page of DRAM: who touched it, whether it wrote, and which rows of bytes.
        self._dram: dict[int, list[tuple[int, str, bool, np.ndarray]]] = {}
        self._needs: dict[tuple[str, str], dict[int, int]] = {}

    def append(self, instruction: Instruction, access: Access) -> None:
        here = engine_of(instruction)
        sources: dict[str, int] = dict(self._last_of) if isinstance(instruction, Finish) else {}
        for source, place in self._sram_sources(access):
            sources[source] = max(sources.get(source, -1), place)
        for source, place in self._dram_sources(here, access):
            sources[source] = max(sources.get(source, -1), place)
        for source, place in sources.items():
            if place >= 0 and source != here:
                self._need(source, place, here)
        index = len(self._instructions)
        self._instructions.append(instruction)
        self._last_of[here] = index
        self._record(index, here, access)

    def _sram_sources(self, access: Access) -> Iterable[tuple[str, int]]:
        """For each engine, the last instruction that this one has to follow for what lies in SRAM."""
        for elements, kinds in ((access.reads, ("write",)), (access.writes, ("read", "write"))):
            for memory, indices in elements.items():
                for kind in kinds:
                    for engine in LINE:
                        last = self._touched[kind, _PHYSICAL.get(memory, memory), engine]
                        yield engine, int(last[indices].max(initial=-1))

    def _dram_sources(self, here: str, access: Access) -> Iterable[tuple[str, int]]:
        for mine, writes in ((access.dram_reads, False), (access.dram_writes, True)):
            for page in _pages(mine):
                for index, engine, wrote, theirs in self._dram.get(page, ()):
                    if engine != here and (writes or wrote) and _overlap(mine, theirs):
                        yield engine, index

    def _record(self, index: int, engine: str, access: Access) -> None:
        for kind, elements in (("read", access.reads), ("write", access.writes)):
            for memory, indices in elements.items():
                self._touched[kind, _PHYSICAL.get(memory, memory), engine][indices] = index
        for rows, wrote in ((access.dram_reads, False), (access.dram_writes, True)):
            for page in _pages(rows):
                self._dram.setdefault(page, []).append((index, engine, wrote, rows))

    def _need(self, source: str, place: int, target: str) -> None:
        """The instruction that comes next, on engine `target`, has to follow the one at `place`."""
        index = len(self._instructions)
        if abs(LINE.index(source) - LINE.index(target)) == 1:
            self._pair(source, place, target, index)
            return
        between = self._last_of.get("compute", -1)
        if between < place:
            nothing = Load(memory_type=Memory.UOP, sram_base=0, dram_base=0, y_size=0, x_size=0, x_stride=0)
            self._instructions.append(nothing)
            self._last_of["compute"] = between = index
            index += 1
        self._pair(source, place, "compute", between)
        self._pair("compute", between, target, index)

    def _pair(self, source: str, first: int, target: str, then: int) -> None:
        needs = self._needs.setdefault((source, target), {})
        needs[then] = max(needs.get(then, -1), first)

    def finished(self) -> list[Instruction]:
        flags: list[dict[str, Any]] = [{} for _ in self._instructions]
        for (source, target), needs in self._needs.items():
            forward = LINE.index(target) > LINE.index(source)
            latest = -1
            for then, first in sorted(needs.items()):
                if first > latest:
                    latest = first
                    flags[first]["push_next" if forward else "push_prev"] = True
                    flags[then]["pop_prev" if forward else "pop_next"] = True
        return [replace(each, **flag) for each, flag in zip(self._instructions, flags, strict=True)]


def _pages(rows: np.ndarray) -> range:
    """Return the pages between the first and the last byte of the rows."""
    if not len(rows):
        return range(0)
    return range(int(rows[:, 0].min()) // DRAM_PAGE_BYTES, -(-int(rows[:, 1].max()) // DRAM_PAGE_BYTES))


def _overlap(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether any of the rows shares a byte with any of the others."""
    if rows[:, 0].min() >= others[:, 1].max() or others[:, 0].min() >= rows[:, 1].max():
        return False
    order = np.argsort(others[:, 0], kind="stable")
    begins, ends = others[order, 0], np.maximum.accumulate(others[order, 1])
    before = np.searchsorted(begins, rows[:, 1], side="left") - 1
    return bool(((before >= 0) & (ends[np.maximum(before, 0)] > rows[:, 0])).any())


def access_of(instruction: Instruction, kernel: Sequence[Uop], config: Config) -> Access:
    """Return what an instruction touches; kernel: the micro-ops that it executes."""
    uops = np.array(kernel, dtype=np.int64).reshape(-1, 3)
    element_bytes = {
        Memory.UOP: UOP_BYTES,
        Memory.WGT: config.wgt_bytes,
        Memory.INP: config.inp_bytes,
        Memory.ACC: config.acc_bytes,
        Memory.OUT: config.inp_bytes,
        Memory.ACC_8BIT: config.inp_bytes,
    }
    match instruction:
        case Load() | Store():
            memory = Memory(instruction.memory_type)
            rows = _rows(instruction, element_bytes[memory])
            wide = instruction.x_pad_0 + instruction.x_size + instruction.x_pad_1
            high = instruction.y_pad_0 + instruction.y_size + instruction.y_pad_1
            elements = np.arange(instruction.sram_base, instruction.sram_base + wide * high)
            if isinstance(instruction, Load):
                return Access(writes={memory: elements}, dram_reads=rows)
            return Access(reads={memory: elements}, dram_writes=rows)
        case Gemm():
            dst = _reached(uops[:, 0], instruction, "dst")
            if instruction.reset:
                return Access(writes={Memory.ACC: dst})
            operands = {
                Memory.INP: _reached(uops[:, 1], instruction, "src"),
                Memory.WGT: _reached(uops[:, 2], instruction, "wgt"),
            }
            return Access(reads={Memory.ACC: dst, **operands}, writes={Memory.ACC: dst})
        case Alu():
            dst = _reached(uops[:, 0], instruction, "dst")
            # Some backends read src with an immediate too.
            src = _reached(uops[:, 1], instruction, "src")
            return Access(reads={Memory.ACC: np.union1d(dst, src)}, writes={Memory.ACC: dst})
        case _:
            return Access()


def _rows(transfer: Load | Store, element: int) -> np.ndarray:
    begins = (transfer.dram_base + np.arange(transfer.y_size) * transfer.x_stride) * element
    return np.stack([begins, begins + transfer.x_size * element], axis=1)


def _reached(base: np.ndarray, instruction: Gemm | Alu, operand: str) -> np.ndarray:
    """Return the elements that one operand reaches over micro-ops and loops, each once."""
    reached = np.unique(base)
    for count, factor in (
        (instruction.iter_in, getattr(instruction, f"{operand}_in")),
        (instruction.iter_out, getattr(instruction, f"{operand}_out")),
    ):
        if count != 1 and factor:
            reached = np.unique(reached[:, None] + np.arange(count) * factor)
    return reached
