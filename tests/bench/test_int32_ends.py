"""int32 arithmetic on the host wraps where it overflows, whatever stands behind it."""

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench.evaluate import evaluate
from bench.lowering import HOST_TARGET
from bench.operators import requantize
from bench.operators.wrapping import WRAPPING
from tests.bench.integer_graphs import full_range, module_of

op = relax.op

INT32 = np.iinfo(np.int32)
ENDS = np.array([INT32.min, INT32.min + 1, -1, 0, 1, INT32.max - 1, INT32.max], np.int32)
LEFT, RIGHT = (grid.ravel().copy() for grid in np.meshgrid(ENDS, ENDS))
OPERATORS = {"add": op.add, "subtract": op.subtract, "multiply": op.multiply}


def rescaled(emit, values):  # type: ignore[no-untyped-def]
    factors = relax.const(np.int32(1 << 30)), relax.const(np.int32(-23))
    return emit("rescaled", requantize(values, *factors, axis=0))


def on_host(module: tvm.IRModule, *inputs: np.ndarray) -> np.ndarray:
    """What TVM's host code computes where all operators of the graph are fused."""
    legal = relax.transform.LegalizeOps(dict(WRAPPING))(module)
    machine = relax.VirtualMachine(tvm.compile(legal, target=tvm.target.Target(HOST_TARGET)), tvm.cpu())
    return machine["main"](*(tvm.runtime.tensor(values) for values in inputs)).numpy()


@pytest.mark.parametrize("fused", [False, True], ids=["alone", "requantised"])
@pytest.mark.parametrize("name", OPERATORS)
def test_two_tensors(name: str, fused: bool) -> None:
    def build(emit, x, y):  # type: ignore[no-untyped-def]
        result = emit(name, OPERATORS[name](x, y))
        return rescaled(emit, result) if fused else result

    module = module_of({"x": (LEFT.shape, "int32"), "y": (RIGHT.shape, "int32")}, build)
    np.testing.assert_array_equal(on_host(module, LEFT, RIGHT), evaluate(module, [LEFT, RIGHT]))


@pytest.mark.parametrize("constant", ENDS.tolist())
@pytest.mark.parametrize("name", OPERATORS)
def test_a_tensor_and_a_number(name: str, constant: int) -> None:
    """Of a sum with -2^31 TVM's own legalisation makes a wrong one, and does not build a product."""

    def build(emit, x):  # type: ignore[no-untyped-def]
        return rescaled(emit, emit(name, OPERATORS[name](x, relax.const(np.int32(constant)))))

    module = module_of({"x": (ENDS.shape, "int32")}, build)
    np.testing.assert_array_equal(on_host(module, ENDS), evaluate(module, [ENDS]))


def test_operands_that_broadcast_and_other_types() -> None:
    column, row = ENDS.reshape(-1, 1), ENDS.reshape(1, 1, -1)

    def build(emit, x, y, z):  # type: ignore[no-untyped-def]
        total = emit("add", op.add(x, y))
        return emit("sum", op.add(op.astype(total, "float32"), z))

    shapes = {"x": (column.shape, "int32"), "y": (row.shape, "int32"), "z": ((), "float32")}
    module = module_of(shapes, build)
    inputs = [column, row, np.array(0.5, np.float32)]
    np.testing.assert_array_equal(on_host(module, *inputs), evaluate(module, inputs))


def layer(target: str) -> tuple[tvm.IRModule, np.ndarray]:
    """A convolution whose accumulators pass the ends of int32, by a bias and by one number."""
    rng = np.random.default_rng(0)
    dtype = "uint8" if target == "hexagon" else "int8"
    weight = full_range(rng, (16, 16, 1, 1), "int8")
    bias = rng.choice(ENDS, (1, 16, 1, 1)).astype(np.int32)

    def build(emit, data):  # type: ignore[no-untyped-def]
        total = emit("conv", op.nn.conv2d(data, relax.const(weight), out_dtype="int32"))
        total = emit("bias", op.add(total, relax.const(bias)))
        total = emit("number", op.add(total, relax.const(INT32.min, "int32")))
        if target == "vta":
            shifted = emit("shifted", op.right_shift(total, relax.const(np.int32(24))))
            clipped = emit("clipped", op.clip(shifted, -127, 127))
            return emit("result", op.astype(clipped, "int8"))
        factors = np.full(16, 1 << 30, np.int32), np.full(16, -23, np.int32)
        return emit("result", requantize(total, *(relax.const(each) for each in factors), out_dtype=dtype))

    module = module_of({"data": ((4, 16, 3, 3), dtype)}, build)
    return module, full_range(rng, (4, 16, 3, 3), dtype)


@pytest.mark.parametrize("target", ["tensorcore", "hexagon", "vta"])
def test_accumulators_at_the_ends_of_int32(target: str) -> None:
    module, data = layer(target)
    result = evaluate(module, data)
    assert len(np.unique(result)) > 1
    verdict = bench.run(module, data, target, "host")
    assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)
