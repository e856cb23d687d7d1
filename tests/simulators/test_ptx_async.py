# ruff: noqa: E501  (tables of cases: one case, one line)
"""cp.async: what lands, when, and what a kernel that does not wait sees."""

import numpy as np
import pytest

from simulators import ptx
from tests.simulators.cuda_source import compile_ptx

PIPELINE = """
#include <cuda_pipeline_primitives.h>
// Rows of 128 ints summed, with `STAGES` rows on their way while one is added.
template <int STAGES> __device__ void sums(const int4* x, int* out, int rows, int bytes) {
  __shared__ int4 row[STAGES][32];
  int t = threadIdx.x, sum = 0;
  x += blockIdx.x * rows * 32;
  for (int r = 0; r < STAGES - 1; r++) {
    if (r < rows) __pipeline_memcpy_async(&row[r][t], &x[r * 32 + t], 16, 16 - bytes);
    __pipeline_commit();
  }
  for (int r = 0; r < rows; r++) {
    int next = r + STAGES - 1;
    __pipeline_wait_prior(STAGES - 2);
    __syncthreads();
    if (next < rows) __pipeline_memcpy_async(&row[next % STAGES][t], &x[next * 32 + t], 16, 16 - bytes);
    __pipeline_commit();
    int4 v = row[r % STAGES][t ^ 5];
    sum += v.x * 3 + v.y * 5 + v.z * 7 + v.w * 11;
  }
  out[blockIdx.x * 32 + t] = sum;
}
extern "C" __global__ void two(const int4* x, int* out, int rows, int bytes) { sums<2>(x, out, rows, bytes); }
extern "C" __global__ void four(const int4* x, int* out, int rows, int bytes) { sums<4>(x, out, rows, bytes); }
// The first half of the threads waits, the second does not and sees what was there before.
extern "C" __global__ void half(const int* x, int* out) {
  __shared__ int s[32];
  int t = threadIdx.x;
  s[t] = -1;
  __syncwarp();
  __pipeline_memcpy_async(&s[t], &x[t], 4);
  __pipeline_commit();
  if (t < 16) __pipeline_wait_prior(0);
  out[t] = s[t];
}
"""


@pytest.fixture(scope="module")
def module():
    return ptx.parse(compile_ptx(PIPELINE))


@pytest.mark.parametrize("bytes_", [16, 12, 8, 5, 0])
@pytest.mark.parametrize("kernel", ["two", "four"])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_pipeline_of_copies_with_zero_fill(module, kernel, rows, bytes_):
    random = np.random.default_rng(rows)
    x = random.integers(-(2**31), 2**31, (2, rows, 32, 4), dtype=np.int32)
    out = np.zeros((2, 32), np.int32)
    report = module.launch(kernel, 2, 32, [x, out, rows, bytes_])
    seen = x.copy()
    seen.view(np.uint8).reshape(2, rows, 32, 16)[..., bytes_:] = 0
    sums = (seen.astype(np.int64) * [3, 5, 7, 11]).sum(axis=(1, 3))
    np.testing.assert_array_equal(out, (sums[:, np.arange(32) ^ 5] + 2**31) % 2**32 - 2**31)
    assert report.findings == []
    assert report.counters["shared_store_bytes"] == x.nbytes
    assert report.counters["global_load_bytes"] == x.nbytes // 16 * bytes_


def test_who_does_not_wait_sees_the_old_contents(module):
    x, out = np.arange(100, 132, dtype=np.int32), np.zeros(32, np.int32)
    module.launch("half", 1, 32, [x, out])
    assert out.tolist() == [*range(100, 116), *[-1] * 16]


HEAD = (
    ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{\n"
    ".reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<2>; .shared .align 16 .b8 s[512];\n"
    "mov.u32 %r0, %tid.x; shl.b32 %r1, %r0, 4; cvt.u64.u32 %rd1, %r1; ld.param.u64 %rd0, [in]; add.u64 %rd0, %rd0, %rd1;\n"
    "ld.param.u64 %rd2, [out]; add.u64 %rd2, %rd2, %rd1; mov.u32 %r2, s; add.u32 %r2, %r2, %r1; setp.gt.u32 %p0, %r0, 3;\n"
)  # what follows is line 9
TAIL = "\nld.shared.v4.u32 {%r4,%r5,%r6,%r7}, [%r2]; st.global.v4.u32 [%rd2], {%r4,%r5,%r6,%r7};\nret;\n}\n"


def run(body, threads=32):
    data = np.arange(1, 129, dtype=np.uint32).reshape(32, 4)
    out = np.zeros_like(data)
    report = ptx.parse(f"{HEAD}{body}{TAIL}").launch("k", 1, threads, [data, out])
    return data, out, report


@pytest.mark.parametrize(
    "wait",
    ["cp.async.wait_all;", "cp.async.commit_group; cp.async.wait_group 0;", "cp.async.commit_group; cp.async.wait_all;"],
)  # fmt: skip
def test_every_way_to_wait(wait):
    data, out, report = run(f"cp.async.cg.shared.global.L2::128B [%r2], [%rd0], 16; {wait}")
    np.testing.assert_array_equal(out, data)
    assert report.findings == []


def test_a_wait_for_groups_leaves_what_no_group_has():
    _, out, report = run("cp.async.ca.shared.global [%r2], [%rd0], 16; cp.async.wait_group 0;")
    assert not out.any()
    assert "uninitialised" in [f.kind for f in report.findings]


def test_copies_that_a_predicate_lets_ignore_their_source_are_zeros():
    data, out, report = run("cp.async.cg.shared.global [%r2], [%rd0], 16, %p0; cp.async.wait_all;")
    np.testing.assert_array_equal(out[:4], data[:4])
    assert not out[4:].any()
    assert report.findings == []


def test_only_guarded_threads_copy():
    data, out, _ = run(
        "st.shared.v4.u32 [%r2], {%r0,%r0,%r0,%r0}; @%p0 cp.async.cg.shared.global [%r2], [%rd0], 16; cp.async.wait_all;"
    )
    np.testing.assert_array_equal(out[4:], data[4:])
    np.testing.assert_array_equal(out[:4], np.arange(4)[:, None] + np.zeros((1, 4), int))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("cp.async.cg.shared.global [%r2], [%rd0+16], 16;", "out-of-bounds"),
        ("cp.async.cg.shared.global [%r2+16], [%rd0], 16;", "out-of-bounds"),
        ("cp.async.ca.shared.global [%r2], [%rd0+4], 8;", "misaligned"),
        ("cp.async.ca.shared.global [%r2+2], [%rd0], 4;", "misaligned"),
    ],
    ids=["source outside", "destination outside", "source misaligned", "destination misaligned"],
)
def test_a_bad_copy_is_found_where_it_is_issued(line, kind):
    _, _, report = run(f"{line} cp.async.wait_all;")
    finding = next(f for f in report.findings if f.kind == kind)
    assert "PTX line 9 (cp.async" in finding.where


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cp.async.cg.shared.global [%r2], [%rd0], 8;", ".cg copies 16 bytes, not 8"),
        ("cp.async.ca.shared.global [%r2], [%rd0], 2;", ".ca copies 4, 8 or 16 bytes, not 2"),
        ("cp.async.ca.shared.global [%r2], [%rd0], %r0;", "expects a number"),
        ("cp.async.wait_group %r0;", "expects a number"),
        ("cp.async.ca.shared.global [%r2], [%rd0], 16, %rd1;", "a cache policy"),
    ],
)
def test_what_it_is_not_is_an_error(line, message):
    with pytest.raises(ptx.PtxError, match=message) as caught:
        run(line)
    assert "line 9" in str(caught.value)
