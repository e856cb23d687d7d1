"""Batches of matrix products are tensorised, whether their second operands are constants or data."""

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench.compare.mismatch import find_device_mismatch, find_pass_mismatch
from bench.compare.operands import Operands
from bench.evaluate import evaluate_all
from bench.evaluate.instructions import wmma
from bench.flows.flow import Unsupported, flow_for
from bench.flows.kernel import packed_kernels
from bench.flows.tensorcore import TensorCoreFlow
from bench.flows.tensorcore_epilogue import epilogue_of
from bench.int4 import HELD, limits
from bench.operators import batch_matmul, requantize
from kernels.tensorcore.epilogue import Bias, Requantize
from tests.bench.integer_graphs import dense, full_range, module_of

op = relax.op

INSTRUCTIONS = {
    ("int8", "int8"): "wmma.mma m8n32k16 s8",
    ("uint8", "int8"): "mma.sync m16n8k32 u8·s8",
}


def products(
    sizes: tuple[int, int, int, int], *, pair: tuple[str, str] = ("int8", "int8"), constant: bool = False
) -> tuple[tvm.IRModule, list[np.ndarray]]:
    """(B, M, K) by (B, K, N), and inputs over the full range."""
    batch, rows, depth, units = sizes
    rng = np.random.default_rng(0)
    left, right = (
        full_range(rng, (batch, rows, depth), pair[0]),
        full_range(rng, (batch, depth, units), pair[1]),
    )
    if constant:
        module = module_of(
            {"x": (left.shape, pair[0])},
            lambda emit, x: emit("product", op.matmul(x, relax.const(right), out_dtype="int32")),
        )
        return module, [left]
    module = module_of(
        {"x": (left.shape, pair[0]), "y": (right.shape, pair[1])},
        lambda emit, x, y: emit("product", op.matmul(x, y, out_dtype="int32")),
    )
    return module, [left, right]


def check(module: tvm.IRModule, inputs: list[np.ndarray]):  # type: ignore[no-untyped-def]
    """The passes keep the values, by operators and by instructions."""
    transformed = TensorCoreFlow().transform(module)
    original = evaluate_all(module, inputs)
    for overrides in (None, wmma.OVERRIDES):
        evaluated = evaluate_all(transformed.mod, inputs, overrides=overrides)
        assert find_pass_mismatch(transformed, evaluated, original) is None
    return transformed


@pytest.mark.parametrize("constant", [False, True], ids=["data", "constant"])
@pytest.mark.parametrize("pair", INSTRUCTIONS, ids="·".join)
@pytest.mark.parametrize("sizes", [(2, 8, 32, 32), (3, 5, 17, 9), (1, 1, 1, 1)], ids=str)
def test_values_are_kept(sizes: tuple[int, int, int, int], pair: tuple[str, str], constant: bool) -> None:
    transformed = check(*products(sizes, pair=pair, constant=constant))
    (layer,) = transformed.report
    assert (layer.operator, layer.instruction) == ("batch_matmul", INSTRUCTIONS[pair])
    batch, rows, depth, units = sizes
    assert layer.shapes == f"{batch}x{rows}x{depth} * {batch}x{units}x{depth}"


@pytest.mark.parametrize("device", ["host", "sim"])
def test_products_are_exact(device: str) -> None:
    verdict = bench.run(*products((3, 5, 17, 9)), "tensorcore", device)
    assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)
    assert device == "host" or verdict.layers[0].count == 3 * 1 * 2


@pytest.mark.parametrize(
    ("pair", "instruction"),
    [(("int4", "int4"), "wmma.mma m8n8k32 s4"), (("uint4", "int4"), "mma.sync m16n8k64 u4·s4")],
    ids=["int4·int4", "uint4·int4"],
)
def test_products_of_four_bits(pair: tuple[str, str], instruction: str) -> None:
    rng = np.random.default_rng(2)
    inputs = [
        rng.integers(*limits(dtype), shape, endpoint=True).astype(HELD[dtype])
        for dtype, shape in zip(pair, ((2, 5, 40), (2, 40, 9)), strict=True)
    ]

    def build(emit, x, y):  # type: ignore[no-untyped-def]
        x, y = emit("x4", op.astype(x, pair[0])), emit("y4", op.astype(y, pair[1]))
        return emit("product", op.matmul(x, y, out_dtype="int32"))

    module = module_of({n: (v.shape, v.dtype.name) for n, v in zip("xy", inputs, strict=True)}, build)
    assert check(module, inputs).report[0].instruction == instruction
    verdict = bench.run(module, inputs, "tensorcore")
    assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)


def attention() -> tvm.IRModule:
    """Two products with a bias and a requantisation between them: the second reads the first and an input."""

    def build(emit, x, y, z):  # type: ignore[no-untyped-def]
        scores = emit("scores", op.matmul(x, y, out_dtype="int32"))
        biased = emit("biased", op.add(scores, relax.const(np.arange(10, dtype=np.int32).reshape(1, 1, 10))))
        factors = np.full(10, 1 << 30, np.int32), np.full(10, -8, np.int32)
        between = emit("between", requantize(biased, *(relax.const(each) for each in factors), axis=2))
        return emit("mixed", op.matmul(between, z, out_dtype="int32"))

    shapes = {"x": ((2, 6, 20), "int8"), "y": ((2, 20, 10), "int8"), "z": ((2, 10, 7), "int8")}
    return module_of(shapes, build)


@pytest.mark.parametrize("device", ["host", "sim"])
def test_a_chain_of_products(device: str) -> None:
    module = attention()
    rng = np.random.default_rng(1)
    inputs = [full_range(rng, shape, "int8") for shape in ((2, 6, 20), (2, 20, 10), (2, 10, 7))]
    transformed = check(module, inputs)
    first, second = (epilogue_of(kernel) for kernel in packed_kernels(transformed))
    assert first.steps == (Bias(), Requantize(to="int8"))
    assert second.steps == ()
    verdict = bench.run(module, inputs, "tensorcore", device)
    assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)


@pytest.mark.parametrize("target", ["hexagon", "vta"])
def test_other_targets_leave_them_and_say_why(target: str) -> None:
    flow = flow_for(target)
    module, _ = products((2, 8, 32, 32), pair=(flow.data_dtype, "int8"), constant=True)
    with pytest.raises(Unsupported, match="product: it is a batch of products; the kernels take one"):
        flow.transform(module)


def test_a_mismatch_names_its_operands() -> None:
    module, (left, right) = products((2, 5, 17, 9))
    transformed = TensorCoreFlow().transform(module)
    reference = evaluate_all(transformed.mod, [left, right])
    result = transformed.report[0].result
    device = {**reference, result: reference[result].copy()}
    device[result][1, 3, 4] += 1
    mismatch = find_device_mismatch(transformed, device, reference)
    assert mismatch is not None
    assert (mismatch.layer, mismatch.coordinate) == ("product", {"B": 1, "N": 3, "C": 4})
    assert mismatch.operands == Operands(
        left[1, 3].tolist(), right[1, :, 4].tolist(), int(reference[result][1, 3, 4])
    )


@pytest.mark.parametrize(
    ("data", "weight", "layout", "message"),
    [
        ((2, 8, 16), (2, 1, 1, 32, 16), "NBC32n16c", "must have the axes B, N and K"),
        (
            (3, 8, 16),
            (2, 1, 1, 32, 16),
            "BNK32n16k",
            "data of 3 products that sum over 16 meets a weight of 2",
        ),
        ((2, 8, 32), (2, 1, 1, 32, 16), "BNK32n16k", "that sum over 32 meets a weight of 2 that sum over 16"),
    ],
    ids=["axes", "batch", "depth"],
)
def test_what_does_not_fit_is_refused(
    data: tuple[int, ...], weight: tuple[int, ...], layout: str, message: str
) -> None:
    x, w = (relax.Var("x", relax.TensorType(shape, "int8")) for shape in (data, weight))
    with pytest.raises(ValueError, match=message):
        relax.BlockBuilder().normalize(batch_matmul(x, w, weight_layout=layout))


def test_a_dense_layer_is_no_batch() -> None:
    transformed = TensorCoreFlow().transform(dense(8, 16, 32))
    assert [layer.operator for layer in transformed.report] == ["dense"]
