# ruff: noqa: E501  (tables of cases: one case, one line)
"""Divergence, loops, barriers, exchange within a warp: as NVRTC compiles them, against NumPy."""

import numpy as np
import pytest

from simulators import ptx
from simulators.ptx import launch as machine
from tests.simulators.cuda_source import compile_ptx

SOURCE = """
extern "C" __global__ void collatz(const unsigned* x, unsigned* steps, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  unsigned v = x[i], count = 0;
  while (v != 1) {
    if (v & 1) v = 3 * v + 1; else v >>= 1;
    count++;
    if (count > 200) break;
  }
  steps[i] = count;
}
extern "C" __global__ void nested(const int* x, int* out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, sum = 0;
  for (int a = 0; a < (x[i] & 7); a++) {
    for (int b = a; b < (x[i] >> 3 & 7); b++) {
      if ((a ^ b) & 1) continue;
      switch ((a + b + x[i]) & 3) {
        case 0: sum += a * b; break;
        case 1: sum -= b; // falls through
        case 2: sum ^= 5; break;
        default: sum = sum * 3 + 1;
      }
    }
  }
  out[i] = sum;
}
extern "C" __global__ void reversed_rows(const int* x, int* out) {
  __shared__ int row[96];
  int t = threadIdx.x;
  row[t] = x[blockIdx.x * 96 + t];
  __syncthreads();
  out[blockIdx.x * 96 + t] = row[95 - t];
}
extern "C" __global__ void reduction(const int* x, int* out) {
  extern __shared__ int part[];
  int t = threadIdx.x;
  part[t] = x[blockIdx.x * blockDim.x + t];
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (t < half) part[t] += part[t + half];
    __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = part[0];
}
extern "C" __global__ void both_kinds(const int* x, int* out) {
  extern __shared__ int grows[];
  __shared__ int fixed[64];
  __shared__ char odd[3];
  int t = threadIdx.x;
  if (t < 3) odd[t] = t + 1;
  grows[t] = x[t]; fixed[t] = -x[t];
  __syncthreads();
  out[t] = grows[63 - t] * 1000 + fixed[t ^ 1] + odd[0] + odd[1] + odd[2];
}
extern "C" __global__ void lanes(const int* x, int* out, const int* by) {
  int i = threadIdx.x, v = x[i], n = blockDim.x;
  out[i] = __shfl_xor_sync(0xffffffff, v, 5);
  out[i + n] = __shfl_up_sync(0xffffffff, v, 3);
  out[i + 2 * n] = __shfl_down_sync(0xffffffff, v, 7, 16);
  out[i + 3 * n] = __shfl_sync(0xffffffff, v, by[i], 8);
  out[i + 4 * n] = __ballot_sync(0xffffffff, v & 1);
  out[i + 5 * n] = __any_sync(0xffffffff, v == x[5]) * 2 + __all_sync(0xffffffff, v >= 0);
}
extern "C" __global__ void early_exit(const int* x, int* out) {
  __shared__ int seen[64];
  int t = threadIdx.x;
  seen[t] = x[t];
  if (x[t] < 0) return;
  __syncthreads();
  out[t] = seen[t ^ 32];
}
"""


@pytest.fixture(scope="module")
def module():
    return ptx.parse(compile_ptx(SOURCE))


@pytest.fixture(autouse=True, params=[1, 4096], ids=["small groups", "one group"])
def group_warps(request, monkeypatch):
    monkeypatch.setattr(machine, "GROUP_WARPS", request.param)


def collatz(v):
    count = 0
    while v != 1 and count <= 200:
        v = (3 * v + 1) % 2**32 if v & 1 else v >> 1
        count += 1
    return count


@pytest.mark.parametrize("n", [1, 31, 100, 128])
def test_a_loop_that_each_thread_leaves_at_its_own_time(module, n):
    x = np.random.default_rng(1).integers(1, 2**31, 128, dtype=np.uint32)
    steps = np.full(128, 999, np.uint32)
    report = module.launch("collatz", 2, 64, [x, steps, n])
    assert steps.tolist() == [collatz(int(v)) for v in x[:n]] + [999] * (128 - n)
    assert report.counters["global_store_bytes"] == 4 * n


def nested(x):
    total = 0
    for a in range(x & 7):
        for b in range(a, x >> 3 & 7):
            if (a ^ b) & 1:
                continue
            which = (a + b + x) & 3
            if which == 0:
                total += a * b
            elif which == 1:
                total = (total - b) ^ 5
            elif which == 2:
                total ^= 5
            else:
                total = total * 3 + 1
            total = (total + 2**31) % 2**32 - 2**31
    return total


def test_nested_divergent_loops_and_a_switch(module):
    x = np.random.default_rng(2).integers(-(2**31), 2**31, 256, dtype=np.int32)
    out = np.zeros(256, np.int32)
    module.launch("nested", 4, 64, [x, out])
    assert out.tolist() == [nested(int(v)) for v in x]


def test_a_barrier_makes_shared_memory_visible_to_all_warps(module):
    x = np.random.default_rng(3).integers(-(2**31), 2**31, (5, 96), dtype=np.int32)
    out = np.zeros_like(x)
    report = module.launch("reversed_rows", 5, 96, [x, out])
    np.testing.assert_array_equal(out, x[:, ::-1])
    assert report.findings == []
    assert report.counters["shared_load_bytes"] == report.counters["shared_store_bytes"] == x.nbytes


@pytest.mark.parametrize("threads", [2, 64, 256])
def test_tree_reduction_in_dynamic_shared_memory(module, threads):
    x = np.random.default_rng(4).integers(-(2**31), 2**31, (3, threads), dtype=np.int32)
    out = np.zeros(3, np.int32)
    report = module.launch("reduction", 3, threads, [x, out], dynamic_shared=4 * threads)
    np.testing.assert_array_equal(out, x.sum(axis=1, dtype=np.int32))
    assert report.findings == []


def test_static_and_dynamic_shared_memory_do_not_overlap(module):
    x, out = np.arange(100, 164, dtype=np.int32), np.zeros(64, np.int32)
    report = module.launch("both_kinds", 1, 64, [x, out], dynamic_shared=256)
    np.testing.assert_array_equal(out, x[::-1] * 1000 - x[np.arange(64) ^ 1] + 6)
    assert report.findings == []
    report = module.launch("both_kinds", 1, 64, [x, out], dynamic_shared=252)
    assert {f.kind for f in report.findings} == {"out-of-bounds"}


def test_exchange_within_a_warp(module):
    random = np.random.default_rng(5)
    x, by = random.integers(-(2**31), 2**31, 64, dtype=np.int32), random.integers(0, 32, 64, dtype=np.int32)
    out = np.zeros((6, 64), np.int32)
    module.launch("lanes", 1, 64, [x, out, by])
    lane, warp = np.arange(64) % 32, np.arange(64) // 32 * 32
    np.testing.assert_array_equal(out[0], x[warp + (lane ^ 5)])
    np.testing.assert_array_equal(out[1], x[warp + np.where(lane >= 3, lane - 3, lane)])
    np.testing.assert_array_equal(out[2], x[warp + np.where(lane % 16 + 7 < 16, lane + 7, lane)])
    np.testing.assert_array_equal(out[3], x[warp + lane // 8 * 8 + by % 8])
    ballot = ((x & 1).reshape(2, 32).astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum(axis=1)
    np.testing.assert_array_equal(out[4].view(np.uint32), ballot.astype(np.uint32).repeat(32))
    any_equal = (x == x[5]).reshape(2, 32).any(axis=1).repeat(32)
    all_positive = (x >= 0).reshape(2, 32).all(axis=1).repeat(32)
    np.testing.assert_array_equal(out[5], any_equal * 2 + all_positive)


def test_threads_that_have_left_are_not_waited_for(module):
    x = np.arange(64, dtype=np.int32)
    x[:32] *= -1
    x[0] = -1
    out = np.full(64, 7, np.int32)
    report = module.launch("early_exit", 1, 64, [x, out])
    np.testing.assert_array_equal(out, np.concatenate([np.full(32, 7), x[:32]]))
    assert report.findings == []


def body(text):
    return (
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out)\n{\n"
        ".reg .b32 %r<8>; .reg .b64 %rd<3>; .reg .pred %p<3>;\nmov.u32 %r0, %tid.x;\n" + text + "\n}\n"
    )


STORE = "ld.param.u64 %rd0, [out]; mad.wide.u32 %rd1, %r0, 4, %rd0; st.global.u32 [%rd1], %r1;"


def test_a_barrier_in_a_divided_warp_is_a_finding():
    text = body(
        f"setp.lt.u32 %p0, %r0, 16;\n@%p0 bra SKIP;\nbar.sync 0;\nSKIP:\nmov.u32 %r1, 5;\n{STORE}\nret;"
    )
    out = np.zeros(64, np.uint32)
    report = ptx.parse(text).launch("k", 1, 64, [out])
    assert [(f.kind, f.severity) for f in report.findings] == [("barrier-divergence", "error")]
    assert "PTX line 10" in report.findings[0].where
    assert "thread (16, 0, 0)" in report.findings[0].message
    assert out.tolist() == [5] * 64


def test_warps_may_meet_at_different_barriers():
    text = body(
        "setp.lt.u32 %p0, %r0, 32;\n.shared .b32 s;\n@%p0 bra FIRST;\nmov.u32 %r1, 42; setp.eq.u32 %p1, %r0, 32; @%p1 st.shared.u32 [s], %r1;\n"
        f"bar.sync 0;\nbra DONE;\nFIRST:\nbar.sync 0;\nDONE:\nld.shared.u32 %r1, [s];\n{STORE}\nret;"
    )
    out = np.zeros(64, np.uint32)
    report = ptx.parse(text).launch("k", 1, 64, [out])
    assert report.findings == []
    assert out.tolist() == [42] * 64


def test_who_comes_first_to_a_barrier_waits_for_the_warps_on_another_path():
    # The second warp's barrier and load stand before the first warp's store in the text.
    text = body(
        "setp.lt.u32 %p0, %r0, 32;\n.shared .b32 s;\n@%p0 bra FIRST;\nbar.sync 0;\nld.shared.u32 %r1, [s];\n"
        f"bra DONE;\nFIRST:\nmov.u32 %r1, 42; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [s], %r1;\nbar.sync 0;\nDONE:\n{STORE}\nret;"
    )
    out = np.zeros(64, np.uint32)
    report = ptx.parse(text).launch("k", 1, 64, [out])
    assert report.findings == []
    assert out.tolist() == [42] * 64


def test_guarded_instructions_run_only_where_the_guard_holds():
    text = body(
        "mov.u32 %r1, 1;\nsetp.lt.u32 %p0, %r0, 10;\n@%p0 add.u32 %r1, %r1, 4;\n@!%p0 mov.u32 %r1, 9;\n"
        f"setp.eq.u32 %p1, %r0, 99;\n@%p1 mov.u32 %r1, 77;\n@!%p1 add.u32 %r1, %r1, 1;\n{STORE}\n@%p0 exit;\n"
        "mov.u32 %r1, 3;\n@%p0 mov.u32 %r1, 4;\n"
        + STORE.replace("0, [out]", "2, [out]").replace("%rd0;", "%rd2;")
    )
    out = np.zeros(40, np.uint32)
    report = ptx.parse(text).launch("k", 1, 40, [out])
    assert out.tolist() == [6] * 10 + [3] * 30
    # The first warp's 32 and the second's 8 threads store; then all but the ten that left.
    assert report.counters["global_store_bytes"] == 4 * (40 + 30)
