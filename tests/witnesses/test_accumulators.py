"""The NumPy models and the evaluation have the accumulators of onnxruntime and of TOSA's reference model."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import relax

from bench.evaluate import evaluate
from bench.peers import onnx_integer, tosa_model
from tests.bench.integer_graphs import module_of
from tests.witnesses import models

PAIRS = [("int8", "int8"), ("uint8", "uint8"), ("uint8", "int8"), ("int8", "uint8")]
HELD = {"int4": "int8", "uint4": "uint8", "int8": "int8", "uint8": "uint8"}
WINDOWS = {
    "3x3": {"strides": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1)},
    "uneven": {"strides": (2, 1), "padding": (1, 0, 2, 2), "dilation": (1, 2)},
}


def full_range(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Every value of the type as likely, but its ends, which half of all are."""
    limits = ml_dtypes.iinfo(dtype)
    rng = np.random.default_rng(seed)
    values = rng.integers(limits.min, limits.max, shape, endpoint=True)
    ends = rng.choice([limits.min, limits.max], shape)
    return np.where(rng.random(shape) < 0.5, ends, values).astype(HELD[dtype])


def by_models(data: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """(M, K) by (N, K) by every model that has an instruction for these types."""
    alike = data.dtype == weight.dtype
    results = {
        "mma m16n8k32": models.tensor_cores(data, weight, (16, 8, 32)),
        "vrmpy": models.hvx(data, weight),
    }
    if alike:
        results["wmma m8n32k16"] = models.tensor_cores(data, weight, (8, 32, 16))
    if alike and data.dtype == np.int8:
        results["VTA GEMM"] = models.vta_gemm(data, weight)
    return results


def evaluated(operator: str, left: np.ndarray, right: np.ndarray, **options) -> np.ndarray:  # type: ignore[no-untyped-def]
    """What `bench.evaluate` says of the operator on two inputs."""
    build = {"conv2d": relax.op.nn.conv2d, "matmul": relax.op.matmul}[operator]
    parameters = {"left": (left.shape, left.dtype.name), "right": (right.shape, right.dtype.name)}
    module: tvm.IRModule = module_of(
        parameters, lambda emit, x, y: emit("out", build(x, y, out_dtype="int32", **options))
    )
    return evaluate(module, [left, right])


def skip_where_inexact(pair: tuple[str, str]) -> None:
    if pair[0] != pair[1] and not onnx_integer.is_exact():
        pytest.skip("onnxruntime saturates sums of two products on x86-64 processors without VNNI")


@pytest.fixture
def tosa(tmp_path: Path) -> Path:
    """The folder in which TOSA's reference model runs."""
    if tosa_model.executable() is None:
        pytest.skip(tosa_model.INSTALL)
    return tmp_path


def convolution_of(pair: tuple[str, str], window: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operands, and the sums on which all models and the evaluation agree, NCHW."""
    data = full_range((2, 19, 6, 7), pair[0], 1)
    weight = full_range((37, 19, 3, 3), pair[1], 2)
    patches = models.patches(data, (3, 3), **WINDOWS[window])
    result = evaluated("conv2d", data, weight, **{key: list(each) for key, each in WINDOWS[window].items()})
    for name, sums in by_models(patches.reshape(-1, 171), weight.reshape(37, 171)).items():
        arranged = sums.reshape(*patches.shape[:3], 37).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(arranged, result, err_msg=name)
    assert len(np.unique(result)) > result.size // 2
    return data, weight, result


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("pair", PAIRS, ids="·".join)
def test_onnxruntime_convolves_alike(pair: tuple[str, str], window: str) -> None:
    skip_where_inexact(pair)
    data, weight, result = convolution_of(pair, window)
    np.testing.assert_array_equal(onnx_integer.convolution(data, weight, **WINDOWS[window]), result)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("pair", PAIRS, ids="·".join)
def test_tosa_convolves_alike(pair: tuple[str, str], window: str, tosa: Path) -> None:
    data, weight, result = convolution_of(pair, window)
    sums = tosa_model.convolution(
        data.transpose(0, 2, 3, 1), weight.transpose(0, 2, 3, 1), tosa, **WINDOWS[window]
    )
    np.testing.assert_array_equal(sums.transpose(0, 3, 1, 2), result)


def product_of(pair: tuple[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operands (2, M, K) and (2, K, N), and the product on which all models and the evaluation agree."""
    left, right = full_range((2, 21, 75), pair[0], 3), full_range((2, 75, 35), pair[1], 4)
    result = evaluated("matmul", left, right)
    for batch in range(2):
        for name, sums in by_models(left[batch], right[batch].T).items():
            np.testing.assert_array_equal(sums, result[batch], err_msg=name)
    return left, right, result


@pytest.mark.parametrize("pair", PAIRS, ids="·".join)
def test_onnxruntime_multiplies_alike(pair: tuple[str, str]) -> None:
    skip_where_inexact(pair)
    left, right, result = product_of(pair)
    np.testing.assert_array_equal(onnx_integer.matrix_product(left, right), result)


@pytest.mark.parametrize("pair", PAIRS, ids="·".join)
def test_tosa_multiplies_alike(pair: tuple[str, str], tosa: Path) -> None:
    left, right, result = product_of(pair)
    np.testing.assert_array_equal(tosa_model.matrix_product(left, right, tosa), result)


@pytest.mark.parametrize(
    ("pair", "tile"),
    [
        (("int4", "int4"), (8, 8, 32)),
        (("uint4", "uint4"), (8, 8, 32)),
        (("uint4", "int4"), (16, 8, 64)),
        (("int4", "uint4"), (16, 8, 64)),
    ],
    ids=str,
)
def test_onnxruntime_multiplies_four_bits_alike(pair: tuple[str, str], tile: tuple[int, int, int]) -> None:
    """Of 4-bit values the products are those of the 8-bit ones that hold them."""
    left, right = full_range((21, 75), pair[0], 5), full_range((75, 35), pair[1], 6)
    values = [held.astype(getattr(ml_dtypes, dtype)) for held, dtype in zip((left, right), pair, strict=True)]
    sums = models.tensor_cores(values[0], values[1].T, tile)
    np.testing.assert_array_equal(onnx_integer.matrix_product(left, right), sums)
