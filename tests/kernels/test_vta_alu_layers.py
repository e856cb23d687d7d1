"""Layers on the ALU, residual sums and groups: programs on the machine and descriptions on this CPU."""

import numpy as np
import pytest
import tvm

from kernels.vta import Residual, conv2d, dense, elementwise, pool2d
from kernels.vta.tensorir import conv2d_primfunc, dense_primfunc, elementwise_primfunc, pool2d_primfunc
from simulators.vta import Machine, isa, load
from tests.kernels import vta_reference as reference
from tests.kernels.test_vta_conv2d import BATCHED, PYNQ, TINY

CLIP = (("max", -127), ("min", 127))
SUM = (("add", Residual("other", 2)), ("add", 4), ("shr", 3), *CLIP)


def check(make, describe, arguments, options, *, expected, config):
    """The program and the description, with arguments by name in order, give what NumPy has."""
    shapes = [arguments[name].shape for name in ("data", "weight") if name in arguments]
    program = load(make(*shapes, **options, config=config).to_bytes())
    assert [each.name for each in program.arguments] == list(arguments)
    outputs, report = program.run(Machine(config), arguments)
    np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
    assert report.findings == []
    assert report.counters == program.counters
    assert len(np.unique(expected)) > 4
    function = describe(*shapes, **options, config=config)
    out = np.zeros_like(outputs["out"])
    tensors = [tvm.runtime.tensor(each) for each in (*arguments.values(), out)]
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    tvm.compile(module, target="llvm")["main"](*tensors)
    np.testing.assert_array_equal(tensors[-1].numpy(), outputs["out"])
    return program


def full(shape, config, seed=0):
    data = reference.full_range(np.random.default_rng(seed), shape)
    return data, reference.pack_data(data, config.batch, config.block)


SHAPES = {
    "one-tile": ((1, 16, 4, 4), PYNQ),
    "cut-into-tiles": ((2, 48, 33, 31), PYNQ),
    "batch-4-block-8": ((8, 24, 5, 6), BATCHED),
    "tiny-memories": ((2, 12, 7, 9), TINY),
}


@pytest.mark.parametrize(("shape", "config"), SHAPES.values(), ids=SHAPES)
def test_the_sum_of_two_tensors_at_two_scales(shape, config):
    data, packed = full(shape, config)
    other, packed_other = full(shape, config, 1)
    acc = data.astype(np.int64) + 4 * other.astype(np.int64)
    expected = reference.epilogue(acc, (("add", 4), ("shr", 3), *CLIP), {})
    check(
        elementwise,
        elementwise_primfunc,
        {"data": packed, "other": packed_other},
        {"epilogue": SUM},
        expected=expected,
        config=config,
    )


@pytest.mark.parametrize(("shape", "config"), SHAPES.values(), ids=SHAPES)
def test_a_chain_with_a_number_for_each_channel(shape, config):
    data, packed = full(shape, config)
    rng = np.random.default_rng(2)
    scale = rng.integers(-300, 300, (config.batch, shape[1])).astype(np.int32)
    steps = (("mul", "scale"), ("add", 128), ("shr", 8), *CLIP)
    expected = reference.epilogue(data.astype(np.int64), steps, {"scale": scale})
    arguments = {"data": packed, "scale": reference.pack_tensor(scale, config.block)}
    check(elementwise, elementwise_primfunc, arguments, {"epilogue": steps}, expected=expected, config=config)


RESIDUALS = {
    "one-tile": ((1, 16, 4, 4), 32, PYNQ),
    "resnet-block": ((1, 64, 28, 28), 64, PYNQ),
    "batch-4-block-8": ((4, 16, 6, 6), 16, BATCHED),
    "tiny-memories": ((1, 8, 6, 6), 12, TINY),
}


@pytest.mark.parametrize(("shape", "outputs", "config"), RESIDUALS.values(), ids=RESIDUALS)
def test_a_residual_is_added_behind_a_convolution(shape, outputs, config):
    data, packed = full(shape, config)
    weight = reference.full_range(np.random.default_rng(3), (outputs, shape[1], 3, 3))
    other, packed_other = full((shape[0], outputs, *shape[2:]), config, 4)
    bias = np.random.default_rng(5).integers(-5000, 5000, (config.batch, outputs)).astype(np.int32)
    acc = reference.convolution(data, weight, (1, 1), (1, 1, 1, 1))
    rows = np.arange(shape[0]) % config.batch
    value = (acc + bias.astype(np.int64)[rows][:, :, None, None] + 512 >> 10) + 2 * other.astype(np.int64)
    expected = reference.epilogue(value, (("shr", 1), ("max", 0), ("min", 127)), {})
    steps = (
        ("add", "bias"),
        ("add", 512),
        ("shr", 10),
        ("add", Residual("other", 1)),
        ("shr", 1),
        ("max", 0),
        ("min", 127),
    )
    arguments = {
        "data": packed,
        "weight": reference.pack_data(weight, config.block, config.block),
        "bias": reference.pack_tensor(bias, config.block),
        "other": packed_other,
    }
    options = {"padding": (1, 1, 1, 1), "epilogue": steps}
    program = check(conv2d, conv2d_primfunc, arguments, options, expected=expected, config=config)
    loads = [each for each in isa.decode(program.insns, config) if isinstance(each, isa.Load)]
    assert any(each.memory_type == isa.Memory.ACC_8BIT for each in loads)


def test_a_residual_is_added_behind_a_product():
    rng = np.random.default_rng(6)
    data, weight = reference.full_range(rng, (5, 64)), reference.full_range(rng, (32, 64))
    other = reference.full_range(rng, (5, 32))
    value = (data.astype(np.int64) @ weight.astype(np.int64).T >> 9) + other
    steps = (("shr", 9), ("add", Residual("other")), *CLIP)
    arguments = {
        "data": reference.pack_data(data, 1, 16),
        "weight": reference.pack_data(weight, 16, 16),
        "other": reference.pack_data(other, 1, 16),
    }
    check(
        dense,
        dense_primfunc,
        arguments,
        {"epilogue": steps},
        expected=reference.epilogue(value, CLIP, {}),
        config=PYNQ,
    )


GROUPS = {
    "depthwise": ((1, 64, 14, 14), (1, 1), (1, 1, 1, 1), PYNQ),
    "depthwise-stride-2": ((2, 32, 15, 15), (2, 2), (0, 0, 1, 1), PYNQ),
    "batch-4-block-8": ((4, 24, 6, 6), (1, 1), (1, 1, 1, 1), BATCHED),
    "tiny-memories": ((1, 12, 6, 7), (1, 1), (1, 1, 1, 1), TINY),
}


@pytest.mark.parametrize(("shape", "strides", "padding", "config"), GROUPS.values(), ids=GROUPS)
def test_a_depthwise_convolution(shape, strides, padding, config):
    c, channels = config.block, shape[1]
    data, packed = full(shape, config)
    depthwise = reference.full_range(np.random.default_rng(7), (channels, 3, 3))
    acc = np.concatenate(
        [
            reference.convolution(data[:, [each]], depthwise[[each], None], strides, padding)
            for each in range(channels)
        ],
        axis=1,
    )
    steps = (("add", 64), ("shr", 7), *CLIP)
    weight = np.zeros((channels // c, 1, 3, 3, c, c), np.int8)
    for channel in range(channels):
        weight[channel // c, 0, :, :, channel % c, channel % c] = depthwise[channel]
    options = {"strides": strides, "padding": padding, "groups": channels // c, "epilogue": steps}
    expected = reference.epilogue(acc, steps, {})
    check(
        conv2d, conv2d_primfunc, {"data": packed, "weight": weight}, options, expected=expected, config=config
    )


def test_groups_of_several_blocks():
    data, packed = full((1, 96, 6, 6), PYNQ)
    weight = reference.full_range(np.random.default_rng(8), (48, 32, 3, 3))
    acc = np.concatenate(
        [
            reference.convolution(data[:, 32 * group :][:, :32], weight[16 * group :][:16], (1, 1), (0,) * 4)
            for group in range(3)
        ],
        axis=1,
    )
    steps = (("shr", 10), *CLIP)
    arguments = {"data": packed, "weight": reference.pack_data(weight, 16, 16)}
    options = {"groups": 3, "epilogue": steps}
    check(
        conv2d, conv2d_primfunc, arguments, options, expected=reference.epilogue(acc, steps, {}), config=PYNQ
    )


POOLS = {
    "2-by-2": ((2, 32, 8, 8), (2, 2), (2, 2), (0, 0, 0, 0), PYNQ),
    "resnet-stem": ((1, 64, 112, 112), (3, 3), (2, 2), (1, 1, 1, 1), PYNQ),
    "3-by-2-asymmetric": ((1, 16, 7, 9), (3, 2), (1, 2), (2, 0, 1, 1), PYNQ),
    "1-by-1-stride-2-tiny": ((2, 12, 11, 9), (1, 1), (2, 1), (0, 0, 0, 0), TINY),
    "global": ((1, 48, 7, 7), (7, 7), (1, 1), (0, 0, 0, 0), PYNQ),
    "batch-4-block-8": ((4, 16, 6, 6), (3, 3), (2, 2), (1, 1, 1, 1), BATCHED),
    "tiny-memories": ((2, 12, 6, 7), (2, 2), (1, 1), (1, 1, 1, 1), TINY),
}


@pytest.mark.parametrize("kind", ["max", "sum"])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_a_pooling(pool, kind):
    shape, window, strides, padding, config = pool
    data, packed = full(shape, config)
    # The greatest of negative numbers is negative: zeros around the data would show.
    data, packed = (data, packed) if kind == "sum" else (data // 2 - 64, packed // 2 - 64)
    top, left, bottom, right = padding
    zero = 0 if kind == "sum" else -128
    padded = np.pad(
        data.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1]]
    acc = windows.sum(axis=(-2, -1)) if kind == "sum" else windows.max(axis=(-2, -1))
    steps = (("add", 2), ("shr", 4), *CLIP) if kind == "sum" else ()
    options = {
        "kind": kind,
        "window": window,
        "strides": strides,
        "padding": padding,
        "epilogue": steps,
    }
    expected = reference.epilogue(acc, steps, {})
    check(
        pool2d, pool2d_primfunc, {"data": packed.astype(np.int8)}, options, expected=expected, config=config
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pool2d((1, 1, 4, 4, 1, 16), kind="mean", window=(2, 2)), "no pooling 'mean'"),
        (lambda: pool2d((1, 1, 4, 4, 16), kind="max", window=(2, 2)), "data .* is not packed"),
        (lambda: pool2d((1, 1, 4, 4, 1, 16), kind="max", window=(5, 2)), "kernel 5 is larger"),
        (
            lambda: pool2d((1, 1, 50, 50, 1, 16), kind="max", window=(48, 48)),
            "ACC: the smallest tile takes 2305 elements, and 2048 fit",
        ),
        (
            lambda: conv2d((1, 4, 4, 4, 1, 16), (4, 2, 1, 1, 16, 16), groups=2),
            "2 groups of 4 blocks of out channels: 1 or 4",
        ),
        (
            lambda: elementwise((1, 1, 4, 4, 1, 16), epilogue=[("add", Residual("other", 24))]),
            "shifted by 0 to 23",
        ),
        (
            lambda: elementwise((1, 1, 4, 4, 1, 16), epilogue=[("add", Residual("data"))]),
            "'data' cannot name a tensor",
        ),
        (
            lambda: elementwise((1, 1, 4, 4, 1, 16), epilogue=[("add", "x"), ("add", Residual("x"))]),
            "a name stands for two operands",
        ),
    ],
    ids=["kind", "rank", "window", "memory", "groups", "shift", "name", "twice"],
)
def test_what_vta_cannot_take_is_one_error(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_sum_that_wraps_is_clipped():
    """TVM takes a product of what is not negative for not negative, and would drop the lower clip."""
    steps = (("mul", 32767), ("max", 0), ("mul", 32767), ("add", 1), ("shr", 20), *CLIP)
    data, packed = full((1, 16, 4, 4), PYNQ)
    expected = reference.epilogue(data.astype(np.int64), steps, {})
    assert expected.min() == -127
    check(
        elementwise,
        elementwise_primfunc,
        {"data": packed},
        {"epilogue": steps},
        expected=expected,
        config=PYNQ,
    )


def test_a_constant_result_is_compiled():
    """min(max(x, 0), -3298) is the same for every x: TVM folds what follows."""
    steps = (("max", 0), ("min", -3298), ("add", 64), ("mul", -1), *CLIP)
    program = dense((1, 1, 1, 16), (1, 1, 16, 16), epilogue=steps)
    arguments = {"data": np.ones((1, 1, 1, 16), np.int8), "weight": np.ones((1, 1, 16, 16), np.int8)}
    outputs, report = load(program.to_bytes()).run(Machine(PYNQ), arguments)
    assert set(outputs["out"].reshape(-1)) == {127}
    assert report.findings == []
