"""LOAD and STORE, instruction by instruction."""

import numpy as np
import pytest

from simulators.vta import Machine
from simulators.vta.isa import Finish, Memory
from tests.simulators.vta_memories import PAGE, RNG, dram_of, kinds, load, run, store, used
from tests.simulators.vta_streams import serialised


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
