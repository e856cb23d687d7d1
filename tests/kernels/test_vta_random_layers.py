"""Random layers on random configurations, in every order their tokens permit, against plain int64 NumPy."""

import numpy as np
import pytest

from kernels.vta import (
    Residual,
    concatenate,
    conv2d,
    conv2d_transpose,
    dense,
    elementwise,
    pad,
    pool2d,
    upsample,
)
from simulators.vta import Config, Machine
from tests.kernels import vta_reference as reference

CLIP = (("max", -127), ("min", 127))


def config_of(rng):
    """Memories from the smallest that hold a few tiles to the default."""
    block = int(rng.integers(2, 5))
    batch = int(rng.integers(0, 2))
    return Config(
        LOG_BATCH=batch,
        LOG_BLOCK=block,
        LOG_UOP_BUFF_SIZE=int(rng.integers(6, 13)),
        LOG_INP_BUFF_SIZE=int(rng.integers(5, 9)) + batch + block,
        LOG_WGT_BUFF_SIZE=int(rng.integers(5, 9)) + 2 * block,
        LOG_ACC_BUFF_SIZE=int(rng.integers(5, 9)) + 2 + batch + block,
    )


def window_of(rng):
    kernel = tuple(int(each) for each in rng.integers(1, 4, 2))
    strides = tuple(int(each) for each in rng.integers(1, 4, 2))
    padding = tuple(int(rng.integers(0, kernel[place % 2])) for place in range(4))
    return kernel, strides, padding


def check(program, arrays, expected):
    outputs, report = program.run(Machine(program.config, schedule="adversarial"), arrays)
    np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
    assert report.findings == []
    assert report.counters == program.counters


def convolution(rng, config):
    b, c = config.batch, config.block
    n, ci, co = (int(each) for each in rng.integers(1, 4, 3))
    kernel, strides, padding = window_of(rng)
    size = [int(each) for each in rng.integers(3, 12, 2)]
    data = reference.full_range(rng, (n * b, ci * c, *size))
    weight = reference.full_range(rng, (co * c, ci * c, *kernel))
    bias = rng.integers(-5000, 5000, (b, co * c)).astype(np.int32)
    acc = reference.convolution(data, weight, strides, padding)
    other = reference.full_range(rng, acc.shape)
    steps = (("add", "bias"), ("add", 256), ("shr", 9))
    value = reference.epilogue_wide(acc, steps, {"bias": bias}) + 4 * other.astype(np.int64)
    program = conv2d(
        (n, ci, *size, b, c),
        (co, ci, *kernel, c, c),
        strides=strides,
        padding=padding,
        epilogue=(*steps, ("add", Residual("other", 2)), ("shr", 2), *CLIP),
        config=config,
    )
    arrays = {
        "data": reference.pack_data(data, b, c),
        "weight": reference.pack_data(weight, c, c),
        "bias": reference.pack_tensor(bias, c),
        "other": reference.pack_data(other, b, c),
    }
    check(program, arrays, reference.epilogue(value, (("shr", 2), *CLIP), {}))


def transposed(rng, config):
    b, c = config.batch, config.block
    n, ci, co = (int(each) for each in rng.integers(1, 3, 3))
    kernel, strides, padding = window_of(rng)
    output_padding = tuple(int(rng.integers(0, stride)) for stride in strides)
    size = [int(each) for each in rng.integers(2, 7, 2)]
    data = reference.full_range(rng, (n * b, ci * c, *size))
    weight = reference.full_range(rng, (ci * c, co * c, *kernel))
    acc = reference.transposed_convolution(data, weight, strides, padding, output_padding)
    steps = (("add", 128), ("shr", 8), *CLIP)
    packed = np.ascontiguousarray(reference.pack_data(weight, c, c).swapaxes(-1, -2))
    program = conv2d_transpose(
        (n, ci, *size, b, c),
        packed.shape,
        strides=strides,
        padding=padding,
        output_padding=output_padding,
        epilogue=steps,
        config=config,
    )
    arrays = {"data": reference.pack_data(data, b, c), "weight": packed}
    check(program, arrays, reference.epilogue(acc, steps, {}))


def product(rng, config):
    b, c = config.batch, config.block
    rows, inputs, outputs = (int(each) for each in rng.integers(1, 20, 3))
    data, weight = (reference.full_range(rng, (n, inputs * c)) for n in (rows * b, outputs * c))
    steps = (("add", 64), ("shr", 11), *CLIP)
    program = dense((rows, inputs, b, c), (outputs, inputs, c, c), epilogue=steps, config=config)
    arrays = {"data": reference.pack_data(data, b, c), "weight": reference.pack_data(weight, c, c)}
    acc = data.astype(np.int64) @ weight.astype(np.int64).T
    check(program, arrays, reference.epilogue(acc, steps, {}))


def pooling(rng, config):
    b, c = config.batch, config.block
    kernel, strides, padding = window_of(rng)
    shape = (int(rng.integers(1, 3)) * b, int(rng.integers(1, 4)) * c, *map(int, rng.integers(3, 12, 2)))
    data = reference.full_range(rng, shape)
    top, left, bottom, right = padding
    padded = np.pad(
        data.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-128
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    expected = windows[:, :, :: strides[0], :: strides[1]].max(axis=(-2, -1)).astype(np.int8)
    packed = reference.pack_data(data, b, c)
    program = pool2d(packed.shape, kind="max", window=kernel, strides=strides, padding=padding, config=config)
    check(program, {"data": packed}, expected)


def chain(rng, config):
    b, c = config.batch, config.block
    shape = (int(rng.integers(1, 3)) * b, int(rng.integers(1, 4)) * c, *map(int, rng.integers(1, 12, 2)))
    data, other = reference.full_range(rng, shape), reference.full_range(rng, shape)
    packed, added = reference.pack_data(data, b, c), reference.pack_data(other, b, c)
    steps = (("mul", 5), ("add", Residual("other", 3)), ("shr", 4), *CLIP)
    program = elementwise(packed.shape, epilogue=steps, config=config)
    value = 5 * data.astype(np.int64) + 8 * other.astype(np.int64)
    expected = reference.epilogue(value, (("shr", 4), *CLIP), {})
    check(program, {"data": packed, "other": added}, expected)


def moves(rng, config):
    b, c = config.batch, config.block
    shape = (int(rng.integers(1, 3)) * b, int(rng.integers(1, 4)) * c, *map(int, rng.integers(1, 8, 2)))
    data = reference.full_range(rng, shape)
    packed = reference.pack_data(data, b, c)
    factors = tuple(int(each) for each in rng.integers(1, 4, 2))
    repeated = data.repeat(factors[0], axis=2).repeat(factors[1], axis=3)
    check(upsample(packed.shape, factors=factors, config=config), {"data0": packed}, repeated)
    axis = int(rng.integers(0, 4))
    program = concatenate(packed.shape, packed.shape, axis=axis, order=(1, 0, 1), config=config)
    joined = np.concatenate([data] * 3, axis)
    check(program, {"data0": packed, "data1": packed}, joined)
    top, left, bottom, right = (int(each) for each in rng.integers(0, 18, 4))
    value = int(rng.choice([0, 9, -128]))
    program = pad(packed.shape, padding=(top, left, bottom, right), value=value, config=config)
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    check(program, {"data": packed}, np.pad(data, around, constant_values=value))


NO_LAYERS = ("the smallest tile takes", "larger than the padded", "cuts off all")
KINDS = (convolution, product, pooling, chain, transposed, moves)


def attempt(kind, seed):
    """Whether a layer fits its configuration; if so, it is right."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    config = config_of(rng)
    try:
        kind(rng, config)
    except ValueError as error:
        if any(each in str(error) for each in NO_LAYERS):
            return False
        raise
    return True


@pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.__name__)
def test_random_layers(kind):
    assert sum(attempt(kind, seed) for seed in range(10)) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.__name__)
def test_many_random_layers(kind):
    assert sum(attempt(kind, seed) for seed in range(10, 250)) >= 150
