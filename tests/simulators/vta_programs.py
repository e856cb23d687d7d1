"""Random programs that stay within the memories, for any configuration."""

from dataclasses import dataclass

import numpy as np

from simulators.vta import Config, isa
from simulators.vta.isa import Memory, Uop

UOPS = 8
TABLE_AT = 4096
CORNERS = np.array([0x80, 0x7F, 0xFF, 0x00, 0x01], np.uint8)


def config(*logarithms: int, **widths: int) -> Config:
    """A configuration by its logarithms: batch, block, and the memories UOP, INP, WGT and ACC."""
    names = ("BATCH", "BLOCK", "UOP_BUFF_SIZE", "INP_BUFF_SIZE", "WGT_BUFF_SIZE", "ACC_BUFF_SIZE")
    keys = {f"LOG_{name}": value for name, value in zip(names, logarithms, strict=True)}
    return Config(**keys, **widths)


CONFIGS = {
    "2x4": config(1, 2, 7, 8, 8, 10),
    "1x8": config(0, 3, 7, 8, 10, 10),
    "pynq": Config(),
    "batched-4x8-of-3661": config(2, 3, 15, 16, 16, 18),
    "4x16": config(2, 4, 13, 13, 15, 15),
    "1x32": config(0, 5, 13, 12, 16, 14),
    "2x32": config(1, 5, 12, 13, 17, 15),
    "16x2": config(4, 1, 7, 10, 8, 12),
    "int4-data": config(1, 3, 7, 8, 10, 10, LOG_INP_WIDTH=2),
    "int2-weights": config(0, 4, 7, 9, 11, 11, LOG_WGT_WIDTH=1),
    "int16-by-int8": config(0, 3, 7, 9, 10, 10, LOG_INP_WIDTH=4),
    "int16-by-int16": config(1, 2, 7, 9, 9, 10, LOG_INP_WIDTH=4, LOG_WGT_WIDTH=4),
    "int4-into-int16": config(0, 3, 7, 8, 9, 9, LOG_INP_WIDTH=2, LOG_WGT_WIDTH=2, LOG_ACC_WIDTH=4),
}


@dataclass(frozen=True)
class Case:
    uops: list[Uop]
    stream: list[isa.Instruction]
    dram: np.ndarray


def random_case(seed: int, config: Config, *, opcodes: int = 5) -> Case:
    """Every memory is loaded whole or in its first 512 elements, and then 1 to 10 instructions use them."""
    return _Maker(np.random.default_rng(seed), config, opcodes).case()


class _Maker:
    def __init__(self, rng: np.random.Generator, config: Config, opcodes: int):
        self.rng, self.config, self.opcodes = rng, config, opcodes
        self.size = {
            Memory.INP: config.inp_bytes,
            Memory.WGT: config.wgt_bytes,
            Memory.ACC: config.acc_bytes,
            Memory.ACC_8BIT: config.inp_bytes,
        }
        # What is loaded is what may be used.
        self.depth = {
            Memory.INP: min(config.inp_depth, 512),
            Memory.WGT: min(config.wgt_depth, 64),
            Memory.ACC: min(config.acc_depth, 512),
        }
        self.data_at = 2 * TABLE_AT
        self.end = self.data_at + max(self.depth[each] * self.size[each] for each in self.depth)
        # Beyond the data there is room for what is stored, in the largest elements.
        self.end += 64 * max(self.size.values())
        self.end += -self.end % 4096

    def below(self, high: int) -> int:
        return int(self.rng.integers(0, high))

    def case(self) -> Case:
        depth = self.depth
        lanes = min(depth[Memory.ACC], 16), min(depth[Memory.INP], depth[Memory.ACC], 16)
        self.uops = [
            Uop(self.below(lanes[0]), self.below(lanes[1]), self.below(min(depth[Memory.WGT], 8)))
            for _ in range(UOPS)
        ]
        self.reach = [max(column) for column in zip(*self.uops, strict=True)]
        stream: list[isa.Instruction] = [
            isa.Load(
                memory_type=Memory.UOP,
                sram_base=0,
                dram_base=TABLE_AT // 4,
                y_size=1,
                x_size=UOPS,
                x_stride=UOPS,
            )
        ]
        for memory, count in depth.items():
            stream.append(
                isa.Load(
                    memory_type=memory,
                    sram_base=0,
                    dram_base=self.data_at // self.size[memory],
                    y_size=1,
                    x_size=count,
                    x_stride=count,
                )
            )
        # So that a memory of results has something in every element.
        stream.append(
            isa.Alu(
                alu_opcode=isa.AluOpcode.ADD,
                use_imm=True,
                imm=0,
                uop_bgn=UOPS,
                uop_end=UOPS + 1,
                iter_out=1,
                iter_in=depth[Memory.ACC],
                dst_in=1,
                src_in=1,
            )
        )
        self.uops.append(Uop(0, 0, 0))
        stream[0] = isa.Load(
            memory_type=Memory.UOP,
            sram_base=0,
            dram_base=TABLE_AT // 4,
            y_size=1,
            x_size=len(self.uops),
            x_stride=len(self.uops),
        )
        makers = [self.load, self.store, self.gemm, self.gemm, self.alu, self.alu]
        stream += [makers[self.below(len(makers))]() for _ in range(1 + self.below(10))]
        return Case(self.uops, stream, self.dram())

    def dram(self) -> np.ndarray:
        dram = self.rng.integers(0, 256, self.end, dtype=np.uint8)
        places = self.rng.random(dram.size) < 0.3
        dram[places] = self.rng.choice(CORNERS, int(places.sum()))
        table = isa.encode_uops(self.uops, self.config).view(np.uint8)
        dram[TABLE_AT : TABLE_AT + table.size] = table
        return dram

    def factors(self, bits: int, room: int, counts: tuple[int, int]) -> tuple[int, int]:
        """Two loop factors that keep the largest index within `room` of the smallest."""
        out = self.below(min(1 << bits, room // max(counts[0] - 1, 1) + 1))
        room -= out * max(counts[0] - 1, 0)
        return out, self.below(min(1 << bits, room // max(counts[1] - 1, 1) + 1))

    def loops(self) -> dict[str, int]:
        config, depth = self.config, self.depth
        begin = self.below(UOPS)
        counts = self.below(5), self.below(5)
        dst = self.factors(config.acc_bits, depth[Memory.ACC] - 1 - self.reach[0], counts)
        room = min(depth[Memory.ACC], depth[Memory.INP]) - 1 - self.reach[1]
        src = self.factors(config.inp_bits, room, counts)
        return {
            "uop_bgn": begin,
            "uop_end": begin + self.below(UOPS - begin + 1),
            "iter_out": counts[0],
            "iter_in": counts[1],
            "dst_out": dst[0],
            "dst_in": dst[1],
            "src_out": src[0],
            "src_in": src[1],
        }

    def gemm(self) -> isa.Gemm:
        loops = self.loops()
        room = self.depth[Memory.WGT] - 1 - self.reach[2]
        wgt = self.factors(self.config.wgt_bits, room, (loops["iter_out"], loops["iter_in"]))
        return isa.Gemm(**loops, wgt_out=wgt[0], wgt_in=wgt[1], reset=self.below(3) == 0)

    def alu(self) -> isa.Alu:
        wide = self.below(2) == 0
        imm = self.rng.integers(-(2**15), 2**15) if wide else self.rng.integers(-33, 34)
        return isa.Alu(
            **self.loops(), alu_opcode=self.below(self.opcodes), use_imm=bool(self.below(2)), imm=int(imm)
        )

    def load(self) -> isa.Load:
        kinds = [Memory.INP, Memory.WGT, Memory.ACC]
        if (self.config.inp_width, self.config.acc_width) == (8, 32):
            kinds.append(Memory.ACC_8BIT)
        memory = kinds[self.below(len(kinds))]
        high, wide = self.below(3), self.below(3)
        pads = [self.below(2) for _ in range(4)]
        depth = self.depth.get(memory, self.depth[Memory.ACC])
        room = depth - (high + pads[0] + pads[1]) * (wide + pads[2] + pads[3])
        if room < 0:
            pads, room = [0, 0, 0, 0], depth - high * wide
        return isa.Load(
            memory_type=memory,
            sram_base=self.below(room + 1),
            dram_base=self.data_at // self.size[memory] + self.below(17),
            y_size=high,
            x_size=wide,
            x_stride=self.below(5),
            y_pad_0=pads[0],
            y_pad_1=pads[1],
            x_pad_0=pads[2],
            x_pad_1=pads[3],
        )

    def store(self) -> isa.Store:
        high, wide = self.below(5), self.below(5)
        return isa.Store(
            memory_type=Memory.OUT,
            sram_base=self.below(self.depth[Memory.ACC] - high * wide + 1),
            dram_base=self.data_at // self.config.inp_bytes + self.below(32),
            y_size=high,
            x_size=wide,
            x_stride=self.below(6),
        )
