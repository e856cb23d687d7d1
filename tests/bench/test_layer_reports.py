"""Each layer is tensorised, or the report says why not; a graph with nothing for a target is refused."""

import numpy as np
import pytest
import tvm
from tvm import relax

from bench import transform
from bench.flows.flow import Unsupported
from bench.passes.lift_kernels import bindings_of
from tests.bench.integer_graphs import ConvCase, convolution, dense, four_bit_convolution, module_of

TAKEN = [
    ("tensorcore", "int8", "int8", "fixed", "wmma.mma m8n32k16 s8"),
    ("tensorcore", "uint8", "uint8", "fixed", "wmma.mma m8n32k16 u8"),
    ("hexagon", "uint8", "int8", "fixed", "vrmpyub"),
    ("hexagon", "uint8", "uint8", "fixed", "vrmpyub"),
    ("hexagon", "int8", "int8", "fixed", "vrmpybus"),
    ("hexagon", "int8", "uint8", "fixed", "vrmpybus"),
    ("vta", "int8", "int8", "pow2", "GEMM"),
]


@pytest.mark.parametrize(("target", "data", "weight", "scheme", "instruction"), TAKEN)
def test_a_layer_names_its_instruction(
    target: str, data: str, weight: str, scheme: str, instruction: str
) -> None:
    module = convolution(ConvCase(), data_dtype=data, weight_dtype=weight, scheme=scheme)
    layers = transform(module, target).report
    assert [(layer.name, layer.instruction, layer.why_not) for layer in layers] == [
        ("conv1", instruction, None),
        ("conv2", instruction, None),
    ]
    assert layers[0].shapes == "3x5x6x6 * 7x5x3x3 s1 p1"


REFUSED = [
    ("tensorcore", ConvCase(inputs=6, outputs=6, groups=2), "int8", "fixed", "it has 2 groups"),
    ("vta", ConvCase(dilation=(2, 2)), "int8", "pow2", "its dilation is (2, 2)"),
]


@pytest.mark.parametrize(("target", "case", "data", "scheme", "reason"), REFUSED)
def test_a_layer_that_is_not_taken_says_why_and_stays(
    target: str, case: ConvCase, data: str, scheme: str, reason: str
) -> None:
    transformed = transform(convolution(case, data_dtype=data, scheme=scheme), target)
    first, second = transformed.report
    assert first.instruction is None
    assert reason in str(first.why_not)
    assert second.instruction is not None
    calls = [binding.value for binding in bindings_of(transformed.mod["main"])]
    operators = [call.op for call in calls if isinstance(call, relax.Call)]
    assert tvm.ir.Op.get("relax.nn.conv2d") in operators


UNSUPPORTED = [
    ("tensorcore", convolution(ConvCase(), weight_dtype="int16"), "conv1, conv2: its weight is int16"),
    ("hexagon", four_bit_convolution(ConvCase()), "its data is int4; the kernel takes int8 or uint8"),
    ("vta", convolution(ConvCase()), "bitexact.requantize follows"),
    ("vta", dense(2, 8, 4), "its int32 result is used"),
]


@pytest.mark.parametrize(("target", "module", "reason"), UNSUPPORTED)
def test_a_graph_with_nothing_for_the_target_is_unsupported(
    target: str, module: tvm.IRModule, reason: str
) -> None:
    with pytest.raises(Unsupported, match="takes none of its layers") as caught:
        transform(module, target)
    assert reason in str(caught.value)


def test_a_weight_that_is_computed_is_not_taken() -> None:
    def build(emit, data, weight):  # type: ignore[no-untyped-def]
        return emit("conv", relax.op.nn.conv2d(data, weight, out_dtype="int32"))

    module = module_of({"data": ((1, 4, 4, 4), "int8"), "weight": ((4, 4, 1, 1), "int8")}, build)
    with pytest.raises(Unsupported, match="conv: its weight is not a constant"):
        transform(module, "tensorcore")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((tvm.tirx.Var("n", "int64"), 4), "symbolic extent n"), ((0, 4), "an extent of 0")],
    ids=["symbolic", "empty"],
)
def test_shapes_must_be_static_and_not_empty(shape: tuple, reason: str) -> None:  # type: ignore[type-arg]
    module = module_of({"data": (shape, "int8")}, lambda emit, data: emit("sum", relax.op.add(data, data)))
    with pytest.raises(Unsupported, match=reason):
        transform(module, "vta")


def test_a_float_graph_is_to_be_quantised_first() -> None:
    module = module_of(
        {"data": ((1, 4), "float32")}, lambda emit, data: emit("sum", relax.op.add(data, data))
    )
    with pytest.raises(Unsupported, match="quantise it first"):
        transform(module, "tensorcore")


def test_an_unknown_target_names_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown target 'gpu': one of tensorcore, hexagon, vta"):
        transform(dense(1, 4, 4), "gpu")


def test_vta_takes_the_chain_behind_a_layer_into_its_kernel() -> None:
    transformed = transform(convolution(ConvCase(), scheme="pow2"), "vta")
    kernel = transformed.mod[str(transformed.report[0].kernel)]
    operators = [
        binding.value.op.name for binding in bindings_of(kernel) if isinstance(binding.value, relax.Call)
    ]
    assert operators == [
        "relax.nn.conv2d",
        "relax.add",
        "relax.add",
        "relax.right_shift",
        "relax.clip",
        "relax.astype",
    ]
    assert transformed.report[0].result == "conv1_requantized"


def test_layers_that_are_not_integers_are_reported_with_the_others() -> None:
    rng = np.random.default_rng(0)

    def build(emit, data):  # type: ignore[no-untyped-def]
        weight = relax.const(rng.standard_normal((4, 4, 1, 1)).astype(np.float32))
        first = emit("first", relax.op.nn.conv2d(data, weight))
        integer = emit("integer", relax.op.astype(first, "int8"))
        weight = relax.const(rng.integers(-8, 8, (4, 4, 1, 1), dtype=np.int8))
        second = emit("second", relax.op.nn.conv2d(integer, weight, out_dtype="int32"))
        return emit("narrow", relax.op.nn.conv2d(integer, weight, out_dtype="int8")), second

    module = module_of({"data": ((1, 4, 4, 4), "float32")}, lambda emit, data: build(emit, data)[1])
    first, second, narrow = transform(module, "tensorcore").report
    assert first.why_not == "its data is float32; the kernel takes int8 or uint8 or int4 or uint4"
    assert second.instruction == "wmma.mma m8n32k16 s8"
    assert narrow.why_not == "its result is int8; the kernels accumulate in int32"


def test_a_convolution_in_another_layout_is_read_where_the_target_can() -> None:
    def build(emit, data):  # type: ignore[no-untyped-def]
        weight = emit(
            "weight", relax.op.permute_dims(relax.const(np.ones((8, 4, 1, 1), np.uint8)), [2, 3, 0, 1])
        )
        layouts = {"data_layout": "HWNC", "kernel_layout": "HWOI"}
        return emit("conv", relax.op.nn.conv2d(data, weight, out_dtype="int32", **layouts))

    module = module_of({"data": ((4, 4, 1, 4), "uint8")}, build)
    assert transform(module, "tensorcore").report[0].instruction == "wmma.mma m8n32k16 u8"
    with pytest.raises(
        Unsupported, match="conv: its layout is HWNC, which the passes of hexagon do not read"
    ):
        transform(module, "hexagon")


def test_two_tensors_of_one_name_are_refused() -> None:
    data = relax.Var("data", relax.TensorType((1, 4), "int8"))
    first, second = relax.DataflowVar("x", data.ty), relax.Var("x", data.ty)
    bindings = [
        relax.VarBinding(first, relax.op.nn.relu(data)),
        relax.VarBinding(second, relax.op.nn.relu(first)),
    ]
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], second)
    module = tvm.IRModule({"main": relax.Function([data], body, data.ty)})
    with pytest.raises(Unsupported, match="two tensors are named x"):
        transform(relax.transform.Normalize()(module), "tensorcore")
