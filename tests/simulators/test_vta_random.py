"""The machine against the interpreter built from the instruction models, on random programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.vta import Config, Machine, isa
from simulators.vta.isa import Memory, Uop
from tests.simulators.vta_interpreter import Interpreter
from tests.simulators.vta_streams import encoded

SMALL = Config(
    LOG_BATCH=1,
    LOG_BLOCK=2,
    LOG_UOP_BUFF_SIZE=7,
    LOG_INP_BUFF_SIZE=8,
    LOG_WGT_BUFF_SIZE=8,
    LOG_ACC_BUFF_SIZE=10,
)
FLAT = Config(
    LOG_BATCH=0,
    LOG_BLOCK=3,
    LOG_UOP_BUFF_SIZE=7,
    LOG_INP_BUFF_SIZE=8,
    LOG_WGT_BUFF_SIZE=10,
    LOG_ACC_BUFF_SIZE=10,
)
DRAM_BYTES = 4096 + 8192
DEPTHS = {
    config: (config.uop_depth, config.inp_depth, config.wgt_depth, config.acc_depth)
    for config in (SMALL, FLAT)
}


def test_the_small_configurations_have_32_tiles_a_memory():
    assert DEPTHS == {SMALL: (32, 32, 16, 32), FLAT: (32, 32, 16, 32)}


def _factors(draw, field_bits: int, room: int, counts: tuple[int, int]) -> tuple[int, int]:
    """Two loop factors that keep the largest index within `room` of the smallest."""
    out = draw(st.integers(0, min((1 << field_bits) - 1, room // max(counts[0] - 1, 1))))
    room -= out * (counts[0] - 1)
    return out, draw(st.integers(0, min((1 << field_bits) - 1, room // max(counts[1] - 1, 1))))


def _loops(draw, config: Config, reach: tuple[int, int, int]) -> dict[str, int]:
    """Micro-ops 0 to 7 of the table reach the given indices at most; loops stay within the memories."""
    begin = draw(st.integers(0, 7))
    counts = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    dst = _factors(draw, config.acc_bits, config.acc_depth - 1 - reach[0], counts)
    src = _factors(draw, config.inp_bits, min(config.acc_depth, config.inp_depth) - 1 - reach[1], counts)
    return {
        "uop_bgn": begin,
        "uop_end": draw(st.integers(begin, 8)),
        "iter_out": counts[0],
        "iter_in": counts[1],
        "dst_out": dst[0],
        "dst_in": dst[1],
        "src_out": src[0],
        "src_in": src[1],
    }


def _bytes(config: Config) -> dict[Memory, int]:
    return {
        Memory.INP: config.inp_bytes,
        Memory.WGT: config.wgt_bytes,
        Memory.ACC: config.acc_bytes,
        Memory.ACC_8BIT: config.inp_bytes,
    }


def _load(draw, config: Config) -> isa.Load:
    """At most 16 elements, zeros included, which is what the smallest memory holds."""
    memory = draw(st.sampled_from(list(_bytes(config))))
    high, wide = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    top, bottom, left, right = draw(st.tuples(*[st.integers(0, 1)] * 4))
    first = 4096 // _bytes(config)[memory]
    return isa.Load(
        memory_type=memory,
        sram_base=draw(st.integers(0, 16 - (high + top + bottom) * (wide + left + right))),
        dram_base=draw(st.integers(first, first + 16)),
        y_size=high,
        x_size=wide,
        x_stride=draw(st.integers(0, 4)),
        y_pad_0=top,
        y_pad_1=bottom,
        x_pad_0=left,
        x_pad_1=right,
    )


@st.composite
def programs(draw, config: Config):
    """Micro-ops, and instructions that all stay within the memories."""
    index = st.integers(0, 15)
    uops = [Uop(draw(index), draw(index), draw(st.integers(0, 7))) for _ in range(8)]
    reach = tuple(max(column) for column in zip(*uops, strict=True))
    table = isa.Load(memory_type=Memory.UOP, sram_base=0, dram_base=1024, y_size=1, x_size=8, x_stride=8)
    stream = [table]
    for memory in (Memory.INP, Memory.WGT, Memory.ACC):
        depth = 16 if memory == Memory.WGT else 32
        size = _bytes(config)[memory]
        stream.append(
            isa.Load(
                memory_type=memory,
                sram_base=0,
                dram_base=8192 // size,
                y_size=1,
                x_size=depth,
                x_stride=depth,
            )
        )
    for _ in range(draw(st.integers(1, 10))):
        kind = draw(st.sampled_from(["load", "store", "gemm", "gemm", "reset", "alu", "alu", "alu"]))
        if kind == "load":
            stream.append(_load(draw, config))
        elif kind == "store":
            stream.append(
                isa.Store(
                    memory_type=Memory.OUT,
                    sram_base=draw(st.integers(0, 16)),
                    dram_base=draw(st.integers(4096 // config.inp_bytes + 64, 4096 // config.inp_bytes + 80)),
                    y_size=draw(st.integers(0, 4)),
                    x_size=draw(st.integers(0, 4)),
                    x_stride=draw(st.integers(0, 5)),
                )
            )
        elif kind in ("gemm", "reset"):
            loops = _loops(draw, config, reach)
            counts = loops["iter_out"], loops["iter_in"]
            wgt = _factors(draw, config.wgt_bits, config.wgt_depth - 1 - reach[2], counts)
            stream.append(isa.Gemm(**loops, wgt_out=wgt[0], wgt_in=wgt[1], reset=kind == "reset"))
        else:
            stream.append(
                isa.Alu(
                    **_loops(draw, config, reach),
                    alu_opcode=draw(st.sampled_from(list(isa.AluOpcode))),
                    use_imm=draw(st.booleans()),
                    imm=draw(st.one_of(st.integers(-33, 33), st.integers(-(2**15), 2**15 - 1))),
                )
            )
    return uops, stream, draw(st.integers(0, 2**32 - 1))


def _dram(config: Config, uops, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dram = rng.integers(0, 256, DRAM_BYTES, dtype=np.uint8)
    corners = np.array([0x80, 0x7F, 0xFF, 0x00, 0x01], np.uint8)
    places = rng.random(DRAM_BYTES) < 0.3
    dram[places] = rng.choice(corners, int(places.sum()))
    dram[4096 : 4096 + 32] = isa.encode_uops(uops, config).view(np.uint8)
    return dram


@pytest.mark.parametrize("config", [SMALL, FLAT], ids=["2x4", "1x8"])
def test_random_programs_leave_the_same_memories_as_the_models(config):
    executed = {"gemm_counter": 0, "alu_counter": 0, "programs": 0}

    @settings(max_examples=150)
    @given(programs(config))
    def check(case):
        uops, stream, seed = case
        theirs = _dram(config, uops, seed)
        ours = theirs.copy()
        interpreter, machine = Interpreter(config), Machine(config)
        for instruction in stream:
            interpreter.execute(instruction, theirs)
        report = machine.run(encoded(stream, config), ours)
        assert [each for each in report.findings if each.severity == "error"] == []
        np.testing.assert_array_equal(machine.sram.acc, interpreter.acc)
        np.testing.assert_array_equal(machine.sram.inp.astype(np.int8), interpreter.inp)
        np.testing.assert_array_equal(machine.sram.wgt.astype(np.int8), interpreter.wgt)
        np.testing.assert_array_equal(ours, theirs)
        assert report.counters["gemm_counter"] == interpreter.gemm_counter
        assert report.counters["alu_counter"] == interpreter.alu_counter
        executed["programs"] += 1
        for name in ("gemm_counter", "alu_counter"):
            executed[name] += report.counters[name]

    check()
    assert executed["programs"] >= 150
    assert executed["gemm_counter"] > 500
    assert executed["alu_counter"] > 1000
