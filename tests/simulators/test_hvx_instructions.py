"""simulators.hvx.vrmpy against the definition in Python integers, and against QEMU executing it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simulators.hvx import vdmpyhvsat, vrmpy
from simulators.hvx.instructions import VRMPY_FORMS
from simulators.hvx.qemu import FunctionServer
from tests.simulators.hvx_guest import guest, needs_qemu, needs_toolchain

INT32_ENDS = (-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 2, 2**31 - 1)

ASSEMBLY = {
    "vrmpyubv": "v0.uw {} vrmpy(v1.ub, v2.ub)",
    "vrmpybusv": "v0.w {} vrmpy(v1.ub, v2.b)",
    "vrmpybv": "v0.w {} vrmpy(v1.b, v2.b)",
    "vrmpyub": "v0.uw {} vrmpy(v1.ub, %2.ub)",
    "vrmpybus": "v0.w {} vrmpy(v1.ub, %2.b)",
}


def by_definition(acc: int, u: list[int], v: list[int]) -> int:
    total = acc + sum(a * b for a, b in zip(u, v, strict=True))
    return (total + 2**31) % 2**32 - 2**31


def operands(
    u_dtype: str, v_dtype: str, v_lanes: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full-range random operands, after a row for every pair of corners."""
    rng = np.random.default_rng(2026)
    drawn = []
    for dtype, lanes in ((u_dtype, 128), (v_dtype, v_lanes)):
        info = np.iinfo(dtype)
        drawn.append(rng.integers(info.min, info.max, (count, lanes), dtype=dtype, endpoint=True))
    u, v = drawn
    acc = rng.integers(-(2**31), 2**31 - 1, (count, 32), dtype=np.int32, endpoint=True)
    corners = itertools.product(
        *(
            [np.iinfo(d).min, np.iinfo(d).min + 1, 0, np.iinfo(d).max // 2 + 1, np.iinfo(d).max]
            for d in (u_dtype, v_dtype)
        )
    )
    for row, (a, b) in enumerate(corners):
        u[row], v[row] = a, b
        acc[row] = np.resize(np.array(INT32_ENDS, dtype=np.int32), 32)
    return acc, u, v


@pytest.mark.parametrize(("u_dtype", "v_dtype", "v_lanes"), VRMPY_FORMS, ids=VRMPY_FORMS.values())
@pytest.mark.parametrize("accumulate", [True, False], ids=["accumulating", "plain"])
def test_each_lane_is_four_products_added_and_wrapped(u_dtype, v_dtype, v_lanes, accumulate):
    acc, u, v = operands(u_dtype, v_dtype, v_lanes, 40)
    result = vrmpy(acc if accumulate else None, u, v)
    assert result.dtype == np.int32
    for row, lane in itertools.product(range(40), range(32)):
        begin = 4 * lane if v_lanes == 128 else 0
        expected = by_definition(
            int(acc[row, lane]) if accumulate else 0,
            u[row, 4 * lane : 4 * lane + 4].tolist(),
            v[row, begin : begin + 4].tolist(),
        )
        assert result[row, lane] == expected, (row, lane)


def test_the_sum_wraps_and_does_not_saturate():
    acc = np.full(32, 2**31 - 1, np.int32)
    assert (vrmpy(acc, np.full(128, 255, np.uint8), np.full(128, 1, np.int8)) == -(2**31) + 1019).all()
    assert (vrmpy(-acc - 1, np.full(128, 255, np.uint8), np.full(4, -1, np.int8)) == 2**31 - 1020).all()


def test_operands_are_left_as_they_are():
    acc, u, v = operands("uint8", "int8", 128, 40)
    before = acc.copy(), u.copy(), v.copy()
    vrmpy(acc, u, v)
    assert all(np.array_equal(a, b) for a, b in zip((acc, u, v), before, strict=True))


@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3),
    form=st.sampled_from(sorted(VRMPY_FORMS)),
)
def test_leading_dimensions_broadcast(shapes, form):
    u_dtype, v_dtype, v_lanes = form
    rng = np.random.default_rng(1)
    acc_shape, u_shape, v_shape = shapes.input_shapes
    acc = rng.integers(-(2**31), 2**31, (*acc_shape, 32), dtype=np.int32)
    u = rng.integers(0, 128, (*u_shape, 128)).astype(u_dtype)
    v = rng.integers(0, 128, (*v_shape, v_lanes)).astype(v_dtype)
    result = vrmpy(acc, u, v)
    assert result.shape == (*shapes.result_shape, 32)
    wide = [np.broadcast_to(x, (*shapes.result_shape, x.shape[-1])) for x in (acc, u, v)]
    for index in np.ndindex(shapes.result_shape):
        assert np.array_equal(result[index], vrmpy(*(x[index] for x in wide)))


@pytest.mark.parametrize(
    ("u", "v"),
    [
        (np.zeros(128, np.int8), np.zeros(128, np.uint8)),
        (np.zeros(128, np.int8), np.zeros(4, np.int8)),
        (np.zeros(128, np.int16), np.zeros(128, np.int16)),
        (np.zeros(64, np.uint8), np.zeros(64, np.uint8)),
        (np.zeros(4, np.uint8), np.zeros(128, np.uint8)),
        (np.uint8(1), np.uint8(1)),
    ],
    ids=["i8-by-u8", "i8-by-scalar-i8", "i16", "64-lanes", "scalar-first", "no-dimension"],
)
def test_operands_of_no_form_are_refused_with_the_list_of_forms(u, v):
    with pytest.raises(ValueError, match=r"no vrmpy takes .* vrmpybusv \(uint8\[128\], int8\[128\]\)"):
        vrmpy(None, u, v)


@pytest.mark.parametrize(
    "acc",
    [np.zeros(32, np.int64), np.zeros(31, np.int32), np.int32(0)],
    ids=["int64", "31-words", "no-dimension"],
)
def test_an_accumulator_of_another_kind_is_refused(acc):
    with pytest.raises(ValueError, match=r"the accumulator of vrmpy is int32 \(\.\.\., 32\)"):
        vrmpy(acc, np.zeros(128, np.uint8), np.zeros(128, np.uint8))


def test_leading_dimensions_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match="do not broadcast"):
        vrmpy(None, np.zeros((2, 128), np.uint8), np.zeros((3, 128), np.uint8))


# ---- the witness: QEMU executes the very instruction ----

FUNCTION = """
i32 __tvm_ffi_{name}(void *self, const any *arguments, i32 count, any *result) {{
  (void)self, (void)count, (void)result;
  tensor *acc = arguments[0].value.tensor, *u = arguments[1].value.tensor;
  tensor *v = arguments[2].value.tensor, *out = arguments[3].value.tensor;
  for (i64 row = 0; row < u->shape[0]; row++)
    __asm__ volatile("{{ v0 = vmem(%0+#0) }} {{ v1 = vmem(%1+#0) }} {load}"
                     "{{ {instruction} }} {{ vmem(%3+#0) = v0 }}"
                     ::"r"((u8 *)acc->data + 128 * row), "r"((u8 *)u->data + 128 * row),
                       "r"({second}), "r"((u8 *)out->data + 128 * row) : "v0", "v1", "v2", "memory");
  return 0;
}}
"""


@pytest.fixture(scope="module")
def executed():
    functions = {}
    for (_, _, v_lanes), form in VRMPY_FORMS.items():
        for suffix, sign in (("acc", "+="), ("plain", "=")):
            functions[f"{form}_{suffix}"] = FUNCTION.format(
                name=f"{form}_{suffix}",
                load="{ v2 = vmem(%2+#0) }" if v_lanes == 128 else "",
                instruction=ASSEMBLY[form].format(sign),
                second="(u8 *)v->data + 128 * row" if v_lanes == 128 else "((u32 *)v->data)[row]",
            )
    for suffix, sign in (("acc", "+="), ("plain", "=")):
        functions[f"vdmpyhvsat_{suffix}"] = FUNCTION.format(
            name=f"vdmpyhvsat_{suffix}",
            load="{ v2 = vmem(%2+#0) }",
            instruction=f"v0.w {sign} vdmpy(v1.h, v2.h):sat",
            second="(u8 *)v->data + 128 * row",
        )
    with FunctionServer(guest("".join(functions.values()), list(functions)), timeout=30) as server:
        yield server


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize(("u_dtype", "v_dtype", "v_lanes"), VRMPY_FORMS, ids=VRMPY_FORMS.values())
@pytest.mark.parametrize("suffix", ["acc", "plain"])
def test_qemu_executes_what_the_model_says(executed, u_dtype, v_dtype, v_lanes, suffix):
    acc, u, v = operands(u_dtype, v_dtype, v_lanes, 2000)
    out = np.zeros_like(acc)
    executed.call(f"{VRMPY_FORMS[u_dtype, v_dtype, v_lanes]}_{suffix}", [acc, u, v], out)
    assert np.array_equal(out, vrmpy(acc if suffix == "acc" else None, u, v))


# ---- the instruction that saturates ----


def halfwords(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full-range random operands, after a row for every pair of corners."""
    rng = np.random.default_rng(13)
    acc = rng.integers(-(2**31), 2**31 - 1, (count, 32), dtype=np.int32, endpoint=True)
    u, v = rng.integers(-(2**15), 2**15 - 1, (2, count, 64), dtype=np.int16, endpoint=True)
    for row, (a, b) in enumerate(itertools.product((-(2**15), -1, 0, 1, 2**15 - 1), repeat=2)):
        u[row], v[row] = a, b
        acc[row] = np.resize(np.array(INT32_ENDS, dtype=np.int32), 32)
    return acc, u, v


@pytest.mark.parametrize("accumulate", [True, False], ids=["accumulating", "plain"])
def test_each_lane_of_vdmpy_is_two_products_added_and_saturated(accumulate):
    acc, u, v = halfwords(40)
    result = vdmpyhvsat(acc if accumulate else None, u, v)
    assert result.dtype == np.int32
    for row, lane in itertools.product(range(40), range(32)):
        total = int(acc[row, lane]) if accumulate else 0
        total += sum(int(u[row, 2 * lane + k]) * int(v[row, 2 * lane + k]) for k in (0, 1))
        assert result[row, lane] == min(max(total, -(2**31)), 2**31 - 1), (row, lane)


def test_vdmpy_saturates_where_vrmpy_wraps():
    acc = np.array([2**31 - 1] * 16 + [-(2**31)] * 16, np.int32)
    sign = np.array([1] * 16 + [-1] * 16, np.int8)
    ones = np.ones(64, np.int16)
    assert np.array_equal(vdmpyhvsat(acc, ones, np.repeat(sign, 2).astype(np.int16)), acc)
    assert (np.sign(vrmpy(acc, np.ones(128, np.uint8), np.repeat(sign, 4))) == -np.sign(acc)).all()


@pytest.mark.parametrize(
    ("acc", "u", "v"),
    [
        (None, np.zeros(64, np.int32), np.zeros(64, np.int16)),
        (None, np.zeros(64, np.int16), np.zeros(32, np.int16)),
        (np.zeros(32, np.int64), np.zeros(64, np.int16), np.zeros(64, np.int16)),
        (np.zeros(64, np.int32), np.zeros(64, np.int16), np.zeros(64, np.int16)),
    ],
    ids=["int32", "32-lanes", "int64-accumulator", "64-accumulators"],
)
def test_operands_that_vdmpy_does_not_take_are_refused(acc, u, v):
    with pytest.raises(ValueError, match="vdmpyhvsat"):
        vdmpyhvsat(acc, u, v)


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize("suffix", ["acc", "plain"])
def test_qemu_executes_the_saturating_vdmpy_of_the_model(executed, suffix):
    acc, u, v = halfwords(2000)
    out = np.zeros_like(acc)
    executed.call(f"vdmpyhvsat_{suffix}", [acc, u, v], out)
    assert np.array_equal(out, vdmpyhvsat(acc if suffix == "acc" else None, u, v))


@pytest.mark.parametrize(("inputs", "wraps"), [(33025, False), (33026, True)])
def test_sums_of_the_largest_products_wrap_from_33026_inputs(inputs, wraps):
    """65025 * 33025 is the last product that fits int32."""
    acc: np.ndarray | None = None
    full = np.full(128, 255, np.uint8)
    for _ in range(inputs // 4):
        acc = vrmpy(acc, full, full)
    rest = np.zeros((32, 4), np.uint8)
    rest[:, : inputs % 4] = 255
    acc = vrmpy(acc, rest.reshape(128), full)
    assert (acc == 65025 * inputs - (2**32 if wraps else 0)).all()
