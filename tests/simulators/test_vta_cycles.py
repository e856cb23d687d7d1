"""Cycles by hand: what an instruction costs, and how engines overlap."""

import pytest

from simulators.vta import Machine, isa
from simulators.vta.cycles import CYCLES, cycles_of
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store
from tests.simulators.test_vta_hazards import TILES, memory, pipeline
from tests.simulators.vta_programs import CONFIGS, config
from tests.simulators.vta_streams import serialised

PYNQ = CONFIGS["pynq"]
FOUR = CONFIGS["4x16"]


def transfer(kind, memory, high, wide, stride=None, **pads):
    stride = wide if stride is None else stride
    keys = {"memory_type": memory, "sram_base": 0, "dram_base": 4096}
    return kind(**keys, y_size=high, x_size=wide, x_stride=stride, **pads)


def gemm(**keys) -> Gemm:
    return Gemm(**{"uop_bgn": 2, "uop_end": 5, "iter_out": 7, "iter_in": 11} | keys)


def alu(**keys) -> Alu:
    return Alu(alu_opcode=AluOpcode.ADD, uop_bgn=0, uop_end=2, iter_out=3, iter_in=4, **keys)


COSTS = {
    "finish": (Finish(), PYNQ, 4),
    "nothing-moves": (transfer(Load, Memory.INP, 5, 0), PYNQ, 4),
    "one-pulse": (transfer(Load, Memory.UOP, 1, 2), PYNQ, 4 + 4 + 1),
    "half-a-pulse-more": (transfer(Load, Memory.UOP, 1, 3), PYNQ, 4 + 4 + 2),
    "one-burst": (transfer(Load, Memory.INP, 1, 8), PYNQ, 4 + 4 + 16),
    "two-bursts": (transfer(Load, Memory.INP, 1, 9), PYNQ, 4 + 8 + 18),
    "rows-that-adjoin": (transfer(Load, Memory.INP, 3, 3), PYNQ, 4 + 8 + 18),
    "rows-apart": (transfer(Load, Memory.INP, 3, 3, 5), PYNQ, 4 + 3 * (4 + 6)),
    "pads-are-free": (transfer(Load, Memory.INP, 1, 8, x_pad_0=15, y_pad_1=15), PYNQ, 4 + 4 + 16),
    "weights": (transfer(Load, Memory.WGT, 1, 2), PYNQ, 4 + 4 * 4 + 64),
    "accumulators": (transfer(Load, Memory.ACC, 1, 2), PYNQ, 4 + 4 + 16),
    "store-of-batch-4": (transfer(Store, Memory.OUT, 1, 2), FOUR, 4 + 4 + 16),
    "gemm": (gemm(), PYNQ, 4 + 6 + 3 * 77),
    "gemm-of-batch-4": (gemm(), FOUR, 4 + 6 + 4 * 3 * 77),
    "gemm-of-no-turn": (gemm(iter_in=0), PYNQ, 4 + 6),
    "reset": (gemm(reset=True), PYNQ, 4 + 6 + 3 * 77),
    "alu": (alu(), PYNQ, 4 + 1 + 5 * 24),
    "alu-of-batch-4": (alu(), FOUR, 4 + 1 + 5 * 4 * 24),
}


@pytest.mark.parametrize(("instruction", "config", "cycles"), COSTS.values(), ids=COSTS)
def test_what_an_instruction_costs(instruction, config, cycles):
    assert cycles_of(instruction, config) == cycles


def test_the_costs_are_a_table():
    assert dict(CYCLES) == {
        "instruction": 4,
        "burst": 4,
        "pulse": 1,
        "gemm": 6,
        "gemm_row": 1,
        "alu": 1,
        "alu_row": 5,
    }
    with pytest.raises(TypeError):
        CYCLES["alu"] = 0  # type: ignore[index]


def test_engines_that_wait_for_one_another_take_the_sum_and_others_overlap():
    machine = Machine()
    stream = [
        transfer(Load, Memory.INP, 1, 512),
        transfer(Load, Memory.ACC, 1, 128),
        Finish(),
    ]
    inp, acc = 4 + 4 * 64 + 1024, 4 + 4 * 64 + 1024
    dram = memory().repeat(8)
    waiting = machine.run(isa.encode(serialised(stream)), dram).estimate
    assert waiting.cycles == inp + acc + 4 == waiting.serial
    free = machine.run(isa.encode(stream), dram).estimate
    assert (free.cycles, free.serial) == (acc + 4, inp + acc + 4)
    assert (free.load, free.compute, free.store) == (inp, acc + 4, 0)


def test_the_pipeline_by_hand():
    report = Machine().run(isa.encode(pipeline()), memory())
    found = report.estimate
    inp = 4 + 4 + 2
    wgt = 4 + 4 * 2 + 32
    uop = 4 + 4 + 1
    clear = multiply = 4 + 6 + 1
    add, store = 4 + 1 + 5, 4 + 4 + 2
    # The first GEMM waits for weights and data; then a tile waits for its data, and its clear for the STORE.
    first = wgt + inp + multiply + add + store
    later = clear + multiply + add + store
    assert found.cycles == first + (TILES - 1) * later + 4
    assert found.load == wgt + TILES * inp
    assert found.compute == uop + TILES * (clear + multiply + add) + 4
    assert found.store == TILES * store
    assert found.gemm == TILES * (clear + multiply)
    assert found.alu == TILES * add
    assert found.tiles == TILES
    assert found.utilisation == TILES / found.cycles


def test_utilisation_counts_rows_of_a_tile():
    wide = config(2, 4, 13, 13, 15, 15)
    stream = [
        Gemm(uop_bgn=0, uop_end=1, iter_out=8, iter_in=8),
        Finish(),
    ]
    machine = Machine(wide)
    machine.sram.define()
    found = machine.run(isa.encode(stream, wide), memory()).estimate
    assert found.tiles == 4 * 64
    assert found.cycles == 4 + 6 + 4 * 64 + 4
    assert 0.94 < found.utilisation < 1


def test_a_stream_that_is_not_executed_has_no_cycles():
    report = Machine().run(isa.encode([isa.Illegal(opcode=7, words=(7, 0))]), memory())
    with pytest.raises(ValueError, match="has no cycles"):
        _ = report.estimate
    empty = Machine().run(isa.encode([]), memory())
    assert (empty.estimate.cycles, empty.estimate.utilisation) == (0, 0)
