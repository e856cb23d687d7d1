"""Instructions and micro-ops: their bits, and the way back."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.vta import Config, isa
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Illegal, Load, Memory, Store, Uop

GOLDEN = {
    "load-inp-padded": (
        Load(
            memory_type=Memory.INP,
            sram_base=5,
            dram_base=0x1000,
            y_size=14,
            x_size=14,
            x_stride=14,
            y_pad_0=1,
            y_pad_1=1,
            x_pad_0=1,
            x_pad_1=1,
            push_next=True,
        ),
        (0x0000004000001540, 0x1111000E000E000E),
        "LOAD INP sram 5, dram 0x1000, 14x14 stride 14, pad top 1 bottom 1 left 1 right 1 [push_next]",
    ),
    "store-out": (
        Store(
            memory_type=Memory.OUT,
            sram_base=0,
            dram_base=0x200,
            y_size=1,
            x_size=64,
            x_stride=64,
            pop_prev=True,
            push_prev=True,
        ),
        (0x0000000800000229, 0x0000004000400001),
        "STORE OUT sram 0, dram 0x200, 1x64 stride 64 [pop_prev push_prev]",
    ),
    "gemm": (
        Gemm(
            uop_bgn=0,
            uop_end=1,
            iter_out=16,
            iter_in=4,
            dst_out=4,
            dst_in=1,
            src_out=4,
            src_in=1,
            wgt_out=0,
            wgt_in=1,
            pop_prev=True,
        ),
        (0x000800800020000A, 0x0040000201000804),
        "GEMM uop 0..1, loop 16x4, dst 4/1, src 4/1, wgt 0/1 [pop_prev]",
    ),
    "alu-shr-imm": (
        Alu(
            alu_opcode=AluOpcode.SHR,
            use_imm=True,
            imm=-3,
            uop_bgn=1,
            uop_end=2,
            iter_out=64,
            iter_in=1,
            dst_out=1,
            src_out=1,
            push_next=True,
        ),
        (0x0002020000400144, 0xFFFDB00000400001),
        "ALU SHR -3, uop 1..2, loop 64x1, dst 1/0, src 1/0 [push_next]",
    ),
    "alu-min-imm": (
        Alu(
            alu_opcode=AluOpcode.MIN,
            use_imm=True,
            imm=127,
            uop_bgn=2,
            uop_end=3,
            iter_out=64,
            iter_in=1,
            dst_out=1,
            src_out=1,
        ),
        (0x0002020000600204, 0x007F800000400001),
        "ALU MIN 127, uop 2..3, loop 64x1, dst 1/0, src 1/0",
    ),
    "finish": (Finish(), (0x0000000000000003, 0), "FINISH"),
}


@pytest.mark.parametrize(("instruction", "words", "line"), GOLDEN.values(), ids=GOLDEN)
def test_golden_words(instruction, words, line):
    encoded = isa.encode([instruction])
    assert tuple(encoded[0].tolist()) == words
    assert isa.decode(encoded) == [instruction]
    assert isa.disassemble(encoded) == [line]


def test_golden_micro_op():
    assert isa.encode_uops([Uop(3, 7, 9)]).tolist() == [0x02403803]
    assert isa.decode_uops(np.array([0x02403803], np.uint32)) == [Uop(3, 7, 9)]


FLAGS = dict.fromkeys(("pop_prev", "pop_next", "push_prev", "push_next"), st.booleans())


def _bits(width: int):
    return st.one_of(st.sampled_from([0, 1, (1 << width) - 1]), st.integers(0, (1 << width) - 1))


def _transfer() -> dict:
    pads = dict.fromkeys(("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"), _bits(4))
    sizes = dict.fromkeys(("sram_base", "y_size", "x_size", "x_stride"), _bits(16))
    return {"memory_type": _bits(3), "dram_base": _bits(32), **sizes, **pads, **FLAGS}


def _compute() -> dict:
    loops = {"uop_bgn": _bits(13), **dict.fromkeys(("uop_end", "iter_out", "iter_in"), _bits(14))}
    factors = dict.fromkeys(("dst_out", "dst_in", "src_out", "src_in"), _bits(11))
    return {"reset": st.booleans(), **loops, **factors, **FLAGS}


INSTRUCTIONS = st.one_of(
    st.builds(Load, **_transfer()),
    st.builds(Store, **_transfer()),
    st.builds(Gemm, **_compute(), wgt_out=_bits(10), wgt_in=_bits(10)),
    st.builds(
        Alu, **_compute(), alu_opcode=_bits(3), use_imm=st.booleans(), imm=st.integers(-(2**15), 2**15 - 1)
    ),
    st.builds(Finish, **FLAGS),
)


@given(st.lists(INSTRUCTIONS, max_size=8))
def test_decode_is_the_way_back_from_encode(stream):
    assert isa.decode(isa.encode(stream)) == stream
    assert len(isa.disassemble(isa.encode(stream))) == len(stream)


@given(st.lists(st.tuples(_bits(64), _bits(64)), max_size=8))
def test_any_words_decode_and_what_they_say_encodes_again(words):
    array = np.array(words, np.uint64).reshape(-1, 2)
    decoded = isa.decode(array)
    assert isa.decode(isa.encode(decoded)) == decoded


@given(st.lists(st.builds(Uop, _bits(11), _bits(11), _bits(10)), max_size=8))
def test_micro_ops_round_trip(uops):
    assert isa.decode_uops(isa.encode_uops(uops)) == uops


def test_fields_follow_the_configuration():
    config = Config(
        LOG_BATCH=1, LOG_BLOCK=3, LOG_UOP_BUFF_SIZE=14, LOG_INP_BUFF_SIZE=13, LOG_WGT_BUFF_SIZE=14
    )
    assert (config.uop_bits, config.inp_bits, config.wgt_bits, config.acc_bits) == (12, 9, 8, 11)
    gemm = Gemm(uop_bgn=1, uop_end=1 << 12, iter_out=1, iter_in=1, dst_out=1, src_out=1, wgt_out=1)
    low, high = isa.encode([gemm], config)[0].tolist()
    assert low == 2 | 1 << 8 | (1 << 12) << 20 | 1 << 33 | 1 << 47
    assert high == 1 | 1 << 22 | 1 << 40
    assert isa.decode(isa.encode([gemm], config), config) == [gemm]
    assert isa.encode_uops([Uop(1, 1, 1)], config).tolist() == [1 | 1 << 11 | 1 << 22], "src has room for ACC"


def test_a_field_that_would_straddle_the_words_starts_the_second_one():
    # 8 + 8 + 9 + 14 + 14 = 53 bits leave 11: the first factor has room in the first word, the second has not.
    config = Config(LOG_UOP_BUFF_SIZE=10)
    low, high = isa.encode(
        [Gemm(uop_bgn=0, uop_end=0, iter_out=0, iter_in=0, dst_out=2047, dst_in=1)], config
    )[0].tolist()
    assert (low, high) == (2 | 2047 << 53, 1)


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        (
            Load(memory_type=2, sram_base=1 << 16, dram_base=0, y_size=0, x_size=0, x_stride=0),
            r"instruction 1 \(LOAD\): sram_base is 65536, and the field holds 0 to 65535",
        ),
        (
            Load(memory_type=2, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1, y_pad_0=16),
            "y_pad_0 is 16, and the field holds 0 to 15",
        ),
        (Gemm(uop_bgn=0, uop_end=1, iter_out=1 << 14, iter_in=1), "iter_out is 16384"),
        (Gemm(uop_bgn=0, uop_end=1, iter_out=1, iter_in=1, wgt_in=1024), "wgt_in is 1024"),
        (
            Alu(alu_opcode=2, use_imm=True, imm=32768, uop_bgn=0, uop_end=1, iter_out=1, iter_in=1),
            "imm is 32768, and the field holds -32768 to 32767",
        ),
        (Store(memory_type=4, sram_base=0, dram_base=-1, y_size=0, x_size=0, x_stride=0), "dram_base is -1"),
    ],
    ids=["sram-base", "pad", "loop", "factor", "immediate", "negative-address"],
)
def test_a_value_that_its_field_cannot_hold_is_an_error(instruction, words):
    with pytest.raises(ValueError, match=words):
        isa.encode([Finish(), instruction])


@pytest.mark.parametrize("uop", [Uop(2048, 0, 0), Uop(0, 2048, 0), Uop(0, 0, 1024), Uop(-1, 0, 0)])
def test_a_micro_op_that_its_fields_cannot_hold_is_an_error(uop):
    with pytest.raises(ValueError, match=r"micro-op 1: .* the field holds 0 to"):
        isa.encode_uops([Uop(0, 0, 0), uop])


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_an_opcode_that_no_instruction_has_decodes_as_illegal(opcode):
    words = np.array([[opcode | 8 | 0xABC0, 0x123]], np.uint64)
    (decoded,) = isa.decode(words)
    assert isinstance(decoded, Illegal)
    assert (decoded.opcode, decoded.pop_prev) == (opcode, True)
    np.testing.assert_array_equal(isa.encode([decoded]), words)
    assert isa.disassemble(words)[0].startswith("ILLEGAL 0x000000000000ab")


def test_a_stream_of_bytes_is_little_endian_and_a_multiple_of_16():
    words = isa.encode([each for each, _, _ in GOLDEN.values()])
    np.testing.assert_array_equal(isa.words_of(words.tobytes()), words)
    with pytest.raises(ValueError, match="a multiple of 16 bytes, and this one has 95"):
        isa.words_of(words.tobytes()[:-1])


@pytest.mark.parametrize(
    "words",
    [np.zeros((2, 2), np.int64), np.zeros(4, np.uint64), np.zeros((1, 3), np.uint64), [[3, 0]]],
    ids=["int64", "flat", "three-words", "list"],
)
def test_words_of_another_shape_or_type_are_an_error(words):
    with pytest.raises(ValueError, match=r"instructions are uint64\[n, 2\]"):
        isa.decode(words)


def test_every_field_of_every_instruction_has_its_bits():
    for kind in (Load, Store, Gemm, Alu):
        ones = {each.name: 1 for each in fields(kind)}
        zero = isa.encode([kind(**dict.fromkeys(ones, 0))])
        for name in ones:
            assert (isa.encode([kind(**{**dict.fromkeys(ones, 0), name: 1})]) != zero).any(), (kind, name)
