"""The tokens order every two dependent instructions, and no token can be spared."""

from dataclasses import replace

import numpy as np
import pytest

from kernels.vta import Residual, conv2d, dense, elementwise
from kernels.vta.dependencies import access_of, with_tokens
from simulators.vta import Config, Machine, isa
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store, Uop
from simulators.vta.order import ENGINES, engine_of
from tests.kernels import test_vta_conv2d, test_vta_dense

FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")
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
    return [flag for flag in FLAGS if getattr(instruction, flag)]


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
    # Every micro-op that the steps execute lies in UOP at a place of its own.
    table = {kernel: place for place, kernel in enumerate({s[1] for s in steps if isinstance(s, tuple)})}
    placed = [
        (replace(each[0], uop_bgn=table[each[1]], uop_end=table[each[1]] + 1), each[1])
        if isinstance(each, tuple)
        else each
        for each in steps
    ]
    uops = move(Load, Memory.UOP, 0, 0x10000 // 4, len(table))
    stream = tokens([uops, *placed])
    dram = np.zeros(0x20000, np.uint8)
    words = isa.encode_uops([kernel[0] for kernel in table], SMALL)
    dram[0x10000:][: words.nbytes] = words.view(np.uint8)
    kinds = {each.kind for each in Machine(SMALL).run(isa.encode(stream, SMALL), dram).findings}
    assert kinds <= {"uninitialised", "lossy-store"}
    assert any(getattr(each, flag) for each in stream for flag in FLAGS)


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
    "residual": lambda: elementwise(
        (1, 3, 6, 6, 1, 4), epilogue=[("add", Residual("other", 1)), ("shr", 2)], config=SMALL
    ),
}


def run(program, stream):
    rng = np.random.default_rng(0)
    arrays = {each.name: rng.integers(-9, 9, each.shape).astype(each.dtype) for each in program.arguments}
    report = Machine(program.config).run(isa.encode(stream, program.config), program.image(arrays))
    return {each.kind for each in report.findings}


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_is_ordered_and_no_token_can_be_spared(make):
    program = make()
    stream = isa.decode(program.insns, program.config)
    assert run(program, stream) == set()
    pushes = [
        (place, flag)
        for place, each in enumerate(stream)
        for flag in ("push_prev", "push_next")
        if getattr(each, flag)
    ]
    assert len(pushes) >= 6
    for place, flag in pushes[:: max(len(pushes) // 12, 1)]:
        changed = without_token(stream, place, flag)
        if changed[-1] == stream[-1]:
            assert "hazard" in run(program, changed), (place, flag)
        else:
            assert "no-finish" in run(program, changed) or engine_of(stream[place]) == "store"


def without_token(stream, place, flag):
    """The stream without a token: the n-th of a queue is put by its n-th push and taken by its n-th pop."""
    engine = engine_of(stream[place])
    neighbour = ENGINES[ENGINES.index(engine) + (1 if flag == "push_next" else -1)]
    pop = "pop_prev" if flag == "push_next" else "pop_next"
    number = sum(engine_of(each) == engine and getattr(each, flag) for each in stream[:place])
    taken = [
        index for index, each in enumerate(stream) if engine_of(each) == neighbour and getattr(each, pop)
    ][number]
    changed = list(stream)
    changed[place] = replace(changed[place], **{flag: False})
    changed[taken] = replace(changed[taken], **{pop: False})
    return changed


def test_a_push_without_its_pop_is_a_deadlock_or_a_leftover():
    program = convolution("tiny-memories")
    stream = isa.decode(program.insns, program.config)
    place = next(index for index, each in enumerate(stream) if each.push_next)
    stream[place] = replace(stream[place], push_next=False)
    assert "deadlock" in run(program, stream)


OVERLAPS = {
    "rows-in-turn": ((1, 2, 8, 8, 1, 4), (2, 2, 3, 3, 4, 4), SMALL),
    "inputs-in-turn": ((1, 8, 3, 3, 1, 4), (4, 8, 1, 1, 4, 4), SMALL),
}


@pytest.mark.parametrize(("data", "weight", "config"), OVERLAPS.values(), ids=OVERLAPS)
def test_engines_work_at_the_same_time(data, weight, config):
    program = conv2d(data, weight, epilogue=test_vta_dense.SIGNED, config=config)
    rng = np.random.default_rng(0)
    arrays = {each.name: rng.integers(-9, 9, each.shape).astype(each.dtype) for each in program.arguments}
    _, report = program.run(Machine(config), arrays)
    cycles = report.estimate
    assert cycles.cycles < cycles.serial
    # Only what no engine has to wait for: the first load, and the last store.
    assert cycles.cycles < 1.3 * max(cycles.load, cycles.compute, cycles.store)
