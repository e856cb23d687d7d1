"""A small DRAM, instructions in bytes, and machines whose memories were written before."""

import numpy as np

from simulators.vta import Machine, isa
from simulators.vta.isa import Alu, AluOpcode, Load, Memory, Store, Uop

PAGE = 4096
UOPS_AT = 0x8000
DRAM_BYTES = 0x10000


def dram_of(tensors: dict[int, np.ndarray] | None = None, uops: tuple[Uop, ...] = ()) -> np.ndarray:
    """A DRAM of 64 KiB with tensors at their byte addresses and micro-ops at UOPS_AT."""
    dram = np.zeros(DRAM_BYTES, np.uint8)
    places = dict(tensors or {})
    if uops:
        places[UOPS_AT] = isa.encode_uops(uops)
    for address, tensor in places.items():
        data = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        dram[address : address + data.size] = data
    return dram


def load(memory: Memory, address: int, count: int, *, sram: int = 0, **keys) -> Load:
    size = {Memory.UOP: 4, Memory.WGT: 256, Memory.INP: 16, Memory.ACC: 64, Memory.ACC_8BIT: 16}[memory]
    sizes = {"y_size": 1, "x_size": count, "x_stride": count} | keys
    return Load(memory_type=memory, sram_base=sram, dram_base=address // size, **sizes)


def store(address: int, count: int, *, sram: int = 0, **keys) -> Store:
    sizes = {"y_size": 1, "x_size": count, "x_stride": count} | keys
    return Store(memory_type=Memory.OUT, sram_base=sram, dram_base=address // 16, **sizes)


def used() -> Machine:
    """A machine whose memories were all written by a program before."""
    machine = Machine()
    machine.sram.define()
    return machine


def run(machine: Machine, stream, dram: np.ndarray):
    return machine.run(isa.encode(stream), dram)


def kinds(report) -> list[tuple[str, str]]:
    return [(each.kind, each.severity) for each in report.findings]


RNG = np.random.default_rng(0)
CORNERS = np.array(
    [-(2**31), -(2**31) + 1, -65536, -129, -128, -1, 0, 1, 2, 127, 128, 255, 65535, 2**30, -3, 2**31 - 1]
)

MEANING = {
    AluOpcode.MIN: min,
    AluOpcode.MAX: max,
    AluOpcode.ADD: lambda x, y: x + y,
    AluOpcode.SHR: lambda x, y: x >> y if y >= 0 else x << -y,
    AluOpcode.MUL: lambda x, y: x * y,
}


def alu_of(opcode: AluOpcode, **keys) -> Alu:
    return Alu(**{"alu_opcode": opcode, "uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1} | keys)


def alu_expected(acc: np.ndarray, alu: Alu, uops) -> np.ndarray:
    """One element after another in Python's integers, modulo 2^32."""
    acc = acc.astype(object)
    meaning = MEANING[AluOpcode(alu.alu_opcode)]
    for out in range(alu.iter_out):
        for inner in range(alu.iter_in):
            for uop in uops[alu.uop_bgn : alu.uop_end]:
                dst = uop.dst + out * alu.dst_out + inner * alu.dst_in
                src = uop.src + out * alu.src_out + inner * alu.src_in
                for lane in range(16):
                    value = meaning(acc[dst, 0, lane], alu.imm if alu.use_imm else acc[src, 0, lane])
                    acc[dst, 0, lane] = (value + 2**31) % 2**32 - 2**31
    return acc.astype(np.int32)
