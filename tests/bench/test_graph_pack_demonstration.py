"""The packed and the fused graph of the known demonstration: 3 to 36 channels on 4x4, conv, bias, ReLU.

The printout is that of TVM's Relay with the notebook's graph packing. Relax has no fixed_point_multiply: its
place is taken by bitexact.requantize (int32) and a right shift (int64); and there is no stop_fusion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm import relax

from bench.evaluate import evaluate
from bench.operators import requantize
from bench.passes import float_ends, fuse_vta, graph_pack, quantize
from bench.passes.lift_kernels import bindings_of
from tests.bench.integer_graphs import full_range, module_of

# number, operator, operands (numbers; "data" and letters are the input and constants), shape, dtype
PRINTOUT = """
0  multiply     data    1,3,4,4          float32
1  round        0       1,3,4,4          float32
2  clip         1       1,3,4,4          float32
3  astype       2       1,3,4,4          int8
4  nn.pad       3       1,16,4,4         int8
5  reshape      4       1,1,1,16,4,4     int8
6  nn.pad       W       48,16,3,3        int8
7  reshape      6       3,16,1,16,3,3    int8
8  permute_dims 5       1,1,4,4,1,16     int8
9  permute_dims 7       3,1,3,3,16,16    int8
10 nn.pad       B       48,1,1           int32
11 reshape      10      3,16,1,1,1       int32
12 permute_dims 11      3,1,1,1,16       int32
13 nn.conv2d    8,9     1,3,4,4,1,16     int32
14 broadcast_to 12      3,1,1,1,16       int32
15 add          13,14   1,3,4,4,1,16     int32
16 requantize   15      1,3,4,4,1,16     int32
17 nn.pad       R       48,1,1           int32
18 reshape      17      3,16,1,1,1       int32
19 permute_dims 18      3,1,1,1,16       int32
20 astype       16      1,3,4,4,1,16     int32
21 broadcast_to 19      3,1,1,1,16       int32
22 add          20,21   1,3,4,4,1,16     int32
23 nn.relu      22      1,3,4,4,1,16     int32
24 astype       23      1,3,4,4,1,16     int64
25 right_shift  24      1,3,4,4,1,16     int64
26 clip         25      1,3,4,4,1,16     int64
27 astype       26      1,3,4,4,1,16     int32
28 astype       27      1,3,4,4,1,16     int8
30 astype       28      1,3,4,4,1,16     float32
31 multiply     30      1,3,4,4,1,16     float32
"""
UNPACKED = [
    ("permute_dims", (1, 1, 3, 16, 4, 4)),
    ("reshape", (1, 48, 4, 4)),
    ("strided_slice", (1, 36, 4, 4)),
]


@dataclass(frozen=True)
class Node:
    """An operator with its operands: a graph in which the order of independent bindings does not matter."""

    operator: str
    shape: tuple[int, ...]
    dtype: str
    operands: tuple[Node, ...] = ()


def printed() -> Node:
    """The graph of the printout."""
    leaves = {
        "data": Node("input", (1, 3, 4, 4), "float32"),
        "W": Node("constant", (36, 3, 3, 3), "int8"),
        "B": Node("constant", (36, 1, 1), "int32"),
        "R": Node("constant", (36, 1, 1), "int32"),
    }
    nodes: dict[str, Node] = dict(leaves)
    for line in PRINTOUT.strip().splitlines():
        number, operator, operands, shape, dtype = line.split()
        arguments = tuple(nodes[operand] for operand in operands.split(","))
        nodes[number] = Node(operator, tuple(map(int, shape.split(","))), dtype, arguments)
    return nodes["31"]


def node_of(expression: relax.Expr, producers: dict[relax.Var, relax.Expr]) -> Node:
    """The graph of an expression; scalar constants are left out."""
    shape = tuple(int(extent) for extent in expression.ty.shape)
    dtype = str(expression.ty.dtype)
    if isinstance(expression, relax.Var) and expression in producers:
        return node_of(producers[expression], producers)
    if isinstance(expression, relax.Call):
        tensors = [argument for argument in expression.args if isinstance(argument.ty, relax.TensorType)]
        operands = [node_of(each, producers) for each in tensors if len(each.ty.shape)]
        name = expression.op.name.removeprefix("relax.").removeprefix("bitexact.")
        return Node(name, shape, dtype, tuple(operands))
    return Node("input" if isinstance(expression, relax.Var) else "constant", shape, dtype)


def demonstration() -> tvm.IRModule:
    """The notebook's graph before packing, with weights and constants of the whole range."""
    rng = np.random.default_rng(0)
    weight = full_range(rng, (36, 3, 3, 3), "int8")
    bias, rounding = (rng.integers(-(2**20), 2**20, (36, 1, 1), dtype=np.int32) for _ in range(2))

    def build(emit, data):  # type: ignore[no-untyped-def]
        scaled = emit("scaled", relax.op.multiply(data, relax.const(16.0, "float32")))
        clipped = emit("clipped", relax.op.clip(emit("rounded", relax.op.round(scaled)), -127, 127))
        small = emit("small", relax.op.astype(clipped, "int8"))
        conv = relax.op.nn.conv2d(small, relax.const(weight), padding=(1, 1), out_dtype="int32")
        biased = emit("biased", relax.op.add(emit("conv", conv), relax.const(bias)))
        factors = relax.const(np.int32(1 << 30)), relax.const(np.int32(-1))
        fixed = emit("fixed", requantize(biased, *factors, out_dtype="int32"))
        half = emit(
            "half", relax.op.add(emit("cast", relax.op.astype(fixed, "int32")), relax.const(rounding))
        )
        wide = emit("wide", relax.op.astype(emit("relu", relax.op.nn.relu(half)), "int64"))
        shifted = emit("shifted", relax.op.right_shift(wide, relax.const(12, "int64")))
        narrow = emit("narrow", relax.op.astype(emit("limited", relax.op.clip(shifted, -127, 127)), "int32"))
        output = emit("output", relax.op.astype(emit("out8", relax.op.astype(narrow, "int8")), "float32"))
        return emit("scaled_back", relax.op.multiply(output, relax.const(0.0625, "float32")))

    return module_of({"data": ((1, 3, 4, 4), "float32")}, build)


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1, 3, 4, 4)).astype(np.float32) * 4


def test_the_packed_graph_is_the_printed_one_and_then_unpacked(data: np.ndarray) -> None:
    plain = demonstration()
    packed = graph_pack(plain, 1, 16, 8, fold=False)
    bindings = bindings_of(packed["main"])
    producers = {binding.var: binding.value for binding in bindings}
    last = next(binding for binding in bindings if binding.var.name == "scaled_back")
    assert node_of(last.value, producers) == printed()
    calls = [
        binding for binding in bindings[bindings.index(last) + 1 :] if isinstance(binding.value, relax.Call)
    ]
    ends = [
        (call.value.op.name.removeprefix("relax."), tuple(int(extent) for extent in call.var.ty.shape))
        for call in calls
    ]
    assert ends == UNPACKED
    np.testing.assert_array_equal(evaluate(packed, data), evaluate(plain, data))
    assert np.any(evaluate(packed, data))


def test_the_convolution_has_the_printed_attributes() -> None:
    packed = graph_pack(demonstration(), 1, 16, 8, fold=False)
    conv = next(binding.value for binding in bindings_of(packed["main"]) if binding.var.name == "conv").attrs
    assert (conv.data_layout, conv.kernel_layout, conv.out_dtype) == ("NCHW1n16c", "OIHW16o16i", "int32")
    assert [int(width) for width in conv.padding] == [1, 1, 1, 1]


FUNCTIONS = {
    "vta_preprocessing__0": ("multiply_round_clip_astype_", [((1, 3, 4, 4), "float32")], "int8"),
    "vta_reshape_transpose__1": ("nn.pad_reshape_permute_dims_", [((1, 3, 4, 4), "int8")], "int8"),
    "vta_conv2d__2": (
        "nn.conv2d_add_requantize_astype_add_nn.relu_astype_right_shift_clip_astype_astype_",
        [
            ((1, 1, 4, 4, 1, 16), "int8"),
            ((3, 1, 3, 3, 16, 16), "int8"),
            ((3, 1, 1, 1, 16), "int32"),
            ((3, 1, 1, 1, 16), "int32"),
        ],
        "int8",
    ),
    "vta_output__3": ("astype_multiply_", [((1, 3, 4, 4, 1, 16), "int8")], "float32"),
}


@pytest.mark.parametrize("fold", [False, True], ids=["packing in the graph", "packing folded"])
def test_the_fused_graph_has_the_printed_functions(fold: bool, data: np.ndarray) -> None:
    fused = fuse_vta(graph_pack(demonstration(), 1, 16, 8, fold=fold))
    functions = {variable.name_hint: function for variable, function in fused.functions.items()}
    assert set(functions) == {"main", *FUNCTIONS}
    for name, (pattern, parameters, dtype) in FUNCTIONS.items():
        function = functions[name]
        assert function.attrs["PartitionedFromPattern"] == pattern
        assert function.attrs["Composite"] == name[:-3]
        types = [
            (tuple(int(extent) for extent in each.ty.shape), str(each.ty.dtype)) for each in function.params
        ]
        assert (types, str(function.ret_ty.dtype)) == (parameters, dtype)
        assert ("ConvAttrs" in function.attrs) == (name == "vta_conv2d__2")
    attributes = functions["vta_conv2d__2"].attrs["ConvAttrs"]
    assert {name: attributes[name] for name in ("channels", "data_layout", "kernel_layout", "out_dtype")} == {
        "channels": 48,
        "data_layout": "NCHW1n16c",
        "kernel_layout": "OIHW16o16i",
        "out_dtype": "int32",
    }
    assert (list(attributes["padding"]), list(attributes["kernel_size"])) == ([1, 1, 1, 1], [3, 3])
    np.testing.assert_array_equal(evaluate(fused, data), evaluate(demonstration(), data))


def test_the_calls_stand_in_the_printed_order() -> None:
    fused = fuse_vta(graph_pack(demonstration(), 1, 16, 8))
    calls = [binding.value for binding in bindings_of(fused["main"])]
    called = [call.op.name_hint for call in calls if isinstance(getattr(call, "op", None), relax.GlobalVar)]
    assert called == list(FUNCTIONS)


def test_the_float_network_gives_the_same_functions_after_quantisation(data: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((36, 3, 3, 3), (36, 1, 1)))

    def build(emit, tensor):  # type: ignore[no-untyped-def]
        conv = emit("conv", relax.op.nn.conv2d(tensor, relax.const(weight), padding=(1, 1)))
        return emit("relu", relax.op.nn.relu(emit("bias", relax.op.add(conv, relax.const(bias)))))

    network = module_of({"data": ((1, 3, 4, 4), "float32")}, build)
    quantised = float_ends(quantize(network, data, scheme="pow2"))
    fused = fuse_vta(graph_pack(quantised, 1, 16, 8))
    assert {variable.name_hint for variable in fused.functions} == {"main", *FUNCTIONS}
    got, floats = evaluate(fused, data), evaluate(network, data)
    np.testing.assert_array_equal(got, evaluate(quantised, data))
    assert np.abs(got - floats).max() < 0.1 * np.abs(floats).max()


def test_a_graph_that_was_not_quantised_has_no_scales_for_its_ends() -> None:
    with pytest.raises(ValueError, match="main has no attribute 'input_scale'"):
        float_ends(demonstration())
