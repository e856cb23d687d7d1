"""What each instruction does, instruction by instruction, and what the machine notices."""

import tracemalloc

import numpy as np
import pytest

from simulators.vta import Config, Machine, isa
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store, Uop
from tests.simulators.vta_streams import serialised

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


# LOAD and STORE --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pads", "before", "after"),
    [
        ((0, 0, 0, 0), (0, 0), (0, 0)),
        ((2, 0, 0, 0), (2, 0), (0, 0)),
        ((0, 2, 0, 0), (0, 0), (2, 0)),
        ((0, 0, 2, 0), (0, 2), (0, 0)),
        ((0, 0, 0, 2), (0, 0), (0, 2)),
        ((15, 15, 15, 15), (15, 15), (15, 15)),
    ],
    ids=["none", "top", "bottom", "left", "right", "all-15"],
)
def test_load_writes_zeros_around_its_rows(pads, before, after):
    tensor = RNG.integers(1, 128, (5, 7, 1, 16)).astype(np.int8)
    dram = dram_of({PAGE: tensor})
    machine = used()
    machine.sram.inp[:] = 99
    keys = dict(zip(("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"), pads, strict=True))
    report = run(
        machine,
        serialised([load(Memory.INP, PAGE + 16, 3, sram=4, y_size=5, x_stride=7, **keys), Finish()]),
        dram,
    )
    expected = np.pad(tensor[:, 1:4], ((before[0], after[0]), (before[1], after[1]), (0, 0), (0, 0))).reshape(
        -1, 1, 16
    )
    np.testing.assert_array_equal(machine.sram.inp[4 : 4 + len(expected)], expected)
    assert (machine.sram.inp[:4] == 99).all()
    assert (machine.sram.inp[4 + len(expected) :] == 99).all()
    assert report.counters["inp_load_nbytes"] == 5 * 3 * 16, "zeros are not read from DRAM"
    assert report.findings == []


def test_a_load_of_no_rows_writes_its_zeros_and_a_load_of_no_columns_nothing():
    machine = used()
    machine.sram.inp[:] = 99
    rows = load(Memory.INP, PAGE, 3, y_size=0, y_pad_0=2)
    columns = load(Memory.INP, 0, 0, sram=2040, y_size=50, y_pad_0=2, x_pad_0=2)
    report = run(machine, serialised([rows, columns, Finish()]), dram_of())
    assert (machine.sram.inp[:6] == 0).all()
    assert (machine.sram.inp[6:] == 99).all()
    assert report.findings == []
    assert report.counters["inp_load_nbytes"] == 0


@pytest.mark.parametrize(
    ("memory", "dtype", "shape", "attribute", "counter"),
    [
        (Memory.UOP, np.uint32, (6,), "uop", "uop_load_nbytes"),
        (Memory.WGT, np.int8, (6, 16, 16), "wgt", "wgt_load_nbytes"),
        (Memory.INP, np.int8, (6, 1, 16), "inp", "inp_load_nbytes"),
        (Memory.ACC, np.int32, (6, 1, 16), "acc", "acc_load_nbytes"),
        (Memory.ACC_8BIT, np.int8, (6, 1, 16), "acc", "acc_load_nbytes"),
    ],
    ids=["uop", "wgt", "inp", "acc", "acc-8bit-sign-extended"],
)
def test_every_memory_is_loaded_with_its_own_element(memory, dtype, shape, attribute, counter):
    limits = np.iinfo(dtype)
    tensor = RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)
    tensor.flat[:2] = limits.min, limits.max
    machine = used()
    report = run(machine, [load(memory, PAGE, 6, sram=3), Finish()], dram_of({PAGE: tensor}))
    np.testing.assert_array_equal(getattr(machine.sram, attribute)[3:9], tensor)
    assert report.counters == dict.fromkeys(report.counters, 0) | {counter: tensor.nbytes}


def test_store_writes_the_low_bytes_with_a_stride_and_warns_of_lost_bits():
    values = np.array([127, 128, -128, -129, 200, 255, 256, -256, 0, 1, -1, 2**31 - 1, -(2**31), 5, 6, 7])
    tensor = np.stack([values, values[::-1], np.arange(16), -np.arange(16)]).astype(np.int32)
    dram = dram_of({PAGE: tensor})
    dram[2 * PAGE : 3 * PAGE] = 77
    report = run(
        Machine(),
        [
            load(Memory.ACC, PAGE, 4, push_next=True),
            store(2 * PAGE, 2, y_size=2, x_stride=3, pop_prev=True, push_prev=True),
            Finish(pop_next=True),
        ],
        dram,
    )
    stored = dram[2 * PAGE : 3 * PAGE].view(np.int8).reshape(-1, 16)
    low = (tensor & 255).astype(np.uint8).view(np.int8)
    np.testing.assert_array_equal(stored[[0, 1, 3, 4]], low)
    assert low[0, 4] == -56
    assert (stored[2] == 77).all()
    assert (stored[5:] == 77).all()
    assert report.counters["out_store_nbytes"] == 64
    assert kinds(report) == [("lossy-store", "warning")]
    assert report.findings[0].message.startswith("16 elements do not fit int8")
    assert report.findings[0].where.startswith("instruction 1: STORE OUT sram 0")


def test_rows_of_a_store_that_overlap_are_written_in_order():
    tensor = RNG.integers(-128, 128, (6, 16)).astype(np.int32)
    dram = dram_of({PAGE: tensor})
    stream = [
        load(Memory.ACC, PAGE, 6, push_next=True),
        store(2 * PAGE, 3, y_size=2, x_stride=1, pop_prev=True, push_prev=True),
        Finish(pop_next=True),
    ]
    assert run(used(), stream, dram).findings == []
    stored = dram[2 * PAGE : 2 * PAGE + 64].view(np.int8).reshape(4, 16)
    np.testing.assert_array_equal(stored, tensor[[0, 3, 4, 5]])


# GEMM ------------------------------------------------------------------------------------------------


def _gemm_machine(dtype_range=(-128, 128)) -> Machine:
    machine = used()
    machine.sram.inp[:] = RNG.integers(*dtype_range, machine.sram.inp.shape)
    machine.sram.wgt[:] = RNG.integers(*dtype_range, machine.sram.wgt.shape)
    machine.sram.acc[:] = RNG.integers(-(2**31), 2**31, machine.sram.acc.shape)
    return machine


def _gemm_expected(machine: Machine, gemm: Gemm, uops) -> np.ndarray:
    """One tile after another in Python's integers, modulo 2^32."""
    acc = machine.sram.acc.astype(object)
    inp, wgt = machine.sram.inp.astype(np.int64), machine.sram.wgt.astype(np.int64)
    for out in range(gemm.iter_out):
        for inner in range(gemm.iter_in):
            for uop in uops[gemm.uop_bgn : gemm.uop_end]:
                dst = uop.dst + out * gemm.dst_out + inner * gemm.dst_in
                src = uop.src + out * gemm.src_out + inner * gemm.src_in
                weights = uop.wgt + out * gemm.wgt_out + inner * gemm.wgt_in
                acc[dst] = acc[dst] + (inp[src] @ wgt[weights].T)
    return ((acc + 2**31) % 2**32 - 2**31).astype(np.int32)


CONV = tuple(
    Uop(64 * o, 100 * c + 10 * y + x, (o * 2 + c) * 9 + 3 * y + x)
    for o in range(2)
    for c in range(2)
    for y in range(3)
    for x in range(3)
)
GEMMS = {
    "one-tile": (Gemm(uop_bgn=0, uop_end=1, iter_out=1, iter_in=1), (Uop(3, 5, 7),)),
    "convolution": (
        Gemm(uop_bgn=0, uop_end=36, iter_out=8, iter_in=8, dst_out=8, dst_in=1, src_out=10, src_in=1),
        CONV,
    ),
    "strided-convolution": (
        Gemm(uop_bgn=0, uop_end=36, iter_out=4, iter_in=4, dst_out=4, dst_in=1, src_out=20, src_in=2),
        CONV,
    ),
    "reduction-in-a-loop": (
        Gemm(uop_bgn=0, uop_end=4, iter_out=8, iter_in=16, dst_out=1, src_out=16, src_in=1, wgt_in=1),
        tuple(Uop(0, 0, 16 * o)._replace(dst=8 * o) for o in range(4)),
    ),
    "reduction-longer-than-1024": (
        Gemm(uop_bgn=0, uop_end=100, iter_out=2, iter_in=3, dst_out=1, src_out=100),
        tuple(Uop(0, k, k) for k in range(100)),
    ),
    "all-into-one": (
        Gemm(uop_bgn=0, uop_end=3, iter_out=20, iter_in=30, src_out=30, src_in=1),
        (Uop(9, 0, 1),) * 3,
    ),
    "channels-in-a-loop": (
        Gemm(uop_bgn=0, uop_end=2, iter_out=6, iter_in=5, dst_out=5, dst_in=1, src_in=1, wgt_out=2),
        (Uop(0, 0, 0), Uop(0, 5, 1)),
    ),
    "pixels-that-collide": (
        Gemm(uop_bgn=0, uop_end=2, iter_out=4, iter_in=5, dst_out=2, dst_in=1, src_out=5, src_in=1),
        (Uop(0, 0, 0), Uop(1, 3, 1)),
    ),
    "pixels-in-micro-ops": (
        Gemm(uop_bgn=0, uop_end=12, iter_out=3, iter_in=3, src_out=10, src_in=1, wgt_out=3, wgt_in=1),
        tuple(Uop(x + 6 * y, x + 10 * y, 0) for y in range(2) for x in range(6)),
    ),
    "groups-of-unequal-length": (
        Gemm(uop_bgn=0, uop_end=6, iter_out=2, iter_in=1, dst_out=10, src_out=3),
        (Uop(0, 0, 0), Uop(1, 1, 1), Uop(0, 2, 2), Uop(2, 0, 0), Uop(0, 4, 4), Uop(2, 2, 2)),
    ),
    "16383-times-the-same": (Gemm(uop_bgn=0, uop_end=1, iter_out=16383, iter_in=1), (Uop(1, 2, 3),)),
    "first-micro-ops-skipped": (
        Gemm(uop_bgn=2, uop_end=3, iter_out=1, iter_in=1),
        (Uop(0, 0), Uop(1, 1), Uop(2, 2, 2)),
    ),
}


@pytest.mark.parametrize(("gemm", "uops"), GEMMS.values(), ids=GEMMS)
def test_gemm_adds_every_product_modulo_2_to_the_32(gemm, uops):
    machine = _gemm_machine()
    expected = _gemm_expected(machine, gemm, uops)
    stream = [load(Memory.UOP, UOPS_AT, len(uops)), gemm, Finish()]
    report = run(machine, stream, dram_of(uops=uops))
    assert report.findings == []
    np.testing.assert_array_equal(machine.sram.acc, expected)
    assert report.counters["gemm_counter"] == gemm.iter_out * gemm.iter_in * (gemm.uop_end - gemm.uop_bgn)


@pytest.mark.parametrize(("value", "product"), [(-128, 2**14), (127, 16129)], ids=["lowest", "highest"])
def test_gemm_is_exact_where_every_product_is_the_largest(value, product):
    machine = used()
    machine.sram.inp[:] = value
    machine.sram.wgt[:] = value
    # Odd sums, so that a float which had to round would show.
    machine.sram.inp[0, 0, 0] = value + 1
    uops = tuple(Uop(0, k % 2048, k % 1024) for k in range(8192))
    gemm = Gemm(uop_bgn=0, uop_end=8191, iter_out=1, iter_in=1)
    last = Gemm(uop_bgn=8191, uop_end=8192, iter_out=1, iter_in=1)
    dram = dram_of(uops=uops)
    assert run(machine, [load(Memory.UOP, UOPS_AT, 8192), gemm, Finish()], dram).findings == []
    total = 8191 * 16 * product + 4 * value
    assert (machine.sram.acc[0] == total).all()
    run(machine, [last, Finish()], dram)
    total += 16 * product
    assert (machine.sram.acc[0] == (total + 2**31) % 2**32 - 2**31).all()


def test_gemm_with_reset_clears_what_dst_reaches_and_nothing_else():
    machine = _gemm_machine()
    before = machine.sram.acc.copy()
    uops = (Uop(5, 2047, 1023), Uop(20, 2047, 1023))
    gemm = Gemm(
        reset=True, uop_bgn=0, uop_end=2, iter_out=3, iter_in=2, dst_out=4, dst_in=1, src_out=9, wgt_in=9
    )
    report = run(machine, [load(Memory.UOP, UOPS_AT, 2), gemm, Finish()], dram_of(uops=uops))
    cleared = [5, 6, 9, 10, 13, 14, 20, 21, 24, 25, 28, 29]
    assert (machine.sram.acc[cleared] == 0).all()
    np.testing.assert_array_equal(np.delete(machine.sram.acc, cleared, 0), np.delete(before, cleared, 0))
    assert report.findings == [], "with reset src and wgt are not looked at"
    assert report.counters["gemm_counter"] == 0


def test_loops_of_more_iterations_than_one_plan_holds():
    machine = _gemm_machine()
    expected = _gemm_expected(machine, Gemm(uop_bgn=0, uop_end=1, iter_out=1, iter_in=1), (Uop(1, 2, 3),))
    before = machine.sram.acc[1].astype(np.int64)
    once = (expected[1] - before + 2**31) % 2**32 - 2**31
    expected[1] = (before + once * 50 * 16383 + 2**31) % 2**32 - 2**31
    gemm = Gemm(uop_bgn=0, uop_end=1, iter_out=50, iter_in=16383)
    dram = dram_of(uops=(Uop(1, 2, 3), Uop(7, 8)))
    report = run(machine, [load(Memory.UOP, UOPS_AT, 2), gemm, Finish()], dram)
    np.testing.assert_array_equal(machine.sram.acc, expected)
    assert report.counters["gemm_counter"] == 50 * 16383


def test_a_running_sum_that_is_cut_into_plans_goes_on_where_it_stopped(monkeypatch):
    machine = used()
    machine.sram.acc[:] = RNG.integers(-(2**31), 2**31, machine.sram.acc.shape)
    alu = _alu(AluOpcode.ADD, uop_end=2, iter_out=7, iter_in=5, dst_out=2, dst_in=1, src_out=1, src_in=3)
    uops = (Uop(7, 8), Uop(3, 9))
    expected = _alu_expected(machine.sram.acc, alu, uops)
    monkeypatch.setattr("simulators.vta.compute.PIECE", 4)
    run(machine, [load(Memory.UOP, UOPS_AT, 2), alu, Finish()], dram_of(uops=uops))
    np.testing.assert_array_equal(machine.sram.acc, expected)


def test_the_same_loops_over_other_micro_ops_are_another_kernel():
    machine = _gemm_machine()
    gemm = Gemm(uop_bgn=0, uop_end=1, iter_out=2, iter_in=2, dst_out=2, dst_in=1, src_out=2, src_in=1)
    for uops in ((Uop(0, 0, 0),), (Uop(8, 3, 5),)):
        expected = _gemm_expected(machine, gemm, uops)
        run(machine, [load(Memory.UOP, UOPS_AT, 1), gemm, Finish()], dram_of(uops=uops))
        np.testing.assert_array_equal(machine.sram.acc, expected)


# ALU -------------------------------------------------------------------------------------------------

MEANING = {
    AluOpcode.MIN: min,
    AluOpcode.MAX: max,
    AluOpcode.ADD: lambda x, y: x + y,
    AluOpcode.SHR: lambda x, y: x >> y if y >= 0 else x << -y,
    AluOpcode.MUL: lambda x, y: x * y,
}


def _alu(opcode: AluOpcode, **keys) -> Alu:
    return Alu(**{"alu_opcode": opcode, "uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1} | keys)


def _alu_expected(acc: np.ndarray, alu: Alu, uops) -> np.ndarray:
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
    alu = _alu(opcode, use_imm=True, imm=immediate, iter_in=3, dst_in=1, src_in=1)
    expected = _alu_expected(machine.sram.acc, alu, (Uop(0, 1),))
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
    alu = _alu(opcode, iter_out=4, iter_in=4, dst_out=4, dst_in=1, src_out=4, src_in=1)
    expected = _alu_expected(machine.sram.acc, alu, (Uop(0, 100),))
    report = run(machine, [load(Memory.UOP, UOPS_AT, 1), alu, Finish()], dram_of(uops=(Uop(0, 100),)))
    np.testing.assert_array_equal(machine.sram.acc, expected)
    assert report.findings == []


ORDERS = {
    "running-sum": (_alu(AluOpcode.ADD, iter_out=9, dst_out=1, src_out=1), (Uop(1, 0),)),
    "doubled-in-place": (_alu(AluOpcode.ADD, iter_out=5, iter_in=3, dst_out=1, src_out=1), (Uop(0, 0),)),
    "read-before-it-is-written": (_alu(AluOpcode.ADD, iter_out=9, dst_out=1, src_out=1), (Uop(0, 1),)),
    "many-into-one": (_alu(AluOpcode.MAX, iter_out=9, src_out=1), (Uop(40, 3),)),
    "pooling": (
        _alu(AluOpcode.MAX, uop_end=4, iter_out=2, iter_in=3, dst_out=3, dst_in=1, src_out=12, src_in=2),
        tuple(Uop(60, 6 * y + x) for y in range(2) for x in range(2)),
    ),
    "shifted-by-what-was-just-shifted": (
        _alu(AluOpcode.SHR, uop_end=2, iter_out=4, dst_out=1, src_out=1),
        (Uop(0, 1), Uop(1, 0)),
    ),
    "immediate-on-the-same-element-again": (
        _alu(AluOpcode.MUL, use_imm=True, imm=-3, uop_end=2, iter_out=3, iter_in=2, dst_out=1),
        (Uop(0, 0), Uop(1, 1)),
    ),
}


@pytest.mark.parametrize(("alu", "uops"), ORDERS.values(), ids=ORDERS)
def test_alu_iterations_see_what_earlier_ones_wrote(alu, uops):
    machine = used()
    limit = 20 if alu.alu_opcode == AluOpcode.SHR else 2**31
    machine.sram.acc[:] = RNG.integers(-limit, limit, machine.sram.acc.shape)
    expected = _alu_expected(machine.sram.acc, alu, uops)
    run(machine, [load(Memory.UOP, UOPS_AT, len(uops)), alu, Finish()], dram_of(uops=uops))
    np.testing.assert_array_equal(machine.sram.acc, expected)


@pytest.mark.parametrize("shift", [32, 33, 32767, -32, -32768])
@pytest.mark.parametrize("tensor", [False, True], ids=["immediate", "tensor"])
def test_a_shift_beyond_31_leaves_signs_or_zeros_and_is_reported(shift, tensor):
    machine = used()
    machine.sram.acc[0, 0] = CORNERS
    machine.sram.acc[1] = shift
    alu = _alu(AluOpcode.SHR, use_imm=not tensor, imm=shift)
    report = run(machine, [load(Memory.UOP, UOPS_AT, 1), alu, Finish()], dram_of(uops=(Uop(0, 1),)))
    np.testing.assert_array_equal(machine.sram.acc[0, 0], np.where((CORNERS < 0) & (shift > 0), -1, 0))
    assert kinds(report) == [("backend-dependent", "warning")]
    assert report.findings[0].message.startswith("16 lanes are shifted by 32 or more")


# Order, tokens, the end ------------------------------------------------------------------------------


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


# What the functional simulator lets through, hangs on or dies of ----------------------------------------

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
    "alu-dst": (_alu(AluOpcode.ADD, iter_in=3, dst_in=1024), "sram-out-of-range", "of ACC"),
    "alu-unused-src": (
        _alu(AluOpcode.ADD, use_imm=True, imm=1, iter_in=3, src_in=1024),
        "sram-out-of-range",
        "element 2048 of ACC",
    ),
    "micro-ops-beyond-uop": (Gemm(**ONE | {"uop_end": 8193}), "sram-out-of-range", "micro-op 8192 of UOP"),
    "uop-end-first": (Gemm(**ONE | {"uop_bgn": 2}), "illegal-instruction", "uop_end 1 lies before uop_bgn 2"),
    "alu-opcode": (
        _alu(AluOpcode.ADD, alu_opcode=5, iter_out=0),
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
        _alu(AluOpcode.ADD, uop_bgn=8000, uop_end=8000, iter_in=9, dst_in=2047),
        Finish(),
    ]
    report = run(Machine(), stream, dram_of())
    assert report.findings == []
    assert set(report.counters.values()) == {0}


def test_finish_may_wait():
    assert run(used(), [store(PAGE, 1, push_prev=True), Finish(pop_next=True)], dram_of()).findings == []


# Arguments -------------------------------------------------------------------------------------------


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
