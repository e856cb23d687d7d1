# ruff: noqa: E501  (tables of cases: one case, one line)
"""Kernels that race, though they give the right numbers here, and kernels that do not though they look like it."""

import numpy as np
import pytest

from simulators import ptx
from simulators.ptx import launch as machine
from tests.simulators.cuda_source import compile_ptx

# Each kernel takes x and out, 64 threads a block, and two blocks.
RACY = {
    "no barrier between store and load": ("""
        s[t] = x[i]; out[i] = s[63 - t];""", "read", "written", "shared"),
    "no barrier between load and the next store": ("""
        for (int k = 0; k < 3; k++) { s[t] = x[i] + k; __syncthreads(); sum += s[t ^ 33]; } out[i] = sum;""", "written", "read", "shared"),
    "a barrier that only one side of the loop has": ("""
        s[t] = x[i]; __syncthreads(); for (int k = 0; k < 3; k++) { sum += s[(t + k) & 63]; if (k == 1) __syncthreads(); s[t] = sum; } out[i] = sum;""", "written", "read", "shared"),
    "two threads write one place": ("""
        s[t / 2] = x[i]; __syncthreads(); out[i] = s[t / 2];""", "written", "written", "shared"),
    "two instructions write one place": ("""
        s[t] = x[i]; s[(t + 32) & 63] = x[i] + 1; __syncthreads(); out[i] = s[t];""", "written", "written", "shared"),
    "lanes of one warp without __syncwarp": ("""
        s[t] = x[i]; out[i] = s[t ^ 1];""", "read", "written", "shared"),
    "__syncwarp between warps": ("""
        s[t] = x[i]; __syncwarp(); out[i] = s[t ^ 32];""", "read", "written", "shared"),
    "bytes of one word, one of them another's": ("""
        char* c = (char*)s; c[t] = x[i]; out[i] = c[t ^ 1];""", "read", "written", "shared"),
    "one thread reads, all write": ("""
        if (t == 40) sum = s[3]; s[t] = x[i]; __syncthreads(); out[i] = s[t] + sum;""", "written", "read", "shared"),
    "reduction without its last barriers": ("""
        s[t] = x[i]; __syncthreads(); for (int h = 32; h > 0; h /= 2) { if (t < h) s[t] += s[t + h]; if (h > 16) __syncthreads(); } out[i] = s[0];""", "read", "written", "shared"),
    "blocks with different numbers of rounds": ("""
        for (int k = 0; k < 2 + (int)blockIdx.x; k++) { s[t] = x[i] + k; __syncthreads(); sum += s[t ^ 33]; } out[i] = sum;""", "written", "read", "shared"),
    "a copy that some of the blocks make": ("""
        if (blockIdx.x) s[t] = x[i]; else s[t ^ 1] = x[i]; out[i] = s[t];""", "read", "written", "shared"),
    "a barrier does not order blocks": ("""
        out[t] = x[i]; __syncthreads();""", "written", "written", "global"),
    "one block reads what the other writes": ("""
        if (blockIdx.x) out[t] = x[t]; else sum = out[t ^ 3]; __syncthreads(); out[i + 128] = sum;""", "written", "read", "global"),
    "one block reads what the one before wrote": ("""
        if (!blockIdx.x) out[t] = x[t]; else sum = out[t ^ 3]; __syncthreads(); out[i + 128] = sum;""", "read", "written", "global"),
    "global memory in a block without a barrier": ("""
        out[i] = x[i]; sum = out[i ^ 5]; out[i + 128] = sum;""", "read", "written", "global"),
    "two threads write one global place": ("""
        out[i / 2] = x[i];""", "written", "written", "global"),
}  # fmt: skip
CLEAN = {
    "barriers on both sides": "for (int k = 0; k < 3; k++) { s[t] = x[i] + k; __syncthreads(); sum += s[t ^ 33]; __syncthreads(); } out[i] = sum;",
    "blocks with different numbers of rounds, in order": "for (int k = 0; k < 2 + (int)blockIdx.x; k++) { s[t] = x[i] + k; __syncthreads(); sum += s[t ^ 33]; __syncthreads(); } out[i] = sum;",
    "blocks with different barriers": "if (blockIdx.x) { s[t] = x[i]; __syncthreads(); sum = s[t ^ 40]; } else { s[t] = 1; __syncthreads(); s[t ^ 1] = 2; __syncthreads(); sum = s[63 - t]; } out[i] = sum;",
    "two buffers take turns": "for (int k = 0; k < 4; k++) { s[(k & 1) * 64 + t] = x[i] + k; __syncthreads(); sum += s[(k & 1) * 64 + (t ^ 33)]; } out[i] = sum;",
    "each thread its own": "s[t] = x[i]; s[t] += 3; out[i] = s[t]; out[i] += 2;",
    "neighbouring bytes": "char* c = (char*)s; c[t] = x[i]; c[t + 64] = x[i] + 1; __syncthreads(); out[i] = c[t ^ 1] + c[64 + (t ^ 2)];",
    "a whole word after its bytes": "char* c = (char*)s; c[t] = x[i]; __syncthreads(); if (t < 16) out[i] = s[t];",
    "__syncwarp within a warp": "s[t] = x[i]; __syncwarp(); sum = s[t ^ 7]; __syncwarp(); s[t] = sum; out[i] = sum;",
    "everybody reads one place": "if (t == 0) s[0] = x[i]; __syncthreads(); sum = s[0]; __syncthreads(); if (t == 5) s[0] = 4; out[i] = sum;",
    "a tree with barriers": "s[t] = x[i]; __syncthreads(); for (int h = 32; h > 0; h /= 2) { if (t < h) s[t] += s[t + h]; __syncthreads(); } out[i] = s[0];",
    "global memory with a barrier": "out[i] = x[i]; __syncthreads(); sum = out[i ^ 5]; out[i + 128] = sum;",
    "blocks read what nobody writes": "out[i] = x[t] + x[3];",
}  # fmt: skip
KERNEL = """
extern "C" __global__ void {name}(const int* x, int* out) {{
  __shared__ int s[128];
  int t = threadIdx.x, i = blockIdx.x * 64 + t, sum = 0;
  {body}
}}
"""


def name_of(title):
    return "".join(c if c.isalnum() else "_" for c in title)


@pytest.fixture(scope="module")
def module():
    bodies = {title: body for title, (body, *_) in RACY.items()} | CLEAN
    return ptx.parse(compile_ptx("".join(KERNEL.format(name=name_of(t), body=b) for t, b in bodies.items())))


@pytest.fixture(autouse=True, params=[1, 4096], ids=["small groups", "one group"])
def group_warps(request, monkeypatch):
    monkeypatch.setattr(machine, "GROUP_WARPS", request.param)


def launch(module, title):
    x = np.random.default_rng(1).integers(0, 100, 128, dtype=np.int32)
    return module.launch(name_of(title), 2, 64, [x, np.zeros(256, np.int32)])


@pytest.mark.parametrize(
    ("title", "what", "earlier", "space"), [(t, *rest) for t, (_, *rest) in RACY.items()], ids=list(RACY)
)
def test_a_race_is_an_error_that_names_both_accesses(module, title, what, earlier, space):
    findings = [f for f in launch(module, title).findings if f.kind == "race" and f.severity == "error"]
    assert findings, "the race was not found"
    wanted = f"is {what} by"
    first = next(f for f in findings if wanted in f.message and f", and {earlier} by" in f.message)
    assert f"{space} address 0x" in first.message
    assert first.message.count("thread (") == first.message.count("of block (") == 2
    assert "PTX line" in first.where
    assert "PTX line" in first.message


@pytest.mark.parametrize("title", CLEAN)
def test_what_is_in_order_is_no_race(module, title):
    assert launch(module, title).findings == []


def test_the_threads_and_places_that_a_race_names_are_those_that_raced():
    source = """
    extern "C" __global__ void k(const int* x, int* out) {
      __shared__ int s[64];
      if (threadIdx.x == 37) s[x[0] + 8] = 5;
      if (threadIdx.x == 3) out[0] = s[x[0] + 8];
    }"""
    report = ptx.parse(compile_ptx(source)).launch(
        "k", 1, 64, [np.arange(4, dtype=np.int32), np.zeros(1, np.int32)]
    )
    race = next(f for f in report.findings if f.kind == "race")
    sides = {"(37, 0, 0)": "written", "(3, 0, 0)": "read"}
    for thread, verb in sides.items():
        assert f"{verb} by thread {thread} of block (0, 0, 0)" in race.message
    assert "shared address 0x20" in race.message
    assert race.message.endswith("(first of once)")


def test_blocks_of_other_groups_are_named():
    source = 'extern "C" __global__ void k(int* out) { if (blockIdx.x > 4) out[0] = blockIdx.x; }'
    report = ptx.parse(compile_ptx(source)).launch("k", 7, 1, [np.zeros(1, np.int32)])
    assert [(f.kind, f.severity) for f in report.findings] == [("race", "error")]
    assert "block (5, 0, 0)" in report.findings[0].message
    assert "block (6, 0, 0)" in report.findings[0].message


@pytest.mark.parametrize(
    ("value", "severity"), [("n", "warning"), ("t", "error")], ids=["the same", "another"]
)
@pytest.mark.parametrize("place", ["s[0]", "out[0]"], ids=["shared", "global"])
def test_many_writers_of_one_value_are_a_warning(value, severity, place):
    source = (
        'extern "C" __global__ void k(int* out, int n) { __shared__ int s[1]; int t = threadIdx.x; '
        f"{place} = {value}; __syncthreads(); if (t == 0) out[1] = s[0] + out[0]; }}"
    )
    report = ptx.parse(compile_ptx(source)).launch("k", 1, 64, [np.zeros(2, np.int32), 7])
    assert {f.severity for f in report.findings if f.kind == "race"} == {severity}


def test_volatile_accesses_do_not_race_with_each_other():
    source = """
    extern "C" __global__ void k(volatile int* x) { x[0] = threadIdx.x; int v = x[0]; x[1 + threadIdx.x] = v; }"""
    report = ptx.parse(compile_ptx(source)).launch("k", 1, 64, [np.zeros(65, np.int32)])
    assert report.findings == []


WMMA = """
#include <mma.h>
using namespace nvcuda;
extern "C" __global__ void tile(const signed char* a, const signed char* b, int* d, int) {
  __shared__ __align__(16) signed char s[2][256];
  __shared__ __align__(16) int o[256];
  int t = threadIdx.x;
  for (int i = t; i < 256; i += 64) { s[0][i] = a[i]; s[1][i] = b[i]; }
  SYNC0
  wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 16, int> fc;
  wmma::fill_fragment(fc, 0);
  wmma::load_matrix_sync(fa, s[0], 16);
  wmma::load_matrix_sync(fb, s[1], 16);
  wmma::mma_sync(fc, fa, fb, fc);
  if (t < 32) wmma::store_matrix_sync(o, fc, 16, wmma::mem_row_major);
  SYNC1
  for (int i = t; i < 256; i += 64) d[i] = o[i];
}
"""


@pytest.mark.parametrize(
    ("syncs", "line"),
    [((True, True), None), ((False, True), "wmma.load"), ((True, False), "ld.shared")],
    ids=["both barriers", "no barrier before the load", "no barrier after the store"],
)
def test_tiles_race_with_threads(syncs, line):
    source = WMMA
    for number, sync in enumerate(syncs):
        source = source.replace(f"SYNC{number}", "__syncthreads();" if sync else "")
    a, b = np.random.default_rng(2).integers(-128, 128, (2, 16, 16), dtype=np.int8)
    d = np.zeros((16, 16), np.int32)
    report = ptx.parse(compile_ptx(source)).launch("tile", 1, 64, [a, b, d, 0])
    races = [f for f in report.findings if f.kind == "race"]
    if line is None:
        assert report.findings == []
        np.testing.assert_array_equal(d, a.astype(int) @ b.T.astype(int))
    else:
        assert any(line in f.where and "a thread of the warp of thread" in f.message for f in races)
        assert all(f.severity == "error" for f in races)


TWO_STAGES = """
#include <cuda_pipeline_primitives.h>
extern "C" __global__ void stages(const int* x, int* out, int n) {
  __shared__ int s[2][64];
  int t = threadIdx.x, sum = 0;
  if (t < LIMIT) __pipeline_memcpy_async(&s[0][t], &x[t], 4);
  __pipeline_commit();
  for (int k = 0; k < n; k++) {
    if (k + 1 < n && t < LIMIT) __pipeline_memcpy_async(&s[(k + 1) & 1][t], &x[(k + 1) * 64 + t], 4);
    __pipeline_commit();
    __pipeline_wait_prior(PRIOR);
    __syncthreads();
    if ((t ^ 33) < LIMIT) sum += s[k & 1][t ^ 33];
    BARRIER
  }
  out[t] = sum;
}
"""


@pytest.mark.parametrize("limit", [64, 50], ids=["all threads copy", "some threads copy"])
@pytest.mark.parametrize(
    ("prior", "barrier", "races"),
    [(1, True, False), (1, False, True), (2, True, True)],
    ids=["right", "no barrier before the next copy", "waits one round late"],
)
def test_stages_of_copies(limit, prior, barrier, races):
    source = TWO_STAGES.replace("LIMIT", str(limit)).replace("PRIOR", str(prior))
    source = source.replace("BARRIER", "__syncthreads();" if barrier else "")
    x, out = np.random.default_rng(4).integers(0, 99, (5, 64), dtype=np.int32), np.zeros(64, np.int32)
    report = ptx.parse(compile_ptx(source)).launch("stages", 1, 64, [x, out, 5])
    assert any(f.kind == "race" for f in report.findings) == races
    if not races:
        assert report.findings == []
        at = np.arange(64) ^ 33
        assert out.tolist() == np.where(at < limit, x.sum(axis=0)[at], 0).tolist()


COPY = """
#include <cuda_pipeline_primitives.h>
extern "C" __global__ void copy(const int* x, int* out) {{
  __shared__ int s[64];
  int t = threadIdx.x;
  __pipeline_memcpy_async(&s[t], &x[t], 4);
  __pipeline_commit();
  {wait}
  out[t] = s[t ^ {other}];
}}
"""


@pytest.mark.parametrize(
    ("wait", "other", "message"),
    [
        ("__pipeline_wait_prior(0); __syncthreads();", 32, None),
        ("__pipeline_wait_prior(0);", 0, None),
        ("__syncthreads();", 32, "by a copy that was not waited for"),
        ("", 0, "by a copy that was not waited for"),
        ("__syncthreads(); __pipeline_wait_prior(0);", 32, "(cp.async.ca.shared.global)"),
        ("__pipeline_wait_prior(1); __syncthreads();", 32, "by a copy that was not waited for"),
    ],
    ids=["wait and barrier", "wait for one's own", "no wait", "no wait for one's own", "barrier before the wait", "wait for too little"],
)  # fmt: skip
def test_copies_under_way_race(wait, other, message):
    x, out = np.arange(1, 65, dtype=np.int32), np.zeros(64, np.int32)
    report = ptx.parse(compile_ptx(COPY.format(wait=wait, other=other))).launch("copy", 1, 64, [x, out])
    races = [f for f in report.findings if f.kind == "race"]
    if message is None:
        assert report.findings == []
        assert out.tolist() == [(t ^ other) + 1 for t in range(64)]
    else:
        assert any(message in f.message for f in races)


def test_without_checks_nothing_is_found():
    source = 'extern "C" __global__ void k(int* out) { out[0] = threadIdx.x; }'
    report = ptx.parse(compile_ptx(source)).launch("k", 1, 64, [np.zeros(1, np.int32)], check=False)
    assert report.findings == []
