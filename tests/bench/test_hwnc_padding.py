"""Padding to the shapes of the tensor-core kernels, and 4-bit layers in HWNC."""

import ml_dtypes
import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate, evaluate_all
from bench.evaluate.instructions import wmma
from bench.flows.flow import Unsupported
from bench.flows.tensorcore import _instruction
from bench.flows.transform import pack_and_lift
from bench.int4 import limits
from bench.layout import logical_shape
from bench.passes.hwnc import HwncPack
from bench.passes.legal_shapes import LEGAL, legal_padding
from bench.passes.lift_kernels import bindings_of
from bench.passes.packing import GraphPacker
from tests.bench.integer_graphs import ConvCase, convolution, four_bit_convolution, module_of

op = relax.op

# Pads of TVM's test of its legalisation (PR #8222): data (16, 16, N, C), kernel (3, 3, O, I), all others
# multiples; None where the multiplications would more than triple.
EXPECTED_PADS = [
    # varied, extent, int8, int4
    ("batch", 7, 1, 1),
    ("batch", 3, 5, 5),
    ("batch", 16, 0, 0),
    ("inputs", 63, 1, 1),
    ("inputs", 33, 15, 31),
    ("inputs", 13, 3, 19),
    ("inputs", 1, None, None),
    ("outputs", 63, 1, 1),
    ("outputs", 33, 31, 7),
    ("outputs", 1, None, None),
]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint4"])
@pytest.mark.parametrize(("varied", "extent", "int8", "int4"), EXPECTED_PADS)
def test_expected_pads(varied: str, extent: int, int8: int | None, int4: int | None, dtype: str) -> None:
    extents = {"batch": 16, "inputs": 64, "outputs": 64, varied: extent}
    padding = legal_padding(dtype, **extents)
    expected = int8 if dtype.endswith("int8") else int4
    if expected is None:
        assert padding.extra_macs > 2
    else:
        assert padding.extra_macs <= 2
        pads = {"batch": padding.batch, "inputs": padding.inputs, "outputs": padding.outputs}
        assert pads == {"batch": 0, "inputs": 0, "outputs": 0, varied: expected}
        assert padding.extra_macs == pytest.approx(expected / extent)


def test_legal_shapes() -> None:
    legal = {f"{data}·{weight}": legal for (data, weight), legal in LEGAL.items()}
    assert {name: (entry.batch, entry.inputs, entry.outputs) for name, entry in legal.items()} == {
        "int8·int8": (8, 16, 32),
        "uint8·uint8": (8, 16, 32),
        "int8·uint8": (16, 32, 8),
        "uint8·int8": (16, 32, 8),
        "int4·int4": (8, 32, 8),
        "uint4·uint4": (8, 32, 8),
        "int4·uint4": (16, 64, 8),
        "uint4·int4": (16, 64, 8),
    }
    assert legal["int8·int8"].kernel_layout == "HWOI32o16i"
    assert legal["int4·int4"].weight_layout == "NK8n32k"
    assert legal["uint4·int4"].kernel_layout == "HWOI8o64i"
    with pytest.raises(ValueError, match="dtypes int16·int16 are none of int8·int8, int8·uint8"):
        legal_padding("int16", 1, 1, 1)
    with pytest.raises(ValueError, match="dtypes int8·int4 are none"):
        legal_padding("int8", 1, 1, 1, weight_dtype="int4")


def test_padding_for_operands_of_both_signs() -> None:
    padding = legal_padding("uint8", 1, 24, 40, weight_dtype="int8")
    assert (padding.batch, padding.inputs, padding.outputs) == (15, 8, 0)
    assert padding.extra_macs == pytest.approx(16 * 32 / 24 - 1)


def transform(module: tvm.IRModule, *, limit: float | None = None):  # type: ignore[no-untyped-def]
    """The graph as the passes of the target make it, whatever kernels there are."""
    return pack_and_lift(
        module,
        target="tensorcore",
        rewrite=HwncPack(extra_macs_limit=limit),
        generate=lambda kernel: None,
        instruction=_instruction,
    )


def random_data(module: tvm.IRModule, seed: int = 1) -> np.ndarray:
    """Full-range inputs of a 4-bit graph, in the type that holds them."""
    parameter = module["main"].params[0]
    low, high = limits("uint4" if str(parameter.ty.dtype) == "uint8" else "int4")
    shape = [int(extent) for extent in parameter.ty.shape]
    return (
        np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(str(parameter.ty.dtype))
    )


def check(module: tvm.IRModule, *, limit: float | None = None):  # type: ignore[no-untyped-def]
    """Integer graph, transformed graph and transformed graph through WMMA have the same values."""
    transformed = transform(module, limit=limit)
    relax.analysis.well_formed(transformed.mod)
    data = random_data(module)
    original = evaluate_all(module, data)
    assert len(np.unique(original["conv1"])) > 1
    for overrides in (None, wmma.OVERRIDES):
        evaluated = evaluate_all(transformed.mod, data, overrides=overrides)
        assert find_pass_mismatch(transformed, evaluated, original) is None
    return transformed


CASES = [
    ConvCase(batch=8, inputs=32, outputs=8),
    ConvCase(batch=9, inputs=33, outputs=40),
    ConvCase(batch=1, inputs=1, outputs=1, kernel=1, padding=(0, 0, 0, 0)),
    ConvCase(batch=7, inputs=31, outputs=9, strides=(2, 1), padding=(0, 1, 2, 3)),
    ConvCase(size=9, dilation=(2, 3), padding=(2, 0, 1, 3)),
    ConvCase(size=9, dilation=(2, 2), strides=(2, 2), padding=(1, 0, 0, 1)),
]


FOUR_BIT = {
    case.identifier("tensorcore", dtype, dtype): (case, dtype)
    for dtype in ("int4", "uint4")
    for case in CASES
}


@pytest.mark.parametrize(("case", "dtype"), FOUR_BIT.values(), ids=FOUR_BIT)
def test_four_bit_convolutions_keep_their_values(case: ConvCase, dtype: str) -> None:
    transformed = check(four_bit_convolution(case, dtype=dtype))
    element = {"int4": "s4", "uint4": "u4"}[dtype]
    assert [layer.instruction for layer in transformed.report] == [f"wmma.mma m8n8k32 {element}"] * 3


@settings(max_examples=15)
@given(data=st.data(), dtype=st.sampled_from(["int4", "uint4"]))
def test_any_four_bit_convolution_keeps_its_values(data: st.DataObject, dtype: str) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    case = ConvCase(
        batch=draw(1, 9),
        inputs=draw(1, 40),
        size=draw(5, 7),
        outputs=draw(2, 40),
        kernel=draw(1, 3),
        strides=(draw(1, 2), draw(1, 2)),
        padding=(draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2)),
        dilation=(draw(1, 2), draw(1, 2)),
    )
    check(four_bit_convolution(case, dtype=dtype, seed=draw(0, 99)))


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
@pytest.mark.parametrize(("batch", "inputs", "units"), [(1, 1, 1), (8, 32, 8), (9, 33, 10), (3, 64, 9)])
def test_four_bit_dense_layers_keep_their_values(batch: int, inputs: int, units: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    held = {"int4": "int8", "uint4": "uint8"}[dtype]
    weight = rng.integers(*limits(dtype), (inputs, units), endpoint=True).astype(held)
    weight[0, 0] = limits(dtype)[0] or limits(dtype)[1]

    def build(emit, data):  # type: ignore[no-untyped-def]
        w = emit("weight", op.astype(relax.const(weight), dtype))
        product = emit("dense", op.matmul(emit("data4", op.astype(data, dtype)), w, out_dtype="int32"))
        return emit("dense_bias", op.add(product, relax.const(np.arange(units, dtype=np.int32) * 99)))

    module = module_of({"data": ((batch, inputs), held)}, build)
    data = np.full((batch, inputs), limits(dtype)[1], held)
    transformed = transform(module)
    for values in (data, random_data(module)):
        original = evaluate_all(module, values)
        for overrides in (None, wmma.OVERRIDES):
            evaluated = evaluate_all(transformed.mod, values, overrides=overrides)
            assert find_pass_mismatch(transformed, evaluated, original) is None
    assert transformed.report[0].instruction


@pytest.mark.parametrize("outputs", [9, 32, 40])
def test_a_chain_of_four_bit_layers_stays_packed(outputs: int) -> None:
    """Between two layers stand the operators of an epilogue, which ends in words, and nothing that moves."""
    transformed = transform(four_bit_convolution(ConvCase(batch=3, inputs=5, outputs=outputs)))
    bindings = bindings_of(transformed.mod["main"])
    names = [binding.var.name for binding in bindings]
    calls = {binding.var.name: binding.value for binding in bindings}
    first, second, third = (layer.result for layer in transformed.report)
    between = [calls[name].op.name for name in names[names.index(first) + 1 : names.index(second)]]
    assert between == [
        "relax.add",
        "relax.nn.relu",
        "bitexact.requantize",
        "relax.clip",
        "bitexact.pack_int4",
    ]
    # The residual addition reads the same words.
    residual = [calls[name].op.name for name in names[names.index(second) + 1 : names.index(third)]]
    assert residual == [
        "relax.add",
        "bitexact.unpack_int4",
        "relax.astype",
        "relax.add",
        "bitexact.requantize",
        "relax.clip",
        "bitexact.pack_int4",
    ]
    words = calls[second].args[0]
    extents = logical_shape("HWNC", [int(extent) for extent in words.ty.shape])
    assert extents == {"H": 6, "W": 6, "N": 8, "C": -(-outputs // 32) * 4}
    assert str(words.ty.dtype) == "int32"


def test_no_tensor_of_main_has_a_type_that_the_host_lacks() -> None:
    for dtype in ("int4", "uint4"):
        transformed = transform(four_bit_convolution(ConvCase(), dtype=dtype))
        types = {str(binding.var.ty.dtype) for binding in bindings_of(transformed.mod["main"])}
        assert types <= {"int8", "uint8", "int32"}


def test_weights_are_packed_at_compile_time() -> None:
    transformed = transform(four_bit_convolution(ConvCase(inputs=33, outputs=9)))
    call = next(
        binding.value
        for binding in bindings_of(transformed.mod["main"])
        if binding.var.name == transformed.report[0].result
    )
    weight = call.args[1].value.numpy()
    assert (weight.dtype, weight.shape) == (np.int32, (3, 3, 4, 2, 8, 4))


LIMITS = [
    # inputs, outputs, limit, whether each of the three layers is taken
    (1, 32, None, [True, True, True]),
    (1, 32, 2.0, [False, True, True]),
    (1, 32, 31.0, [True, True, True]),
    (32, 32, 0.0, [True, True, True]),
    (31, 32, 0.0, [False, True, True]),
    (64, 1, 2.0, [False, False, False]),
]


@pytest.mark.parametrize(("inputs", "outputs", "limit", "taken"), LIMITS)
def test_what_costs_too_much_stays_and_says_why(inputs, outputs, limit, taken) -> None:  # type: ignore[no-untyped-def]
    module = four_bit_convolution(ConvCase(batch=8, inputs=inputs, outputs=outputs))
    if not any(taken):
        with pytest.raises(Unsupported, match="times its multiplications; the limit is 2"):
            transform(module, limit=limit)
        return
    transformed = check(module, limit=limit)
    assert [layer.kernel is not None for layer in transformed.report] == taken
    for layer in transformed.report:
        if not layer.kernel:
            assert f"{inputs} input channels by" in str(layer.why_not)
            assert f"the limit is {limit:g}" in str(layer.why_not)


@pytest.mark.parametrize(("limit", "channels"), [(None, 32), (0.34, 32), (0.33, 24)])
def test_channels_are_padded_to_what_the_next_layer_reads(limit: float | None, channels: int) -> None:
    """So that nothing is moved between the two; but not where that costs too much."""
    transformed = check(four_bit_convolution(ConvCase(batch=8, inputs=32, outputs=24)), limit=limit)
    assert transformed.report[0].kernel
    conv1 = next(
        binding.var for binding in bindings_of(transformed.mod["main"]) if binding.var.name == "conv1"
    )
    assert int(conv1.ty.shape[-1]) == channels


def test_the_limit_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="extra_macs_limit -1 must not be negative"):
        HwncPack(extra_macs_limit=-1)


def test_groups_and_mixed_types_stay_and_say_why() -> None:
    grouped = check(four_bit_convolution(ConvCase(inputs=6, outputs=6, groups=2)))
    assert str(grouped.report[0].why_not) == "it has 2 groups; the kernels take one"
    assert [layer.kernel is not None for layer in grouped.report] == [False, True, True]

    def mixed(emit, data):  # type: ignore[no-untyped-def]
        x = emit("data4", op.astype(data, "int4"))
        w = relax.const(np.ones((8, 4, 1, 1), np.int8))
        return emit("conv", op.nn.conv2d(x, w, out_dtype="int32"))

    module = module_of({"data": ((8, 4, 2, 2), "int8")}, mixed)
    with pytest.raises(Unsupported, match="conv: its weight is int8; the kernel takes int4 or uint4"):
        transform(module)


def test_a_four_bit_input_is_refused() -> None:
    module = module_of(
        {"data": ((8, 32, 4, 4), "int4")},
        lambda emit, data: emit("relu", op.nn.relu(data)),
    )
    with pytest.raises(Unsupported, match="input data is int4, which no host holds"):
        GraphPacker(module, lambda *_: "not taken").run()


def test_operators_on_the_host_compute_four_bits() -> None:
    """Sums and products wrap to 4 bits, selections do not leave them, TVM's build agrees."""

    def build(emit, data):  # type: ignore[no-untyped-def]
        x = emit("x", op.astype(data, "int4"))
        doubled = emit("sum", op.add(x, x))
        product = emit("product", op.multiply(doubled, emit("difference", op.subtract(x, doubled))))
        pooled = emit("pool", op.nn.max_pool2d(product, (2, 2), (2, 2)))
        parts = emit("parts", op.split(emit("clip", op.clip(pooled, -5, 6)), 2, 1))
        joined = emit("joined", op.concat([emit("b", parts[1]), emit("a", parts[0])], 1))
        unsigned = emit("unsigned", op.astype(joined, "uint4"))
        w = emit("w", op.astype(relax.const(np.eye(4, dtype=np.uint8).reshape(4, 4, 1, 1) * 15), "uint4"))
        return emit("conv", op.nn.conv2d(unsigned, w, out_dtype="int32"))

    module = module_of({"data": ((1, 4, 16, 4), "int8")}, build)
    data = np.arange(256, dtype=np.uint8).view(np.int8).reshape(1, 4, 16, 4)
    transformed = transform(module)
    original = evaluate_all(module, data)
    assert original["product"].dtype == ml_dtypes.int4
    evaluated = evaluate_all(transformed.mod, data, overrides=wmma.OVERRIDES)
    assert find_pass_mismatch(transformed, evaluated, original) is None
    names = {entry.original: entry.transformed for entry in transformed.correspondences}
    np.testing.assert_array_equal(evaluated[names["product"]], original["product"].astype(np.int8))
    # All of it on the host, built by TVM.
    plain = GraphPacker(module, lambda *_: "not taken").run()
    machine = relax.VirtualMachine(relax.build(plain, "llvm"), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(data)).numpy(), original["conv"])


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_layers_on_the_host_compute_four_bits(dtype: str) -> None:
    """A layer that no kernel takes is built by TVM to the same values."""
    module = four_bit_convolution(ConvCase(batch=2, dilation=(2, 1)), dtype=dtype)
    plain = GraphPacker(module, lambda *_: "not taken").run()
    data = random_data(module)
    expected = evaluate(module, data)
    np.testing.assert_array_equal(evaluate(plain, data), expected)
    machine = relax.VirtualMachine(relax.build(plain, "llvm"), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(data)).numpy(), expected)


def test_an_operator_that_no_host_computes_is_refused() -> None:
    def build(emit, data):  # type: ignore[no-untyped-def]
        x = emit("x", op.astype(data, "int4"))
        return emit("quotient", op.divide(x, x))

    module = module_of({"data": ((8,), "int8")}, build)
    with pytest.raises(Unsupported, match=r"relax\.divide of int4 has no equal on the host"):
        GraphPacker(module, lambda *_: "not taken").run()


def test_int8_layers_with_a_limit() -> None:
    module = convolution(ConvCase(batch=8, inputs=1, outputs=32))
    assert [layer.kernel is not None for layer in transform(module, limit=2).report] == [False, True]
    assert [layer.kernel is not None for layer in transform(module).report] == [True, True]
    data = np.random.default_rng(0).integers(-128, 128, (8, 1, 6, 6)).astype(np.int8)
    transformed = transform(module, limit=2)
    original = evaluate_all(module, data)
    assert find_pass_mismatch(transformed, evaluate_all(transformed.mod, data), original) is None
    np.testing.assert_array_equal(evaluate(transformed.mod, data), evaluate(module, data))
