"""Data and weights of different signedness go through mma.sync, which wmma does not multiply."""

import re

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench import workloads
from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.evaluate.instructions import wmma
from bench.flows.flow import Unsupported
from bench.flows.tensorcore import TensorCoreFlow
from bench.int4 import HELD, limits
from bench.passes import quantize, quantize_input
from tests.bench.integer_graphs import ConvCase, convolution, full_range, module_of

op = relax.op

CASE = ConvCase(batch=9, inputs=5, outputs=35, strides=(2, 1), padding=(0, 1, 2, 2))
DILATED = ConvCase(batch=17, inputs=33, size=7, outputs=9, dilation=(2, 1), padding=(1, 0, 0, 2))
PAIRS = [("uint8", "int8"), ("int8", "uint8")]
FOUR_BIT_PAIRS = [("uint4", "int4"), ("int4", "uint4")]
HOST_TOO = (PAIRS[0], FOUR_BIT_PAIRS[0])
SPELLED = {"int8": "s8", "uint8": "u8", "int4": "s4", "uint4": "u4"}


def inputs_of(module: tvm.IRModule, ends: tuple[int, int] | None = None) -> np.ndarray:
    """Values over the whole range of the parameter's type, or between two ends."""
    parameter = module["main"].params[0]
    shape, dtype = tuple(int(extent) for extent in parameter.ty.shape), str(parameter.ty.dtype)
    rng = np.random.default_rng(6)
    if ends is None:
        return full_range(rng, shape, dtype)
    return rng.integers(*ends, shape, endpoint=True).astype(dtype)


def check(module: tvm.IRModule, pair: tuple[str, str], shape: str) -> None:
    """Exact in NumPy, on the host and on the machine, by the instruction that the report names."""
    ends = limits(pair[0]) if pair[0] in HELD else None
    inputs = inputs_of(module, ends)
    flow = TensorCoreFlow()
    transformed = flow.transform(module)
    original = evaluate_all(module, inputs)
    for overrides in (None, wmma.OVERRIDES):
        evaluated = evaluate_all(transformed.mod, inputs, overrides=overrides)
        assert find_pass_mismatch(transformed, evaluated, original) is None
    a, b = (SPELLED[dtype] for dtype in pair)
    for layer in transformed.report:
        assert layer.instruction == f"mma.sync {shape} {a}·{b}"
    for name, text in flow.machine_files(transformed).items():
        if name.endswith(".ptx"):
            used = set(re.findall(r"^\s*(mma\.sync\S+)", text.decode(), re.MULTILINE))
            assert used
            assert all(re.search(rf"\.{shape}\.row\.col.*\.s32\.{a}\.{b}\.s32;?$", each) for each in used)
    for device in ("host", "sim") if pair in HOST_TOO else ("sim",):
        verdict = bench.run(module, inputs, "tensorcore", device)
        assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)
        assert device == "host" or all(layer.count for layer in verdict.layers)


@pytest.mark.parametrize(("pair", "case"), [(PAIRS[0], CASE), (PAIRS[1], DILATED)], ids=str)
def test_convolutions_of_bytes(pair: tuple[str, str], case: ConvCase) -> None:
    check(convolution(case, data_dtype=pair[0], weight_dtype=pair[1]), pair, "m16n8k32")


def four_bits(pair: tuple[str, str], *, dense: bool) -> tvm.IRModule:
    """A convolution with a requantisation and a second one behind it, or a dense layer."""
    data_dtype, weight_dtype = pair
    rng = np.random.default_rng(7)

    def weight(*shape: int) -> relax.Expr:
        values = rng.integers(*limits(weight_dtype), shape, endpoint=True)
        return op.astype(relax.const(values.astype(HELD[weight_dtype])), weight_dtype)

    def build(emit, data):  # type: ignore[no-untyped-def]
        x = emit("data4", op.astype(data, data_dtype))
        if dense:
            return emit("dense", op.matmul(x, emit("weight", weight(70, 9)), out_dtype="int32"))
        w = emit("weight1", weight(11, 5, 3, 3))
        conv1 = emit("conv1", op.nn.conv2d(x, w, padding=(1, 0, 2, 1), out_dtype="int32"))
        clipped = emit("clip", op.clip(conv1, *limits(data_dtype)))
        between = emit("between", op.astype(clipped, data_dtype))
        w = emit("weight2", weight(3, 11, 1, 1))
        return emit("conv2", op.nn.conv2d(between, w, out_dtype="int32"))

    return module_of({"data": ((9, 70) if dense else (3, 5, 5, 4), HELD[data_dtype])}, build)


@pytest.mark.parametrize(
    ("pair", "dense"),
    [(FOUR_BIT_PAIRS[0], False), (FOUR_BIT_PAIRS[1], True)],
    ids=["uint4·int4 convolutions", "int4·uint4 dense"],
)
def test_four_bit_layers(pair: tuple[str, str], dense: bool) -> None:
    check(four_bits(pair, dense=dense), pair, "m16n8k64")


def test_dense_layers_of_bytes() -> None:
    pair = PAIRS[1]
    weight = full_range(np.random.default_rng(8), (33, 10), pair[1])
    module = module_of(
        {"data": ((3, 33), pair[0])},
        lambda emit, data: emit("dense", op.matmul(data, relax.const(weight), out_dtype="int32")),
    )
    check(module, pair, "m16n8k32")


@pytest.mark.parametrize(
    ("data_dtype", "weight_dtype", "reason"),
    [
        ("int8", "int4", "its weight is int4; the kernel takes int8 or uint8"),
        ("int16", "int8", "its data is int16; the kernel takes int8 or uint8 or int4 or uint4"),
    ],
)
def test_what_no_instruction_multiplies_stays(data_dtype: str, weight_dtype: str, reason: str) -> None:
    def build(emit, data):  # type: ignore[no-untyped-def]
        w = op.astype(relax.const(np.ones((8, 4, 1, 1), np.int8)), weight_dtype)
        return emit("conv", op.nn.conv2d(data, emit("weight", w), out_dtype="int32"))

    module = module_of({"data": ((8, 4, 2, 2), data_dtype)}, build)
    with pytest.raises(Unsupported, match=reason):
        TensorCoreFlow().transform(module)


def test_digits_with_unsigned_data() -> None:
    workload = workloads.load("digits", batch=16)
    module = quantize(workload.module, workload.calibration, data_dtype="uint8")
    inputs = quantize_input(module, workload.images)
    assert inputs.dtype == np.uint8
    verdict = bench.run(module, inputs, "tensorcore")
    assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)
    assert {layer.instruction for layer in verdict.layers} == {"mma.sync m16n8k32 u8·s8"}
    assert all(layer.count for layer in verdict.layers)
