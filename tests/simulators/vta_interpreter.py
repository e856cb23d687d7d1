"""A VTA executed one tile at a time with the instruction models: slow, plain, and the machine's witness.

It executes instruction objects, so what the machine decodes is checked as well.
"""

import numpy as np

from simulators.vta import Config, isa, models
from simulators.vta.isa import AluOpcode, Memory


class Interpreter:
    def __init__(self, config: Config):
        self.config = config
        b, c = config.batch, config.block
        self.uop = [isa.Uop(0, 0, 0)] * config.uop_depth
        self.inp = np.zeros((config.inp_depth, b, c), np.int8)
        self.wgt = np.zeros((config.wgt_depth, c, c), np.int8)
        self.acc = np.zeros((config.acc_depth, b, c), np.int32)
        self.gemm_counter = self.alu_counter = 0

    def execute(self, instruction, dram: np.ndarray) -> None:
        match instruction:
            case isa.Load() if instruction.x_size:
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
                return np.frombuffer(data, "<i4").reshape(b, c)
            case Memory.WGT:
                return np.frombuffer(data, np.int8).reshape(c, c)
            case _:
                return np.frombuffer(data, np.int8).reshape(b, c)

    def _load(self, load, dram):
        b, c = self.config.batch, self.config.block
        memory, size = {
            Memory.UOP: (self.uop, 4),
            Memory.INP: (self.inp, b * c),
            Memory.WGT: (self.wgt, c * c),
            Memory.ACC: (self.acc, 4 * b * c),
            Memory.ACC_8BIT: (self.acc, b * c),
        }[load.memory_type]
        zero = isa.Uop(0, 0, 0) if load.memory_type == Memory.UOP else 0
        place = load.sram_base
        for y in range(-load.y_pad_0, load.y_size + load.y_pad_1):
            for x in range(-load.x_pad_0, load.x_size + load.x_pad_1):
                if 0 <= y < load.y_size and 0 <= x < load.x_size:
                    begin = (load.dram_base + y * load.x_stride + x) * size
                    memory[place] = self._element(load.memory_type, dram[begin : begin + size].tobytes())
                else:
                    memory[place] = zero
                place += 1

    def _store(self, store, dram):
        size = self.config.batch * self.config.block
        place = store.sram_base
        for y in range(store.y_size):
            for x in range(store.x_size):
                begin = (store.dram_base + y * store.x_stride + x) * size
                dram[begin : begin + size] = (self.acc[place] & 255).astype(np.uint8).ravel()
                place += 1

    def _compute(self, it, uop, out, inner):
        dst = uop.dst + out * it.dst_out + inner * it.dst_in
        src = uop.src + out * it.src_out + inner * it.src_in
        if isinstance(it, isa.Alu):
            self.alu_counter += 1
            operand = it.imm if it.use_imm else self.acc[src]
            self.acc[dst] = models.alu(AluOpcode(it.alu_opcode), self.acc[dst], operand)
        elif it.reset:
            self.acc[dst] = 0
        else:
            self.gemm_counter += 1
            wgt = uop.wgt + out * it.wgt_out + inner * it.wgt_in
            self.acc[dst] = models.gemm(self.acc[dst], self.inp[src], self.wgt[wgt])
