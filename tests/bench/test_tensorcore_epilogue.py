"""What follows a tensor-core layer is computed in its kernel, up to the words of the next layer."""

import numpy as np
import pytest
import tvm
from tvm import relax

from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.evaluate.instructions import wmma
from bench.flows.kernel import packed_kernels
from bench.flows.tensorcore import TensorCoreFlow
from bench.flows.tensorcore_epilogue import epilogue_of
from bench.flows.transformed import Transformed
from bench.operators import requantize
from bench.passes import quantize, quantize_input
from bench.passes.lift_kernels import bindings_of
from kernels.tensorcore.epilogue import Bias, Clip, Relu, Requantize, Residual
from tests.bench.integer_graphs import ConvCase, convolution, four_bit_convolution, full_range, module_of
from tests.bench.small_networks import small_resnet

op = relax.op


def epilogues(module):  # type: ignore[no-untyped-def]
    return [epilogue_of(kernel) for kernel in packed_kernels(TensorCoreFlow().transform(module))]


def test_a_chain_of_four_bit_layers_is_a_chain_of_kernels() -> None:
    first, second, third = epilogues(four_bit_convolution(ConvCase(batch=3, inputs=5, outputs=40)))
    assert first.steps == (Bias(), Relu(), Requantize(to="int8"), Clip(-8, 7))
    assert second.steps == (Bias(), Residual("int4"), Requantize(to="int8"), Clip(-8, 7))
    assert (first.out_dtype, second.out_dtype) == ("int4", "int4")
    assert (third.steps, third.out_dtype) == ((Bias(),), "int32")


def test_words_go_from_kernel_to_kernel() -> None:
    transformed = TensorCoreFlow().transform(four_bit_convolution(ConvCase(batch=3, inputs=5, outputs=40)))
    values = {binding.var.name: binding.value for binding in bindings_of(transformed.mod["main"])}
    first, second, third = (layer.result for layer in transformed.report)
    assert values[second].args[0].name == first
    assert values[third].args[0].name == second
    # The residual addition reads the words, too.
    assert sum(argument.same_as(values[second].args[0]) for argument in values[second].args) == 2
    assert between(transformed, first, second) == []


def between(transformed: Transformed, first: str, last: str) -> list[str]:
    """The operators of the host between two bindings of a transformed graph."""
    bindings = bindings_of(transformed.mod["main"])
    names = [binding.var.name for binding in bindings]
    inner = [binding.value for binding in bindings[names.index(first) + 1 : names.index(last)]]
    return [value.op.name for value in inner if not isinstance(value.op, relax.GlobalVar)]


# What a layer adds: the type of the tensor, what makes int32 of it, and the step that this becomes.
def rescaled(emit, term):  # type: ignore[no-untyped-def]
    factors = relax.const(np.int32(1 << 30)), relax.const(np.int32(-2))
    return emit("aligned", requantize(emit("int32", op.astype(term, "int32")), *factors, out_dtype="int32"))


def rescaled_by_channel(emit, term):  # type: ignore[no-untyped-def]
    factors = (relax.const(np.arange(32, dtype=np.int32) + (1 << 30)), relax.const(np.full(32, 1, np.int32)))
    wide = emit("int32", op.astype(term, "int32"))
    return emit("aligned", requantize(wide, *factors, axis=1, out_dtype="int32"))


def rescaled_otherwise(emit, term):  # type: ignore[no-untyped-def]
    factors = relax.const(np.int32(1 << 30)), relax.const(np.int32(-2))
    wide = emit("int32", op.astype(term, "int32"))
    return emit("aligned", requantize(wide, *factors, out_dtype="int32", rounding="floor"))


def rescaled_and_read_twice(emit, term):  # type: ignore[no-untyped-def]
    wide = emit("int32", op.astype(term, "int32"))
    return emit("aligned", op.multiply(emit("aligned1", op.add(wide, wide)), wide))


BY_A_NUMBER = Requantize(1 << 30, -2, to="int32")
TERMS = {
    "int4, as it is": (
        "int4",
        lambda emit, term: emit("int32", op.astype(term, "int32")),
        Residual("int4"),
        [],
    ),
    "int4, rescaled": ("int4", rescaled, Residual("int4", BY_A_NUMBER), []),
    "uint4, rescaled": ("uint4", rescaled, Residual("uint4", BY_A_NUMBER), []),
    "int8, rescaled by channel": (
        "int8",
        rescaled_by_channel,
        Residual("int8", Requantize(to="int32")),
        [],
    ),
    "uint8, rescaled": ("uint8", rescaled, Residual("uint8", BY_A_NUMBER), []),
    "int4, rounded otherwise": (
        "int4",
        rescaled_otherwise,
        Residual(),
        ["bitexact.unpack_int4", "relax.astype", "bitexact.requantize"],
    ),
    "int4, read twice": (
        "int4",
        rescaled_and_read_twice,
        Residual(),
        ["bitexact.unpack_int4", "relax.astype", "relax.add", "relax.multiply"],
    ),
}


@pytest.mark.parametrize("case", TERMS.values(), ids=TERMS)
def test_a_residual_is_converted_in_the_kernel_that_adds_it(case) -> None:  # type: ignore[no-untyped-def]
    dtype, convert, step, on_host = case
    rng = np.random.default_rng(3)
    held = {"int4": "int8", "uint4": "uint8"}.get(dtype, dtype)
    low, high = {"int4": (-8, 7), "uint4": (0, 15)}.get(dtype, (0, 15))
    weights = [rng.integers(low, high, (32, inputs, 1, 1), endpoint=True).astype(held) for inputs in (5, 32)]

    def build(emit, data):  # type: ignore[no-untyped-def]
        def layer(name, x, values):  # type: ignore[no-untyped-def]
            weight = emit(f"{name}_weight", op.astype(relax.const(values), dtype))
            return emit(name, op.nn.conv2d(x, weight, out_dtype="int32"))

        factors = relax.const(np.int32(1 << 30)), relax.const(np.int32(-3))
        first = layer("conv1", emit("narrow", op.astype(data, dtype)), weights[0])
        first = emit("first", requantize(first, *factors, out_dtype=dtype))
        return emit("sum", op.add(layer("conv2", first, weights[1]), convert(emit, first)))

    module = module_of({"data": ((2, 5, 4, 4), held)}, build)
    transformed = TensorCoreFlow(tuning="").transform(module)
    _, second = packed_kernels(transformed)
    assert epilogue_of(second).steps == (step,)
    one, two = (layer.result for layer in transformed.report)
    assert between(transformed, one, two) == on_host
    data = full_range(rng, (2, 5, 4, 4), held)
    result = list(evaluate_all(transformed.mod, data, overrides=wmma.OVERRIDES).values())[-1]
    np.testing.assert_array_equal(result, evaluate_all(module, data)["sum"])


def test_eight_bit_layers_are_finished_in_their_kernels() -> None:
    first, second = epilogues(convolution(ConvCase()))
    assert (first.steps, first.out_dtype) == ((Bias(), Requantize(to="int8")), "int8")
    assert (second.steps, second.out_dtype) == ((Requantize(to="int8"),), "int8")


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_unsigned_words(dtype: str) -> None:
    first = epilogues(four_bit_convolution(ConvCase(), dtype=dtype))[0]
    assert first.out_dtype == dtype
    held, ends = {"int4": ("int8", (-8, 7)), "uint4": ("uint8", (0, 15))}[dtype]
    assert first.steps[-2:] == (Requantize(to=held), Clip(*ends))


def rest(emit, name, data, conv):  # type: ignore[no-untyped-def]
    """Operators behind a convolution of which the kernel takes none, or only the first."""
    one = relax.const(np.int32(1 << 30)), relax.const(np.int32(-4))
    if name == "floor":
        return emit("floor", requantize(conv, *one, rounding="floor"))
    if name == "scalar bias":
        return emit("bias", op.add(conv, relax.const(np.int32(3))))
    if name == "shift":
        return emit("shift", op.right_shift(emit("relu", op.nn.relu(conv)), relax.const(np.int32(3))))
    if name == "two readers":
        return emit("sum", op.add(emit("relu", op.nn.relu(conv)), conv))
    if name == "one scale":
        return emit("scaled", requantize(conv, *one, zero_point=3))
    return emit("twice", op.add(emit("int32", op.astype(data, "int32")), conv))


RESTS = [
    ("floor", (), "int32"),
    ("scalar bias", (), "int32"),
    ("shift", (Relu(),), "int32"),
    ("two readers", (), "int32"),
    ("one scale", (Requantize(1 << 30, -4, 3, "int8"),), "int8"),
    ("a tensor that was not packed", (Residual(),), "int32"),
]


@pytest.mark.parametrize(("name", "steps", "out_dtype"), RESTS, ids=[case[0] for case in RESTS])
def test_what_a_kernel_cannot_do_stays_on_the_host(name: str, steps, out_dtype: str) -> None:  # type: ignore[no-untyped-def]
    weight = full_range(np.random.default_rng(0), (5, 5, 3, 3), "int8")

    def build(emit, data):  # type: ignore[no-untyped-def]
        conv = emit("conv", op.nn.conv2d(data, relax.const(weight), padding=1, out_dtype="int32"))
        return rest(emit, name, data, conv)

    module = module_of({"data": ((2, 5, 4, 4), "int8")}, build)
    flow = TensorCoreFlow()
    transformed = flow.transform(module)
    (epilogue,) = (epilogue_of(kernel) for kernel in packed_kernels(transformed))
    assert (epilogue.steps, epilogue.out_dtype) == (steps, out_dtype)
    data = full_range(np.random.default_rng(1), (2, 5, 4, 4), "int8")
    result = list(evaluate_all(transformed.mod, data, overrides=wmma.OVERRIDES).values())[-1]
    np.testing.assert_array_equal(result, list(evaluate_all(module, data).values())[-1])


def test_without_fusion_a_kernel_computes_its_layer_alone() -> None:
    transformed = TensorCoreFlow(fuse=False).transform(four_bit_convolution(ConvCase()))
    assert all(epilogue_of(kernel).is_empty for kernel in packed_kernels(transformed))
    assert [layer.result for layer in transformed.report] == ["conv1", "conv2", "conv3"]


def test_an_addition_that_two_layers_lead_to_belongs_to_one_of_them() -> None:
    rng = np.random.default_rng(0)
    weights = [relax.const(full_range(rng, (5, 5, 1, 1), "int8")) for _ in range(2)]

    def build(emit, data):  # type: ignore[no-untyped-def]
        sides = [emit(f"conv{n}", op.nn.conv2d(data, w, out_dtype="int32")) for n, w in enumerate(weights)]
        return emit("sum", op.add(*sides))

    module = module_of({"data": ((2, 5, 4, 4), "int8")}, build)
    transformed = TensorCoreFlow().transform(module)
    steps = [epilogue_of(kernel).steps for kernel in packed_kernels(transformed)]
    assert sorted(map(len, steps)) == [0, 1]
    assert (Residual(),) in steps
    data = full_range(rng, (2, 5, 4, 4), "int8")
    result = list(evaluate_all(transformed.mod, data, overrides=wmma.OVERRIDES).values())[-1]
    np.testing.assert_array_equal(result, evaluate_all(module, data)["sum"])


def test_a_whole_resnet_of_four_bits_is_finished_in_its_kernels() -> None:
    workload = small_resnet(18)
    module = quantize(workload.module, workload.calibration, bits=4, eight_bit_layers=[0])
    transformed = TensorCoreFlow().transform(module)
    data = quantize_input(module, workload.images)
    original = evaluate_all(module, data)
    evaluated = evaluate_all(transformed.mod, data, overrides=wmma.OVERRIDES)
    assert find_pass_mismatch(transformed, evaluated, original) is None
    kernels = packed_kernels(transformed)
    assert len(kernels) == len(transformed.report) == 21
    # All but three shortcuts, which end in the addition of another kernel, and the classifier.
    assert sum(epilogue_of(kernel).out_dtype == "int4" for kernel in kernels) == 17
    # From the first layer to the last convolution nothing changes a layout, and the host only pools.
    layers = [layer.result for layer in transformed.report]
    assert between(transformed, layers[0], layers[-2]) == [
        "bitexact.unpack_int4",
        "relax.nn.max_pool2d",
        "bitexact.pack_int4",
    ]


def test_a_resnet_of_eight_bits_stays_packed_from_its_first_to_its_last_convolution() -> None:
    workload = small_resnet(18)
    transformed = TensorCoreFlow().transform(quantize(workload.module, workload.calibration))
    layers = [layer.result for layer in transformed.report]
    assert between(transformed, layers[0], layers[-2]) == ["relax.nn.max_pool2d"]


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_four_bits_are_pooled_in_the_layout_of_the_layers(dtype: str) -> None:
    held = {"int4": "int8", "uint4": "uint8"}[dtype]
    low, high = {"int4": (-8, 7), "uint4": (0, 15)}[dtype]
    rng = np.random.default_rng(5)
    weights = [rng.integers(low, high, (9, 9, 3, 3), endpoint=True).astype(held) for _ in range(2)]

    def build(emit, data):  # type: ignore[no-untyped-def]
        def layer(name, x, values):  # type: ignore[no-untyped-def]
            weight = emit(f"{name}_weight", op.astype(relax.const(values), dtype))
            return emit(name, op.nn.conv2d(x, weight, padding=1, out_dtype="int32"))

        factors = relax.const(np.int32(1 << 30)), relax.const(np.int32(-6))
        first = layer("conv1", emit("narrow", op.astype(data, dtype)), weights[0])
        first = emit("first", requantize(first, *factors, out_dtype=dtype))
        pooled = emit("pooled", op.nn.max_pool2d(first, (3, 3), strides=(2, 2), padding=(1, 1)))
        return layer("conv2", pooled, weights[1])

    module = module_of({"data": ((2, 9, 7, 7), held)}, build)
    transformed = TensorCoreFlow(tuning="").transform(module)
    one, two = (layer.result for layer in transformed.report)
    assert between(transformed, one, two) == [
        "bitexact.unpack_int4",
        "relax.nn.max_pool2d",
        "bitexact.pack_int4",
    ]
    data = full_range(rng, (2, 9, 7, 7), held)
    original = evaluate_all(module, data)
    evaluated = evaluate_all(transformed.mod, data, overrides=wmma.OVERRIDES)
    assert find_pass_mismatch(transformed, evaluated, original) is None
    assert transformed.correspondence("pooled_words") is not None


def test_a_grouped_convolution_keeps_its_layout_and_says_so() -> None:
    rng = np.random.default_rng(6)
    plain, grouped, depthwise = (
        full_range(rng, shape, "int8") for shape in ((8, 8, 1, 1), (8, 2, 3, 3), (8, 1, 3, 3))
    )

    def build(emit, data):  # type: ignore[no-untyped-def]
        factors = relax.const(np.int32(1 << 30)), relax.const(np.int32(-8))

        def layer(name, x, values, **window):  # type: ignore[no-untyped-def]
            conv = emit(name, op.nn.conv2d(x, relax.const(values), out_dtype="int32", **window))
            return emit(f"{name}_narrow", requantize(conv, *factors))

        x = layer("grouped", layer("plain", data, plain), grouped, groups=4, padding=1)
        return layer("depthwise", x, depthwise, groups=8)

    transformed = TensorCoreFlow(tuning="").transform(module_of({"data": ((2, 8, 6, 6), "int8")}, build))
    assert {layer.name: layer.why_not for layer in transformed.report} == {
        "plain": None,
        "grouped": "it has 4 groups; the kernels take one",
        "depthwise": "it has 8 groups; the kernels take one",
    }
    convolutions = [
        str(binding.value.attrs.data_layout)
        for binding in bindings_of(transformed.mod["main"])
        if isinstance(binding.value, relax.Call) and binding.value.op == tvm.ir.Op.get("relax.nn.conv2d")
    ]
    assert convolutions == ["NCHW", "NCHW"]
