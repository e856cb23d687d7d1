"""4-bit values in words: order of the nibbles, signs, odd lengths, and the operators that convert."""

import ml_dtypes
import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from bench.evaluate import evaluate
from bench.int4 import held, limits, pack_int4, unpack_int4
from bench.operators import conv2d, dense
from bench.operators import pack_int4 as pack
from bench.operators import unpack_int4 as unpack
from tests.bench.integer_graphs import full_range, module_of

WORDS = [
    ("element 0 is lowest", [1, 0, 0, 0, 0, 0, 0, 0], 0x00000001),
    ("element 7 is highest", [0, 0, 0, 0, 0, 0, 0, 1], 0x10000000),
    ("in order", [0, 1, 2, 3, 4, 5, 6, 7], 0x76543210),
    ("negative", [-8, -7, -6, -5, -4, -3, -2, -1], 0xFEDCBA98),
    ("minus one", [-1] * 8, 0xFFFFFFFF),
]


@pytest.mark.parametrize(("values", "word"), [case[1:] for case in WORDS], ids=[case[0] for case in WORDS])
def test_a_word(values: list[int], word: int) -> None:
    array = np.array(values, ml_dtypes.int4)
    words = pack_int4(array)
    assert (words.dtype, words.shape) == (np.int32, (1,))
    assert int(words[0]) & 0xFFFFFFFF == word
    assert unpack_int4(words).tolist() == values
    assert unpack_int4(words, "uint4").astype(int).tolist() == [value % 16 for value in values]


@given(
    dtype=st.sampled_from(["int4", "uint4"]),
    length=st.integers(1, 40),
    rows=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_unpacking_undoes_packing(dtype: str, length: int, rows: int, seed: int) -> None:
    low, high = limits(dtype)
    values = np.random.default_rng(seed).integers(low, high, (rows, length), endpoint=True)
    array = values.astype(np.int8).astype(getattr(ml_dtypes, dtype))
    words = pack_int4(array)
    assert words.shape == (rows, -(-length // 8))
    np.testing.assert_array_equal(pack_int4(held(array)), words)
    back = unpack_int4(words, dtype, length=length)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert not unpack_int4(words, dtype)[:, length:].astype(int).any()


def test_errors() -> None:
    words = np.zeros((2, 3), np.int32)
    with pytest.raises(ValueError, match="dtype 'int8' is none of int4, uint4"):
        unpack_int4(words, "int8")
    with pytest.raises(ValueError, match="must be int32, not int64"):
        unpack_int4(words.astype(np.int64))
    with pytest.raises(ValueError, match=r"length 25 is not in 0\.\.24, what 3 words hold"):
        unpack_int4(words, length=25)


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_the_operators_are_built_to_the_same_values(dtype: str) -> None:
    holding = {"int4": "int8", "uint4": "uint8"}[dtype]

    def build(emit, data):  # type: ignore[no-untyped-def]
        # The whole range of the 8-bit type: what is above the low four bits is lost.
        return emit("values", unpack(emit("words", pack(data)), dtype=dtype))

    module = module_of({"data": ((2, 3, 256), holding)}, build)
    data = np.broadcast_to(np.arange(256, dtype=np.uint8).view(holding), (2, 3, 256)).copy()
    expected = evaluate(module, data)
    low, high = limits(dtype)
    assert (expected.min(), expected.max(), expected.dtype) == (low, high, np.dtype(holding))
    np.testing.assert_array_equal((expected.astype(int) - data) % 16, 0)
    machine = relax.VirtualMachine(relax.build(module, "llvm"), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(data)).numpy(), expected)


@pytest.mark.parametrize("weight_dtype", ["int4", "uint4"])
@pytest.mark.parametrize("data_dtype", ["int4", "uint4"])
def test_layers_on_words_are_layers_on_values(data_dtype: str, weight_dtype: str) -> None:
    rng = np.random.default_rng(0)

    def operand(dtype: str, *shape: int) -> np.ndarray:
        return rng.integers(*limits(dtype), shape, endpoint=True).astype(np.int8)

    data = operand(data_dtype, 3, 3, 8, 32)
    weight = operand(weight_dtype, 2, 2, 1, 1, 8, 32)
    dtypes = {"data_dtype": data_dtype, "weight_dtype": weight_dtype}
    layer = module_of(
        {"data": ((3, 3, 8, 4), "int32"), "weight": ((2, 2, 1, 1, 8, 4), "int32")},
        lambda emit, x, w: emit(
            "conv", conv2d(x, w, data_layout="HWNC", kernel_layout="HWOI8o32i", **dtypes)
        ),
    )
    result = evaluate(layer, [pack_int4(data), pack_int4(weight)])
    expected = np.zeros((2, 2, 8, 8), np.int64)
    for y, x in np.ndindex(2, 2):
        expected += np.einsum(
            "yxnc,oc->yxno", data[y : y + 2, x : x + 2].astype(int), weight[y, x, 0, 0].astype(int)
        )
    np.testing.assert_array_equal(result, expected)
    rows, units = data.reshape(-1, 32), weight.reshape(-1, 32)
    product = module_of(
        {"data": ((72, 4), "int32"), "weight": ((4, 1, 8, 4), "int32")},
        lambda emit, x, w: emit("dense", dense(x, w, weight_layout="NK8n32k", **dtypes)),
    )
    got = evaluate(product, [pack_int4(rows), pack_int4(units.reshape(4, 1, 8, 32))])
    np.testing.assert_array_equal(got, rows.astype(int) @ units.astype(int).T)


def variable(shape: tuple[int, ...], dtype: str) -> relax.Var:
    return relax.Var("x", relax.TensorType(shape, dtype))


OPERATOR_ERRORS = [
    (lambda: pack(variable((8,), "int32")), "data of int32 must be int8 or uint8"),
    (lambda: pack(variable((12,), "int8")), "the last extent 12 is no multiple of 8"),
    (lambda: unpack(variable((8,), "int8")), "words of int8 must be int32"),
    (lambda: unpack(variable((8,), "int32"), dtype="int8"), "dtype 'int8' is none of int4, uint4"),
    (
        lambda: dense(
            variable((8, 32), "int8"), variable((8, 4), "int32"), data_dtype="int4", weight_dtype="int4"
        ),
        "data of int4 must be int32 words, not int8",
    ),
    (
        lambda: dense(variable((8, 32), "int8"), variable((8, 32), "int8"), weight_dtype="int8"),
        "weight_dtype 'int8' is none of int4, uint4",
    ),
]


@pytest.mark.parametrize(("build", "message"), OPERATOR_ERRORS, ids=[case[1] for case in OPERATOR_ERRORS])
def test_operator_errors(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        relax.BlockBuilder().normalize(build())


def test_floats_are_truncated_and_wrapped() -> None:
    module = module_of({"data": ((4,), "float32")}, lambda emit, x: emit("y", relax.op.astype(x, "int4")))
    result = evaluate(module, np.array([-8.9, 7.9, 9.2, -0.5], np.float32))
    assert (result.dtype, result.tolist()) == (np.dtype(ml_dtypes.int4), [-8, 7, -7, 0])
    assert full_range(np.random.default_rng(0), (64,), "int8").std() > 50
