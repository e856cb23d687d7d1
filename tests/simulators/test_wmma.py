# ruff: noqa: E501  (tables of cases: one case, one line)
"""The instruction models against plain integer sums."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import wmma

DTYPES = {"int8": np.int8, "uint8": np.uint8, "int4": ml_dtypes.int4, "uint4": ml_dtypes.uint4}
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}
INT32 = np.iinfo(np.int32)


def draw(random, dtype, shape):
    """Full range, its ends three times as likely."""
    low, high = RANGES[dtype]
    values = random.integers(low, high + 1, shape)
    ends = random.integers(0, 4, shape)
    return np.where(ends == 0, low, np.where(ends == 1, high, values)).astype(DTYPES[dtype])


def exact(a, b, c):
    """The sum in Python's integers: the meaning, slowly."""
    a, b = a.astype(np.int64).astype(object), b.astype(np.int64).astype(object)
    return a @ b + c.astype(object)


def wrap(value):
    return (value + 2**31) % 2**32 - 2**31


def test_support_is_what_the_manual_lists():
    assert {str(v) for v in wmma.SUPPORTED if v.instruction == "wmma"} == {
        *(f"wmma m{s} {t}·{t}" for s in ("16n16k16", "8n32k16", "32n8k16") for t in ("int8", "uint8")),
        *(f"wmma m8n8k32 {t}·{t}" for t in ("int4", "uint4")),
    }
    assert {str(v) for v in wmma.SUPPORTED if v.instruction == "mma"} == {
        *(f"mma m{s} {a}·{b}" for s in ("8n8k16", "16n8k16", "16n8k32") for a in DTYPES for b in DTYPES
          if "8" in a and "8" in b),
        *(f"mma m{s} {a}·{b}" for s in ("8n8k32", "16n8k32", "16n8k64") for a in DTYPES for b in DTYPES
          if "4" in a and "4" in b),
    }  # fmt: skip


@pytest.mark.parametrize("satfinite", [False, True], ids=["wrap", "satfinite"])
@pytest.mark.parametrize("variant", wmma.SUPPORTED, ids=str)
def test_mma_is_the_integer_sum(variant, satfinite):
    random = np.random.default_rng(20)
    m, n, k = variant.shape
    a, b = draw(random, variant.a, (m, k)), draw(random, variant.b, (k, n))
    c = random.choice([INT32.min, INT32.min + 5, -1, 0, 1, INT32.max - 5, INT32.max], (m, n)).astype(np.int32)
    total = exact(a, b, c)
    want = np.clip(total, INT32.min, INT32.max) if satfinite else wrap(total)
    got = wmma.mma(a, b, c, satfinite=satfinite)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want.astype(np.int64))
    assert (total != wrap(total)).any(), "no accumulator overflowed: the operands test nothing"


@given(st.integers(0, 2**32 - 1))
def test_stacks_of_tiles_broadcast(seed):
    random = np.random.default_rng(seed)
    a, b = draw(random, "int8", (3, 1, 8, 16)), draw(random, "int8", (2, 16, 32))
    c = random.integers(INT32.min, INT32.max, (8, 32), dtype=np.int32)
    got = wmma.mma(a, b, c)
    assert got.shape == (3, 2, 8, 32)
    for i in range(3):
        for j in range(2):
            np.testing.assert_array_equal(got[i, j], wmma.mma(a[i, 0], b[j], c))


@pytest.mark.parametrize("variant", [v for v in wmma.SUPPORTED if v.shape[2] in (16, 32)], ids=str)
def test_a_chain_is_its_instructions_one_after_the_other(variant):
    random = np.random.default_rng(21)
    m, n, k = variant.shape
    a, b = draw(random, variant.a, (3, 1, 5, m, k)), draw(random, variant.b, (2, 5, k, n))
    c = random.choice([INT32.min, -1, 0, INT32.max], (3, 2, m, n)).astype(np.int32)
    want = c
    for step in range(5):
        want = wmma.mma(a[..., step, :, :], b[..., step, :, :], want)
    np.testing.assert_array_equal(wmma.mma_chain(a, b, c), want)


@pytest.mark.parametrize(
    ("dtypes", "values"),
    [(("int8", "int8"), (-128, -128)), (("uint8", "uint8"), (255, 255)), (("uint8", "int8"), (255, -127))],
    ids=["int8 ends", "uint8 ends", "both signs"],
)
def test_a_chain_is_exact_beyond_what_a_float_holds(dtypes, values):
    a = np.full((1000, 8, 16), values[0], DTYPES[dtypes[0]])
    b = np.full((1000, 16, 8), values[1], DTYPES[dtypes[1]])
    a[::2, :, ::2] = values[0] - np.sign(values[0])
    c = np.full((8, 8), 2**31 - 1, np.int32)
    total = np.einsum("smk,skn->mn", a.astype(np.int64), b.astype(np.int64)) + c
    assert abs(total - c).max() > 2**24
    np.testing.assert_array_equal(wmma.mma_chain(a, b, c), wrap(total))


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3), (3,)), ((2, 1), (2, 3)), ((1, 3), (2, 1)), ((), (2, 3)), ((2, 3), ()), ((2, 1, 3), (4, 1))],
    ids=str,
)
def test_stacks_of_any_dimensions(left, right):
    random = np.random.default_rng(22)
    a, b = draw(random, "int8", (*left, 8, 16)), draw(random, "int8", (*right, 16, 32))
    c = random.integers(INT32.min, INT32.max, (8, 32), dtype=np.int32)
    want = np.matmul(a.astype(np.int64), b.astype(np.int64)) + c
    np.testing.assert_array_equal(wmma.mma(a, b, c), wrap(want))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((8, 16), (2, 16, 32), "of one s"),
        ((2, 8, 16), (3, 16, 32), "of one s"),
        ((2, 9, 16), (2, 16, 32), "m9n32k16 int8·int8; supported"),
    ],
    ids=["no steps", "other steps", "odd m"],
)
def test_what_no_chain_is_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        wmma.mma_chain(np.zeros(a, np.int8), np.zeros(b, np.int8), np.zeros((a[-2], b[-1]), np.int32))


def test_extreme_operands_do_not_lose_bits():
    full = np.full((16, 16), 255, np.uint8)
    assert (wmma.mma(full, full, np.zeros((16, 16), np.int32)) == 16 * 255 * 255).all()
    low = np.full((16, 16), -128, np.int8)
    assert (wmma.mma(low, low, np.full((16, 16), INT32.max, np.int32)) == INT32.min + 16 * 16384 - 1).all()


@pytest.mark.parametrize(
    ("a", "b", "c", "message"),
    [
        (np.zeros((8, 16), np.int8), np.zeros((16, 8), np.float32), np.zeros((8, 8), np.int32), "m8n8k16 int8·float32; supported: wmma m16n16k16"),
        (np.zeros((8, 16), np.int8), np.zeros((16, 32), np.uint8), np.zeros((8, 32), np.int32), "m8n32k16 int8·uint8; supported"),
        (np.zeros((9, 16), np.int8), np.zeros((16, 8), np.int8), np.zeros((9, 8), np.int32), "m9n8k16 int8·int8; supported"),
        (np.zeros((8, 16), np.int8), np.zeros((16, 8), np.int8), np.zeros((8, 8), np.int64), "c must be int32, not int64"),
        (np.zeros((8, 16), np.int8), np.zeros((8, 8), np.int8), np.zeros((8, 8), np.int32), "do not fit"),
        (np.zeros((8, 16), np.int8), np.zeros((16, 8), np.int8), np.zeros((8, 1), np.int32), "do not fit"),
        (np.zeros(8, np.int8), np.zeros((16, 8), np.int8), np.zeros((8, 8), np.int32), "a must be a matrix"),
        (np.zeros((8, 32), ml_dtypes.int4), np.zeros((32, 8), np.int8), np.zeros((8, 8), np.int32), "int4·int8; supported"),
    ],
    ids=["float", "wmma mixes no signs", "odd m", "c int64", "k differs", "c broadcasts", "vector", "int4 with int8"],
)  # fmt: skip
def test_what_no_instruction_does_is_refused(a, b, c, message):
    with pytest.raises(ValueError, match=message):
        wmma.mma(a, b, c)


@pytest.mark.parametrize("operation", ["xor", "and"])
@pytest.mark.parametrize("shape", wmma.BINARY_SHAPES, ids=str)
def test_binary_mma_counts_ones(shape, operation):
    random = np.random.default_rng(8)
    m, n, k = shape
    a, b = random.random((m, k)) < 0.5, random.random((k, n)) < 0.5
    c = random.choice([INT32.min, -1, 0, INT32.max], (m, n)).astype(np.int32)
    rows = [int("".join("01"[int(x)] for x in row), 2) for row in a]
    columns = [int("".join("01"[int(x)] for x in column), 2) for column in b.T]
    ones = [[((x ^ y) if operation == "xor" else (x & y)).bit_count() for y in columns] for x in rows]
    np.testing.assert_array_equal(
        wmma.binary_mma(a, b, c, operation), wrap(np.array(ones) + c.astype(np.int64))
    )


@pytest.mark.parametrize(
    ("k", "dtype", "operation", "message"),
    [(128, bool, "or", "operation 'or'"), (64, bool, "xor", "m8n8k64 bool·bool; supported: m8n8k128"), (128, np.int8, "xor", "int8·int8")],
    ids=["or", "k 64", "bytes"],
)  # fmt: skip
def test_what_no_binary_instruction_does_is_refused(k, dtype, operation, message):
    with pytest.raises(ValueError, match=message):
        wmma.binary_mma(
            np.zeros((8, k), dtype), np.zeros((k, 8), dtype), np.zeros((8, 8), np.int32), operation
        )
