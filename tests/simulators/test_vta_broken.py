"""Broken programs: one program that is right, one change each, and what the machine finds."""

from dataclasses import replace

import numpy as np
import pytest

from simulators.vta import Machine, isa
from simulators.vta.isa import AluOpcode, Finish, Illegal
from tests.simulators.test_vta_hazards import EXPECTED, OUT, memory, pipeline

FINISH = 17
ERRORS = {
    "hazard",
    "uninitialised",
    "deadlock",
    "no-finish",
    "illegal-instruction",
    "sram-out-of-range",
    "dram-out-of-range",
}
WARNINGS = {"lossy-store", "surplus-token", "backend-dependent"}


def change(*edits: tuple[int, dict]) -> list[isa.Instruction]:
    """The three tiles, with fields of some instructions changed.

    0 LOAD UOP, 1 LOAD WGT; 2 LOAD INP, 3 clear, 4 GEMM, 5 ALU, 6 STORE; 7 to 11, 12 to 16; 17 FINISH.
    """
    stream = pipeline()
    for place, keys in edits:
        stream[place] = replace(stream[place], **keys)
    return stream


BROKEN = {
    "a-load-does-not-signal": (change((2, {"push_next": False})), "deadlock", 4),
    "two-engines-wait-for-each-other": (change((2, {"pop_next": True})), "deadlock", 2),
    "a-gemm-does-not-wait": (change((4, {"pop_prev": False}), (2, {"push_next": False})), "hazard", 4),
    "a-load-overtakes": (change((4, {"push_prev": False}), (7, {"pop_next": False})), "hazard", 7),
    "a-store-overtakes": (change((5, {"push_next": False}), (6, {"pop_prev": False})), "hazard", 6),
    "a-clear-overtakes": (change((6, {"push_prev": False}), (8, {"pop_next": False})), "hazard", 8),
    "finish-does-not-wait": (change((FINISH, {"pop_next": False}), (16, {"push_prev": False})), "hazard", 16),
    "no-finish": (pipeline()[:FINISH], "no-finish", 16),
    "weights-are-not-loaded": (change((1, {"x_size": 0})), "uninitialised", 4),
    "accumulators-are-not-cleared": (change((3, {"iter_in": 0})), "uninitialised", 4),
    "a-load-ends-beyond-inp": (change((7, {"sram_base": 2048})), "sram-out-of-range", 7),
    "a-loop-ends-beyond-acc": (change((5, {"iter_in": 3, "dst_in": 1024})), "sram-out-of-range", 5),
    "a-store-ends-beyond-out": (change((16, {"sram_base": 2048})), "sram-out-of-range", 16),
    "a-load-begins-beyond-dram": (change((2, {"dram_base": 0x500})), "dram-out-of-range", 2),
    "a-store-to-the-first-page": (change((6, {"dram_base": 0xFF})), "dram-out-of-range", 6),
    "no-such-opcode": (
        [*pipeline()[:5], Illegal(opcode=6, words=(6, 0)), *pipeline()[6:]],
        "illegal-instruction",
        5,
    ),
    "no-such-operation": (change((5, {"alu_opcode": 7})), "illegal-instruction", 5),
    "micro-ops-backwards": (change((4, {"uop_bgn": 2})), "illegal-instruction", 4),
    "a-store-with-pads": (change((6, {"y_pad_0": 1})), "illegal-instruction", 6),
    "a-flag-to-nowhere": (change((6, {"push_next": True})), "illegal-instruction", 6),
    "bits-are-lost": (change((5, {"imm": 300})), "lossy-store", 6),
    "a-token-too-many": (change((15, {"push_prev": True})), "surplus-token", FINISH),
    "a-shift-by-40": (change((5, {"alu_opcode": AluOpcode.SHR, "imm": 40})), "backend-dependent", 5),
}


def run(stream, **options):
    dram = memory()
    return Machine(**options).run(isa.encode(stream), dram), dram


def test_the_program_is_right():
    report, dram = run(pipeline())
    assert report.findings == []
    np.testing.assert_array_equal(dram[OUT : OUT + 48].reshape(3, 16), EXPECTED)


@pytest.mark.parametrize(("stream", "kind", "place"), BROKEN.values(), ids=BROKEN)
def test_one_change_is_one_kind_of_finding_at_its_instruction(stream, kind, place):
    report, _ = run(stream)
    assert {each.kind for each in report.findings} == {kind}
    assert {each.severity for each in report.findings} == {"error" if kind in ERRORS else "warning"}
    assert place in {int(each.where.split(":")[0].split()[1]) for each in report.findings}
    assert all(each.message for each in report.findings)


def test_every_kind_of_finding_has_a_broken_program():
    assert {kind for _, kind, _ in BROKEN.values()} == ERRORS | WARNINGS
    assert len(BROKEN) >= 12


def test_errors_come_before_warnings():
    stream = change((5, {"imm": 300}), (FINISH, {"pop_next": False}), (16, {"push_prev": False}))
    report, _ = run(stream)
    assert [each.severity for each in report.findings] == ["error", "warning"]


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"y_size": 65535, "x_size": 1}, "sram-out-of-range"),
        ({"x_size": 65535, "x_stride": 65535}, "sram-out-of-range"),
        ({"y_size": 2, "x_stride": 65535}, "dram-out-of-range"),
        ({"y_size": 65535, "x_size": 0}, None),
    ],
    ids=["rows", "columns", "stride", "rows-of-nothing"],
)
def test_sizes_at_the_ends_of_their_fields(keys, kind):
    report, _ = run(change((2, keys)))
    kinds = {each.kind for each in report.findings}
    assert kinds == ({kind} if kind else {"uninitialised"})


def test_a_stride_of_65535_is_followed():
    stream = [
        isa.Load(
            memory_type=isa.Memory.ACC_8BIT,
            sram_base=0,
            dram_base=256,
            y_size=3,
            x_size=1,
            x_stride=65535,
        ),
        Finish(),
    ]
    dram = np.zeros(4096 + 2 * 65535 * 16 + 16, np.uint8)
    for row in range(3):
        dram[4096 + row * 65535 * 16 :][:16] = row + 1
    machine = Machine()
    assert machine.run(isa.encode(stream), dram).findings == []
    assert machine.sram.acc[:3, 0, 0].tolist() == [1, 2, 3]
