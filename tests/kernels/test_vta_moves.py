"""Layers that move elements: concatenations, upsamplings and paddings, on the machine and on this CPU."""

import numpy as np
import pytest
import tvm

from kernels.vta import concatenate, pad, upsample
from kernels.vta.concatenate import concatenate_primfunc
from kernels.vta.tensorir import pad_primfunc
from kernels.vta.upsample import upsample_primfunc
from simulators.vta import Machine, isa, load
from tests.kernels import vta_reference as reference
from tests.kernels.test_vta_conv2d import BATCHED, PYNQ, TINY


def check(make, describe, tensors, options, *, expected, config):
    """The program and the description, of plain tensors, give what NumPy has."""
    packed = [reference.pack_data(each, config.batch, config.block) for each in tensors]
    shapes = [each.shape for each in packed]
    program = load(make(*shapes, **options, config=config).to_bytes())
    names = [each.name for each in program.arguments]
    outputs, report = program.run(Machine(config), dict(zip(names, packed, strict=True)))
    np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
    assert report.findings == []
    assert report.counters == program.counters
    function = describe(*shapes, **options, config=config).with_attr("global_symbol", "main")
    arguments = [tvm.runtime.tensor(each) for each in (*packed, np.zeros_like(outputs["out"]))]
    tvm.compile(tvm.IRModule({"main": function}), target="llvm")["main"](*arguments)
    np.testing.assert_array_equal(arguments[-1].numpy(), outputs["out"])
    return program


def full(*shapes):
    rng = np.random.default_rng(7)
    return [reference.full_range(rng, shape) for shape in shapes]


CONCATENATIONS = {
    "channels": ([(1, 32, 5, 6), (1, 16, 5, 6)], 1, (0, 1), PYNQ),
    "one-of-them-twice": ([(2, 16, 3, 4), (2, 32, 3, 4)], 1, (1, 0, 1), PYNQ),
    "rows": ([(1, 32, 5, 6), (1, 32, 1, 6)], 2, (0, 1), PYNQ),
    "columns": ([(1, 32, 5, 6), (1, 32, 5, 3), (1, 32, 5, 1)], 3, (2, 0, 1), PYNQ),
    "images": ([(2, 16, 3, 4), (1, 16, 3, 4)], 0, (0, 1), PYNQ),
    "cut-into-tiles": ([(1, 64, 40, 33), (1, 16, 40, 33)], 1, (0, 1), PYNQ),
    "batch-4-block-8": ([(4, 8, 5, 6), (4, 24, 5, 6)], 1, (0, 1), BATCHED),
    "tiny-memories": ([(1, 12, 7, 9), (1, 4, 7, 9)], 1, (0, 1), TINY),
}


@pytest.mark.parametrize(("shapes", "axis", "order", "config"), CONCATENATIONS.values(), ids=CONCATENATIONS)
def test_a_concatenation(shapes, axis, order, config):
    tensors = full(*shapes)
    program = check(
        concatenate,
        concatenate_primfunc,
        tensors,
        {"axis": axis, "order": order},
        expected=np.concatenate([tensors[place] for place in order], axis),
        config=config,
    )
    moved = sum(tensors[place].size for place in order)
    assert program.counters["acc_load_nbytes"] == program.counters["out_store_nbytes"] == moved
    assert program.counters["gemm_counter"] == 0


UPSAMPLINGS = {
    "2-by-2": ((1, 32, 5, 6), (2, 2), PYNQ),
    "rows-alone": ((2, 16, 4, 3), (3, 1), PYNQ),
    "columns-alone": ((1, 16, 4, 3), (1, 2), PYNQ),
    "nothing": ((1, 16, 4, 3), (1, 1), PYNQ),
    "cut-into-tiles": ((1, 48, 33, 40), (2, 3), PYNQ),
    "batch-4-block-8": ((8, 16, 3, 3), (2, 2), BATCHED),
    "tiny-memories": ((1, 12, 7, 9), (2, 2), TINY),
}


@pytest.mark.parametrize(("shape", "factors", "config"), UPSAMPLINGS.values(), ids=UPSAMPLINGS)
def test_an_upsampling_loads_each_element_once(shape, factors, config):
    (data,) = full(shape)
    expected = data.repeat(factors[0], axis=2).repeat(factors[1], axis=3)
    program = check(
        upsample, upsample_primfunc, [data], {"factors": factors}, expected=expected, config=config
    )
    assert program.counters["acc_load_nbytes"] == data.size
    assert program.counters["out_store_nbytes"] == expected.size


PADDINGS = {
    "one-around": ((1, 32, 5, 6), (1, 1, 1, 1), PYNQ),
    "asymmetric": ((2, 16, 5, 6), (0, 2, 3, 1), PYNQ),
    "wider-than-the-field-of-a-load": ((1, 16, 3, 4), (17, 0, 1, 30), PYNQ),
    "no-padding": ((1, 16, 3, 4), (0, 0, 0, 0), PYNQ),
    "cut-into-tiles": ((1, 48, 33, 40), (2, 1, 2, 1), PYNQ),
    "batch-4-block-8": ((4, 16, 3, 3), (1, 2, 1, 2), BATCHED),
    "tiny-memories": ((1, 8, 7, 9), (1, 1, 1, 1), TINY),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, value) for name in PADDINGS for value in (0, 5)), ("asymmetric", -128), ("asymmetric", 127)],
)
def test_a_padding(name, value):
    shape, padding, config = PADDINGS[name]
    (data,) = full(shape)
    top, left, bottom, right = padding
    expected = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)
    check(pad, pad_primfunc, [data], {"padding": padding, "value": value}, expected=expected, config=config)


def test_narrow_zeros_are_those_of_the_load_and_numbers_are_the_alus():
    shape = (1, 1, 6, 6, 1, 16)
    programs = [pad(shape, padding=(1, 1, 1, 1), value=value) for value in (0, 3)]
    streams = [isa.decode(each.insns, each.config) for each in programs]
    padded = [any(isinstance(each, isa.Load) and each.y_pad_0 for each in stream) for stream in streams]
    assert padded == [True, False]
    assert programs[0].counters["alu_counter"] < programs[1].counters["alu_counter"]


MOVES = {
    "concatenate": lambda shape: concatenate(shape, shape, axis=1),
    "upsample": lambda shape: upsample(shape, factors=(2, 2)),
    "pad": lambda shape: pad(shape, padding=(1, 1, 1, 1), value=3),
}


@pytest.mark.parametrize("make", MOVES.values(), ids=MOVES)
def test_a_backend_that_stores_what_the_alu_wrote_last_gives_the_same(make):
    (data,) = full((1, 16, 4, 5))
    packed = reference.pack_data(data, 1, 16)
    program = make(packed.shape)
    arrays = {each.name: packed for each in program.arguments}
    results = {}
    for profile in ("fsim", "opencl", "vtapp"):
        outputs, report = program.run(Machine(program.config, profile), arrays)
        assert report.findings == []
        results[profile] = outputs["out"]
    np.testing.assert_array_equal(results["fsim"], results["opencl"])
    np.testing.assert_array_equal(results["fsim"], results["vtapp"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: concatenate((1, 1, 4, 4, 16), axis=1), "is not packed as"),
        (lambda: concatenate((1, 1, 4, 4, 1, 16), axis=4), "axis 4: 0 to 3 is possible, which are images"),
        (
            lambda: concatenate((1, 1, 4, 4, 1, 16), (1, 1, 4, 5, 1, 16), axis=1),
            "differ beside the channel blocks",
        ),
        (lambda: concatenate((1, 1, 4, 4, 1, 16), axis=1, order=(0, 1)), "does not name each of 1 tensors"),
        (lambda: concatenate(axis=1), "does not name each of 0 tensors"),
        (lambda: upsample((1, 1, 4, 4, 1, 8), factors=(2, 2)), "is not packed"),
        (lambda: upsample((1, 1, 4, 4, 1, 16), factors=(0, 2)), "factors .* two positive numbers"),
        (lambda: pad((1, 1, 4, 4, 16), padding=(0, 0, 0, 0)), "is not packed"),
        (lambda: pad((1, 1, 4, 4, 1, 16), padding=(1, 1)), r"is not \(top, left, bottom, right\)"),
        (lambda: pad((1, 1, 4, 4, 1, 16), padding=(0, -1, 0, 0)), "none of them negative"),
        (lambda: pad((1, 1, 4, 4, 1, 16), padding=(1, 1, 1, 1), value=128), "128, which is no int8"),
    ],
    ids=[
        "rank",
        "axis",
        "shapes",
        "order",
        "none",
        "block",
        "factors",
        "pad-rank",
        "two-pads",
        "negative",
        "value",
    ],
)
def test_what_vta_cannot_move_is_one_error(make, words):
    with pytest.raises(ValueError, match=words):
        make()
