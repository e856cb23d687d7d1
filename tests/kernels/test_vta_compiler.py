"""The compiler on schedules of one's own: what it makes of statements, and what it refuses."""

import numpy as np
import pytest
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T  # noqa: N812

from kernels.vta.compiler import VIRTUAL_THREADS, UncompilableError, compile_program
from simulators.vta import Config, Machine, isa
from tests.kernels import vta_reference as reference

CONFIG = Config(LOG_BLOCK=2, LOG_INP_BUFF_SIZE=8, LOG_WGT_BUFF_SIZE=10, LOG_ACC_BUFF_SIZE=10)


def on_machine(function, arrays, config=CONFIG):
    program = compile_program(function, config)
    outputs, report = program.run(Machine(config), arrays)
    assert report.findings == []
    assert report.counters == program.counters
    return outputs, program


def chain(expression, shape=(6, 1, 4), config=CONFIG):
    """out = int8(expression(int32 data)), element by element, in one tile."""
    data = te.placeholder(shape, "int8", "data")
    wide = te.compute(shape, lambda *index: data[index].astype("int32"), name="wide")
    out = te.compute(shape, lambda *index: expression(wide[index]).astype("int8"), name="out")
    sch = Schedule(te.create_prim_func([data, out]))
    sch.set_scope(sch.get_sblock("wide"), 0, "local.acc")
    sch.cache_write(sch.get_sblock("out"), 0, "local.out")
    return sch.mod["main"]


EXPRESSIONS = {
    "add": (lambda x: x + 5, lambda x: x + 5),
    "subtract": (lambda x: x - 5, lambda x: x - 5),
    "subtract-from": (lambda x: 5 - x, lambda x: 5 - x),
    "multiply": (lambda x: x * -3, lambda x: x * -3),
    "clip": (lambda x: te.max(te.min(x, 20), -9), lambda x: np.clip(x, -9, 20)),
    "shift-right": (lambda x: x >> 3, lambda x: x >> 3),
    "shift-left": (lambda x: x << 2, lambda x: x << 2),
    "number-first": (lambda x: te.max(7, x), lambda x: np.maximum(x, 7)),
    "wide-number": (lambda x: (x + 100_000) >> 10, lambda x: (x + 100_000) >> 10),
    "several": (lambda x: te.min(((x * 9 + 8) >> 4) - 1, 40), lambda x: np.minimum((x * 9 + 8 >> 4) - 1, 40)),
    "low-half-of-int64": (
        lambda x: (((x.astype("int64") + 77) * 32767).astype("int32")) >> 16,
        lambda x: reference.wrap32((x + 77) * 32767) >> 16,
    ),
}


@pytest.mark.parametrize(("expression", "meaning"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_becomes_steps_in_place(expression, meaning):
    data = reference.full_range(np.random.default_rng(1), (6, 1, 4))
    data[0, 0] = [-128, 127, 0, -1]
    program = compile_program(chain(expression), CONFIG)
    outputs, _ = program.run(Machine(CONFIG), {"data": data})
    np.testing.assert_array_equal(
        outputs["out"], (meaning(data.astype(np.int64)) & 255).astype(np.uint8).view(np.int8)
    )
    stream = isa.decode(program.insns, CONFIG)
    assert not any(isinstance(each, isa.Gemm) for each in stream), "nothing is copied"
    assert {each.iter_out * each.iter_in for each in stream if isinstance(each, isa.Alu)} == {6}


REFUSED = {
    "division": (lambda x: te.div(x, 3), "VTA's ALU has no"),
    "shift-by-itself": (lambda x: x >> x, "VTA's ALU has no"),
    "wide-factor": (lambda x: x * 40_000, "an immediate of MUL is 40000, and it holds -32768 to 32767"),
    "wide-maximum": (lambda x: te.max(x, 40_000), "an immediate of MAX is 40000"),
    "two-results": (lambda x: (x + 1) * (x + 2), "MUL of two results"),
    "xor": (lambda x: x ^ 3, "VTA's ALU has no"),
}


@pytest.mark.parametrize(("expression", "words"), REFUSED.values(), ids=REFUSED)
def test_what_the_alu_cannot_do_is_refused_with_the_statement(expression, words):
    with pytest.raises(UncompilableError, match=words) as caught:
        compile_program(chain(expression), CONFIG)
    assert "out_local_out[" in str(caught.value)


def test_an_operand_that_is_needed_again_is_copied():
    data = te.placeholder((6, 1, 4), "int8", "data")
    wide = te.compute(data.shape, lambda *index: data[index].astype("int32"), name="wide")
    tripled = te.compute(data.shape, lambda *index: wide[index] * 3, name="tripled")
    out = te.compute(data.shape, lambda *index: (tripled[index] + wide[index]).astype("int8"), name="out")
    sch = Schedule(te.create_prim_func([data, out]))
    for name in ("wide", "tripled"):
        sch.set_scope(sch.get_sblock(name), 0, "local.acc")
    sch.cache_write(sch.get_sblock("out"), 0, "local.out")
    values = np.arange(-12, 12, dtype=np.int8).reshape(6, 1, 4)
    outputs, program = on_machine(sch.mod["main"], {"data": values})
    np.testing.assert_array_equal(outputs["out"], values * 4)
    resets = [each for each in isa.decode(program.insns, CONFIG) if isinstance(each, isa.Gemm) and each.reset]
    assert len(resets) == 1


def test_a_square_is_refused_or_right():
    program = compile_program(chain(lambda x: x * x), CONFIG)
    data = np.arange(-11, 13, dtype=np.int8).reshape(6, 1, 4)
    outputs, _ = program.run(Machine(CONFIG), {"data": data})
    np.testing.assert_array_equal(
        outputs["out"], (data.astype(np.int64) ** 2 & 255).astype(np.uint8).view(np.int8)
    )


def matmul(rows, inputs, outputs, tile, *, threads=1, scopes=("local.inp", "local.wgt")):
    data = te.placeholder((rows, inputs, 1, 4), "int8", "data")
    weight = te.placeholder((outputs, inputs, 4, 4), "int8", "weight")
    k, i = te.reduce_axis((0, inputs), "k"), te.reduce_axis((0, 4), "i")
    acc = te.compute(
        (rows, outputs, 1, 4),
        lambda m, n, b, o: te.sum(
            data[m, k, b, i].astype("int32") * weight[n, k, o, i].astype("int32"), axis=[k, i]
        ),
        name="acc",
    )
    out = te.compute(acc.shape, lambda *index: (acc[index] >> 11).astype("int8"), name="out")
    sch = Schedule(te.create_prim_func([data, weight, out]))
    block = sch.get_sblock("acc")
    sch.set_scope(block, 0, "local.acc")
    copies = [sch.cache_read(block, index, scope) for index, scope in enumerate(scopes)]
    store = sch.cache_write(sch.get_sblock("out"), 0, "local.out")
    m, n, b, o = sch.get_loops(store)
    outer, inner = sch.split(m, [None, tile])
    sch.reorder(outer, inner, n, b, o)
    sch.annotate(outer, VIRTUAL_THREADS, threads)
    for each in (sch.get_sblock("out"), block, *copies):
        sch.compute_at(each, outer, preserve_unit_loops=True)
    sch.decompose_reduction(block, sch.get_loops(block)[1])
    return sch.mod["main"]


def operands(rows, inputs, outputs):
    rng = np.random.default_rng(rows)
    data = reference.full_range(rng, (rows, inputs, 1, 4))
    return {"data": data, "weight": reference.full_range(rng, (outputs, inputs, 4, 4))}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tile", [3, 4, 5, 11], ids=lambda tile: f"tile-{tile}")
def test_a_schedule_of_ones_own(tile, threads):
    arrays = operands(11, 3, 5)
    if (tile, threads) == (11, 2):
        threads = 1
    outputs, _ = on_machine(matmul(11, 3, 5, tile, threads=threads), arrays)
    acc = np.einsum("mkbi,nkoi->mnbo", arrays["data"].astype(np.int64), arrays["weight"].astype(np.int64))
    np.testing.assert_array_equal(outputs["out"], (acc >> 11).astype(np.int8))


def test_virtual_threads_have_buffers_of_their_own():
    def places(threads):
        stream = isa.decode(compile_program(matmul(12, 2, 3, 3, threads=threads), CONFIG).insns, CONFIG)
        return {
            each.sram_base
            for each in stream
            if isinstance(each, isa.Load) and each.memory_type == isa.Memory.INP
        }

    assert places(1) == {0}
    assert places(2) == {0, 6}
    assert places(3) == {0, 6, 12}


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda: matmul(40, 3, 1, 40),
            "INP: data_local.inp takes 120 elements, and 64 fit",
        ),
        (
            lambda: matmul(44, 2, 1, 22, threads=2),
            "INP: data_local.inp takes 2 times 44 elements, and 64 fit",
        ),
        (lambda: matmul(8, 9, 9, 2), "WGT: weight_local.wgt takes 81 elements, and 64 fit"),
        (lambda: matmul(20, 1, 5, 20), "ACC: acc_local.acc takes 100 elements, and 64 fit"),
    ],
    ids=["INP", "INP-twice", "WGT", "ACC"],
)
def test_a_memory_that_is_too_small_is_named(function, words):
    with pytest.raises(ValueError, match=words):
        compile_program(function(), CONFIG)


def test_memories_that_do_not_go_together_are_refused():
    with pytest.raises(
        UncompilableError, match=r"no instruction that makes local.acc of local.acc and local.inp"
    ):
        compile_program(matmul(4, 2, 2, 4, scopes=("local.inp", "local.inp")), CONFIG)
    with pytest.raises(UncompilableError, match=r"is in shared; VTA has local.inp, local.wgt, local.acc"):
        compile_program(matmul(4, 2, 2, 4, scopes=("shared", "local.wgt")), CONFIG)


def test_a_program_for_another_block_is_refused():
    with pytest.raises(UncompilableError, match="not addressed by whole elements of 16"):
        compile_program(matmul(4, 2, 2, 4), Config())


def test_a_copy_that_computes_is_refused():
    data = te.placeholder((4, 1, 4), "int8", "data")
    wide = te.compute(data.shape, lambda *index: data[index].astype("int32") + 1, name="wide")
    out = te.compute(data.shape, lambda *index: wide[index].astype("int8"), name="out")
    sch = Schedule(te.create_prim_func([data, out]))
    sch.set_scope(sch.get_sblock("wide"), 0, "local.acc")
    with pytest.raises(
        UncompilableError, match=r"a LOAD to local.acc copies int32 and computes nothing: wide_"
    ):
        compile_program(sch.mod["main"], CONFIG)


def test_zeros_are_all_that_inp_is_padded_with():
    data = te.placeholder((2, 1, 4), "int8", "data")
    padded = te.compute(
        (4, 1, 4),
        lambda i, b, c: te.if_then_else(tirx.all(i >= 1, i < 3), data[i - 1, b, c], tirx.const(1, "int8")),
        name="padded",
    )
    sch = Schedule(te.create_prim_func([data, padded]))
    sch.cache_write(sch.get_sblock("padded"), 0, "local.inp")
    with pytest.raises(UncompilableError, match="a LOAD pads with zeros"):
        compile_program(sch.mod["main"], CONFIG)


def test_a_call_is_refused():
    @T.prim_func(s_tir=True)
    def calls(data: T.Buffer((4, 1, 4), "int8")) -> None:
        T.evaluate(T.call_extern("int32", "abort", data[0, 0, 0]))

    with pytest.raises(UncompilableError, match=r"VTA cannot call .*abort"):
        compile_program(calls, CONFIG)
