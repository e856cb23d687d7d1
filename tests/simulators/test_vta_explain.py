"""What a program does, against a program written by hand and against a run of it."""

from dataclasses import replace

import numpy as np
import pytest

from simulators.vta import Buffer, Config, Machine, Program, explain, isa
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Illegal, Load, Memory, Uop
from tests.simulators.test_vta_hazards import DATA, OUT, TILES, UOPS, WEIGHT, memory, pipeline

ZEROS = (Uop(0, 0, 0),)


def program(stream=None, uops=ZEROS) -> Program:
    """The three tiles of the hazard tests as a program."""
    return Program(
        config=Config(),
        insns=isa.encode(pipeline() if stream is None else stream),
        uops=isa.encode_uops(uops),
        buffers=(
            Buffer("data", "input", DATA, (TILES, 1, 16), "int8"),
            Buffer("weight", "weight", WEIGHT, (1, 1, 16, 16), "int8"),
            Buffer("out", "output", OUT, (TILES, 1, 16), "int8"),
            Buffer("uop", "uop", UOPS, (len(uops),), "uint32"),
        ),
        dram_nbytes=0x5000,
    )


def test_bytes_operations_and_occupancy_of_three_tiles():
    found = explain(program())
    assert [(each.memory, each.instructions, each.nbytes, each.elements) for each in found.memories] == [
        ("UOP", 1, 4, 1),
        ("INP", TILES, 16 * TILES, 1),
        ("WGT", 1, 256, 1),
        ("ACC", 0, 0, 1),
        ("OUT", TILES, 16 * TILES, 1),
    ]
    assert found.nbytes == 4 + 256 + 32 * TILES
    assert [
        (each.operation, each.instructions, each.iterations, each.cycles) for each in found.operations
    ] == [
        ("ALU ADD", TILES, TILES, 10 * TILES),
        ("GEMM", TILES, TILES, 11 * TILES),
        ("GEMM reset", TILES, TILES, 11 * TILES),
    ]
    assert found.memories[1].occupancy == 1 / 2048
    assert (found.instructions, found.uops, found.unfinished, found.problem) == (18, 1, 0, "")


def test_a_run_counts_and_takes_the_same():
    found, report = explain(program()), Machine().run(isa.encode(pipeline()), memory())
    assert found.estimate == report.estimate
    names = {"UOP": "uop", "INP": "inp", "WGT": "wgt", "ACC": "acc"}
    for each in found.memories[:-1]:
        assert report.counters[f"{names[each.memory]}_load_nbytes"] == each.nbytes
    assert report.counters["out_store_nbytes"] == found.memories[-1].nbytes
    assert report.counters["gemm_counter"] == found.operations[1].iterations
    assert report.counters["alu_counter"] == found.operations[0].iterations


def test_zeros_are_counted_and_indices_are_followed_through_loops():
    padded = Load(
        memory_type=Memory.INP,
        sram_base=10,
        dram_base=DATA // 16,
        y_size=1,
        x_size=2,
        x_stride=2,
        x_pad_0=1,
        y_pad_1=2,
    )
    uops = (Uop(100, 10, 0), Uop(7, 5, 3))
    table = Load(memory_type=Memory.UOP, sram_base=4, dram_base=UOPS // 4, y_size=1, x_size=2, x_stride=2)
    gemm = Gemm(uop_bgn=5, uop_end=6, iter_out=2, iter_in=3, dst_out=20, dst_in=1, src_in=4, wgt_out=2)
    add = Alu(alu_opcode=AluOpcode.ADD, uop_bgn=4, uop_end=5, iter_out=1, iter_in=1)
    found = explain(program([padded, table, gemm, add, Finish()], uops))
    use = {each.memory: each for each in found.memories}
    assert (use["INP"].nbytes, use["INP"].zeros) == (32, 16 * 7)
    # Loaded are 10 to 18; read are 5, 9 and 13.
    assert use["INP"].elements == 11
    assert use["WGT"].elements == 2
    # Written are 7, 8, 9, 27, 28, 29 and 100, and 10 is read.
    assert use["ACC"].elements == 8
    assert use["UOP"].elements == 2


TWO_UOPS = Load(memory_type=Memory.UOP, sram_base=0, dram_base=UOPS // 4, y_size=1, x_size=2, x_stride=2)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (
            [Gemm(uop_bgn=0, uop_end=1, iter_out=1, iter_in=3, dst_in=1024), Finish()],
            "instruction 0: element 2048",
        ),
        (
            [
                Load(
                    memory_type=Memory.UOP, sram_base=0, dram_base=UOPS // 4, y_size=1, x_size=2, x_stride=2
                ),
                Finish(),
            ],
            "instruction 0: a LOAD reads micro-ops where the program has none",
        ),
    ],
    ids=["index", "uops"],
)
def test_a_walk_that_cannot_go_on_says_why(stream, words):
    assert explain(program(stream)).problem.startswith(words)


def test_instructions_that_never_run_are_counted():
    stream = [replace(each, push_next=False) if isinstance(each, Load) else each for each in pipeline()]
    found = explain(program(stream))
    assert found.unfinished > 0
    assert found.operations[0].operation == "GEMM reset"


def test_an_illegal_instruction_is_an_error():
    with pytest.raises(ValueError, match="instruction 1: no instruction has opcode 6"):
        explain(program([Finish(), Illegal(opcode=6, words=(6, 0))]))


def test_explaining_changes_nothing():
    sound = program()
    before = sound.to_bytes()
    explain(sound)
    assert sound.to_bytes() == before
    assert np.array_equal(sound.insns, isa.encode(pipeline()))
