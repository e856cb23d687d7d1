"""A VTA executed one tile at a time with the instruction models: slow, plain, and the machine's witness.

It executes instruction objects, so what the machine decodes is checked as well. Its behaviour on each
backend is written here a second time, after the backends' designs.
"""

import numpy as np

from simulators.vta import Config, isa, models
from simulators.vta.isa import AluOpcode, Memory


def numbers(data: bytes, bits: int) -> list[int]:
    """Signed numbers of so many bits, the first in the lowest bits."""
    whole = int.from_bytes(data, "little")
    fields = [whole >> at & (1 << bits) - 1 for at in range(0, 8 * len(data), bits)]
    return [each - (each >> bits - 1 << bits) for each in fields]


def low(value: np.ndarray, bits: int) -> np.ndarray:
    """The low bits as signed numbers."""
    field = value.astype(np.int64) & (1 << bits) - 1
    return field - (field >> bits - 1 << bits)


class Interpreter:
    def __init__(self, config: Config, profile: str = "fsim"):
        self.config, self.profile = config, profile
        b, c = config.batch, config.block
        self.uop = [isa.Uop(0, 0, 0)] * config.uop_depth
        self.inp = np.zeros((config.inp_depth, b, c), config.inp_dtype)
        self.wgt = np.zeros((config.wgt_depth, c, c), config.wgt_dtype)
        self.acc = np.zeros((config.acc_depth, b, c), config.acc_dtype)
        self.out = np.zeros((config.acc_depth, b, c), np.int64)
        self.gemm_counter = self.alu_counter = 0

    def execute(self, instruction, dram: np.ndarray) -> None:
        match instruction:
            case isa.Load():
                self._load(instruction, dram)
            case isa.Store() if instruction.x_size:
                self._store(instruction, dram)
            case isa.Gemm() | isa.Alu():
                for out in range(instruction.iter_out):
                    for inner in range(instruction.iter_in):
                        for uop in self.uop[instruction.uop_bgn : instruction.uop_end]:
                            self._compute(instruction, uop, out, inner)

    def _element(self, memory: int, data: bytes):
        b, c = self.config.batch, self.config.block
        match memory:
            case Memory.UOP:
                return isa.decode_uops(np.frombuffer(data, "<u4"), self.config)[0]
            case Memory.ACC:
                return np.array(numbers(data, self.config.acc_width)).reshape(b, c)
            case Memory.WGT:
                return np.array(numbers(data, self.config.wgt_width)).reshape(c, c)
            case _:
                return np.array(numbers(data, self.config.inp_width)).reshape(b, c)

    def _load(self, load, dram):
        config, kind = self.config, load.memory_type
        high, wide, stride = load.y_size, load.x_size, load.x_stride
        top, bottom, left, right = load.y_pad_0, load.y_pad_1, load.x_pad_0, load.x_pad_1
        base, zero = load.dram_base, 0
        if self.profile == "vtapp" and base >> 31:
            base -= 1 << 31
            bits = {Memory.INP: config.inp_width, Memory.WGT: config.wgt_width}.get(kind, config.acc_width)
            zero = -(1 << bits - 1)
        if wide == 0 and (self.profile != "hls" or kind in (Memory.UOP, Memory.WGT)):
            return
        if self.profile in ("hls", "chisel") and kind == Memory.ACC_8BIT:
            return
        if self.profile == "hls" and kind in (Memory.UOP, Memory.WGT):
            top = bottom = left = right = 0
            if kind == Memory.UOP:
                high = 1
        memory, size = {
            Memory.UOP: (self.uop, 4),
            Memory.INP: (self.inp, config.inp_bytes),
            Memory.WGT: (self.wgt, config.wgt_bytes),
            Memory.ACC: (self.acc, config.acc_bytes),
            Memory.ACC_8BIT: (self.acc, config.inp_bytes),
        }[kind]
        place = load.sram_base
        for y in range(-top, high + bottom):
            for x in range(-left, wide + right):
                if 0 <= y < high and 0 <= x < wide:
                    begin = (base + y * stride + x) * size
                    memory[place] = self._element(kind, dram[begin : begin + size].tobytes())
                else:
                    memory[place] = isa.Uop(0, 0, 0) if kind == Memory.UOP else zero
                place += 1

    def _store(self, store, dram):
        size, bits = self.config.inp_bytes, self.config.inp_width
        source = self.out if self.profile in ("hls", "chisel", "opencl") else self.acc
        place = store.sram_base
        for y in range(store.y_size):
            for x in range(store.x_size):
                begin = (store.dram_base + y * store.x_stride + x) * size
                whole = 0
                for at, value in enumerate(source[place].ravel().tolist()):
                    whole |= (value & (1 << bits) - 1) << at * bits
                dram[begin : begin + size] = np.frombuffer(whole.to_bytes(size, "little"), np.uint8)
                place += 1

    def _compute(self, it, uop, out, inner):
        dst = uop.dst + out * it.dst_out + inner * it.dst_in
        src = uop.src + out * it.src_out + inner * it.src_in
        if isinstance(it, isa.Alu):
            self.alu_counter += 1
            self._alu(it, dst, src)
        else:
            wgt = uop.wgt + out * it.wgt_out + inner * it.wgt_in
            self.gemm_counter += not it.reset
            self._gemm(it, dst, src, wgt)

    def _alu(self, it, dst, src):
        if self.profile == "fsim":
            operand = it.imm if it.use_imm else self.acc[src]
            self.acc[dst] = models.alu(AluOpcode(it.alu_opcode), self.acc[dst], operand)
        else:
            self.acc[dst] = models.backend_alu(
                self.profile, it.alu_opcode, self.acc[dst], self.acc[src], use_imm=it.use_imm, imm=it.imm
            )
        if (self.profile, it.alu_opcode) != ("hls", AluOpcode.MUL):
            self.out[dst] = low(self.acc[dst], self.config.inp_width)

    def _gemm(self, it, dst, src, wgt):
        config = self.config
        if it.reset and self.profile not in ("hls", "opencl"):
            self.acc[dst] = 0
            if self.profile != "chisel":
                self.out[dst] = 0
            return
        total = models.gemm(self.acc[dst], self.inp[src % config.inp_depth], self.wgt[wgt % config.wgt_depth])
        if self.profile == "opencl":
            dot = low(total.astype(np.int64) - self.acc[dst], 32)
            total = (low(low(dot, 20) + self.acc[dst], 32)).astype(np.int32)
        self.out[dst] = low(total, config.inp_width)
        self.acc[dst] = 0 if it.reset else total
