"""Every behaviour in which a backend differs: what each profile does, and that it says so."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from simulators.vta import Buffer, Config, Machine, Program, compare, isa, models, profiles
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store, Uop
from simulators.vta.profiles import BEHAVIOURS, PROFILES, Profile
from tests.simulators.vta_programs import config
from tests.simulators.vta_streams import serialised

DATA, WEIGHT, BIAS, OUT, UOPS = 0x1000, 0x2000, 0x4000, 0x8000, 0xA000
ONE = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1}
RNG = np.random.default_rng(3)
VALUES = np.array([5, -7, 100, -128, 127, 200, -300, 1 << 20, -1, 0, 3, 1 << 30, -(1 << 31), 77, 16, 2])


def load(memory: Memory, address: int, count: int, **keys) -> Load:
    size = {Memory.UOP: 4, Memory.WGT: 256, Memory.INP: 16, Memory.ACC: 64, Memory.ACC_8BIT: 16}[memory]
    sizes = {"sram_base": 0, "y_size": 1, "x_size": count, "x_stride": count} | keys
    return Load(memory_type=memory, dram_base=address // size, **sizes)


def store(count: int, sram: int = 0) -> Store:
    return Store(
        memory_type=Memory.OUT, sram_base=sram, dram_base=OUT // 16, y_size=1, x_size=count, x_stride=count
    )


def alu(opcode: int, imm: int | None = None, **keys) -> Alu:
    return Alu(alu_opcode=opcode, use_imm=imm is not None, imm=imm or 0, **ONE | keys)


SAME = (Uop(0, 0, 0),)


def dram_of(uops=SAME, **tensors) -> np.ndarray:
    dram = np.zeros(0xC000, np.uint8)
    places = {"data": DATA, "weight": WEIGHT, "bias": BIAS}
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        dram[places[name] : places[name] + data.size] = data
    table = isa.encode_uops(uops).view(np.uint8)
    dram[UOPS : UOPS + table.size] = table
    return dram


class Outcome:
    """What a machine of one profile makes of a stream with all its tokens."""

    def __init__(self, profile: str, stream, dram: np.ndarray, machine: Machine | None = None):
        self.machine = machine or Machine(profile=profile)
        self.dram = dram.copy()
        self.report = self.machine.run(isa.encode(serialised([*stream, Finish()])), self.dram)
        self.kinds = [each.kind for each in self.report.findings]
        self.messages = " | ".join(each.message for each in self.report.findings)

    @property
    def acc(self) -> np.ndarray:
        return self.machine.sram.acc[:, 0]

    @property
    def stored(self) -> np.ndarray:
        return self.dram[OUT : OUT + 64].view(np.int8).reshape(4, 16)


def low(values) -> np.ndarray:
    return (np.asarray(values) & 255).astype(np.uint8).view(np.int8)


TABLE = load(Memory.UOP, UOPS, 1)
WITH_OUT = ["hls", "chisel", "opencl"]
WITHOUT_OUT = ["fsim", "vtapp"]


# STORE, OUT and reset --------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_a_store_right_behind_a_load_is_stale_where_out_is_a_memory(profile):
    values = VALUES.astype(np.int32)
    small = (VALUES % 50).astype(np.int32)
    machine = Machine(profile=profile)
    first = Outcome(
        profile, [TABLE, load(Memory.ACC, BIAS, 1), alu(AluOpcode.ADD, 1)], dram_of(bias=small), machine
    )
    assert first.kinds == []
    second = Outcome(profile, [load(Memory.ACC, BIAS, 1), store(1)], dram_of(bias=values), machine)
    if profile in WITH_OUT:
        np.testing.assert_array_equal(second.stored[0], small + 1)
        assert second.kinds == ["backend-dependent"]
        assert "STORE reads OUT, a memory of its own" in second.messages
        assert f"{np.count_nonzero(low(values) != small + 1)} elements" in second.messages
    else:
        np.testing.assert_array_equal(second.stored[0], low(values))
        assert second.kinds == ["lossy-store"]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_store_of_results_is_their_low_bits_everywhere(profile):
    outcome = Outcome(
        profile,
        [TABLE, load(Memory.ACC, BIAS, 1), alu(AluOpcode.ADD, 3), store(1)],
        dram_of(bias=VALUES.astype(np.int32)),
    )
    np.testing.assert_array_equal(outcome.stored[0], low(VALUES + 3))
    assert outcome.kinds == ["lossy-store"]


RESETS = {
    "one-iteration": Gemm(reset=True, **ONE),
    "twice-the-same": Gemm(reset=True, **ONE | {"iter_in": 2}, src_in=1),
}


@pytest.mark.parametrize("gemm", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_reset_leaves_to_be_stored(profile, gemm):
    data = RNG.integers(-128, 128, (2, 16)).astype(np.int8)
    weight = RNG.integers(-128, 128, (16, 16)).astype(np.int8)
    bias = VALUES.astype(np.int32)
    stream = [
        TABLE,
        load(Memory.INP, DATA, 2),
        load(Memory.WGT, WEIGHT, 1),
        load(Memory.ACC, BIAS, 1),
        gemm,
        store(1),
    ]
    outcome = Outcome(profile, stream, dram_of(data=data, weight=weight, bias=bias))
    assert (outcome.acc[0] == 0).all()
    match profile:
        case "hls" | "opencl":
            # The sum is shown before it is cleared; a second iteration starts from zero.
            start = 0 if gemm.iter_in == 2 else bias.astype(np.int64)
            dot = weight.astype(np.int64) @ data[gemm.iter_in - 1]
            np.testing.assert_array_equal(outcome.stored[0], low(start + dot))
            assert outcome.kinds == ["backend-dependent"]
        case "chisel":
            assert outcome.kinds[0] == "uninitialised"
            assert "16 elements" not in outcome.messages.split("|")[0]
            assert "1 elements of OUT" in outcome.messages
        case _:
            assert (outcome.stored[0] == 0).all()
            assert outcome.kinds == []


# The ALU ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("source", [0, 1], ids=["src-is-dst", "src-is-another"])
def test_an_immediate_is_applied_to_dst_or_to_src(profile, source):
    bias = np.stack([VALUES, VALUES[::-1]]).astype(np.int32)
    outcome = Outcome(
        profile,
        [TABLE, load(Memory.ACC, BIAS, 2), alu(AluOpcode.ADD, 9)],
        dram_of((Uop(0, source, 0),), bias=bias),
    )
    reads_src = profile in ("chisel", "vtapp")
    expected = models.alu("add", bias[source if reads_src else 0], 9)
    np.testing.assert_array_equal(outcome.acc[0], expected)
    np.testing.assert_array_equal(outcome.acc[1], bias[1])
    assert outcome.kinds == (["backend-dependent"] if reads_src and source else [])


SHIFTS = [*range(-34, 35), 63, 64, 100, 127, 128, -64, -65]
SHIFTED = {
    "fsim": lambda y, _: y,
    "opencl": lambda y, _: y,
    "hls": lambda y, _: (y + 16) % 32 - 16,
    "vtapp": lambda y, _: (y + 64) % 128 - 64,
    "chisel": lambda y, imm: -(-y % 32) if imm < 0 else y % 32,
}


def _by_hand(x: int, y: int) -> int:
    """x shifted by y in Python's integers, modulo 2^32."""
    value = x >> y if y >= 0 else x << -y
    return (value + 2**31) % 2**32 - 2**31


@pytest.mark.parametrize("form", ["immediate", "tensor", "tensor-with-negative-field"])
@pytest.mark.parametrize("profile", PROFILES)
def test_shr_by_every_distance(profile, form):
    odd = set()
    for y in SHIFTS:
        bias = np.stack([VALUES, np.full(16, y)]).astype(np.int32)
        imm = y if form == "immediate" else -1 if form == "tensor-with-negative-field" else 0
        source = 0 if form == "immediate" else 1
        shift = Alu(alu_opcode=AluOpcode.SHR, use_imm=form == "immediate", imm=imm, **ONE)
        outcome = Outcome(
            profile,
            [TABLE, load(Memory.ACC, BIAS, 2), shift],
            dram_of((Uop(0, source, 0),), bias=bias),
        )
        by = SHIFTED[profile](y, imm)
        assert outcome.acc[0].tolist() == [_by_hand(x, by) for x in VALUES.tolist()]
        if "backend-dependent" in outcome.kinds:
            odd.add(y)
    expected = {y for y in SHIFTS if abs(y) > 31}
    if profile == "hls":
        expected |= {y for y in SHIFTS if not -16 <= y <= 15}
    if profile == "chisel" and form == "tensor":
        expected |= {y for y in SHIFTS if y < 0}
    if profile == "chisel" and form == "tensor-with-negative-field":
        expected |= {y for y in SHIFTS if y > 0}
    assert odd == expected


def _products(x: int, y: int) -> dict[str, int]:
    def wrapped(value: int) -> int:
        return (value + 2**31) % 2**32 - 2**31

    return {
        "fsim": wrapped(x * y),
        "opencl": wrapped(x * y),
        "hls": x,
        "chisel": wrapped(x << (-y % 32)),
        "vtapp": max(min(x, y), wrapped(-y)),
    }


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("y", [0, 1, -1, 3, -3, 127, -32768, 32767])
def test_opcode_4_is_mul_or_what_else_a_backend_has_there(profile, y):
    stream = [TABLE, load(Memory.ACC, BIAS, 1), alu(AluOpcode.MUL, y), store(1)]
    outcome = Outcome(profile, stream, dram_of(bias=VALUES.astype(np.int32)))
    expected = [_products(x, y)[profile] for x in VALUES.tolist()]
    assert outcome.acc[0].tolist() == expected
    assert ("backend-dependent" in outcome.kinds) == (profile not in ("fsim", "opencl"))
    # HLS writes nothing to OUT that could be stored.
    assert ("uninitialised" in outcome.kinds) == (profile == "hls")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("opcode", [5, 6], ids=["mov", "mul-of-low-bytes"])
def test_opcodes_above_4_are_those_of_vtapp(profile, opcode):
    bias = np.stack([VALUES, np.roll(VALUES, 3)]).astype(np.int32)
    stream = [TABLE, load(Memory.ACC, BIAS, 2), alu(opcode)]
    outcome = Outcome(profile, stream, dram_of((Uop(0, 1, 0),), bias=bias))
    if profile != "vtapp":
        assert outcome.kinds == ["illegal-instruction"]
        return
    low_bytes = low(bias).astype(np.int64)
    expected = bias[1] if opcode == 5 else low_bytes[0] * low_bytes[1]
    np.testing.assert_array_equal(outcome.acc[0], expected)
    assert outcome.kinds == ["backend-dependent"]


def test_mov_does_not_read_what_it_overwrites():
    assert Outcome("vtapp", [TABLE, alu(5, 12)], dram_of()).kinds == ["backend-dependent"]
    assert "uninitialised" in Outcome("vtapp", [TABLE, alu(5)], dram_of((Uop(0, 1, 0),))).kinds


# GEMM ------------------------------------------------------------------------------------------------

WIDE = config(0, 5, 9, 12, 14, 14)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("changed", [0, 1], ids=["all-lowest", "one-is-not"])
def test_the_sum_of_32_lowest_products_wraps_where_it_has_20_bits(profile, changed):
    dram = np.zeros(0x10000, np.uint8)
    data, weight = np.full((1, 32), -128, np.int8), np.full((32, 32), -128, np.int8)
    weight[3:] += changed
    dram[0x1000:0x1020] = data.reshape(-1).view(np.uint8)
    dram[0x2000:0x2400] = weight.reshape(-1).view(np.uint8)
    twice = Gemm(**ONE | {"iter_in": 2})
    stream = [
        Load(memory_type=Memory.UOP, sram_base=0, dram_base=0x3000 // 4, y_size=1, x_size=1, x_stride=1),
        Load(memory_type=Memory.INP, sram_base=0, dram_base=0x1000 // 32, y_size=1, x_size=1, x_stride=1),
        Load(memory_type=Memory.WGT, sram_base=0, dram_base=0x2000 // 1024, y_size=1, x_size=1, x_stride=1),
        Gemm(reset=True, **ONE),
        twice,
        Finish(),
    ]
    machine = Machine(WIDE, profile)
    report = machine.run(isa.encode(serialised(stream), WIDE), dram)
    sums = np.full(32, 2**19)
    sums[3:] -= changed * 128 * 32
    if profile == "opencl":
        sums = np.where(sums == 2**19, -(2**19), sums)
    np.testing.assert_array_equal(machine.sram.acc[0, 0], 2 * sums)
    said = [each.message for each in report.findings if "20 bits" in each.message]
    assert bool(said) == (profile == "opencl")


def test_the_opencl_design_has_blocks_of_16_or_32():
    with pytest.raises(ValueError, match="opencl has BLOCK 16 or 32, and the configuration 8"):
        Machine(config(0, 3, 7, 8, 10, 10), "opencl")


DISTANCES = {
    "gemm-1": (Gemm(**ONE | {"iter_in": 2}), (Uop(0, 0, 0),), {"hls"}),
    "gemm-2": (Gemm(**ONE | {"uop_end": 3}), (Uop(0, 0, 0), Uop(1, 0, 0), Uop(0, 0, 0)), {"hls"}),
    "gemm-3": (
        Gemm(**ONE | {"uop_end": 3, "iter_in": 2}),
        (Uop(0, 0, 0), Uop(1, 0, 0), Uop(2, 0, 0)),
        set(),
    ),
    "gemm-loop-boundary": (
        Gemm(**ONE | {"uop_end": 2, "iter_in": 2}, dst_in=1),
        (Uop(0, 0, 0), Uop(1, 0, 0)),
        {"hls"},
    ),
    "gemm-reset": (Gemm(reset=True, **ONE | {"iter_in": 2}), (Uop(0, 0, 0),), set()),
    "alu-1": (alu(AluOpcode.ADD, 1, iter_in=2), (Uop(0, 0, 0),), {"hls", "chisel"}),
    "alu-1-reads": (
        alu(AluOpcode.ADD, uop_end=2),
        (Uop(0, 3, 0), Uop(1, 0, 0)),
        {"hls", "chisel"},
    ),
    "alu-2": (alu(AluOpcode.ADD, 1, uop_end=3), (Uop(0, 0, 0), Uop(1, 1, 0), Uop(0, 0, 0)), {"hls"}),
    "alu-3": (
        alu(AluOpcode.ADD, 1, uop_end=3, iter_in=2),
        (Uop(0, 0, 0), Uop(1, 1, 0), Uop(2, 2, 0)),
        set(),
    ),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("instruction", "uops", "broken"), DISTANCES.values(), ids=DISTANCES)
def test_iterations_that_follow_too_closely_are_a_hazard(profile, instruction, uops, broken, monkeypatch):
    stream = [
        load(Memory.UOP, UOPS, len(uops)),
        load(Memory.INP, DATA, 1),
        load(Memory.WGT, WEIGHT, 1),
        load(Memory.ACC, BIAS, 4),
        instruction,
    ]
    whole = Outcome(profile, stream, dram_of(uops))
    assert whole.kinds == (["hazard"] if profile in broken else [])
    if profile in broken:
        assert f"{profile}: " in whole.messages
        assert "iteration must not" in whole.messages
    monkeypatch.setattr("simulators.vta.compute.PIECE", 1)
    assert Outcome(profile, stream, dram_of(uops)).kinds == whole.kinds


# LOAD ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_acc_8bit_extends_the_sign_or_does_nothing(profile):
    data = RNG.integers(-128, 128, (2, 16)).astype(np.int8)
    outcome = Outcome(profile, [load(Memory.ACC_8BIT, DATA, 2)], dram_of(data=data))
    handled = profile not in ("hls", "chisel")
    np.testing.assert_array_equal(outcome.acc[:2], data if handled else np.zeros((2, 16)))
    assert outcome.kinds == ([] if handled else ["backend-dependent"])
    assert outcome.report.counters["acc_load_nbytes"] == (32 if handled else 0), "and not four times as many"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("pads", [{}, {"y_pad_0": 1, "x_pad_1": 2}], ids=["no-pads", "pads"])
def test_a_load_of_no_columns(profile, pads):
    machine = Machine(profile=profile)
    machine.sram.inp[:] = 9
    nop = Load(memory_type=Memory.INP, sram_base=1, dram_base=0, y_size=2, x_size=0, x_stride=0, **pads)
    outcome = Outcome(profile, [nop], dram_of(), machine)
    written = np.flatnonzero((machine.sram.inp == 0).all(axis=(1, 2))).tolist()
    assert written == (list(range(1, 7)) if pads and profile == "hls" else [])
    assert outcome.kinds == (["backend-dependent"] if pads and profile in ("hls", "opencl") else [])


@pytest.mark.parametrize("profile", PROFILES)
def test_pads_of_a_load_to_wgt(profile):
    machine = Machine(profile=profile)
    machine.sram.wgt[:] = 9
    weight = np.ones((2, 16, 16), np.int8)
    padded = load(Memory.WGT, WEIGHT, 2, x_pad_0=1, y_pad_1=1)
    outcome = Outcome(profile, [padded], dram_of(weight=weight), machine)
    got = machine.sram.wgt[:7, 0, 0].tolist()
    assert got == ([1, 1, 9, 9, 9, 9, 9] if profile == "hls" else [0, 1, 1, 0, 0, 0, 9])
    assert outcome.kinds == (["backend-dependent"] if profile in ("hls", "opencl") else [])


@pytest.mark.parametrize("profile", PROFILES)
def test_rows_and_pads_of_a_load_to_uop(profile):
    uops = [Uop(each, 0, 0) for each in range(1, 7)]
    rows = load(Memory.UOP, UOPS, 2, y_size=2, x_stride=4, x_pad_1=1)
    outcome = Outcome(profile, [rows], dram_of(uops))
    got = [each.dst for each in isa.decode_uops(outcome.machine.sram.uop[:7])]
    assert got == ([1, 2, 0, 0, 0, 0, 0] if profile == "hls" else [1, 2, 0, 5, 6, 0, 0])
    assert outcome.kinds == ([] if profile in WITHOUT_OUT else ["backend-dependent"])
    assert Outcome(profile, [load(Memory.UOP, UOPS, 6)], dram_of(uops)).kinds == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("memory", "name", "smallest"),
    [(Memory.INP, "inp", -128), (Memory.WGT, "wgt", -128), (Memory.ACC, "acc", -(2**31))],
    ids=["inp", "wgt", "acc"],
)
def test_bit_57_asks_vtapp_for_pads_of_the_smallest_number(profile, memory, name, smallest):
    asked = load(memory, WEIGHT, 1, x_pad_0=1)
    asked = Load(
        **{each.name: getattr(asked, each.name) for each in fields(asked)}
        | {"dram_base": asked.dram_base | 1 << 31}
    )
    assert isa.encode([asked])[0, 0] >> np.uint64(57) & np.uint64(1) == 1
    outcome = Outcome(profile, [asked], dram_of(weight=np.ones((16, 16), np.int8)))
    if profile != "vtapp":
        assert outcome.kinds == ["dram-out-of-range"], "elsewhere it is the highest bit of the address"
        return
    memory_of = getattr(outcome.machine.sram, name)
    assert (memory_of[0] == smallest).all()
    assert (memory_of[1] != 0).all()
    assert outcome.kinds == ["backend-dependent"]


# Bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("stream", "wrapped"),
    [
        ([load(Memory.INP, DATA, 2, sram_base=2047)], 0),
        ([store(3, sram=2047)], 1),
        ([TABLE, Gemm(reset=True, **ONE | {"iter_in": 3}, dst_in=1025)], 2),
        ([Gemm(reset=True, **ONE | {"uop_end": 8193})], 0),
    ],
    ids=["load", "store", "gemm", "uop"],
)
def test_an_index_beyond_a_memory_stops_every_profile(profile, stream, wrapped):
    outcome = Outcome(profile, stream, dram_of())
    assert "sram-out-of-range" in outcome.kinds
    wraps = f"{profile} would wrap to element {wrapped}" in outcome.messages
    assert wraps == (PROFILES[profile].bounds == "wraps")


# The table -------------------------------------------------------------------------------------------


def test_every_behaviour_differs_somewhere_and_every_value_is_somebodys():
    for behaviour, values in BEHAVIOURS.items():
        used = {getattr(profile, behaviour) for profile in PROFILES.values()}
        assert used == set(values), behaviour
        assert len(used) > 1, behaviour


def test_a_profile_with_an_unknown_value_is_an_error():
    with pytest.raises(ValueError, match="zynq: shift is one of whole, signed-5, unsigned-5, signed-7"):
        Profile("zynq", "", shift="rounded")


def test_the_table_in_the_document_is_made_from_the_profiles():
    document = (Path(__file__).parents[2] / "docs" / "vta.md").read_text()
    written = document.split("<!-- made by: python -m simulators.vta.profiles -->\n")[1]
    written = written.split("<!-- end -->")[0]
    assert written == profiles.table() + "\n", "run: python -m simulators.vta.profiles"


# All of them -----------------------------------------------------------------------------------------


def _program(steps: list[Alu], config: Config | None = None) -> Program:
    """Load accumulators, apply ALU instructions, store."""
    stream = [TABLE, load(Memory.ACC, BIAS, 1), *steps, store(1), Finish()]
    return Program(
        config=config or Config(),
        insns=isa.encode(serialised(stream)),
        uops=isa.encode_uops([Uop(0, 0, 0)]),
        buffers=(
            Buffer("bias", "bias", BIAS, (1, 1, 16), "int32"),
            Buffer("out", "output", OUT, (1, 1, 16), "int8"),
            Buffer("uop", "uop", UOPS, (1,), "uint32"),
        ),
        dram_nbytes=0xC000,
    )


BETWEEN = [alu(AluOpcode.MIN, 127), alu(AluOpcode.MAX, -128)]
DEPENDENT = {
    "nothing": ([alu(AluOpcode.SHR, 8), *BETWEEN], []),
    "shift-by-16": ([alu(AluOpcode.SHR, 16), *BETWEEN], ["hls"]),
    "multiplication": ([alu(AluOpcode.MUL, 3), *BETWEEN], ["hls", "chisel", "vtapp"]),
    "no-result-is-stored": ([], ["hls", "chisel", "opencl"]),
    "shift-by-40": ([alu(AluOpcode.SHR, 40), *BETWEEN], ["hls", "chisel"]),
}


@pytest.mark.parametrize(("steps", "dependent"), DEPENDENT.values(), ids=DEPENDENT)
def test_compare_says_on_which_backends_a_program_gives_something_else(steps, dependent):
    values = {"bias": VALUES.astype(np.int32).reshape(1, 1, 16)}
    comparison = compare(_program(steps), values)
    assert list(comparison.backends) == list(PROFILES)
    assert comparison.dependent == dependent
    assert {(each.kind, each.severity) for each in comparison.findings} <= {("backend-dependent", "warning")}
    for name in dependent:
        expected = comparison.backends["fsim"].outputs["out"]
        got = comparison.backends[name].outputs["out"]
        differing = np.count_nonzero(got != expected)
        said = [each.message for each in comparison.findings if each.where == name]
        assert bool(said) == bool(differing)
        if differing:
            assert said[0].startswith(
                f"{differing} of 16 elements of out are not those of fsim, the first at"
            )
        noticed = [each for each in comparison.findings if each.where.startswith(f"{name}, instruction")]
        # A shift by 40 is noticed on the functional simulator too, so that only the result is news.
        assert bool(noticed) == (steps == [] or steps[0].imm != 40)


def test_compare_takes_some_profiles_and_says_which_backend_has_no_such_machine():
    narrow = config(0, 3, 15, 14, 16, 16)
    program = _program([], narrow)
    program = Program(
        config=narrow,
        insns=isa.encode([Finish()], narrow),
        uops=program.uops,
        buffers=program.buffers,
        dram_nbytes=program.dram_nbytes,
    )
    comparison = compare(program, {"bias": np.zeros((1, 1, 16), np.int32)}, ["hls", "opencl"])
    assert list(comparison.backends) == ["fsim", "hls", "opencl"]
    (finding,) = comparison.findings
    assert (finding.where, finding.message) == (
        "opencl",
        "opencl has BLOCK 16 or 32, and the configuration 8",
    )
    with pytest.raises(ValueError, match="no VTA profile 'vivado'"):
        compare(program, {"bias": np.zeros((1, 1, 16), np.int32)}, ["vivado"])
