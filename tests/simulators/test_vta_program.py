"""The file of a program: written, read, run, and refused where it is damaged."""

import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from simulators.vta import Buffer, Config, Machine, Program, isa, load
from simulators.vta.isa import Alu, AluOpcode, Finish, Load, Memory, Store, Uop

COUNT = 5


def plus_three(config: Config | None = None) -> Program:
    """A program written by hand: out = data + three, with a per-element addend."""
    config = config or Config()
    data = Buffer("data", "input", 0x1000, (COUNT, 1, 16), "int8")
    addend = Buffer("addend", "bias", 0x2000, (COUNT, 1, 16), "int32")
    uops = Buffer("uop", "uop", 0x3000, (2,), "uint32")
    out = Buffer("out", "output", 0x4000, (COUNT, 1, 16), "int8")
    rows = {"y_size": 1, "x_size": COUNT, "x_stride": COUNT}
    loops = {"iter_out": 1, "iter_in": COUNT, "dst_in": 1, "src_in": 1}
    stream = [
        Load(memory_type=Memory.ACC_8BIT, sram_base=0, dram_base=0x100, **rows),
        Load(memory_type=Memory.ACC, sram_base=8, dram_base=0x80, **rows),
        Load(memory_type=Memory.UOP, sram_base=0, dram_base=0xC00, y_size=1, x_size=2, x_stride=2),
        Alu(alu_opcode=AluOpcode.ADD, use_imm=True, imm=3, uop_bgn=0, uop_end=1, **loops),
        Alu(alu_opcode=AluOpcode.ADD, uop_bgn=1, uop_end=2, push_next=True, **loops),
        Store(memory_type=Memory.OUT, sram_base=0, dram_base=0x400, pop_prev=True, push_prev=True, **rows),
        Finish(pop_next=True),
    ]
    return Program(
        config=config,
        insns=isa.encode(stream),
        uops=isa.encode_uops([Uop(0, 0), Uop(0, 8)]),
        buffers=(data, addend, uops, out),
        dram_nbytes=0x5000,
        counters={"alu_counter": 2 * COUNT},
    )


def operands() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "data": rng.integers(-100, 100, (COUNT, 1, 16)).astype(np.int8),
        "addend": rng.integers(-20, 20, (COUNT, 1, 16)).astype(np.int32),
    }


def test_a_program_runs_from_its_file():
    program, arrays = load(plus_three().to_bytes()), operands()
    outputs, report = program.run(Machine(), arrays)
    np.testing.assert_array_equal(outputs["out"], (arrays["data"] + arrays["addend"] + 3).astype(np.int8))
    assert report.findings == []
    assert report.counters["alu_counter"] == program.counters["alu_counter"]


def test_what_was_written_is_read_back():
    written = plus_three()
    read = load(written.to_bytes())
    assert (read.config, read.buffers, read.dram_nbytes, read.counters) == (
        written.config,
        written.buffers,
        written.dram_nbytes,
        written.counters,
    )
    np.testing.assert_array_equal(read.insns, written.insns)
    np.testing.assert_array_equal(read.uops, written.uops)
    assert read.to_bytes() == written.to_bytes()
    assert [each.name for each in read.arguments] == ["data", "addend"]
    assert [each.name for each in read.outputs] == ["out"]


def test_a_program_with_its_dram_image_is_all_that_a_run_needs():
    arrays = operands()
    program = load(plus_three().with_image(arrays).to_bytes())
    outputs, report = program.run(Machine())
    np.testing.assert_array_equal(outputs["out"], (arrays["data"] + arrays["addend"] + 3).astype(np.int8))
    assert report.findings == []
    again, _ = program.run(Machine())
    np.testing.assert_array_equal(again["out"], outputs["out"], "a run does not change the program's image")
    # Other arguments may still be given.
    zeros = {name: np.zeros_like(array) for name, array in arrays.items()}
    assert (program.run(Machine(), zeros)[0]["out"] == 3).all()


def test_a_program_without_an_image_asks_for_arguments():
    with pytest.raises(ValueError, match="has no DRAM image: give it one by with_image, or give the arrays"):
        plus_three().run(Machine())


def test_an_image_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"the DRAM image is uint8\[4096\], not uint8\[20480\]"):
        replace(plus_three(), dram=np.zeros(4096, np.uint8))


@pytest.mark.parametrize("base", [0, 0x1000, 0x12345000])
def test_instructions_for_an_image_that_lies_elsewhere(base):
    """As on a board, where the image is not at address 0."""
    program, arrays = plus_three(), operands()
    if base < 1 << 20:
        dram = np.concatenate([np.full(base, 0xEE, np.uint8), program.image(arrays)])
        report = Machine().run(program.insns_at(base), dram)
        assert report.findings == []
        outputs = program.outputs_in(dram[base:])
        np.testing.assert_array_equal(outputs["out"], program.run(Machine(), arrays)[0]["out"])
        assert (dram[:base] == 0xEE).all()
    streams = [isa.decode(each) for each in (program.insns, program.insns_at(base))]
    moved = [
        (now.dram_base - then.dram_base) * {Memory.UOP: 4, Memory.ACC: 64}.get(then.memory_type, 16)
        for then, now in zip(*streams, strict=True)
        if isinstance(then, Load | Store)
    ]
    assert moved == [base] * 4


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (100, "DRAM at 0x64: whole pages"),
        (-4096, "whole pages"),
        (1 << 40, "dram_base is .* the field holds"),
    ],
    ids=["no-page", "negative", "beyond-the-field"],
)
def test_an_address_that_no_instruction_has_is_an_error(base, words):
    with pytest.raises(ValueError, match=words):
        plus_three().insns_at(base)


def test_what_a_program_forgets_to_store_is_not_zero():
    program = plus_three()
    insns = program.insns[[0, 1, 2, 3, 4, 6]].copy()
    insns[4] = isa.encode([replace(isa.decode(program.insns)[4], push_next=False)])[0]
    insns[5] = isa.encode([Finish()])[0]
    outputs, report = replace(program, insns=insns).run(Machine(), operands())
    assert report.findings == []
    assert (outputs["out"] != 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": None}, r"the program's arguments are \['data', 'addend'\], not \['addend'\]"),
        ({"more": np.zeros(1)}, r"not \['addend', 'data', 'more'\]"),
        ({"data": np.zeros((COUNT, 16), np.int8)}, r"data is int8\[5, 1, 16\], not int8\[5, 16\]"),
        ({"addend": np.zeros((COUNT, 1, 16), np.int64)}, r"addend is int32\[5, 1, 16\], not int64"),
    ],
    ids=["missing", "unknown", "shape", "dtype"],
)
def test_arguments_that_do_not_fit_are_an_error(change, words):
    arrays = {name: array for name, array in (operands() | change).items() if array is not None}
    with pytest.raises(ValueError, match=words):
        plus_three().run(Machine(), arrays)


def test_a_machine_of_another_configuration_is_an_error():
    with pytest.raises(ValueError, match=r"a program for 1x16_i8w8a32_15_15_18_17 on a machine 1x16_.*_16$"):
        plus_three().run(Machine(Config(LOG_ACC_BUFF_SIZE=16)), operands())


def _with_header(**change) -> bytes:
    """A file whose checksum is right and whose header is not."""
    blob = plus_three().to_bytes()
    length = struct.unpack_from("<I", blob, 8)[0]
    header = json.loads(blob[16 : 16 + length]) | change
    text = json.dumps({name: value for name, value in header.items() if value is not None}).encode()
    body = text + blob[16 + length :]
    return blob[:8] + struct.pack("<II", len(text), zlib.crc32(body)) + body


BLOB = plus_three().to_bytes()
OUTSIDE = [{"name": "out", "role": "output", "address": 0x4FFF, "shape": [COUNT, 1, 16], "dtype": "int8"}]
DAMAGED = {
    "empty": (b"", "does not begin with VTAPROG1"),
    "another-file": (b"\x7fELF" + bytes(64), "does not begin with VTAPROG1"),
    "cut-in-the-head": (BLOB[:12], "does not begin with"),
    "cut-short": (BLOB[:-1], "checksum"),
    "one-bit-of-an-instruction": (BLOB[:-40] + bytes([BLOB[-40] ^ 1]) + BLOB[-39:], "checksum"),
    "one-bit-of-the-header": (BLOB[:20] + bytes([BLOB[20] ^ 1]) + BLOB[21:], "checksum"),
    "no-buffers": (_with_header(buffers=None), "buffers"),
    "more-instructions-than-there-are": (
        _with_header(instructions=8),
        "bytes of instructions, micro-ops and DRAM",
    ),
    "an-image-that-is-not-there": (_with_header(image=True), "bytes of instructions, micro-ops and DRAM"),
    "a-configuration-that-is-none": (_with_header(config={"LOG_BLOCK": 9}), "not a VTA configuration"),
    "a-configuration-key-that-is-none": (_with_header(config={"LOG_BLOCC": 4}), "LOG_BLOCC"),
    "a-role-that-is-none": (
        _with_header(buffers=[OUTSIDE[0] | {"role": "weights"}]),
        "roles are input, weight, bias, uop, output",
    ),
    "a-buffer-in-the-first-page": (
        _with_header(buffers=[OUTSIDE[0] | {"address": 16}]),
        "in the first page",
    ),
    "a-buffer-outside-dram": (_with_header(buffers=OUTSIDE), "ends behind"),
    "too-few-micro-ops": (
        _with_header(
            buffers=[OUTSIDE[0] | {"role": "uop", "address": 0x4000, "shape": [1], "dtype": "uint32"}]
        ),
        "there are 2 micro-ops",
    ),
    "a-dtype-that-is-none": (_with_header(buffers=[OUTSIDE[0] | {"dtype": "int9"}]), "int9"),
    "a-shape-that-is-none": (_with_header(buffers=[OUTSIDE[0] | {"shape": 4}]), "not a VTA program"),
}


@pytest.mark.parametrize(("blob", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_clear_error(blob, words):
    with pytest.raises(ValueError, match="not a VTA program") as error:
        load(blob)
    assert words in str(error.value)
