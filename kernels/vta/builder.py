"""Puts a VTA program together: tensors in DRAM, micro-ops, instructions and dependency tokens.

The builder knows the machine, not the layer: a code generator, by hand or from TensorIR, says which
elements move and what is computed with them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kernels.vta.dependencies import Access, access_of, with_tokens
from simulators.vta.config import DRAM_PAGE_BYTES, UOP_BYTES, Config
from simulators.vta.isa import (
    Alu,
    AluOpcode,
    Finish,
    Gemm,
    Instruction,
    Load,
    Memory,
    Store,
    Uop,
    encode,
    encode_uops,
)
from simulators.vta.program import Buffer, Program

Loop = tuple[int, int, int, int]
"""One loop of a GEMM or ALU instruction: count, and what each turn adds to dst, src and wgt."""

ONCE: Loop = (1, 0, 0, 0)


class Transfer(NamedTuple):
    """One LOAD or STORE, in elements; dram counts from the tensor's first. pads: top, bottom, left, right."""

    sram: int
    dram: int
    rows: int
    columns: int
    pitch: int
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


def loop(count: int, dst: int = 0, src: int = 0, wgt: int = 0) -> Loop:
    """Return a loop; one that turns once has no factors, which might not fit their fields."""
    return (count, dst, src, wgt) if count > 1 else (count, 0, 0, 0)


class Builder:
    """A program in the making, for one configuration."""

    def __init__(self, config: Config) -> None:
        widths = (config.inp_width, config.wgt_width, config.acc_width)
        if widths != (8, 8, 32):
            raise ValueError(
                f"programs are generated for data, weights and accumulators of 8, 8 and 32 bits, not {widths}"
            )
        self.config = config
        self._buffers: list[Buffer] = []
        self._top = DRAM_PAGE_BYTES
        self._stream: list[Instruction] = []
        self._executed: list[tuple[Uop, ...]] = []
        self._table: list[Uop] = []
        self._places: dict[tuple[Uop, ...], int] = {}
        self._resident: dict[tuple[Uop, ...], int] = {}
        self._used = 0
        self._counters = dict.fromkeys(
            (
                "inp_load_nbytes",
                "wgt_load_nbytes",
                "acc_load_nbytes",
                "uop_load_nbytes",
                "out_store_nbytes",
                "gemm_counter",
                "alu_counter",
            ),
            0,
        )

    def buffer(self, name: str, role: str, shape: Sequence[int], dtype: str) -> Buffer:
        """Give a tensor its place in DRAM, at the beginning of a page."""
        made = Buffer(name, role, self._top, tuple(shape), dtype)
        self._buffers.append(made)
        self._top += -(-made.nbytes // DRAM_PAGE_BYTES) * DRAM_PAGE_BYTES
        return made

    def _emit(self, instruction: Instruction, kernel: tuple[Uop, ...] = ()) -> None:
        self._stream.append(instruction)
        self._executed.append(kernel)

    # Instructions ---------------------------------------------------------------------------------

    def load(self, memory: Memory, source: Buffer | None, moved: Transfer) -> None:
        """LOAD from a tensor; None is the table of micro-ops, whose place is known when all is there."""
        self._transfer(Load, memory, source, moved)

    def store(self, target: Buffer, moved: Transfer) -> None:
        """STORE the low bytes of accumulators to a tensor."""
        self._transfer(Store, Memory.OUT, target, moved)

    def _transfer(
        self, kind: type[Load | Store], memory: Memory, tensor: Buffer | None, moved: Transfer
    ) -> None:
        nbytes, counter = {
            Memory.UOP: (UOP_BYTES, "uop_load_nbytes"),
            Memory.WGT: (self.config.wgt_bytes, "wgt_load_nbytes"),
            Memory.INP: (self.config.inp_bytes, "inp_load_nbytes"),
            Memory.ACC: (self.config.acc_bytes, "acc_load_nbytes"),
            Memory.ACC_8BIT: (self.config.inp_bytes, "acc_load_nbytes"),
            Memory.OUT: (self.config.inp_bytes, "out_store_nbytes"),
        }[memory]
        self._counters[counter] += moved.rows * moved.columns * nbytes
        top, bottom, left, right = moved.pads
        self._emit(
            kind(
                memory_type=memory,
                sram_base=moved.sram,
                dram_base=(tensor.address // nbytes if tensor else 0) + moved.dram,
                y_size=moved.rows,
                x_size=moved.columns,
                x_stride=moved.pitch,
                y_pad_0=top,
                y_pad_1=bottom,
                x_pad_0=left,
                x_pad_1=right,
            ),
        )

    def gemm(self, kernel: Sequence[Uop], outer: Loop = ONCE, inner: Loop = ONCE) -> None:
        """GEMM over two loops and the micro-ops of a kernel."""
        self._counters["gemm_counter"] += outer[0] * inner[0] * len(kernel)
        self._compute(Gemm, kernel, outer, inner, wgt_out=outer[3], wgt_in=inner[3])

    def clear(self, kernel: Sequence[Uop], outer: Loop = ONCE, inner: Loop = ONCE) -> None:
        """GEMM with reset: zero the accumulators that two loops and the micro-ops of a kernel reach."""
        self._compute(Gemm, kernel, (*outer[:2], 0, 0), (*inner[:2], 0, 0), reset=True)

    def alu(
        self,
        opcode: AluOpcode,
        kernel: Sequence[Uop],
        outer: Loop = ONCE,
        inner: Loop = ONCE,
        *,
        immediate: int | None = None,
    ) -> None:
        """ALU over two loops and the micro-ops of a kernel, with an immediate or else acc[src]."""
        self._counters["alu_counter"] += outer[0] * inner[0] * len(kernel)
        number, used = immediate or 0, immediate is not None
        self._compute(Alu, kernel, outer, inner, alu_opcode=opcode, use_imm=used, imm=number)

    def _compute(
        self, kind: type[Gemm | Alu], kernel: Sequence[Uop], outer: Loop, inner: Loop, **fields: Any
    ) -> None:
        kernel = tuple(kernel)
        begin = self._kernel(kernel)
        loops: dict[str, Any] = {
            "uop_bgn": begin,
            "uop_end": begin + len(kernel),
            "iter_out": outer[0],
            "iter_in": inner[0],
            "dst_out": outer[1],
            "dst_in": inner[1],
            "src_out": outer[2],
            "src_in": inner[2],
        }
        self._emit(kind(**loops, **fields), kernel)

    def _kernel(self, kernel: tuple[Uop, ...]) -> int:
        """Return where in the UOP memory a kernel begins, after loading it where it is not there.

        Equal kernels share their micro-ops in DRAM. Where the memory is full all of it is given up.
        """
        if len(kernel) > self.config.uop_depth:
            raise ValueError(f"a kernel of {len(kernel)} micro-ops, and UOP holds {self.config.uop_depth}")
        if kernel not in self._places:
            self._places[kernel] = len(self._table)
            self._table.extend(kernel)
        if kernel not in self._resident:
            if self._used + len(kernel) > self.config.uop_depth:
                self._resident.clear()
                self._used = 0
            moved = Transfer(self._used, self._places[kernel], 1, len(kernel), len(kernel))
            self.load(Memory.UOP, None, moved)
            self._resident[kernel] = self._used
            self._used += len(kernel)
        return self._resident[kernel]

    def finish(self) -> Program:
        """End the stream and put the tokens in; every result is in DRAM when FINISH is executed."""
        self._emit(Finish())
        table = self.buffer("uop", "uop", (len(self._table),), "uint32")
        base = table.address // UOP_BYTES
        stream = [
            replace(each, dram_base=each.dram_base + base)
            if isinstance(each, Load) and each.memory_type == Memory.UOP
            else each
            for each in self._stream
        ]
        return Program(
            config=self.config,
            insns=encode(with_tokens(stream, self._accesses(stream), self.config), self.config),
            uops=encode_uops(self._table, self.config),
            buffers=tuple(self._buffers),
            dram_nbytes=self._top,
            counters=dict(self._counters),
        )

    def _accesses(self, stream: Sequence[Instruction]) -> list[Access]:
        """Return what each instruction touches; equal GEMM and ALU instructions touch the same."""
        known: dict[tuple, Access] = {}
        found = []
        for instruction, kernel in zip(stream, self._executed, strict=True):
            key = (instruction, kernel)
            if key not in known:
                known[key] = access_of(instruction, kernel, self.config)
            found.append(known[key])
        return found
