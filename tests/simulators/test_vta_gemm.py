"""GEMM: products over two loops and micro-ops, and with reset."""

import numpy as np
import pytest

from simulators.vta import Machine
from simulators.vta.isa import Finish, Gemm, Memory, Uop
from tests.simulators.vta_memories import RNG, UOPS_AT, dram_of, load, run, used


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


def test_the_same_loops_over_other_micro_ops_are_another_kernel():
    machine = _gemm_machine()
    gemm = Gemm(uop_bgn=0, uop_end=1, iter_out=2, iter_in=2, dst_out=2, dst_in=1, src_out=2, src_in=1)
    for uops in ((Uop(0, 0, 0),), (Uop(8, 3, 5),)):
        expected = _gemm_expected(machine, gemm, uops)
        run(machine, [load(Memory.UOP, UOPS_AT, 1), gemm, Finish()], dram_of(uops=uops))
        np.testing.assert_array_equal(machine.sram.acc, expected)
