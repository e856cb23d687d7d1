"""The tokens order every two dependent instructions, and no token can be spared."""

from dataclasses import replace

import numpy as np
import pytest

from kernels.vta import conv2d, dense
from kernels.vta.dependencies import access_of, with_tokens
from simulators.vta import Config, Machine, isa
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store, Uop
from tests.kernels import test_vta_conv2d, test_vta_dense, vta_order

SMALL = Config(
    LOG_BLOCK=2, LOG_UOP_BUFF_SIZE=8, LOG_INP_BUFF_SIZE=7, LOG_WGT_BUFF_SIZE=10, LOG_ACC_BUFF_SIZE=9
)


def move(kind, memory, sram, dram, count=4, **more):
    return kind(
        memory_type=memory, sram_base=sram, dram_base=dram, y_size=1, x_size=count, x_stride=count, **more
    )


def gemm(dst, src, wgt, count=4):
    factors = {"dst_in": 1, "src_in": 1} if count > 1 else {}
    return Gemm(uop_bgn=0, uop_end=1, iter_out=1, iter_in=count, **factors), (Uop(dst, src, wgt),)


def alu(dst, count=4):
    factors = {"dst_in": 1, "src_in": 1} if count > 1 else {}
    add = Alu(
        uop_bgn=0,
        uop_end=1,
        iter_out=1,
        iter_in=count,
        alu_opcode=AluOpcode.ADD,
        imm=1,
        use_imm=True,
        **factors,
    )
    return add, (Uop(dst, dst),)


def tokens(steps, config=SMALL):
    pairs = [each if isinstance(each, tuple) else (each, ()) for each in steps]
    accesses = [access_of(instruction, kernel, config) for instruction, kernel in pairs]
    return with_tokens([instruction for instruction, _ in pairs], accesses, config)


def flags_of(instruction):
    return [flag for flag in vta_order.FLAGS if getattr(instruction, flag)]


def test_a_load_an_operation_and_a_store_follow_one_another():
    stream = tokens(
        [
            move(Load, Memory.INP, 0, 0x1000),
            move(Load, Memory.WGT, 0, 0x200),
            gemm(0, 0, 0),
            move(Store, Memory.OUT, 0, 0x2000),
            Finish(),
        ]
    )
    assert [flags_of(each) for each in stream] == [
        [],
        ["push_next"],
        ["pop_prev", "push_next"],
        ["pop_prev", "push_prev"],
        ["pop_next"],
    ]


def test_halves_in_turn_let_the_next_load_go_before_the_product():
    stream = tokens(
        [step for half in (0, 8, 0) for step in (move(Load, Memory.INP, half, 0x1000), gemm(0, half, 0))]
    )
    # The second load waits for nobody; the third for the first product, that read the same half.
    assert [flags_of(each) for each in stream] == [
        ["push_next"],
        ["pop_prev", "push_prev"],
        ["push_next"],
        ["pop_prev"],
        ["pop_next", "push_next"],
        ["pop_prev"],
    ]


def test_operations_on_other_elements_need_no_token():
    stream = tokens(
        [move(Load, Memory.INP, 0, 0x1000), gemm(0, 4, 0), move(Store, Memory.OUT, 4, 0x2000), alu(0)]
    )
    assert [flags_of(each) for each in stream] == [[]] * 4


def test_padding_is_written_too():
    padded = move(Load, Memory.INP, 0, 0x1000, x_pad_1=1)
    assert flags_of(tokens([padded, gemm(0, 4, 0, 1)])[0]) == ["push_next"]


def test_a_load_of_what_was_stored_waits_through_compute():
    stream = tokens(
        [alu(0), move(Store, Memory.OUT, 0, 0x2000), move(Load, Memory.INP, 0, 0x2000), gemm(0, 0, 0)]
    )
    assert len(stream) == 5, "no compute instruction stood between, so one that does nothing does now"
    assert [flags_of(each) for each in stream] == [
        ["push_next"],
        ["pop_prev", "push_prev"],
        ["pop_next", "push_prev"],
        ["pop_next", "push_next"],
        ["pop_prev"],
    ]


def test_a_load_of_other_bytes_does_not_wait():
    # Rows of 4 elements, 8 apart: the load reads what lies between the rows.
    store = Store(memory_type=Memory.OUT, sram_base=0, dram_base=0x2000, y_size=2, x_size=4, x_stride=8)
    beside = Load(memory_type=Memory.INP, sram_base=0, dram_base=0x2004, y_size=2, x_size=4, x_stride=8)
    assert [flags_of(each) for each in tokens([store, beside])] == [[], []]
    across = Load(memory_type=Memory.INP, sram_base=0, dram_base=0x2004, y_size=2, x_size=5, x_stride=8)
    assert len(tokens([store, across])) == 3


def random_steps(rng):
    steps = []
    for _ in range(40):
        place = int(rng.integers(0, 24))
        match rng.integers(0, 6):
            case 0:
                steps.append(move(Load, Memory.INP, place, int(rng.integers(0x500, 0x520))))
            case 1:
                steps.append(move(Load, Memory.WGT, place, 0x200))
            case 2:
                steps.append(move(Load, Memory.ACC, place, 0x180))
            case 3:
                steps.append(move(Store, Memory.OUT, place, int(rng.integers(0x500, 0x520))))
            case 4:
                steps.append(gemm(place, int(rng.integers(0, 24)), int(rng.integers(0, 24))))
            case 5:
                steps.append(alu(place))
    return [*steps, Finish()]


@pytest.mark.parametrize("seed", range(12))
def test_random_streams_are_ordered(seed):
    steps = random_steps(np.random.default_rng(seed))
    stream = tokens(steps)
    # The tokens may have put in LOADs that do nothing.
    kernels = iter([each[1] if isinstance(each, tuple) else () for each in steps])
    touches = []
    for each in stream:
        added = isinstance(each, Load) and each.x_size == 0
        touches.append(vta_order.touched(each, () if added else next(kernels), SMALL))
    assert vta_order.unordered(stream, touches) == []


def convolution(name):
    arrays, options, _ = test_vta_conv2d.build(test_vta_conv2d.CASES[name])
    return conv2d(arrays["data"].shape, arrays["weight"].shape, **options)


PROGRAMS = {
    "convolution": lambda: convolution("tiny-memories"),
    "convolution-stride-2": lambda: conv2d(
        (1, 2, 7, 7, 1, 4),
        (3, 2, 3, 3, 4, 4),
        strides=(2, 2),
        padding=(1, 1, 1, 1),
        epilogue=test_vta_dense.SIGNED,
        config=SMALL,
    ),
    "micro-ops-replaced": lambda: convolution("micro-ops-replaced"),
    "dense": lambda: dense((9, 3, 1, 4), (5, 3, 4, 4), epilogue=test_vta_dense.SIGNED, config=SMALL),
}


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_is_ordered_and_no_token_can_be_spared(make):
    program = make()
    stream = isa.decode(program.insns, program.config)
    touches = vta_order.touched_by(program)
    assert vta_order.unordered(stream, touches) == []
    pushes = vta_order.pushes_of(stream)
    finish = [push for push in pushes if queue_is_for_finish(stream, push)]
    assert len(finish) == 1, "FINISH waits for the last store"
    rest = [push for push in pushes if push not in finish]
    assert len(rest) >= 6
    for push in rest[:: max(len(rest) // 12, 1)]:
        assert vta_order.unordered(vta_order.without_token(stream, push), touches), push


@pytest.mark.parametrize(
    "layer", [((1, 2, 8, 8, 1, 4), (2, 2, 3, 3, 4, 4)), ((1, 8, 3, 3, 1, 4), (4, 8, 1, 1, 4, 4))]
)
def test_a_tile_is_loaded_while_the_one_before_is_computed(layer):
    program = conv2d(*layer, epilogue=test_vta_dense.SIGNED, config=SMALL)
    stream = isa.decode(program.insns, program.config)
    done = vta_order.follows(stream)
    products = [
        (place, each) for place, each in enumerate(stream) if isinstance(each, Gemm) and not each.reset
    ]
    compute = [place for place, each in enumerate(stream) if vta_order.engine_of(each) == "compute"]
    overlapped = 0
    for place, _ in products[1:]:
        load = max(index for index, each in enumerate(stream[:place]) if vta_order.engine_of(each) == "load")
        before = max(index for index in compute if index < load and isinstance(stream[index], Gemm))
        overlapped += done[load]["compute"] <= compute.index(before)
    assert len(products) > 3
    assert overlapped == len(products) - 1


def queue_is_for_finish(stream, push):
    changed = vta_order.without_token(stream, push)
    return changed[-1] != stream[-1]


def test_a_missing_token_shows_on_the_machine():
    arrays, options, _ = test_vta_conv2d.build(test_vta_conv2d.CASES["tiny-memories"])
    program = conv2d(arrays["data"].shape, arrays["weight"].shape, **options)
    stream = isa.decode(program.insns, program.config)
    push = next(each for each in vta_order.pushes_of(stream) if each[1] == "push_next")
    place, flag = push
    stream[place] = replace(stream[place], **{flag: False})
    report = Machine(program.config).run(isa.encode(stream, program.config), program.image(arrays))
    assert "deadlock" in {each.kind for each in report.findings}
