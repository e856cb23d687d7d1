"""Puts a VTA program together: tensors in DRAM, micro-ops, instructions and dependency tokens.

The builder knows the machine, not the layer: a code generator, by hand or from TensorIR, says which
elements move and what is computed with them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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


def loop(count: int, dst: int = 0, src: int = 0, wgt: int = 0) -> Loop:
    """Return a loop; one that turns once has no factors, which might not fit their fields."""
    return (count, dst, src, wgt) if count > 1 else (count, 0, 0, 0)


_LINE = ("load", "compute", "store")


class Builder:
    """A program in the making, for one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._buffers: list[Buffer] = []
        self._top = DRAM_PAGE_BYTES
        self._stream: list[Instruction] = []
        self._last: dict[str, int] = {}
        self._pending: dict[str, set[str]] = {engine: set() for engine in _LINE}
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

    # Tokens ---------------------------------------------------------------------------------------

    def signal(self, source: str, target: str) -> None:
        """Let the last instruction of one engine put a token into its queue to a neighbour."""
        flag = "push_next" if _LINE.index(target) > _LINE.index(source) else "push_prev"
        place = self._last[source]
        if getattr(self._stream[place], flag):
            raise ValueError(f"instruction {place} already signals {target}")
        raised: dict[str, Any] = {flag: True}
        self._stream[place] = replace(self._stream[place], **raised)

    def wait(self, engine: str, source: str) -> None:
        """Let the next instruction of an engine wait for a token of its neighbour."""
        self._pending[engine].add("pop_next" if _LINE.index(source) > _LINE.index(engine) else "pop_prev")

    def _emit(self, engine: str, instruction: Instruction) -> None:
        flags: dict[str, Any] = dict.fromkeys(self._pending[engine], True)
        self._pending[engine].clear()
        self._last[engine] = len(self._stream)
        self._stream.append(replace(instruction, **flags))

    # Instructions ---------------------------------------------------------------------------------

    def load(
        self,
        memory: Memory,
        source: Buffer | None,
        *,
        sram: int,
        element: int,
        rows: int,
        columns: int,
        pitch: int,
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        """LOAD rows x columns elements from element `element` of a tensor; pads top, bottom, left, right.

        The source None is the table of micro-ops, which has its place only when the program is finished.
        """
        nbytes, counter = {
            Memory.UOP: (UOP_BYTES, "uop_load_nbytes"),
            Memory.WGT: (self.config.wgt_bytes, "wgt_load_nbytes"),
            Memory.INP: (self.config.inp_bytes, "inp_load_nbytes"),
            Memory.ACC: (self.config.acc_bytes, "acc_load_nbytes"),
        }[memory]
        self._counters[counter] += rows * columns * nbytes
        self._emit(
            "load" if memory in (Memory.INP, Memory.WGT) else "compute",
            Load(
                memory_type=memory,
                sram_base=sram,
                dram_base=(source.address // nbytes if source else 0) + element,
                y_size=rows,
                x_size=columns,
                x_stride=pitch,
                y_pad_0=pads[0],
                y_pad_1=pads[1],
                x_pad_0=pads[2],
                x_pad_1=pads[3],
            ),
        )

    def store(self, target: Buffer, *, sram: int, element: int, rows: int, columns: int, pitch: int) -> None:
        """STORE rows x columns elements of OUT to element `element` of a tensor."""
        self._counters["out_store_nbytes"] += rows * columns * self.config.inp_bytes
        self._emit(
            "store",
            Store(
                memory_type=Memory.OUT,
                sram_base=sram,
                dram_base=target.address // self.config.inp_bytes + element,
                y_size=rows,
                x_size=columns,
                x_stride=pitch,
            ),
        )

    def gemm(self, kernel: Sequence[Uop], outer: Loop = ONCE, inner: Loop = ONCE) -> None:
        """GEMM over two loops and the micro-ops of a kernel."""
        begin = self._kernel(tuple(kernel))
        self._counters["gemm_counter"] += outer[0] * inner[0] * len(kernel)
        self._emit(
            "compute",
            Gemm(
                uop_bgn=begin,
                uop_end=begin + len(kernel),
                iter_out=outer[0],
                iter_in=inner[0],
                dst_out=outer[1],
                dst_in=inner[1],
                src_out=outer[2],
                src_in=inner[2],
                wgt_out=outer[3],
                wgt_in=inner[3],
            ),
        )

    def clear(self, count: int) -> None:
        """GEMM with reset: zero the accumulators 0 to count - 1."""
        begin = self._kernel((Uop(0, 0),))
        self._emit(
            "compute", Gemm(reset=True, uop_bgn=begin, uop_end=begin + 1, iter_out=1, iter_in=count, dst_in=1)
        )

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
        begin = self._kernel(tuple(kernel))
        self._counters["alu_counter"] += outer[0] * inner[0] * len(kernel)
        self._emit(
            "compute",
            Alu(
                alu_opcode=opcode,
                use_imm=immediate is not None,
                imm=immediate or 0,
                uop_bgn=begin,
                uop_end=begin + len(kernel),
                iter_out=outer[0],
                iter_in=inner[0],
                dst_out=outer[1],
                dst_in=inner[1],
                src_out=outer[2],
                src_in=inner[2],
            ),
        )

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
            self.load(
                Memory.UOP,
                None,
                sram=self._used,
                element=self._places[kernel],
                rows=1,
                columns=len(kernel),
                pitch=len(kernel),
            )
            self._resident[kernel] = self._used
            self._used += len(kernel)
        return self._resident[kernel]

    def finish(self) -> Program:
        """End the stream; every result is in DRAM when FINISH is executed."""
        self.signal("store", "compute")
        self.wait("compute", "store")
        self._emit("compute", Finish())
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
            insns=encode(stream, self.config),
            uops=encode_uops(self._table, self.config),
            buffers=tuple(self._buffers),
            dram_nbytes=self._top,
            counters=dict(self._counters),
        )
