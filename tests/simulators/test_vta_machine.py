"""A run of the machine: tokens, the end of a stream, broken instructions, and wrong arguments."""

import tracemalloc

import numpy as np
import pytest

from simulators.vta import Config, Machine, isa
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store, Uop
from tests.simulators.vta_memories import PAGE, UOPS_AT, alu_of, dram_of, kinds, load, run, store, used
from tests.simulators.vta_streams import serialised


def _relay(**change) -> list:
    """Load a value, add one, store it: each engine waits for the one before, and nothing is left over."""
    flags = {
        "load": {"push_next": True},
        "clear": {},
        "gemm": {"pop_prev": True},
        "alu": {"push_next": True},
        "store": {"pop_prev": True, "push_prev": True},
        "finish": {"pop_next": True},
    } | change
    one = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1}
    return [
        load(Memory.WGT, 0x2000, 1),
        load(Memory.INP, PAGE, 1, **flags["load"]),
        load(Memory.UOP, UOPS_AT, 1),
        Gemm(reset=True, **one, **flags["clear"]),
        Gemm(**one, **flags["gemm"]),
        Alu(alu_opcode=AluOpcode.ADD, use_imm=True, imm=1, **one, **flags["alu"]),
        store(0x3000, 1, **flags["store"]),
        Finish(**flags["finish"]),
    ]


def _relay_dram() -> np.ndarray:
    identity = np.eye(16, dtype=np.int8)
    return dram_of({PAGE: np.arange(16, dtype=np.int8), 0x2000: identity}, (Uop(0, 0, 0),))


def test_a_program_with_its_tokens_runs_and_leaves_none():
    machine, dram = used(), _relay_dram()
    report = run(machine, _relay(), dram)
    assert report.findings == []
    np.testing.assert_array_equal(dram[0x3000:0x3010], np.arange(1, 17))
    assert set(machine.tokens.values()) == {0}


def test_tokens_let_an_instruction_run_before_one_that_stands_earlier():
    # In the stream the STORE stands first; it waits for the token of the ALU.
    stream = _relay()
    stream.insert(0, stream.pop(6))
    dram = _relay_dram()
    assert run(Machine(), stream, dram).findings == []
    np.testing.assert_array_equal(dram[0x3000:0x3010], np.arange(1, 17))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            {"load": {}},
            "deadlock",
            [
                "compute waits at instruction 4: GEMM",
                "token load→compute",
                "load has nothing left to execute",
            ],
        ),
        ({"alu": {}}, "deadlock", ["store waits at instruction 6: STORE", "token compute→store"]),
        (
            {"store": {"pop_prev": True}},
            "deadlock",
            ["compute waits at instruction 7: FINISH", "token store→compute"],
        ),
        (
            {"load": {"push_next": True, "pop_next": True}},
            "deadlock",
            ["load waits at instruction 1: LOAD INP", "token compute→load", "compute waits at instruction 4"],
        ),
    ],
    ids=["load-does-not-signal", "alu-does-not-signal", "store-does-not-signal", "both-wait-for-each-other"],
)
def test_a_missing_token_is_a_deadlock_that_says_who_waits_for_whom(change, kind, words):
    report = run(Machine(), _relay(**change), _relay_dram())
    assert kinds(report) == [(kind, "error")]
    for each in words:
        assert each in report.findings[0].message


@pytest.mark.parametrize(
    ("change", "queue"),
    [
        ({"gemm": {}}, "load→compute"),
        ({"gemm": {"pop_prev": True, "push_prev": True}}, "compute→load"),
        ({"finish": {}}, "store→compute"),
        ({"clear": {"push_next": True}}, "compute→store"),
    ],
    ids=["load-to-compute", "compute-to-load", "store-to-compute", "compute-to-store"],
)
def test_a_surplus_token_is_a_warning_and_stays_until_reset(change, queue):
    machine = used()
    stream = _relay(**change)
    if queue == "store→compute":
        # Without its pop FINISH might come first; behind the STORE it does not.
        assert stream[-1] == Finish()
    report = run(machine, stream, _relay_dram())
    assert ("surplus-token", "warning") in kinds(report)
    assert f"1 left in {queue}" in report.findings[-1].message
    again = run(machine, stream, _relay_dram())
    assert f"2 left in {queue}" in again.findings[-1].message
    machine.reset()
    assert f"1 left in {queue}" in run(machine, stream, _relay_dram()).findings[-1].message


def test_a_surplus_token_lets_the_next_program_go_on():
    machine = used()
    run(machine, _relay(gemm={}), _relay_dram())
    report = run(machine, _relay(load={}), _relay_dram())
    assert set(kinds(report)) == {("hazard", "error")}, "no deadlock, but the GEMM waits for nothing"


def test_sram_persists_between_runs_until_reset():
    machine = used()
    dram = dram_of({PAGE: np.arange(16, dtype=np.int32)})
    run(machine, [load(Memory.ACC, PAGE, 1), Finish()], dram)
    stream = serialised([store(0x3000, 1), Finish()])
    run(machine, stream, dram)
    np.testing.assert_array_equal(dram[0x3000:0x3010], np.arange(16))
    machine.reset()
    run(machine, stream, dram)
    assert (dram[0x3000:0x3010] == 0).all()


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ([], "no instructions"),
        ([load(Memory.ACC, PAGE, 1)], "has no FINISH"),
        ([Finish(), load(Memory.ACC, PAGE, 1)], "after the FINISH at instruction 0"),
        ([Finish(), load(Memory.INP, 0, 0)], "after the FINISH at instruction 0"),
    ],
    ids=["empty", "none", "load-after-it", "nop-after-it"],
)
def test_a_stream_that_does_not_end_with_finish(stream, words):
    report = run(Machine(), stream, dram_of())
    assert kinds(report) == [("no-finish", "error")]
    assert words in report.findings[0].message


def test_two_finishes_in_one_stream_are_one_too_many_for_nobody():
    assert run(Machine(), [Finish(), load(Memory.ACC, PAGE, 1), Finish()], dram_of()).findings == []


ONE = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1}
BROKEN = {
    "load-beyond-inp": (
        load(Memory.INP, PAGE, 2, sram=2047),
        "sram-out-of-range",
        "elements 2047 to 2048 of INP",
    ),
    "pads-beyond-inp": (
        load(Memory.INP, PAGE, 1, sram=2046, x_pad_0=1, x_pad_1=1),
        "sram-out-of-range",
        "elements 2046 to 2048 of INP, which holds 2048",
    ),
    "load-beyond-uop": (load(Memory.UOP, PAGE, 1, sram=8192), "sram-out-of-range", "UOP, which holds 8192"),
    "store-beyond-out": (store(PAGE, 3, sram=2046), "sram-out-of-range", "elements 2046 to 2048 of OUT"),
    "load-beyond-dram": (
        load(Memory.INP, 0xFFF0, 2),
        "dram-out-of-range",
        "bytes 0xfff0 to 0x1000f of a DRAM of",
    ),
    "strided-beyond-dram": (
        load(Memory.INP, 0x8000, 1, y_size=3, x_stride=0x400),
        "dram-out-of-range",
        "0x8000 to 0x1000f",
    ),
    "store-beyond-dram": (store(0x10000, 1), "dram-out-of-range", "0x10000 to 0x1000f"),
    "first-page": (load(Memory.INP, 0xFF0, 1), "dram-out-of-range", "first page"),
    "no-rows-of-no-memory": (
        load(Memory.INP, 0x10000, 1, y_size=0, y_pad_0=1),
        "dram-out-of-range",
        "0x10000",
    ),
    "address-that-wraps": (
        Load(
            memory_type=Memory.INP,
            sram_base=0,
            dram_base=(2**32 + PAGE) // 16,
            y_size=1,
            x_size=1,
            x_stride=1,
        ),
        "dram-out-of-range",
        "0x100001000",
    ),
    "gemm-dst": (Gemm(**ONE | {"iter_in": 3}, dst_in=1024), "sram-out-of-range", "element 2048 of ACC"),
    "gemm-src": (Gemm(**ONE | {"iter_in": 3}, src_in=1024), "sram-out-of-range", "element 2048 of INP"),
    "gemm-wgt": (Gemm(**ONE | {"iter_out": 3}, wgt_out=512), "sram-out-of-range", "element 1024 of WGT"),
    "reset-dst": (Gemm(reset=True, **ONE | {"iter_in": 3}, dst_in=1024), "sram-out-of-range", "of ACC"),
    "alu-dst": (alu_of(AluOpcode.ADD, iter_in=3, dst_in=1024), "sram-out-of-range", "of ACC"),
    "alu-unused-src": (
        alu_of(AluOpcode.ADD, use_imm=True, imm=1, iter_in=3, src_in=1024),
        "sram-out-of-range",
        "element 2048 of ACC",
    ),
    "micro-ops-beyond-uop": (Gemm(**ONE | {"uop_end": 8193}), "sram-out-of-range", "micro-op 8192 of UOP"),
    "uop-end-first": (Gemm(**ONE | {"uop_bgn": 2}), "illegal-instruction", "uop_end 1 lies before uop_bgn 2"),
    "alu-opcode": (
        alu_of(AluOpcode.ADD, alu_opcode=5, iter_out=0),
        "illegal-instruction",
        "ALU operation has opcode 5",
    ),
    "store-with-pad": (store(PAGE, 1, x_pad_1=1), "illegal-instruction", "STORE with padding"),
    "store-from-acc": (
        Store(memory_type=Memory.ACC, sram_base=0, dram_base=256, y_size=1, x_size=1, x_stride=1),
        "illegal-instruction",
        "STORE from ACC",
    ),
    "load-to-out": (
        Load(memory_type=Memory.OUT, sram_base=0, dram_base=256, y_size=1, x_size=1, x_stride=1),
        "illegal-instruction",
        "LOAD to OUT",
    ),
    "load-to-memory-6": (
        Load(memory_type=6, sram_base=0, dram_base=256, y_size=1, x_size=1, x_stride=1),
        "illegal-instruction",
        "memory 6",
    ),
    "load-pops-prev": (
        load(Memory.INP, PAGE, 1, pop_prev=True),
        "illegal-instruction",
        "the load engine has not",
    ),
    "load-pushes-prev": (
        load(Memory.WGT, PAGE, 1, push_prev=True),
        "illegal-instruction",
        "the load engine has not",
    ),
    "store-pops-next": (store(PAGE, 1, pop_next=True), "illegal-instruction", "the store engine has not"),
    "store-pushes-next": (store(PAGE, 1, push_next=True), "illegal-instruction", "the store engine has not"),
    "opcode-7": (isa.Illegal(opcode=7, words=(7, 0)), "illegal-instruction", "no instruction has opcode 7"),
}


@pytest.mark.parametrize(("instruction", "kind", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_instruction_is_found_and_changes_nothing(instruction, kind, words):
    machine = used()
    machine.sram.acc[:] = 5
    dram = dram_of(uops=(Uop(0, 0, 0),))
    before = dram.copy()
    report = run(machine, [load(Memory.UOP, UOPS_AT, 1), instruction, Finish()], dram)
    assert kinds(report) == [(kind, "error")]
    assert words in report.findings[0].message
    assert report.findings[0].where.startswith("instruction 1: ")
    np.testing.assert_array_equal(dram, before)
    assert (machine.sram.acc == 5).all()


def test_an_empty_loop_checks_no_index():
    stream = [
        Gemm(uop_bgn=0, uop_end=8192, iter_out=0, iter_in=3, dst_in=2047),
        alu_of(AluOpcode.ADD, uop_bgn=8000, uop_end=8000, iter_in=9, dst_in=2047),
        Finish(),
    ]
    report = run(Machine(), stream, dram_of())
    assert report.findings == []
    assert set(report.counters.values()) == {0}


def test_finish_may_wait():
    assert run(used(), [store(PAGE, 1, push_prev=True), Finish(pop_next=True)], dram_of()).findings == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"profile": "vivado"}, "no VTA profile 'vivado'; supported: fsim, hls, chisel, opencl, vtapp"),
        ({"schedule": "fair"}, "no VTA schedule 'fair'; supported: stream, random, adversarial"),
    ],
    ids=["profile", "schedule"],
)
def test_another_profile_or_schedule_is_an_error_that_names_what_is_supported(keys, words):
    with pytest.raises(ValueError, match=words):
        Machine(Config(), **keys)


def _read_only() -> np.ndarray:
    dram = dram_of()
    dram.flags.writeable = False
    return dram


@pytest.mark.parametrize(
    "dram",
    [
        np.zeros(8192, np.int8),
        np.zeros((2, 8192), np.uint8),
        bytearray(8192),
        np.zeros(9000, np.uint8)[::2],
        _read_only(),
    ],
    ids=["int8", "two-dimensional", "bytearray", "strided", "read-only"],
)
def test_a_dram_that_is_no_writable_byte_array_is_an_error(dram):
    with pytest.raises(ValueError, match="dram is a"):
        Machine().run(isa.encode([Finish()]), dram)


def test_instructions_that_are_no_words_are_an_error():
    with pytest.raises(ValueError, match=r"instructions are uint64\[n, 2\]"):
        Machine().run(np.zeros((1, 4), np.uint32), dram_of())


def test_an_instruction_of_many_iterations_takes_bounded_memory(monkeypatch):
    """2^17 iterations in pieces of 2^10: the indices of all at once would be three arrays of 1 MiB."""
    machine = used()
    machine.sram.inp[1], machine.sram.wgt[2] = 1, 3
    gemm = Gemm(uop_bgn=0, uop_end=1, iter_out=1 << 4, iter_in=1 << 13)
    dram = dram_of(uops=(Uop(0, 1, 2),))
    monkeypatch.setattr("simulators.vta.compute.PIECE", 1 << 10)
    tracemalloc.start()
    report = run(machine, [load(Memory.UOP, UOPS_AT, 1), gemm, Finish()], dram)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (machine.sram.acc[0] == 48 << 17).all()
    assert report.counters["gemm_counter"] == 1 << 17
    assert peak < 2 << 20
