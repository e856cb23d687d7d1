"""VTA's four SRAMs, and the two-dimensional transfers between them and DRAM.

Source: `SRAM::Load`, `SRAM::LoadInt8` and `Device::RunStore` of VTA's functional simulator. Where that one
reads or writes outside a memory, wraps an address or loses bits without a word, this one says so.
"""

from dataclasses import dataclass

import numpy as np

from simulators.vta.config import DRAM_PAGE_BYTES, UOP_BYTES, Config
from simulators.vta.isa import Load, Memory, Store


class TrapError(Exception):
    """An instruction that cannot be executed; `kind` is the finding's."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


COUNTERS = {
    Memory.UOP: "uop_load_nbytes",
    Memory.WGT: "wgt_load_nbytes",
    Memory.INP: "inp_load_nbytes",
    Memory.ACC: "acc_load_nbytes",
    Memory.ACC_8BIT: "acc_load_nbytes",
    Memory.OUT: "out_store_nbytes",
}


def element_bytes(memory: int, config: Config) -> int:
    """Bytes in DRAM of one element of a memory."""
    return {
        Memory.UOP: UOP_BYTES,
        Memory.WGT: config.wgt_bytes,
        Memory.INP: config.inp_bytes,
        Memory.ACC: config.acc_bytes,
        Memory.OUT: config.inp_bytes,
        Memory.ACC_8BIT: config.inp_bytes,
    }[Memory(memory)]


@dataclass
class Sram:
    """The contents of the four memories.

    `inp` and `wgt` hold int8 values as float32, because the matrix product reads them as such. OUT has no
    array of its own: in the functional simulator a STORE reads the low bytes of the accumulators.
    """

    uop: np.ndarray
    inp: np.ndarray
    wgt: np.ndarray
    acc: np.ndarray

    @classmethod
    def cleared(cls, config: Config) -> "Sram":
        """All memories with zeros in them."""
        return cls(
            uop=np.zeros(config.uop_depth, np.uint32),
            inp=np.zeros((config.inp_depth, config.batch, config.block), np.float32),
            wgt=np.zeros((config.wgt_depth, config.block, config.block), np.float32),
            acc=np.zeros((config.acc_depth, config.batch, config.block), np.int32),
        )

    def of(self, memory: int) -> np.ndarray:
        """Return the array behind a memory id."""
        return {
            Memory.UOP: self.uop,
            Memory.WGT: self.wgt,
            Memory.INP: self.inp,
            Memory.ACC: self.acc,
            Memory.OUT: self.acc,
            Memory.ACC_8BIT: self.acc,
        }[Memory(memory)]


def _dram_rows(dram: np.ndarray, transfer: Load | Store, element: int) -> np.ndarray:
    """View DRAM as uint8[y_size, x_size * element], rows x_stride elements apart; TrapError outside it."""
    first = transfer.dram_base * element
    pitch, width = transfer.x_stride * element, transfer.x_size * element
    last = first + max(transfer.y_size - 1, 0) * pitch + (width if transfer.y_size else 1) - 1
    if first < DRAM_PAGE_BYTES:
        raise TrapError(
            "dram-out-of-range",
            f"address {first:#x} lies in the first page, which is never valid (below 0x1000)",
        )
    if last >= dram.size:
        raise TrapError(
            "dram-out-of-range", f"bytes {first:#x} to {last:#x} of a DRAM of {dram.size:#x} bytes"
        )
    if transfer.y_size == 0:
        return np.empty((0, width), np.uint8)
    return np.lib.stride_tricks.as_strided(dram[first:], (transfer.y_size, width), (pitch, 1))


def load(sram: Sram, dram: np.ndarray, instruction: Load, config: Config) -> int:
    """Execute a LOAD whose x_size is not zero; return the bytes read from DRAM. TrapError out of range."""
    memory = sram.of(instruction.memory_type)
    wide = instruction.x_pad_0 + instruction.x_size + instruction.x_pad_1
    high = instruction.y_pad_0 + instruction.y_size + instruction.y_pad_1
    begin, end = instruction.sram_base, instruction.sram_base + wide * high
    if end > len(memory):
        name = Memory(instruction.memory_type).name
        raise TrapError(
            "sram-out-of-range", f"elements {begin} to {end - 1} of {name}, which holds {len(memory)}"
        )
    element = element_bytes(instruction.memory_type, config)
    rows = _dram_rows(dram, instruction, element)
    dtype = {Memory.UOP: np.dtype("<u4"), Memory.ACC: np.dtype("<i4")}.get(
        Memory(instruction.memory_type), np.dtype(np.int8)
    )
    values = np.ascontiguousarray(rows).view(dtype)
    target = memory[begin:end].reshape(high, wide, *memory.shape[1:])
    inner = target[
        instruction.y_pad_0 : instruction.y_pad_0 + instruction.y_size,
        instruction.x_pad_0 : instruction.x_pad_0 + instruction.x_size,
    ]
    if inner.size != target.size:
        target[:] = 0
    inner[:] = values.reshape(inner.shape)
    return rows.size


def store(sram: Sram, dram: np.ndarray, instruction: Store, config: Config) -> tuple[int, int]:
    """Execute a STORE whose x_size is not zero; return bytes written and elements that lost bits."""
    begin, end = instruction.sram_base, instruction.sram_base + instruction.y_size * instruction.x_size
    if end > len(sram.acc):
        raise TrapError(
            "sram-out-of-range", f"elements {begin} to {end - 1} of OUT, which holds {len(sram.acc)}"
        )
    element = element_bytes(Memory.OUT, config)
    rows = _dram_rows(dram, instruction, element)
    values = sram.acc[begin:end]
    low = values.astype(np.int8)
    lost = int(np.count_nonzero(low != values))
    data = low.view(np.uint8).reshape(rows.shape)
    if instruction.x_stride < instruction.x_size:
        # Rows overlap in DRAM: the later row wins, which one assignment would not promise.
        for row, new in zip(rows, data, strict=True):
            row[:] = new
    else:
        rows[:] = data
    return rows.size, lost
