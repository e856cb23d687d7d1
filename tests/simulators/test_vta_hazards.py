"""A missing token is found even where the order that was executed gave the right numbers."""

from dataclasses import replace

import numpy as np
import pytest

from simulators.vta import Machine, hazards, isa
from simulators.vta.hazards import Span, overlap, span_of
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store, Uop
from tests.simulators.vta_programs import config, random_case
from tests.simulators.vta_streams import serialised

DATA, WEIGHT, OUT, UOPS = 0x1000, 0x2000, 0x3000, 0x4000
ONE = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1}
TILES = 3


def _transfer(kind, memory, address, size, count=1, **keys):
    sizes = {"sram_base": 0, "y_size": 1, "x_size": count, "x_stride": count} | keys
    return kind(memory_type=memory, dram_base=address // size, **sizes)


def pipeline() -> list[isa.Instruction]:
    """Three tiles through the same place in every memory: load, clear, multiply, add, store."""
    stream = [
        _transfer(Load, Memory.UOP, UOPS, 4),
        _transfer(Load, Memory.WGT, WEIGHT, 256),
    ]
    for tile in range(TILES):
        first, last = tile == 0, tile == TILES - 1
        stream += [
            _transfer(Load, Memory.INP, DATA + 16 * tile, 16, pop_next=not first, push_next=True),
            Gemm(reset=True, **ONE, pop_next=not first),
            Gemm(**ONE, pop_prev=True, push_prev=not last),
            Alu(alu_opcode=AluOpcode.ADD, use_imm=True, imm=tile, **ONE, push_next=True),
            _transfer(Store, Memory.OUT, OUT + 16 * tile, 16, pop_prev=True, push_prev=True),
        ]
    return [*stream, Finish(pop_next=True)]


def memory() -> np.ndarray:
    dram = np.zeros(0x5000, np.uint8)
    dram[DATA : DATA + 48] = np.arange(48)
    dram[WEIGHT : WEIGHT + 256] = np.eye(16, dtype=np.uint8).reshape(-1)
    dram[UOPS : UOPS + 4] = isa.encode_uops([Uop(0, 0, 0)]).view(np.uint8)
    return dram


EXPECTED = np.arange(48).reshape(3, 16) + np.arange(3)[:, None]


def run(stream, **options):
    dram = memory()
    report = Machine(**options).run(isa.encode(stream), dram)
    return report, dram[OUT : OUT + 48].reshape(3, 16)


def without(stream, source: str, target: str) -> list[isa.Instruction]:
    """The stream with no token from one kind of instruction to another: neither given nor taken."""
    kinds = {"load": Load, "multiply": Gemm, "clear": Gemm, "add": Alu, "store": Store, "finish": Finish}
    flags = {
        ("load", "multiply"): ("push_next", "pop_prev"),
        ("multiply", "load"): ("push_prev", "pop_next"),
        ("add", "store"): ("push_next", "pop_prev"),
        ("store", "clear"): ("push_prev", "pop_next"),
        ("store", "finish"): ("push_prev", "pop_next"),
    }[source, target]
    places = [index for index, each in enumerate(stream) if isinstance(each, Store)]
    gone = []
    for index, each in enumerate(stream):
        # The last STORE gives its token to FINISH, those before it to the GEMM that clears.
        concerned = source != "store" or (index == places[-1]) == (target == "finish")
        lowered = {}
        if isinstance(each, kinds[source]) and concerned:
            lowered[flags[0]] = False
        if isinstance(each, kinds[target]) and getattr(each, "reset", False) == (target == "clear"):
            lowered[flags[1]] = False
        gone.append(replace(each, **lowered))
    return gone


def test_a_program_with_all_its_tokens_has_no_hazard():
    for schedule in ("stream", "random", "adversarial"):
        report, out = run(pipeline(), schedule=schedule)
        assert report.findings == []
        np.testing.assert_array_equal(out, EXPECTED)


# Instructions: 2 LOAD INP, 3 clear, 4 multiply, 5 add, 6 STORE; 7 to 11 and 12 to 16 the same; 17 FINISH.
MISSING = {
    "load-to-multiply": (
        ("load", "multiply"),
        [(1, 4, "it reads what", "writes in WGT"), (2, 4, "it reads what", "writes in INP")],
    ),
    "multiply-to-load": (("multiply", "load"), [(4, 7, "it writes what", "reads in INP")]),
    "add-to-store": (("add", "store"), [(3, 6, "it reads what", "writes in ACC")]),
    "store-to-clear": (("store", "clear"), [(6, 8, "it writes what", "reads in ACC")]),
}


@pytest.mark.parametrize(("pair", "expected"), MISSING.values(), ids=MISSING)
def test_a_missing_token_is_a_hazard_that_names_both_instructions(pair, expected):
    report, out = run(without(pipeline(), *pair))
    np.testing.assert_array_equal(out, EXPECTED, "in the order of the stream nothing goes wrong")
    found = [each for each in report.findings if each.kind == "hazard"]
    for first, second, does, did in expected:
        (finding,) = [each for each in found if did in each.message]
        assert finding.severity == "error"
        assert finding.where.startswith(f"instruction {second}: ")
        assert f"{does} instruction {first}: " in finding.message


def test_where_out_is_a_memory_of_its_own_it_is_what_a_store_shares():
    named = {}
    for profile in ("fsim", "hls", "opencl"):
        report, _ = run(without(pipeline(), "add", "store"), profile=profile)
        named[profile] = {each.message.split(" in ")[1].split(",")[0] for each in report.findings[:1]}
    assert named == {"fsim": {"ACC"}, "hls": {"OUT"}, "opencl": {"OUT"}}
    # A LOAD of accumulators overtakes a STORE: only where that reads them is it a hazard.
    stream = [
        _transfer(Load, Memory.UOP, UOPS, 4),
        Gemm(reset=True, **ONE),
        Alu(alu_opcode=AluOpcode.ADD, use_imm=True, imm=1, **ONE, push_next=True),
        _transfer(Store, Memory.OUT, OUT, 16, pop_prev=True, push_prev=True),
        _transfer(Load, Memory.ACC, DATA, 64),
        Finish(pop_next=True),
    ]
    assert [each.kind for each in run(stream)[0].findings] == ["hazard"]
    assert [each.kind for each in run(stream, profile="opencl")[0].findings] == []


def test_a_store_that_finish_does_not_wait_for_is_a_hazard():
    report, out = run(without(pipeline(), "store", "finish"))
    np.testing.assert_array_equal(out, EXPECTED)
    (finding,) = report.findings
    assert (finding.kind, finding.severity) == ("hazard", "error")
    assert finding.where.startswith("instruction 16: STORE")
    assert "no token orders it before instruction 17: FINISH" in finding.message


@pytest.mark.parametrize("pair", [pair for pair, _ in MISSING.values()], ids=MISSING)
def test_an_adversarial_order_gives_another_result(pair):
    report, out = run(without(pipeline(), *pair), schedule="adversarial")
    np.testing.assert_array_equal(out, EXPECTED, "what stays is the result of the stream's order")
    last = report.findings[-1]
    assert (last.kind, last.severity) == ("hazard", "error")
    assert last.where.startswith("the order ")
    assert "differs from element" in last.message


def _chained(tokens: bool) -> list[isa.Instruction]:
    """Store a result, and load it again as data."""
    stream = pipeline()[:-1]
    stream[-1] = replace(stream[-1], push_prev=tokens)
    back = Load(memory_type=Memory.UOP, sram_base=0, dram_base=0, y_size=0, x_size=0, x_stride=0)
    if tokens:
        stream.append(replace(back, pop_next=True, push_prev=True))
    stream.append(_transfer(Load, Memory.INP, OUT + 32, 16, sram_base=9, pop_next=tokens, push_next=True))
    stream.append(Finish(pop_prev=True))
    return stream


def test_dram_that_is_stored_and_loaded_needs_tokens_too():
    assert run(_chained(True))[0].findings == []
    report, _ = run(_chained(False))
    finding = report.findings[-1]
    assert finding.kind == "hazard"
    assert finding.where.startswith("instruction 17: LOAD INP sram 9")
    assert "it reads what instruction 16: STORE" in finding.message
    assert "in DRAM" in finding.message


def test_rows_of_dram_that_pass_each_other_by_are_no_hazard():
    rows = {"y_size": 3, "x_stride": 2}
    stream = [
        _transfer(Load, Memory.INP, OUT + 16, 16, **rows, push_next=True),
        replace(_transfer(Store, Memory.OUT, OUT, 16, **rows), push_prev=True),
        Finish(pop_prev=True, pop_next=True),
    ]
    machine = Machine()
    machine.sram.define()
    assert machine.run(isa.encode(stream), memory()).findings == []
    stream[0] = replace(stream[0], y_size=2, dram_base=stream[0].dram_base + 1)
    (finding,) = machine.run(isa.encode(stream), memory()).findings
    assert "in DRAM" in finding.message


def test_two_halves_of_a_memory_are_two_buffers():
    """The GEMM reads one half while the load engine fills the other: no token is needed between them."""
    stream = [
        _transfer(Load, Memory.UOP, UOPS, 4),
        _transfer(Load, Memory.INP, DATA, 16, push_next=True),
        Gemm(reset=True, **ONE, pop_prev=True),
        Gemm(**ONE),
        _transfer(Load, Memory.INP, DATA, 16, sram_base=1, push_next=True),
        Finish(pop_prev=True),
    ]
    machine = Machine()
    machine.sram.define()
    assert machine.run(isa.encode(stream), memory()).findings == []
    stream[4] = replace(stream[4], sram_base=0)
    assert [each.kind for each in machine.run(isa.encode(stream), memory()).findings] == ["hazard"]


def test_interleaved_elements_are_compared_one_by_one():
    """A GEMM with a stride of two reads even elements, and a LOAD writes an odd one."""
    even = Gemm(uop_bgn=0, uop_end=1, iter_out=4, iter_in=1, src_out=2)
    for element, kinds in ((3, []), (4, ["hazard"]), (7, [])):
        machine = Machine()
        machine.sram.define()
        load = _transfer(Load, Memory.INP, DATA, 16, sram_base=element, push_next=True)
        report = machine.run(isa.encode([even, load, Finish(pop_prev=True)]), memory())
        assert [each.kind for each in report.findings] == kinds


def test_tokens_of_an_earlier_run_order_nothing():
    machine = Machine()
    surplus = [replace(each, pop_prev=False) if isinstance(each, Gemm) else each for each in pipeline()]
    machine.run(isa.encode(surplus), memory())
    assert machine.tokens["load", "compute"] == TILES
    report = machine.run(isa.encode(pipeline()), memory())
    # Each GEMM takes a token that the run before left, and not that of its own LOAD.
    assert {each.kind for each in report.findings if each.severity == "error"} == {"hazard"}


def test_windows_in_pieces_find_the_same(monkeypatch):
    stream = without(pipeline(), "multiply", "load")
    whole = run(stream)[0].findings
    monkeypatch.setattr(hazards, "CHUNK", 1)
    assert run(stream)[0].findings == whole
    assert "such pairs in the stream" in whole[0].message


SMALL = config(0, 2, 7, 7, 7, 8)


def test_where_no_hazard_is_found_every_order_gives_the_same():
    """Random programs whose tokens are dropped at random: what other orders change, the analysis knows."""
    clean = hazardous = differing = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        kept = float(rng.choice([0.3, 0.8, 0.97]))
        case = random_case(seed, SMALL)
        stream = serialised([*case.stream, Finish()], lambda rng=rng, kept=kept: rng.random() < kept)
        report = Machine(SMALL, schedule="adversarial").run(isa.encode(stream, SMALL), case.dram)
        errors = [each for each in report.findings if each.severity == "error"]
        assert {each.kind for each in errors} <= {"hazard", "uninitialised", "no-finish"}
        ends = [each for each in errors if each.where.startswith("the order")]
        static = [each for each in errors if each.kind == "hazard" and each not in ends]
        assert static or not ends
        clean, hazardous, differing = clean + (not errors), hazardous + bool(static), differing + bool(ends)
    assert min(clean, hazardous, differing) >= 5


# Sets ------------------------------------------------------------------------------------------------


def _members(span: Span) -> set[int]:
    starts = [span.low] if span.starts is None else span.starts.tolist()
    width = span.high - span.low if span.starts is None else span.width
    return {start + offset for start in starts for offset in range(width)}


def test_sets_overlap_where_they_have_a_member_in_common():
    rng = np.random.default_rng(0)

    def some() -> Span:
        if rng.random() < 0.3:
            low = int(rng.integers(0, 20))
            return Span(low, low + int(rng.integers(1, 6)))
        if rng.random() < 0.5:
            return span_of((rng.random(24) < 0.2) | (np.arange(24) == rng.integers(24)))
        width = int(rng.integers(1, 3))
        starts = int(rng.integers(0, 6)) + (width + int(rng.integers(1, 4))) * np.arange(rng.integers(1, 4))
        return Span(int(starts[0]), int(starts[-1]) + width, starts, width)

    answers = {True: 0, False: 0}
    for _ in range(2000):
        one, other = some(), some()
        common = bool(_members(one) & _members(other))
        assert overlap(one, other) == overlap(other, one) == common
        answers[common] += 1
    assert min(answers.values()) > 200


# Uninitialised ---------------------------------------------------------------------------------------

UNINITIALISED = {
    "data": (1, "INP"),
    "weights": (2, "WGT"),
    "accumulators": (3, "ACC"),
    "micro-ops": (0, "UOP"),
}


@pytest.mark.parametrize(("dropped", "name"), UNINITIALISED.values(), ids=UNINITIALISED)
def test_memory_that_nothing_wrote_is_named_once(dropped, name):
    stream = [
        _transfer(Load, Memory.UOP, UOPS, 4),
        _transfer(Load, Memory.INP, DATA, 16),
        _transfer(Load, Memory.WGT, WEIGHT, 256),
        Gemm(reset=True, **ONE),
        Gemm(**ONE),
        Gemm(**ONE),
        Finish(),
    ]
    assert Machine().run(isa.encode(serialised(stream)), memory()).findings == []
    del stream[dropped]
    machine = Machine()
    (finding,) = machine.run(isa.encode(serialised(stream)), memory()).findings
    assert (finding.kind, finding.severity) == ("uninitialised", "error")
    assert finding.message.startswith(f"1 elements of {name} are read that nothing wrote")
    assert machine.run(isa.encode(serialised(stream)), memory()).findings == []
    machine.reset()
    assert len(machine.run(isa.encode(serialised(stream)), memory()).findings) == 1


def test_a_store_of_what_nothing_wrote_is_uninitialised():
    stream = [_transfer(Store, Memory.OUT, OUT, 16, 3, push_prev=True), Finish(pop_next=True)]
    (finding,) = Machine().run(isa.encode(stream), memory()).findings
    assert finding.kind == "uninitialised"
    assert finding.message.startswith("3 elements of ACC")


def test_zeros_of_padding_count_as_written():
    padded = _transfer(Load, Memory.INP, DATA, 16, x_pad_0=3)
    gemm = Gemm(uop_bgn=0, uop_end=1, iter_out=4, iter_in=1, src_out=1)
    stream = [
        _transfer(Load, Memory.UOP, UOPS, 4),
        _transfer(Load, Memory.WGT, WEIGHT, 256),
        Gemm(reset=True, **ONE),
        padded,
        gemm,
        Finish(),
    ]
    assert Machine().run(isa.encode(serialised(stream)), memory()).findings == []
