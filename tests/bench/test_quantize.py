"""Quantisation: accuracy, names, and integer graphs that TVM builds to the same values."""

from functools import cache

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from bench import workloads
from bench.evaluate import evaluate, evaluate_all
from bench.operators import ROUNDINGS
from bench.passes import quantize, quantize_input
from bench.passes.quantization.source import SAMPLED, calibrate
from bench.passes.scales import choose_channel_scales, choose_scale, fixed_point

op = relax.op

SCHEMES = {
    # case: (options, points of accuracy that may be lost)
    "fixed int8": ({}, 0.01),
    "fixed uint8": ({"data_dtype": "uint8"}, 0.01),
    "fixed int8, one weight scale": ({"per_channel": False}, 0.01),
    "fixed uint8, one weight scale": ({"data_dtype": "uint8", "per_channel": False}, 0.01),
    "fixed int8, int8 output": ({"output_dtype": "int8"}, 0.01),
    "fixed uint8, int8 output": ({"data_dtype": "uint8", "output_dtype": "int8"}, 0.01),
    "fixed int8, least error": ({"data_scale": "least_error", "weight_scale": "least_error"}, 0.01),
    **{f"fixed int8, {rounding}": ({"rounding": rounding}, 0.01) for rounding in ROUNDINGS[1:]},
    "pow2 int8": ({"scheme": "pow2"}, 0.015),
    "pow2 uint8": ({"scheme": "pow2", "data_dtype": "uint8"}, 0.015),
    "pow2 int8, maximum": ({"scheme": "pow2", "data_scale": "maximum", "weight_scale": "maximum"}, 0.015),
    "pow2 int8, floor": ({"scheme": "pow2", "rounding": "floor"}, 0.015),
    "pow2 int8, int32 output": ({"scheme": "pow2", "output_dtype": "int32"}, 0.015),
}


@cache
def digits():
    return workloads.load("digits")


@cache
def quantized(case):
    return quantize(digits().module, digits().calibration, **SCHEMES[case][0])


def built(module, inputs):
    machine = relax.VirtualMachine(relax.build(module, "llvm"), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(inputs)).numpy()


@pytest.mark.parametrize("case", SCHEMES)
def test_accuracy_is_kept(case):
    workload, module = digits(), quantized(case)
    reference = workload.accuracy(evaluate(workload.module, workload.images))
    result = evaluate(module, quantize_input(module, workload.images))
    assert workload.accuracy(result) >= reference - SCHEMES[case][1]


BUILT = ("fixed int8", "fixed uint8", "fixed int8, double", "pow2 int8", "pow2 uint8")


@pytest.mark.parametrize(
    "case", [case if case in BUILT else pytest.param(case, marks=pytest.mark.slow) for case in SCHEMES]
)
def test_tvm_builds_the_same_integers(case):
    module = quantized(case)
    inputs = quantize_input(module, digits().images)
    expected = evaluate(module, inputs)
    assert expected.std() > 10
    np.testing.assert_array_equal(built(module, inputs), expected)


@pytest.mark.parametrize("case", SCHEMES)
def test_every_tensor_of_the_graph_is_an_integer(case):
    module = quantized(case)
    variables = [binding.var for block in module["main"].body.blocks for binding in block.bindings]
    assert {str(variable.ty.dtype) for variable in variables} <= {"int8", "uint8", "int32"}
    options = SCHEMES[case][0]
    data_dtype = options.get("data_dtype", "int8")
    assert str(module["main"].params[0].ty.dtype) == data_dtype
    for variable in variables[:-1]:
        if variable.name.endswith("_requantized"):
            assert str(variable.ty.dtype) == data_dtype


@pytest.mark.parametrize("case", SCHEMES)
def test_every_quantised_tensor_is_close_to_its_float_one(case):
    workload, module = digits(), quantized(case)
    floats = evaluate_all(workload.module, workload.images)
    integers = evaluate_all(module, quantize_input(module, workload.images))
    scales = module["main"].attrs["scales"]
    assert set(scales) == {name for name in integers if name.endswith("_requantized")}
    assert len(scales) >= 5
    for name, scale in scales.items():
        real = floats[name.removesuffix("_requantized")]
        error = np.abs(integers[name] * float(scale) - real)
        # A wrong scale, alignment or bias is off by the size of the values themselves; floor drifts.
        assert error.mean() < (0.2 if "floor" in case else 0.1) * real.std(), name
    logits = integers[list(integers)[-1]] * float(module["main"].attrs["output_scale"])
    assert np.abs(logits - floats["dense_bias"]).mean() < 0.15 * floats["dense_bias"].std()


def test_bindings_of_fixed_are_named_after_the_float_ones():
    assert list(
        evaluate_all(quantized("fixed uint8"), quantize_input(quantized("fixed uint8"), digits().images))
    ) == [
        *("conv1", "conv1_bias", "relu1_requantized"),
        *("conv2", "conv2_bias", "relu2_requantized"),
        *(
            "conv3",
            "conv3_bias",
            "relu2_int32",
            "conv3_bias_aligned",
            "relu2_aligned",
            "residual",
            "relu3_requantized",
        ),
        *("conv4", "conv4_bias", "relu4_requantized"),
        *("pool_int32", "pool", "pool_requantized"),
        *("dense", "dense_bias"),
    ]


def test_bindings_of_pow2_are_steps_of_an_alu():
    module = quantized("pow2 int8")
    names = list(evaluate_all(module, quantize_input(module, digits().images)))
    assert names[:6] == [
        *("conv1", "conv1_bias", "relu1_rounded", "relu1_shifted", "relu1_clipped", "relu1_requantized")
    ]
    assert names[-1] == "dense_bias_requantized"
    operators = {binding.value.op.name for block in module["main"].body.blocks for binding in block.bindings}
    assert operators == {
        *("relax.nn.conv2d", "relax.matmul", "relax.add", "relax.right_shift", "relax.left_shift"),
        *("relax.clip", "relax.astype", "relax.sum"),
    }


@pytest.mark.parametrize("case", ["pow2 int8", "pow2 uint8", "pow2 int8, maximum"])
def test_scales_of_pow2_are_powers_of_two(case):
    attributes = quantized(case)["main"].attrs
    for scale in (attributes["input_scale"], attributes["output_scale"], *attributes["scales"].values()):
        assert np.frexp(float(scale))[0] == 0.5


def test_attributes_say_what_was_chosen():
    attributes = quantized("fixed uint8")["main"].attrs
    assert (attributes["scheme"], attributes["rounding"]) == ("fixed", "half_up")
    assert float(attributes["input_scale"]) == pytest.approx(1 / 255)


def test_quantising_inputs_saturates_and_rounds_ties_to_even():
    module = quantized("fixed int8")
    scale = float(module["main"].attrs["input_scale"])
    images = np.array([-200, -127, -0.5, 0.5, 1.5, 126.4, 200]) * scale
    assert quantize_input(module, images).tolist() == [-127, -127, 0, 0, 2, 126, 127]


# --- other graphs ---------------------------------------------------------------------------------------

GENERATOR = np.random.default_rng(0)


def module_of(build, shape=(4, 6, 8, 8), dtype="float32"):
    """Make a float module: `build` gets `emit(name, expression)` and the input, and gives the output."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(shape, dtype))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = build(lambda name, value: builder.emit(value, name_hint=name), data)
            output = builder.emit_output(result, name_hint="output")
        builder.emit_func_output(output)
    return builder.get()


def weights(*shape):
    return relax.const((GENERATOR.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


def pooled(emit, x):
    y = emit("grouped", op.nn.conv2d(x, weights(9, 2, 3, 3), groups=3, padding=1))
    y = emit("relu", op.nn.relu(y))
    y = emit("maximum", op.nn.max_pool2d(y, (2, 2), (2, 2)))
    y = emit("flat", op.reshape(y, (4, 9 * 16)))
    return emit("dense", op.matmul(y, weights(9 * 16, 5)))


def both_sides_accumulate(emit, x):
    left = emit("left", op.nn.conv2d(x, weights(8, 6, 1, 1)))
    right = emit("right", op.nn.conv2d(x, weights(8, 6, 1, 1)))
    total = emit("total", op.add(left, right))
    return emit("last", op.nn.conv2d(total, weights(8, 8, 3, 3), padding=(0, 1, 2, 0), dilation=2))


def no_relu(emit, x):
    y = emit("conv", op.nn.conv2d(x, weights(8, 6, 3, 3), strides=2))
    y = emit("bias", op.add(relax.const(GENERATOR.standard_normal((1, 8, 1, 1)).astype(np.float32)), y))
    y = emit("turned", op.permute_dims(y, [0, 1, 3, 2]))
    return emit("mean", op.mean(y, axis=[1], keepdims=True))


def relu_of_data_and_of_the_sum(emit, x):
    y = emit("positive", op.nn.relu(x))
    y = emit("conv", op.nn.conv2d(y, weights(6, 6, 1, 1)))
    y = emit("relu", op.nn.relu(y))
    return emit(
        "relu_bias", op.add(y, relax.const(GENERATOR.standard_normal((1, 6, 1, 1)).astype(np.float32)))
    )


def relu6(emit, x):
    """A bound that binds, one of a tensor that is data already, and one before an addition."""
    y = emit("conv", op.nn.conv2d(x, weights(8, 6, 3, 3), padding=1))
    y = emit("relu6", op.clip(y, 0, 0.7))
    y = emit("pool", op.nn.max_pool2d(y, (3, 3), (2, 2), (1, 1, 1, 1)))
    y = emit("narrower", op.clip(y, 0.1, 0.5))
    left = emit("left", op.clip(emit("left_conv", op.nn.conv2d(y, weights(8, 8, 1, 1))), -0.3, 0.4))
    right = emit("right", op.nn.relu(emit("right_conv", op.nn.conv2d(y, weights(8, 8, 1, 1)))))
    return emit("last", op.nn.conv2d(emit("total", op.add(left, right)), weights(4, 8, 1, 1)))


def concatenated(emit, x):
    """Sides of different ranges, one of them used elsewhere, one moved before, one the input itself."""
    small = emit("small", op.nn.relu(emit("conv1", op.nn.conv2d(x, weights(4, 6, 1, 1)))))
    weight = relax.const(5 * weights(4, 6, 1, 1).value.numpy())
    large = emit("large", op.nn.conv2d(x, weight))
    pooled = emit("pooled", op.nn.max_pool2d(large, (3, 3), (1, 1), (1, 1, 1, 1)))
    joined = emit("joined", op.concat([small, pooled, x], axis=1))
    again = emit("again", op.concat([joined, small], axis=1))
    side = emit("side", op.nn.conv2d(small, weights(4, 4, 1, 1)))
    return emit("total", op.add(emit("last", op.nn.conv2d(again, weights(4, 18, 1, 1))), side))


def enlarged(emit, x):
    """Transposed convolutions, with and without groups, repetition and padding with a value."""
    y = emit("transposed", op.nn.conv2d_transpose(x, weights(6, 4, 4, 4), strides=2, padding=1))
    y = emit("grouped", op.nn.conv2d_transpose(y, weights(4, 3, 2, 2), groups=2, strides=2))
    y = emit("relu", op.nn.relu(y))
    y = emit(
        "resized",
        op.image.resize2d(
            y,
            (64, 64),
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        ),
    )
    y = emit("repeated", op.repeat(y, 2, 1))
    y = emit("padded", op.nn.pad(y, [0, 0, 0, 0, 1, 0, 0, 2], pad_value=0.5))
    return emit("last", op.nn.conv2d(y, weights(3, 12, 3, 3), strides=4))


def averaged(emit, x):
    """Depthwise convolution, averages over windows, and one over 12 positions, no power of two."""
    y = emit("depthwise", op.nn.conv2d(x, weights(6, 1, 3, 3), groups=6, padding=1))
    y = emit("relu", op.nn.relu(y))
    y = emit("average", op.nn.avg_pool2d(y, (3, 2), (2, 2), (0, 0, 1, 0), count_include_pad=True))
    y = emit("mean", op.mean(y, axis=[2, 3]))
    return emit("dense", op.matmul(y, weights(6, 5)))


GRAPHS = {
    "ReLU6 and other bounds": relu6,
    "concatenations": concatenated,
    "transposed convolution, resizing, repetition, padding": enlarged,
    "depthwise convolution, averages": averaged,
    "grouped convolution, max pool, reshape": pooled,
    "residual of two accumulators": both_sides_accumulate,
    "no ReLU, transposition, mean of channels": no_relu,
    "ReLU of the input, bias after a ReLU": relu_of_data_and_of_the_sum,
}


@pytest.mark.parametrize("scheme", ["fixed", "pow2"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_other_graphs(graph, scheme):
    module = module_of(GRAPHS[graph])
    images = GENERATOR.standard_normal((4, 6, 8, 8)).astype(np.float32)
    if scheme == "pow2" and graph == "no ReLU, transposition, mean of channels":
        images = np.abs(images)
    result = quantize(module, images, scheme=scheme)
    inputs = quantize_input(result, images)
    integers = evaluate(result, inputs)
    real = evaluate(module, images)
    error = integers * float(result["main"].attrs["output_scale"]) - real
    assert np.abs(error).mean() < (0.03 if scheme == "fixed" else 0.1) * real.std()
    np.testing.assert_array_equal(built(result, inputs), integers)


def named(module):
    return {binding.var.name: binding for block in module["main"].body.blocks for binding in block.bindings}


def test_what_a_concatenation_joins_has_its_scale():
    images = GENERATOR.standard_normal((4, 6, 8, 8)).astype(np.float32)
    module = quantize(module_of(concatenated), images)
    bindings, scales = named(module), module["main"].attrs["scales"]
    # `again` joins `joined`, which joins the others: all of one scale, and no rescaling but the input's.
    assert float(scales["small_requantized"]) == float(scales["large_requantized"])
    assert float(scales["data_requantized"]) == float(scales["large_requantized"])
    fields = [field.name for field in bindings["again"].value.args[0].fields]
    assert fields == ["joined", "small_requantized"]
    assert "joined_requantized" not in bindings


def test_a_tensor_in_two_concatenations_is_rescaled_for_one():
    def build(emit, x):
        small = emit("small", op.nn.conv2d(x, weights(4, 6, 1, 1)))
        larger = relax.const(5 * weights(4, 6, 1, 1).value.numpy())
        first = emit("first", op.concat([small, emit("large", op.nn.conv2d(x, larger))], 1))
        second = emit("second", op.concat([small, x], 1))
        return emit(
            "total",
            op.add(
                emit("left", op.nn.conv2d(first, weights(4, 8, 1, 1))),
                emit("right", op.nn.conv2d(second, weights(4, 10, 1, 1))),
            ),
        )

    images = GENERATOR.standard_normal((4, 6, 8, 8)).astype(np.float32)
    module = quantize(module_of(build), images)
    bindings, scales = named(module), module["main"].attrs["scales"]
    assert {"small_requantized", "small_requantized_1"} <= set(bindings)
    assert float(scales["small_requantized"]) != float(scales["small_requantized_1"])


@pytest.mark.parametrize("scheme", ["fixed", "pow2"])
def test_one_scale_for_all_data(scheme):
    module = quantize(
        digits().module, digits().calibration, scheme=scheme, data_scale="global", global_scale=6
    )
    real = 8 if scheme == "pow2" else 6
    scales = {float(scale) for scale in module["main"].attrs["scales"].values()}
    assert scales == {real / 128}
    assert float(module["main"].attrs["input_scale"]) == real / 128


SKIPPED = {
    "first": ([0], {"conv1"}),
    "last by name": (["dense"], {"dense"}),
    "from both ends": ((0, -1, "conv3"), {"conv1", "conv3", "dense"}),
    "one name": ("conv2", {"conv2"}),
}


@pytest.mark.parametrize("scheme", ["fixed", "pow2"])
@pytest.mark.parametrize("case", SKIPPED)
def test_a_skipped_layer_is_left_out_of_the_8_bits(case, scheme):
    choice, skipped = SKIPPED[case]
    module = quantize(digits().module, digits().calibration, scheme=scheme, skip_layers=choice)
    for name, binding in named(module).items():
        if name in ("conv1", "conv2", "conv3", "conv4", "dense"):
            types = {str(operand.ty.dtype) for operand in binding.value.args}
            assert types == ({"int32"} if name in skipped else {"int8"}), name
            weight = binding.value.args[1].value.numpy()
            assert (np.abs(weight).max() > 2**12) == (name in skipped)
    inputs = quantize_input(module, digits().images)
    scores = evaluate(module, inputs)
    assert digits().accuracy(scores) >= 0.98
    np.testing.assert_array_equal(built(module, inputs), scores)


def test_the_list_of_skipped_layers_is_not_changed():
    choice = [-1, 0]
    quantize(digits().module, digits().calibration, skip_layers=choice)
    assert choice == [-1, 0]


def test_calibration_keeps_no_tensor():
    """Of the largest tensors of a graph the range is kept, or a sample that does not grow with them."""
    module = module_of(relu_of_data_and_of_the_sum, shape=(1, 6, 256, 256))
    images = GENERATOR.standard_normal((3, 6, 256, 256)).astype(np.float32)
    whole = calibrate(module["main"], images, values=False)
    assert {values.size for values in whole.values()} == {2 * 3}
    assert whole["data"].max() == images.max()
    sampled = calibrate(module["main"], images, values=True)
    assert all(2**16 < values.size <= 3 * (2 + SAMPLED) for values in sampled.values())
    assert sampled["data"].max() == images.max()


@pytest.mark.parametrize("power_of_two", [False, True])
def test_scales_of_channels_by_the_maximum_are_those_of_each(power_of_two):
    options = {"low": -127, "high": 127, "power_of_two": power_of_two, "method": "maximum"}
    weight = GENERATOR.standard_normal((3, 5, 2, 2))
    scales = choose_channel_scales(weight, 1, **options)
    np.testing.assert_array_equal(scales, [choose_scale(weight[:, i], **options) for i in range(5)])


@pytest.mark.parametrize("data_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("scheme", ["fixed", "pow2"])
def test_a_channel_of_zero_weights_keeps_its_bias(scheme, data_dtype):
    def build(emit, x):
        values = np.ones((2, 6, 1, 1), np.float32)
        values[1] = 0
        y = emit("conv", op.nn.conv2d(x, relax.const(values)))
        return emit(
            "relu", op.nn.relu(emit("bias", op.add(y, relax.const(np.full((1, 2, 1, 1), 3, np.float32)))))
        )

    images = np.abs(GENERATOR.standard_normal((4, 6, 8, 8))).astype(np.float32)
    result = quantize(module_of(build), images, scheme=scheme, data_dtype=data_dtype, output_dtype=data_dtype)
    integers = evaluate(result, quantize_input(result, images))
    np.testing.assert_allclose(integers[:, 1] * float(result["main"].attrs["output_scale"]), 3, rtol=0.1)


def test_calibration_need_not_be_a_whole_batch():
    images = GENERATOR.standard_normal((4, 6, 8, 8)).astype(np.float32)
    module = module_of(relu_of_data_and_of_the_sum)

    def scale(calibration):
        return float(quantize(module, calibration)["main"].attrs["input_scale"])

    images[3, 0, 0, 0] = 100
    assert scale(images) == scale(np.concatenate([images[:3], images])) == pytest.approx(100 / 127)
    assert scale(images[:3]) < 0.1
    assert scale(images[3:]) == scale(images)


# --- scales ---------------------------------------------------------------------------------------------


@given(st.floats(2.0**-31, 2.0**30))
def test_fixed_point_is_within_half_a_step_of_the_ratio(ratio):
    multiplier, shift = fixed_point(ratio)
    assert multiplier.dtype == shift.dtype == np.int32
    assert 2**30 <= multiplier < 2**31
    assert abs(float(multiplier) * 2.0 ** (int(shift) - 31) - ratio) <= ratio * 2.0**-31


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.5, (2**30, 0)),
        (1.0, (2**30, 1)),
        (0.75, (3 * 2**29, 0)),
        (1 - 2.0**-40, (2**30, 1)),
        (2.0**-32, (2**30, -31)),
    ],
)
def test_fixed_point_of_exact_ratios(ratio, expected):
    assert tuple(map(int, fixed_point(ratio))) == expected


def test_scale_choices():
    values = np.array([-1.0, 0.25, 3.0])
    limits = {"low": -127, "high": 127}
    assert choose_scale(values, **limits, power_of_two=False, method="maximum") == 3 / 127
    assert choose_scale(values, **limits, power_of_two=True, method="maximum") == 2.0**-5
    assert choose_scale(np.zeros(3), **limits, power_of_two=True, method="maximum") == 1
    outlier = np.concatenate([np.linspace(-1, 1, 2001), [1.01]])
    assert choose_scale(outlier, **limits, power_of_two=True, method="maximum") == 2.0**-6
    assert choose_scale(outlier, **limits, power_of_two=True, method="least_error") == 2.0**-7
    channels = np.array([[127.0, 1], [0, 0], [-254, 2]])
    scales = choose_channel_scales(channels, 0, **limits, power_of_two=False, method="maximum")
    assert scales.tolist() == [1, 2, 2]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.booleans())
def test_the_maximum_saturates_nothing_and_wastes_no_octave(values, power_of_two):
    array = np.array(values)
    scale = choose_scale(array, low=-127, high=127, power_of_two=power_of_two, method="maximum")
    steps = np.abs(array / scale).max()
    assert steps <= 127 * (1 + 1e-12)
    assert steps >= 63.5 or not array.any()


# --- errors ---------------------------------------------------------------------------------------------

CALIBRATION = GENERATOR.standard_normal((4, 6, 8, 8)).astype(np.float32)
POSITIVE = np.abs(CALIBRATION)


def one(build, calibration=CALIBRATION, **options):
    return lambda: quantize(module_of(lambda emit, x: emit("y", build(x))), calibration, **options)


def convolved(x, **options):
    return op.nn.conv2d(x, weights(4, 6, 1, 1), **options)


def two_layers(emit, x):
    return emit("second", op.nn.conv2d(emit("first", convolved(x)), weights(4, 4, 1, 1)))


def huge_bias(emit, x):
    return emit("bias", op.add(emit("conv", convolved(x)), relax.const(np.float32(1e9))))


def named_twice():
    data = relax.Var("data", relax.TensorType((4, 6, 8, 8), "float32"))
    variables = [relax.DataflowVar("y", data.ty), relax.Var("y", data.ty)]
    bindings = [
        relax.VarBinding(variable, relax.BlockBuilder().normalize(op.nn.relu(source)))
        for variable, source in zip(variables, (data, variables[0]), strict=True)
    ]
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], variables[1])
    return tvm.IRModule({"main": relax.Function([data], body, data.ty)})


ERRORS = {
    "scheme": (one(convolved, scheme="affine"), "scheme 'affine' is none of fixed, pow2"),
    "data_dtype": (one(convolved, data_dtype="int16"), "data_dtype 'int16' is none of int8, uint8, mixed"),
    "rounding": (
        one(convolved, rounding="nearest"),
        "rounding of scheme 'fixed' 'nearest' is none of half_up",
    ),
    "rounding of pow2": (
        one(convolved, scheme="pow2", rounding="double"),
        "'double' is none of half_up, floor",
    ),
    "per_channel of pow2": (
        one(convolved, scheme="pow2", per_channel=True),
        "scheme 'pow2' has one weight scale",
    ),
    "output_dtype": (
        one(convolved, output_dtype="int4"),
        "output_dtype 'int4' is none of int8, uint8, int32",
    ),
    "data_scale": (
        one(convolved, data_scale="kl"),
        "data_scale 'kl' is none of maximum, least_error, global",
    ),
    "weight_scale": (one(convolved, weight_scale="kl"), "weight_scale 'kl' is none of"),
    "uint8 input with a sign": (
        one(convolved, data_dtype="uint8"),
        "'data' can be negative and cannot be uint8",
    ),
    "uint8 data with a sign": (
        lambda: quantize(module_of(two_layers), POSITIVE, data_dtype="uint8"),
        "'first' can be negative and cannot be uint8.*int8",
    ),
    "uint8 output with a sign": (
        one(convolved, output_dtype="uint8"),
        "'y' can be negative and cannot be uint8",
    ),
    "operator": (one(op.exp), "'y' is relax.exp, which is not quantised; what is: relax.add"),
    "weight not constant": (one(lambda x: op.nn.conv2d(x, x)), "weight of 'y' must be a constant"),
    "weight not a matrix": (
        one(lambda x: op.matmul(x, weights(6, 8, 4))),
        r"weight of 'y' has shape \(6, 8, 4\); it must be \(K, N\)",
    ),
    "name twice": (
        lambda: quantize(named_twice(), CALIBRATION),
        "two tensors are named 'y'; scales are kept by name",
    ),
    "layout": (
        one(lambda x: op.nn.conv2d(x, weights(1, 1, 8, 4), data_layout="NHWC", kernel_layout="HWIO")),
        "'y' must be NCHW by OIHW",
    ),
    "bias that broadcasts": (
        one(lambda x: op.add(x, relax.const(np.zeros((2, 1, 1, 1, 1), np.float32)))),
        "constant of 'y' changes the shape",
    ),
    "residual that broadcasts": (
        one(lambda x: op.add(x, op.mean(x, axis=[2], keepdims=True))),
        "adds tensors of different shapes",
    ),
    "bias beyond int32": (
        lambda: quantize(module_of(huge_bias), CALIBRATION),
        "'bias' can reach [0-9]+, beyond int32",
    ),
    "global_scale": (one(convolved, data_scale="global", global_scale=0), "global_scale 0.0 is not above 0"),
    "skipped name": (one(convolved, skip_layers=["conv"]), "no layer 'conv'; there are y"),
    "skipped index": (one(convolved, skip_layers=[1]), r"no layer 1; the 1 layers have indices -1\.\.0"),
    "pad of uint8": (
        one(lambda x: op.nn.pad(x, [0] * 6 + [1, 1], pad_value=-1), POSITIVE, data_dtype="uint8"),
        "'y' can be negative and cannot be uint8",
    ),
    "average of windows of different sizes": (
        one(lambda x: op.nn.avg_pool2d(x, (3, 3), (1, 1), (1, 1, 1, 1))),
        "'y' averages windows of different sizes",
    ),
    "transposed layout": (
        one(lambda x: op.nn.conv2d_transpose(x, weights(8, 4, 1, 1), data_layout="NHWC")),
        "'y' must be NCHW by IOHW",
    ),
    "calibration shape": (
        one(convolved, CALIBRATION[:, :3]),
        r"data of shape \(4, 3, 8, 8\) do not fit the input",
    ),
    "no calibration": (one(convolved, CALIBRATION[:0]), r"data of shape \(0, 6, 8, 8\) do not fit"),
    "input dtype": (
        lambda: quantize(module_of(lambda emit, x: emit("y", op.nn.relu(x)), dtype="int32"), CALIBRATION),
        "one float32 input",
    ),
    "no main": (
        lambda: quantize(tvm.IRModule({}), CALIBRATION),
        r"one Relax function, main; this one has \[\]",
    ),
    "input of a float module": (
        lambda: quantize_input(digits().module, digits().images),
        "has no attribute 'input_scale'",
    ),
    "method": (
        lambda: choose_scale(np.ones(1), low=-1, high=1, power_of_two=False, method="kl"),
        "scale method 'kl' is none of maximum, least_error",
    ),
    "ratio zero": (lambda: fixed_point(0.0), "must be positive"),
    "ratio too large": (lambda: fixed_point(2.0**31), "must be within"),
    "ratio too small": (lambda: fixed_point(2.0**-33), "must be within"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_option_or_the_binding(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()
