"""W4A4: accuracy, types, skipped layers, and the same values after the tensor-core passes."""

from functools import cache

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench import workloads
from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate, evaluate_all
from bench.evaluate.instructions import wmma
from bench.passes import quantize, quantize_input
from bench.passes.packing import GraphPacker
from tests.bench.small_networks import small_resnet
from tests.bench.test_hwnc_padding import transform

# Options, and the share of right answers measured on the 256 test images (docs/quantisation.md).
MEASURED = {
    "int4": ({}, 248),
    "int4, first layer in 8 bits": ({"eight_bit_layers": [0]}, 250),
    "int4, first and last in 8 bits": ({"eight_bit_layers": [0, -1]}, 248),
    "int4, least error": ({"data_scale": "least_error", "weight_scale": "least_error"}, 243),
    "uint4 by int4": ({"data_dtype": "uint8"}, 252),
    "uint4 by int4, first layer in 8 bits": ({"data_dtype": "uint8", "eight_bit_layers": [0]}, 253),
    "pow2": ({"scheme": "pow2"}, 245),
}


@cache
def digits():
    return workloads.load("digits")


@cache
def quantized(case: str) -> tvm.IRModule:
    return quantize(digits().module, digits().calibration, bits=4, **MEASURED[case][0])


@pytest.mark.parametrize("case", MEASURED)
def test_accuracy(case: str) -> None:
    workload, module = digits(), quantized(case)
    right = round(256 * workload.accuracy(evaluate(module, quantize_input(module, workload.images))))
    assert right >= 0.9 * 256
    # The float network decides scales: another BLAS may move a few images.
    assert right >= MEASURED[case][1] - 3


def types_of_layers(module: tvm.IRModule) -> list[tuple[str, str]]:
    calls = [binding.value for block in module["main"].body.blocks for binding in block.bindings]
    layers = [
        call
        for call in calls
        if isinstance(call, relax.Call) and call.op.name in ("relax.nn.conv2d", "relax.matmul")
    ]
    assert {str(layer.ty.dtype) for layer in layers} == {"int32"}
    return [(str(layer.args[0].ty.dtype), str(layer.args[1].ty.dtype)) for layer in layers]


TYPES = {
    "int4": [("int4", "int4")] * 5,
    "int4, first layer in 8 bits": [("int8", "int8")] + [("int4", "int4")] * 4,
    "int4, first and last in 8 bits": [("int8", "int8")] + [("int4", "int4")] * 3 + [("int8", "int8")],
    "uint4 by int4": [("uint4", "int4")] * 5,
    "uint4 by int4, first layer in 8 bits": [("uint8", "int8")] + [("uint4", "int4")] * 4,
    "pow2": [("int4", "int4")] * 5,
}


@pytest.mark.parametrize("case", TYPES)
def test_types(case: str) -> None:
    module = quantized(case)
    assert types_of_layers(module) == TYPES[case]
    # What comes in has 8 bits, whatever the layers multiply.
    assert str(module["main"].params[0].ty.dtype) == ("uint8" if case.startswith("uint4") else "int8")
    assert int(module["main"].attrs["bits"]) == 4


def test_weights_and_data_use_the_whole_range() -> None:
    tensors = evaluate_all(quantized("int4"), quantize_input(quantized("int4"), digits().images))
    for name in ("conv2", "conv3", "conv4", "dense"):
        weight = tensors[f"{name}_weight"].astype(int)
        assert weight.min() in (-8, -7)
        assert weight.max() in (6, 7)
    assert {int(tensors[f"relu{number}_requantized"].astype(int).max()) for number in (1, 2, 3, 4)} == {7}


def test_every_quantised_tensor_is_close_to_its_float_one() -> None:
    workload, module = digits(), quantized("int4")
    floats = evaluate_all(workload.module, workload.images)
    floats["data"] = workload.images
    integers = evaluate_all(module, quantize_input(module, workload.images))
    scales = module["main"].attrs["scales"]
    assert {"data_requantized", "relu1_requantized", "pool_requantized"} <= set(scales)
    for name, scale in scales.items():
        real = floats[name.removesuffix("_requantized")]
        error = np.abs(integers[name].astype(float) * float(scale) - real)
        assert error.mean() < 0.35 * real.std(), name


@pytest.mark.parametrize(
    "case", ["int4", "int4, first layer in 8 bits", "int4, first and last in 8 bits", "pow2"]
)
@pytest.mark.parametrize("batch", [8, 13])
def test_the_passes_of_tensor_cores_keep_every_tensor(case: str, batch: int) -> None:
    workload = workloads.load("digits", batch=batch)
    module = quantize(workload.module, workload.calibration, bits=4, **MEASURED[case][0])
    images = quantize_input(module, workload.images)
    transformed = transform(module)
    original = evaluate_all(module, images)
    evaluated = evaluate_all(transformed.mod, images, overrides=wmma.OVERRIDES)
    assert find_pass_mismatch(transformed, evaluated, original) is None
    instructions = {
        ("int4", "int4"): "wmma.mma m8n8k32 s4",
        ("int8", "int8"): "wmma.mma m8n32k16 s8",
    }
    assert [layer.instruction for layer in transformed.report] == [
        instructions[types] for types in TYPES[case]
    ]
    # A difference of one is seen, in words too.
    entry = next(entry for entry in transformed.correspondences if entry.transformed.endswith("_words"))
    broken = {**evaluated, entry.transformed: evaluated[entry.transformed] ^ 1}
    mismatch = find_pass_mismatch(transformed, broken, original)
    assert mismatch is not None
    assert mismatch.binding == entry.transformed
    assert abs(mismatch.device - mismatch.reference) == 1


def test_tvm_builds_the_layers_on_the_host_to_the_same_integers() -> None:
    module = quantize(digits().module, digits().calibration, bits=4)
    plain = GraphPacker(module, lambda *_: "not taken").run()
    images = quantize_input(module, digits().images)
    machine = relax.VirtualMachine(relax.build(plain, "llvm"), tvm.cpu())
    result = machine["main"](tvm.runtime.tensor(images)).numpy()
    np.testing.assert_array_equal(result, evaluate(module, images))


def test_a_resnet_in_four_bits() -> None:
    workload = small_resnet(18, batch=2)
    integer = quantize(workload.module, workload.calibration, bits=4, eight_bit_layers=[0])
    assert types_of_layers(integer) == [("int8", "int8")] + [("int4", "int4")] * 20
    transformed = transform(integer)
    data = quantize_input(integer, workload.images)
    original = evaluate_all(integer, data)
    evaluated = evaluate_all(transformed.mod, data, overrides=wmma.OVERRIDES)
    assert find_pass_mismatch(transformed, evaluated, original) is None
    assert np.std(original["dense"]) > 1
    assert all(layer.instruction for layer in transformed.report)


@pytest.mark.parametrize("device", ["sim", pytest.param("host", marks=pytest.mark.slow)])
def test_four_and_eight_bits_on_a_device(device: str) -> None:
    workload = workloads.load("digits", batch=3)
    module = quantize(workload.module, workload.calibration, bits=4, eight_bit_layers=["conv1"])
    verdict = bench.run(module, quantize_input(module, workload.images), "tensorcore", device)
    assert (verdict.verdict, verdict.findings) == ("exact", [])
    assert [layer.instruction for layer in verdict.layers] == [
        "wmma.mma m8n32k16 s8",
        *["wmma.mma m8n8k32 s4"] * 4,
    ]
    if device == "sim":
        assert all(layer.count for layer in verdict.layers)


ERRORS = [
    ({"bits": 2}, "bits 2 is none of 8, 4"),
    ({"bits": 4, "eight_bit_layers": [5]}, "eight_bit_layers: no layer 5; the 5 layers"),
    ({"bits": 4, "output_dtype": "int4"}, "output_dtype 'int4' is none of"),
]


@pytest.mark.parametrize(("options", "message"), ERRORS, ids=[case[1] for case in ERRORS])
def test_errors(options, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        quantize(digits().module, digits().calibration, **options)


def test_a_tensor_that_needs_a_sign_is_not_unsigned() -> None:
    workload = small_resnet(18)
    with pytest.raises(ValueError, match="'data' can be negative and cannot be uint8"):
        quantize(workload.module, -workload.calibration, bits=4, data_dtype="uint8")
