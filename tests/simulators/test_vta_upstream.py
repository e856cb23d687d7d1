"""The programs by which VTA was tested upstream (tests/python/unittest/test_vta_insn.py), on machine code.

Written here from what they compute: a copy, padded loads, a product with its epilogue in one and in two
threads, each ALU operation, ReLU, and shift and scale. Expected values are NumPy's of the whole tensors.
"""

from dataclasses import replace

import numpy as np
import pytest

from simulators.vta import Buffer, Config, Machine, Program, isa, load
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Instruction, Load, Memory, Store, Uop
from tests.simulators.vta_programs import CONFIGS
from tests.simulators.vta_streams import serialised

SHAPES = {name: CONFIGS[name] for name in ("pynq", "batched-4x8-of-3661", "1x32")}
every_shape = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)


class Hand:
    """A program in the making: buffers a page apart, instructions by hand."""

    def __init__(self, config: Config, uops: list[Uop]):
        self.config, self.uops = config, uops
        self.buffers: list[Buffer] = []
        self.stream: list[Instruction] = []
        self.size = {
            Memory.INP: config.inp_bytes,
            Memory.WGT: config.wgt_bytes,
            Memory.ACC: config.acc_bytes,
            Memory.ACC_8BIT: config.inp_bytes,
            Memory.OUT: config.inp_bytes,
        }
        table = self.buffer("uop", "uop", (len(uops),), "uint32")
        self.stream.append(
            Load(
                memory_type=Memory.UOP,
                sram_base=0,
                dram_base=table.address // 4,
                y_size=1,
                x_size=len(uops),
                x_stride=len(uops),
            )
        )

    def buffer(self, name: str, role: str, shape: tuple[int, ...], dtype: str) -> Buffer:
        address = 0x1000
        if self.buffers:
            last = self.buffers[-1]
            address = -(-(last.address + last.nbytes) // 4096) * 4096
        made = Buffer(name, role, address, shape, dtype)
        self.buffers.append(made)
        return made

    def transfer(self, kind, memory: Memory, buffer: Buffer, high: int, wide: int, *, first=0, **keys):
        base = buffer.address // self.size[memory] + first
        sizes = {"sram_base": 0, "y_size": high, "x_size": wide, "x_stride": wide} | keys
        self.stream.append(kind(memory_type=memory, dram_base=base, **sizes))

    def alu(self, opcode: AluOpcode, count: int, imm: int | None = None, uop: int = 0) -> None:
        self.stream.append(
            Alu(
                alu_opcode=opcode,
                use_imm=imm is not None,
                imm=imm or 0,
                uop_bgn=uop,
                uop_end=uop + 1,
                iter_out=1,
                iter_in=count,
                dst_in=1,
                src_in=1,
            )
        )

    def run(self, *, tokens: bool = True, **arrays: np.ndarray) -> np.ndarray:
        """Through the program's file, in every order that tries to go wrong."""
        stream = [*self.stream, Finish()]
        stored = Program(
            config=self.config,
            insns=isa.encode(serialised(stream) if tokens else self.stream, self.config),
            uops=isa.encode_uops(self.uops, self.config),
            buffers=tuple(self.buffers),
            dram_nbytes=self.buffers[-1].address + self.buffers[-1].nbytes,
        ).to_bytes()
        program = load(stored)
        outputs, report = program.run(Machine(self.config, schedule="adversarial"), arrays)
        assert [each for each in report.findings if each.kind != "lossy-store"] == []
        return outputs["out"]


def low(values: np.ndarray) -> np.ndarray:
    return (values & 255).astype(np.uint8).view(np.int8)


@every_shape
def test_save_load_out(config):
    """6 × 6 tiles, multiplied by one, out and back."""
    tile = (6, 6, config.batch, config.block)
    made = Hand(config, [Uop(0, 0, 0)])
    data = made.buffer("data", "bias", tile, "int32")
    out = made.buffer("out", "output", tile, "int8")
    made.transfer(Load, Memory.ACC, data, 1, 36)
    made.alu(AluOpcode.MUL, 36, 1)
    made.transfer(Store, Memory.OUT, out, 1, 36)
    values = np.random.default_rng(0).integers(1, 10, tile).astype(np.int32)
    np.testing.assert_array_equal(made.run(data=values), values)


PADS = {
    "before-rows": (2, 0, 0, 0),
    "before-columns": (0, 2, 0, 0),
    "after-rows": (0, 0, 2, 0),
    "after-columns": (0, 0, 0, 2),
    "all": (1, 1, 1, 1),
}


@every_shape
@pytest.mark.parametrize("around", PADS.values(), ids=PADS)
@pytest.mark.parametrize("memory", [Memory.ACC, Memory.ACC_8BIT], ids=["int32", "int8"])
def test_padded_load(config, memory, around):
    """3 × 5 tiles with zeros around them; #4293 was one of these on a board."""
    top, left, bottom, right = around
    tile = (config.batch, config.block)
    high, wide = 3 + top + bottom, 5 + left + right
    made = Hand(config, [Uop(0, 0, 0)])
    dtype = "int32" if memory == Memory.ACC else "int8"
    data = made.buffer("data", "bias" if dtype == "int32" else "input", (3, 5, *tile), dtype)
    out = made.buffer("out", "output", (high, wide, *tile), "int8")
    pads = {"y_pad_0": top, "y_pad_1": bottom, "x_pad_0": left, "x_pad_1": right}
    made.transfer(Load, memory, data, 3, 5, **pads)
    made.alu(AluOpcode.ADD, high * wide, 0)
    made.transfer(Store, Memory.OUT, out, 1, high * wide)
    values = np.random.default_rng(1).integers(-128, 128, (3, 5, *tile)).astype(dtype)
    expected = np.pad(values, ((top, bottom), (left, right), (0, 0), (0, 0)))
    np.testing.assert_array_equal(made.run(data=values), expected)


def _reference(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n, k, b, c) by (m, k, c, c): clip((Σ) >> 8, 0, 127)."""
    sums = np.einsum("nkbc,mkoc->nmbo", data.astype(np.int64), weight.astype(np.int64))
    return np.clip(sums >> 8, 0, 127).astype(np.int8)


@every_shape
def test_gemm_in_one_thread(config):
    """A row of 4 tiles by a 4 × 4 matrix of tiles, >> 8, max 0, min 127."""
    b, c = config.batch, config.block
    made = Hand(config, [Uop(m, k, 4 * m + k) for m in range(4) for k in range(4)])
    data = made.buffer("data", "input", (1, 4, b, c), "int8")
    weight = made.buffer("weight", "weight", (4, 4, c, c), "int8")
    out = made.buffer("out", "output", (1, 4, b, c), "int8")
    made.transfer(Load, Memory.INP, data, 1, 4)
    made.transfer(Load, Memory.WGT, weight, 4, 4)
    every = {"uop_bgn": 0, "uop_end": 16, "iter_out": 1, "iter_in": 1}
    made.stream += [Gemm(reset=True, **every), Gemm(**every)]
    for opcode, immediate in ((AluOpcode.SHR, 8), (AluOpcode.MAX, 0), (AluOpcode.MIN, 127)):
        made.alu(opcode, 4, immediate)
    made.transfer(Store, Memory.OUT, out, 1, 4)
    rng = np.random.default_rng(2)
    arrays = {
        "data": rng.integers(-128, 128, (1, 4, b, c)).astype(np.int8),
        "weight": rng.integers(-128, 128, (4, 4, c, c)).astype(np.int8),
    }
    np.testing.assert_array_equal(made.run(**arrays), _reference(**arrays))


@every_shape
def test_gemm_in_two_threads(config):
    """The same for 6 rows with two places in each memory, so that all engines work at the same time."""
    b, c = config.batch, config.block
    rows = 6
    places = [
        Uop(4 * half + m, 4 * half + k, 4 * m + k) for half in (0, 1) for m in range(4) for k in range(4)
    ]
    made = Hand(config, places)
    data = made.buffer("data", "input", (rows, 4, b, c), "int8")
    weight = made.buffer("weight", "weight", (4, 4, c, c), "int8")
    out = made.buffer("out", "output", (rows, 4, b, c), "int8")
    made.transfer(Load, Memory.WGT, weight, 4, 4)
    for row in range(rows):
        half, again = row % 2, row >= 2
        made.transfer(
            Load,
            Memory.INP,
            data,
            1,
            4,
            first=4 * row,
            sram_base=4 * half,
            pop_next=again,
            push_next=True,
        )
        every = {"uop_bgn": 16 * half, "uop_end": 16 * half + 16, "iter_out": 1, "iter_in": 1}
        last = row >= rows - 2
        made.stream += [
            Gemm(reset=True, **every, pop_next=again),
            Gemm(**every, pop_prev=True, push_prev=not last),
        ]
        for opcode, immediate in ((AluOpcode.SHR, 8), (AluOpcode.MAX, 0), (AluOpcode.MIN, 127)):
            made.alu(opcode, 4, immediate, uop=16 * half)
        made.stream[-1] = replace(made.stream[-1], push_next=True)
        made.transfer(
            Store,
            Memory.OUT,
            out,
            1,
            4,
            first=4 * row,
            sram_base=4 * half,
            pop_prev=True,
            push_prev=True,
        )
    # One token for each of the last two tiles, which no clear takes.
    nop = Load(
        memory_type=Memory.UOP, sram_base=0, dram_base=0, y_size=0, x_size=0, x_stride=0, pop_next=True
    )
    made.stream += [nop, Finish(pop_next=True)]
    rng = np.random.default_rng(3)
    arrays = {
        "data": rng.integers(-128, 128, (rows, 4, b, c)).astype(np.int8),
        "weight": rng.integers(-128, 128, (4, 4, c, c)).astype(np.int8),
    }
    np.testing.assert_array_equal(made.run(tokens=False, **arrays), _reference(**arrays))


ALU = {
    "shl-immediate": (AluOpcode.SHR, lambda x, y: x << y, "negative"),
    "shr-immediate": (AluOpcode.SHR, lambda x, y: x >> y, "immediate"),
    "shr-tensor": (AluOpcode.SHR, lambda x, y: np.where(y >= 0, x >> abs(y), x << abs(y)), "tensor"),
    "max-immediate": (AluOpcode.MAX, np.maximum, "immediate"),
    "max-tensor": (AluOpcode.MAX, np.maximum, "tensor"),
    "min-immediate": (AluOpcode.MIN, np.minimum, "immediate"),
    "min-tensor": (AluOpcode.MIN, np.minimum, "tensor"),
    "add-immediate": (AluOpcode.ADD, np.add, "immediate"),
    "add-tensor": (AluOpcode.ADD, np.add, "tensor"),
    "mul-immediate": (AluOpcode.MUL, np.multiply, "immediate"),
    "mul-tensor": (AluOpcode.MUL, np.multiply, "tensor"),
}


@every_shape
@pytest.mark.parametrize(("opcode", "meaning", "form"), ALU.values(), ids=ALU)
def test_alu(config, opcode, meaning, form):
    """8 × 8 tiles of -16 to 15, with an immediate of 1 to 4 or another tensor."""
    tile = (8, 8, config.batch, config.block)
    made = Hand(config, [Uop(0, 0, 0), Uop(0, 64, 0)])
    left = made.buffer("left", "bias", tile, "int32")
    right = made.buffer("right", "bias", tile, "int32")
    out = made.buffer("out", "output", tile, "int8")
    made.transfer(Load, Memory.ACC, left, 8, 8)
    made.transfer(Load, Memory.ACC, right, 8, 8, sram_base=64)
    rng = np.random.default_rng(4)
    immediate = int(rng.integers(1, 5))
    if form == "tensor":
        made.alu(opcode, 64, uop=1)
    else:
        made.alu(opcode, 64, -immediate if form == "negative" else immediate)
    made.transfer(Store, Memory.OUT, out, 1, 64)
    values = {name: rng.integers(-16, 16, tile).astype(np.int32) for name in ("left", "right")}
    expected = meaning(values["left"], values["right"] if form == "tensor" else immediate)
    np.testing.assert_array_equal(made.run(**values), low(expected))


@every_shape
def test_relu(config):
    """8 × 10 tiles of -256 to 255, max 0, min 127."""
    tile = (8, 10, config.batch, config.block)
    made = Hand(config, [Uop(0, 0, 0)])
    data = made.buffer("data", "bias", tile, "int32")
    out = made.buffer("out", "output", tile, "int8")
    made.transfer(Load, Memory.ACC, data, 1, 80)
    made.alu(AluOpcode.MAX, 80, 0)
    made.alu(AluOpcode.MIN, 80, 127)
    made.transfer(Store, Memory.OUT, out, 1, 80)
    values = np.random.default_rng(5).integers(-256, 256, tile).astype(np.int32)
    np.testing.assert_array_equal(made.run(data=values), np.clip(values, 0, 127))


@every_shape
@pytest.mark.parametrize("scale", [1, 7, -3, 32767, -32768])
def test_shift_and_scale(config, scale):
    """2 × 8 tiles, added to, multiplied and shifted."""
    tile = (2, 8, config.batch, config.block)
    made = Hand(config, [Uop(0, 0, 0)])
    data = made.buffer("data", "bias", tile, "int32")
    out = made.buffer("out", "output", tile, "int8")
    made.transfer(Load, Memory.ACC, data, 1, 16)
    made.alu(AluOpcode.ADD, 16, 128)
    made.alu(AluOpcode.MUL, 16, scale)
    made.alu(AluOpcode.SHR, 16, 8)
    made.transfer(Store, Memory.OUT, out, 1, 16)
    values = np.random.default_rng(6).integers(-10, 10, tile).astype(np.int32)
    np.testing.assert_array_equal(made.run(data=values), low((values + 128) * scale >> 8))
