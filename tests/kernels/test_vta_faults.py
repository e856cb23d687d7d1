"""Each fault changes one instruction, and the result."""

import numpy as np
import pytest

from kernels.faults import FaultNotPlanted
from kernels.vta import conv2d, dense, faults
from simulators.vta import Machine, isa, load
from tests.kernels import vta_reference as reference

EPILOGUE = [("add", "bias"), ("add", 512), ("shr", 10), ("max", 0), ("min", 127)]
SHAPES = {
    "digits-1": ((8, 1, 8, 8, 1, 16), (2, 1, 3, 3, 16, 16), (1, 1)),
    "digits-2": ((8, 2, 8, 8, 1, 16), (3, 2, 3, 3, 16, 16), (2, 2)),
    "digits-3": ((8, 3, 4, 4, 1, 16), (3, 3, 3, 3, 16, 16), (1, 1)),
}


def conv_program(name: str) -> bytes:
    data, weight, strides = SHAPES[name]
    return conv2d(data, weight, strides=strides, padding=(1, 1, 1, 1), epilogue=EPILOGUE).to_bytes()


def operands(program: bytes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {
        each.name: rng.integers(-3000, 3000, each.shape).astype(np.int32)
        if each.dtype == "int32"
        else reference.full_range(rng, each.shape)
        for each in load(program).arguments
    }


def result(program: bytes):
    outputs, report = load(program).run(Machine(), operands(program))
    return outputs["out"], report


@pytest.mark.parametrize("plant", [faults.skip_gemm_uop, faults.shift_by_one, faults.drop_padding_row])
@pytest.mark.parametrize("name", SHAPES)
def test_a_fault_changes_one_instruction_and_the_result(plant, name):
    sound = conv_program(name)
    faulty = plant(sound)
    before, after = load(sound), load(faulty)
    changed = np.flatnonzero((before.insns != after.insns).any(axis=1))
    assert len(changed) == 1
    np.testing.assert_array_equal(before.uops, after.uops)
    expected, clean = result(sound)
    got, report = result(faulty)
    assert clean.findings == []
    # A row of zeros less leaves one at the end of the tile to which nothing was written yet.
    unwritten = {"uninitialised"} if plant is faults.drop_padding_row else set()
    assert {each.kind for each in report.findings} <= unwritten, "the fault is in the numbers"
    assert np.count_nonzero(got != expected) > 5
    assert np.count_nonzero(got != expected) < expected.size / 2, "one tile differs, not all"


def test_what_each_fault_changes():
    sound = conv_program("digits-1")

    def change(plant):
        before, after = load(sound).insns, load(plant(sound)).insns
        (place,) = np.flatnonzero((before != after).any(axis=1))
        return isa.decode(before[[place]])[0], isa.decode(after[[place]])[0]

    before, after = change(faults.skip_gemm_uop)
    assert isinstance(before, isa.Gemm)
    assert after.uop_end == before.uop_end
    assert after.uop_end - after.uop_bgn == (before.uop_end - before.uop_bgn) // 2
    before, after = change(faults.shift_by_one)
    assert isinstance(before, isa.Alu)
    assert (before.imm, after.imm) == (10, 11)
    before, after = change(faults.drop_padding_row)
    assert isinstance(before, isa.Load)
    assert (before.y_pad_0, after.y_pad_0) == (1, 0)


def test_skipped_micro_ops_are_missing_from_the_counter():
    sound = conv_program("digits-1")
    report = result(faults.skip_gemm_uop(sound))[1]
    largest = max(
        each.iter_out * each.iter_in * (each.uop_end - each.uop_bgn)
        for each in isa.decode(load(sound).insns)
        if isinstance(each, isa.Gemm) and not each.reset
    )
    assert load(sound).counters["gemm_counter"] - report.counters["gemm_counter"] == largest // 2


def test_a_shift_by_31_becomes_one_by_30():
    program = dense((2, 1, 1, 16), (1, 1, 16, 16), epilogue=[("shr", 31)]).to_bytes()
    shifts = [
        each for each in isa.decode(load(faults.shift_by_one(program)).insns) if isinstance(each, isa.Alu)
    ]
    assert [each.imm for each in shifts] == [30]


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (faults.shift_by_one, "the program has no ALU right shift by an immediate"),
        (faults.drop_padding_row, "the program has no LOAD with a padding row above its data"),
    ],
    ids=["no-shift", "no-padding"],
)
def test_a_fault_that_finds_nothing_to_change_is_an_error(plant, words):
    program = dense((2, 1, 1, 16), (1, 1, 16, 16), epilogue=[("add", 1)]).to_bytes()
    with pytest.raises(FaultNotPlanted, match=words):
        plant(program)


def test_a_program_without_gemm_has_no_micro_op_to_skip():
    from dataclasses import replace

    program = load(conv_program("digits-1"))
    program = replace(program, insns=isa.encode([isa.Finish()]))
    with pytest.raises(FaultNotPlanted, match="the program has no GEMM micro-op"):
        faults.skip_gemm_uop(program.to_bytes())


def test_padding_below_alone_is_not_dropped():
    program = conv2d((1, 1, 4, 4, 1, 16), (1, 1, 3, 3, 16, 16), padding=(0, 0, 2, 2)).to_bytes()
    with pytest.raises(FaultNotPlanted, match="padding row above"):
        faults.drop_padding_row(program)
