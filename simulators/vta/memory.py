"""VTA's SRAMs, and the two-dimensional transfers between them and DRAM.

Source: `SRAM::Load`, `SRAM::LoadInt8` and `Device::RunStore` of VTA's functional simulator; what other
backends do differently is in `profiles`. Where a backend reads or writes outside a memory, wraps an address
or loses bits without a word, this one says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulators.vta.config import DRAM_PAGE_BYTES, UOP_BYTES, Config
from simulators.vta.hazards import Rows, Span
from simulators.vta.isa import Load, Memory, Store
from simulators.vta.profiles import Profile

# With profiles whose pads may be the smallest number: the top bit of dram_base (bit 57 of the word) asks.
MINIMUM_BIT = 31


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
    return _element_bytes(config)[memory]


@lru_cache(maxsize=64)
def _element_bytes(config: Config) -> dict[int, int]:
    return {
        Memory.UOP: UOP_BYTES,
        Memory.WGT: config.wgt_bytes,
        Memory.INP: config.inp_bytes,
        Memory.ACC: config.acc_bytes,
        Memory.OUT: config.inp_bytes,
        Memory.ACC_8BIT: config.inp_bytes,
    }


@lru_cache(maxsize=64)
def _depths(config: Config) -> dict[str, int]:
    return {
        "UOP": config.uop_depth,
        "INP": config.inp_depth,
        "WGT": config.wgt_depth,
        "ACC": config.acc_depth,
    }


# A memory by its number, and the SRAM that it is.
_KINDS = {int(each): (each, "ACC" if each == Memory.ACC_8BIT else each.name) for each in COUNTERS}


@dataclass
class Sram:
    """The contents of the memories, and which elements anything was ever written to.

    `inp` and `wgt` hold integers as floats, because the matrix product reads them as such. `out` is there
    where the backend has it: in the functional simulator a STORE reads the low bits of the accumulators.
    """

    uop: np.ndarray
    inp: np.ndarray
    wgt: np.ndarray
    acc: np.ndarray
    out: np.ndarray | None = None
    defined: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def cleared(cls, config: Config, *, output_memory: bool = False) -> "Sram":
        """All memories with zeros in them, which nobody wrote."""
        tile, exact = (config.batch, config.block), config.product_dtype
        made = cls(
            uop=np.zeros(config.uop_depth, np.uint32),
            inp=np.zeros((config.inp_depth, *tile), exact),
            wgt=np.zeros((config.wgt_depth, config.block, config.block), exact),
            acc=np.zeros((config.acc_depth, *tile), config.acc_dtype),
            out=np.zeros((config.acc_depth, *tile), config.inp_dtype) if output_memory else None,
        )
        made.defined = {name: np.zeros(len(array), np.bool_) for name, array in made.items()}
        return made

    def items(self) -> Iterable[tuple[str, np.ndarray]]:
        """Yield the memories by name."""
        for name in ("UOP", "INP", "WGT", "ACC", "OUT"):
            array = getattr(self, name.lower())
            if array is not None:
                yield name, array

    def define(self) -> None:
        """Let every element count as written, as if a program before had left what is there now."""
        for each in self.defined.values():
            each[:] = True

    def copy(self) -> "Sram":
        """Return memories of their own with the same contents."""
        arrays = {name.lower(): array.copy() for name, array in self.items()}
        return Sram(**arrays, defined={name: each.copy() for name, each in self.defined.items()})

    def undefined(self, name: str, span: Span) -> int:
        """Return how many elements of a set nobody wrote."""
        written = self.defined[name][span.key]
        return 0 if written.all() else int(written.size - np.count_nonzero(written))


def _low(values: np.ndarray, bits: int, dtype: np.dtype) -> np.ndarray:
    """The low bits of integers, as signed numbers."""
    low = values.astype(dtype)
    gone = 8 * dtype.itemsize - bits
    return (low << gone) >> gone if gone else low


def low_bits(values: np.ndarray, config: Config) -> np.ndarray:
    """Return what OUT holds of accumulators: their low bits, as wide as INP, with the sign of the highest."""
    return _low(values, config.inp_width, config.inp_dtype)


class Transfer(NamedTuple):
    """A LOAD or STORE that does something: its elements in SRAM, its bytes in DRAM, its place in between."""

    memory: Memory
    name: str
    sram: Span
    dram: Span | Rows | None
    first: int
    rows: int
    columns: int
    pitch: int
    element: int
    box: tuple[int, int, int, int]
    padding: int
    behaviour: str

    @property
    def nbytes(self) -> int:
        """Bytes that move."""
        return self.rows * self.columns * self.element


def _bytes_in_dram(instruction: Load | Store, element: int) -> Span | Rows:
    """The bytes that a transfer reads or writes; TrapError in the first page."""
    first = instruction.dram_base * element
    pitch, width = instruction.x_stride * element, instruction.x_size * element
    if first < DRAM_PAGE_BYTES:
        raise TrapError(
            "dram-out-of-range",
            f"address {first:#x} lies in the first page, which is never valid (below 0x1000)",
        )
    rows = instruction.y_size
    if rows == 0:
        return Span(first, first + 1)
    high = first + (rows - 1) * pitch + width
    if rows == 1 or pitch <= width:
        return Span(first, high)
    return Rows(first, high, pitch, width)


def check_dram(transfer: Transfer, dram: np.ndarray) -> None:
    """TrapError where a transfer reaches beyond DRAM."""
    if transfer.dram is not None and transfer.dram.high > dram.size:
        low, high = transfer.dram[:2]
        raise TrapError(
            "dram-out-of-range", f"bytes {low:#x} to {high - 1:#x} of a DRAM of {dram.size:#x} bytes"
        )


def _as_read(load: Load, profile: Profile) -> tuple[Load | None, str]:
    """Return the LOAD that a backend makes of one, or None for nothing, and the behaviour that changed it."""
    kind = load.memory_type
    pads = bool(load.y_pad_0 or load.y_pad_1 or load.x_pad_0 or load.x_pad_1)
    if kind == Memory.ACC_8BIT and profile.acc_8bit == "nothing":
        return None, "acc_8bit" if load.x_size else ""
    if kind == Memory.UOP and profile.uop_load != "rows" and load.x_size and (pads or load.y_size != 1):
        one = replace(_unpadded(load), y_size=1) if profile.uop_load == "one-row" else load
        return one, "uop_load"
    if kind == Memory.WGT and profile.weight_pads != "zeros" and pads and load.x_size:
        return (_unpadded(load) if profile.weight_pads == "ignored" else load), "weight_pads"
    if load.x_size == 0:
        known = profile.empty_load == "nothing"
        writes = profile.empty_load == "pads" and kind in (Memory.INP, Memory.ACC) and pads
        return (load if writes else None), ("empty_load" if pads and not known else "")
    return load, ""


def _unpadded(load: Load) -> Load:
    return replace(load, y_pad_0=0, y_pad_1=0, x_pad_0=0, x_pad_1=0)


def plan_load(load: Load, config: Config, profile: Profile) -> Transfer | None:
    """Return what a LOAD does on a backend; None for nothing. TrapError outside SRAM or in the first page.

    A LOAD that differs from the functional simulator's names the behaviour, even where it does nothing:
    then its memory is empty.
    """
    minimum = profile.pad_value == "zero-or-minimum" and load.dram_base >> MINIMUM_BIT
    if minimum:
        load = replace(load, dram_base=load.dram_base & (1 << MINIMUM_BIT) - 1)
    kept, behaviour = _as_read(load, profile)
    behaviour = behaviour or ("pad_value" if minimum else "")
    kind, name = _KINDS.get(load.memory_type, _KINDS[Memory.UOP])
    if kept is None:
        if not behaviour:
            return None
        return Transfer(kind, name, Span(0, 0), None, 0, 0, 0, 0, 0, (0, 0, 0, 0), 0, behaviour)
    load = kept
    wide = load.x_pad_0 + load.x_size + load.x_pad_1
    high = load.y_pad_0 + load.y_size + load.y_pad_1
    end = load.sram_base + wide * high
    _check_sram(load.sram_base, end, kind.name, _depths(config)[name], profile)
    element = element_bytes(kind, config)
    return Transfer(
        memory=kind,
        name=name,
        sram=Span(load.sram_base, end),
        dram=_bytes_in_dram(load, element) if load.x_size else None,
        first=load.dram_base * element,
        rows=load.y_size,
        columns=load.x_size,
        pitch=load.x_stride * element,
        element=element,
        box=(high, wide, load.y_pad_0, load.x_pad_0),
        padding=_padding(kind, config) if minimum else 0,
        behaviour=behaviour,
    )


def _padding(kind: Memory, config: Config) -> int:
    """The smallest number of a memory; UOP has none."""
    bits = {Memory.INP: config.inp_width, Memory.WGT: config.wgt_width, Memory.UOP: 0}
    width = bits.get(kind, config.acc_width)
    return -(1 << width - 1) if width else 0


def _check_sram(begin: int, end: int, name: str, depth: int, profile: Profile) -> None:
    if end > depth:
        wraps = f"; {profile.name} would wrap to element {(end - 1) % depth}"
        raise TrapError(
            "sram-out-of-range",
            f"elements {begin} to {end - 1} of {name}, which holds {depth}"
            + (wraps if profile.bounds == "wraps" else ""),
        )


def plan_store(store: Store, config: Config, profile: Profile) -> Transfer | None:
    """Return what a STORE does; None for nothing. TrapError outside OUT or in the first page of DRAM."""
    if not store.x_size:
        return None
    end = store.sram_base + store.y_size * store.x_size
    _check_sram(store.sram_base, end, "OUT", config.acc_depth, profile)
    element = element_bytes(Memory.OUT, config)
    return Transfer(
        memory=Memory.OUT,
        name="OUT" if profile.stored == "out" else "ACC",
        sram=Span(store.sram_base, end),
        dram=_bytes_in_dram(store, element),
        first=store.dram_base * element,
        rows=store.y_size,
        columns=store.x_size,
        pitch=store.x_stride * element,
        element=element,
        box=(store.y_size, store.x_size, 0, 0),
        padding=0,
        behaviour="",
    )


def _in_dram(dram: np.ndarray, transfer: Transfer, dtype: np.dtype, tile: tuple[int, ...]) -> np.ndarray:
    """View DRAM as [rows, columns, *tile] of a dtype, rows `pitch` bytes apart; it may overlap itself."""
    steps = [dtype.itemsize]
    for extent in reversed(tile[1:]):
        steps.insert(0, steps[0] * extent)
    strides = (transfer.pitch, transfer.element, *(steps if tile else ()))
    shape = (transfer.rows, transfer.columns, *tile)
    return np.ndarray(shape, dtype, buffer=dram, offset=transfer.first, strides=strides)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Signed numbers of 2 or 4 bits from bytes uint8[..., n], lowest bits first: int8[..., n * 8 / bits]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (packed[..., None] >> shifts) << np.uint8(8 - bits)
    return (fields.view(np.int8) >> 8 - bits).reshape(*packed.shape[:-1], -1)


def _packed(values: np.ndarray, bits: int) -> np.ndarray:
    """The bytes of signed numbers int8[..., n] of 2 or 4 bits, lowest bits first."""
    each = 8 // bits
    fields = values.view(np.uint8).reshape(*values.shape[:-1], -1, each) & np.uint8((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(fields << shifts, axis=-1)


def load(sram: Sram, dram: np.ndarray, transfer: Transfer, config: Config) -> None:
    """Execute a LOAD."""
    memory = getattr(sram, transfer.name.lower())
    high, wide, top, left = transfer.box
    if high * wide == 0:
        return
    target = memory[transfer.sram.low : transfer.sram.high].reshape(high, wide, *memory.shape[1:])
    inner = target[top : top + transfer.rows, left : left + transfer.columns]
    if inner.size != target.size:
        target[:] = transfer.padding
    if inner.size == 0:
        return
    bits, dtype = {
        Memory.UOP: (32, np.dtype("<u4")),
        Memory.ACC: (config.acc_width, config.acc_dtype.newbyteorder("<")),
        Memory.WGT: (config.wgt_width, config.wgt_dtype.newbyteorder("<")),
    }.get(transfer.memory, (config.inp_width, config.inp_dtype.newbyteorder("<")))
    if bits >= 8:
        inner[...] = _in_dram(dram, transfer, dtype, memory.shape[1:])
    else:
        packed = _in_dram(dram, transfer, np.dtype(np.uint8), (transfer.element,))
        inner[...] = _unpacked(packed, bits).reshape(inner.shape)


def store(sram: Sram, dram: np.ndarray, transfer: Transfer, config: Config) -> tuple[int, int]:
    """Execute a STORE; return how many elements lost bits, and how many are not what ACC holds."""
    values = sram.acc[transfer.sram.low : transfer.sram.high]
    low, stale = low_bits(values, config), 0
    changed = low != values
    if sram.out is not None:
        stored = sram.out[transfer.sram.low : transfer.sram.high]
        others = stored != low
        stale = int(np.count_nonzero(others))
        changed, low = changed & ~others, stored
    lost = int(np.count_nonzero(changed))
    if config.inp_width >= 8:
        target = _in_dram(dram, transfer, config.inp_dtype.newbyteorder("<"), values.shape[1:])
        data = low.reshape(target.shape)
    else:
        target = _in_dram(dram, transfer, np.dtype(np.uint8), (transfer.element,))
        flat = np.ascontiguousarray(low).reshape(transfer.rows, transfer.columns, -1)
        data = _packed(flat, config.inp_width)
    if transfer.pitch < transfer.columns * transfer.element:
        # Rows overlap in DRAM: the later row wins, which one assignment would not promise.
        for row, new in zip(target, data, strict=True):
            row[:] = new
    else:
        target[:] = data
    return lost, stale
