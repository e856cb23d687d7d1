"""What follows a tensor-core layer is computed in its kernel, up to the words of the next layer."""

import numpy as np
import pytest
from tvm import relax

from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.evaluate.instructions import wmma
from bench.flows.kernel import packed_kernels
from bench.flows.tensorcore import TensorCoreFlow
from bench.flows.tensorcore_epilogue import epilogue_of
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
    assert second.steps == (Bias(), Residual(), Requantize(to="int8"), Clip(-8, 7))
    assert (first.out_dtype, second.out_dtype) == ("int4", "int4")
    assert (third.steps, third.out_dtype) == ((Bias(),), "int32")


def test_words_go_from_kernel_to_kernel() -> None:
    transformed = TensorCoreFlow().transform(four_bit_convolution(ConvCase(batch=3, inputs=5, outputs=40)))
    values = {binding.var.name: binding.value for binding in bindings_of(transformed.mod["main"])}
    first, second, third = (layer.result for layer in transformed.report)
    assert values[second].args[0].name == first
    assert values[third].args[0].name == second
    # Of the first layer's result the residual addition reads the values, one by one.
    names = list(values)
    between = [values[name].op.name for name in names[names.index(first) + 1 : names.index(second)]]
    assert between == ["bitexact.unpack_int4", "relax.astype"]


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
