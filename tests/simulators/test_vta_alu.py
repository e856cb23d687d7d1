"""ALU: every operation, with immediates and tensors, one iteration after the other."""

import numpy as np
import pytest

from simulators.vta.isa import AluOpcode, Finish, Memory, Uop
from tests.simulators.vta_memories import (
    CORNERS,
    RNG,
    UOPS_AT,
    alu_expected,
    alu_of,
    dram_of,
    kinds,
    load,
    run,
    used,
)

IMMEDIATES = [
    (opcode, immediate)
    for opcode in AluOpcode
    for immediate in (-32768, -31, -3, -1, 0, 1, 7, 15, 16, 31, 127, 32767)
    if opcode != AluOpcode.SHR or abs(immediate) <= 31
]


@pytest.mark.parametrize(
    ("opcode", "immediate"), IMMEDIATES, ids=[f"{opcode.name}-{number}" for opcode, number in IMMEDIATES]
)
def test_alu_with_an_immediate(opcode, immediate):
    machine = used()
    machine.sram.acc[:4, 0] = RNG.permuted(np.tile(CORNERS, (4, 1)), axis=1)
    alu = alu_of(opcode, use_imm=True, imm=immediate, iter_in=3, dst_in=1, src_in=1)
    expected = alu_expected(machine.sram.acc, alu, (Uop(0, 1),))
    report = run(machine, [load(Memory.UOP, UOPS_AT, 1), alu, Finish()], dram_of(uops=(Uop(0, 1),)))
    np.testing.assert_array_equal(machine.sram.acc, expected)
    assert report.findings == []
    assert report.counters["alu_counter"] == 3


@pytest.mark.parametrize("opcode", list(AluOpcode), ids=lambda opcode: opcode.name)
def test_alu_with_a_tensor(opcode):
    machine = used()
    machine.sram.acc[:16, 0] = CORNERS
    operands = np.arange(-16, 16) if opcode == AluOpcode.SHR else CORNERS
    machine.sram.acc[100:116, 0] = RNG.choice(operands, (16, 16))
    alu = alu_of(opcode, iter_out=4, iter_in=4, dst_out=4, dst_in=1, src_out=4, src_in=1)
    expected = alu_expected(machine.sram.acc, alu, (Uop(0, 100),))
    report = run(machine, [load(Memory.UOP, UOPS_AT, 1), alu, Finish()], dram_of(uops=(Uop(0, 100),)))
    np.testing.assert_array_equal(machine.sram.acc, expected)
    assert report.findings == []


ORDERS = {
    "running-sum": (alu_of(AluOpcode.ADD, iter_out=9, dst_out=1, src_out=1), (Uop(1, 0),)),
    "doubled-in-place": (alu_of(AluOpcode.ADD, iter_out=5, iter_in=3, dst_out=1, src_out=1), (Uop(0, 0),)),
    "read-before-it-is-written": (alu_of(AluOpcode.ADD, iter_out=9, dst_out=1, src_out=1), (Uop(0, 1),)),
    "many-into-one": (alu_of(AluOpcode.MAX, iter_out=9, src_out=1), (Uop(40, 3),)),
    "pooling": (
        alu_of(AluOpcode.MAX, uop_end=4, iter_out=2, iter_in=3, dst_out=3, dst_in=1, src_out=12, src_in=2),
        tuple(Uop(60, 6 * y + x) for y in range(2) for x in range(2)),
    ),
    "shifted-by-what-was-just-shifted": (
        alu_of(AluOpcode.SHR, uop_end=2, iter_out=4, dst_out=1, src_out=1),
        (Uop(0, 1), Uop(1, 0)),
    ),
    "immediate-on-the-same-element-again": (
        alu_of(AluOpcode.MUL, use_imm=True, imm=-3, uop_end=2, iter_out=3, iter_in=2, dst_out=1),
        (Uop(0, 0), Uop(1, 1)),
    ),
}


@pytest.mark.parametrize(("alu", "uops"), ORDERS.values(), ids=ORDERS)
def test_alu_iterations_see_what_earlier_ones_wrote(alu, uops):
    machine = used()
    limit = 20 if alu.alu_opcode == AluOpcode.SHR else 2**31
    machine.sram.acc[:] = RNG.integers(-limit, limit, machine.sram.acc.shape)
    expected = alu_expected(machine.sram.acc, alu, uops)
    run(machine, [load(Memory.UOP, UOPS_AT, len(uops)), alu, Finish()], dram_of(uops=uops))
    np.testing.assert_array_equal(machine.sram.acc, expected)


@pytest.mark.parametrize("shift", [32, 33, 32767, -32, -32768])
@pytest.mark.parametrize("tensor", [False, True], ids=["immediate", "tensor"])
def test_a_shift_beyond_31_leaves_signs_or_zeros_and_is_reported(shift, tensor):
    machine = used()
    machine.sram.acc[0, 0] = CORNERS
    machine.sram.acc[1] = shift
    alu = alu_of(AluOpcode.SHR, use_imm=not tensor, imm=shift)
    report = run(machine, [load(Memory.UOP, UOPS_AT, 1), alu, Finish()], dram_of(uops=(Uop(0, 1),)))
    np.testing.assert_array_equal(machine.sram.acc[0, 0], np.where((CORNERS < 0) & (shift > 0), -1, 0))
    assert kinds(report) == [("backend-dependent", "warning")]
    assert report.findings[0].message.startswith("16 lanes are shifted by 32 or more")


def test_a_running_sum_that_is_cut_into_plans_goes_on_where_it_stopped(monkeypatch):
    machine = used()
    machine.sram.acc[:] = RNG.integers(-(2**31), 2**31, machine.sram.acc.shape)
    alu = alu_of(AluOpcode.ADD, uop_end=2, iter_out=7, iter_in=5, dst_out=2, dst_in=1, src_out=1, src_in=3)
    uops = (Uop(7, 8), Uop(3, 9))
    expected = alu_expected(machine.sram.acc, alu, uops)
    monkeypatch.setattr("simulators.vta.compute.PIECE", 4)
    run(machine, [load(Memory.UOP, UOPS_AT, 2), alu, Finish()], dram_of(uops=uops))
    np.testing.assert_array_equal(machine.sram.acc, expected)
