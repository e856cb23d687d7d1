# ruff: noqa: E501  (tables of cases: one case, one line)
"""CUDA C++ as NVRTC compiles it for each architecture: functions, structures, local and constant memory, atomics,
barriers with a vote, exchange within a warp, grids of three dimensions."""

import struct

import numpy as np
import pytest

from simulators import ptx
from simulators.ptx import launch as machine
from tests.simulators.cuda_source import compile_ptx

ARCHITECTURES = ["compute_75", "compute_80", "compute_86", "compute_87", "compute_89", "compute_90"]

SOURCE = """
struct Point { int a; long long b; float c[3]; };
__constant__ int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__device__ int total;
__device__ int start[4] = {10, 20, 30, 40};
__device__ __noinline__ int helper(int a, long long b, Point p) {
  if (a > 3) return p.a + (int)b;
  return (int)(p.c[1] * a) - (int)p.b;
}
__device__ __noinline__ Point make(int a) {
  Point p; p.a = a; p.b = a * 3LL; p.c[0] = a; p.c[1] = 2 * a; p.c[2] = 0; return p;
}
extern "C" __global__ void calls(const int* x, int* out, Point q) {
  int t = threadIdx.x;
  Point p = make(x[t]);
  out[t] = helper(x[t], t, p) + (x[t] & 1 ? helper(t, 5, q) : 0);
}
__device__ __noinline__ void meet(int* s, int v) { s[threadIdx.x] = v; __syncthreads(); }
extern "C" __global__ void calls_with_barriers(const int* x, int* out) {
  __shared__ int s[64];
  int t = threadIdx.x;
  meet(s, x[t]);
  int v = s[63 - t];
  __syncthreads();
  meet(s, v + 1);
  out[t] = s[t ^ 5];
}
extern "C" __global__ void locals(const int* x, int* out, int n) {
  int a[16];
  for (int i = 0; i < n; i++) a[i] = x[i] * i;
  int t = threadIdx.x;
  for (int i = 1; i < n; i++) a[(i + t) % n] += a[i - 1];
  out[t] = a[(x[t] & 0xffff) % n] + table[t & 7] + start[x[t] & 3];
}
extern "C" __global__ void generic(const int* x, int* out, int n) {
  __shared__ int s[32];
  int mine[32], t = threadIdx.x;
  s[t] = t;
  for (int i = 0; i < 32; i++) mine[i] = 100 * i + t;
  int* from = n == 0 ? mine : n == 1 ? s : t % 3 ? mine : s;
  from[x[t] & 31 & -(n == 0) | (n ? t : 0)] += 7;
  __syncthreads();
  out[t] = from[t];
}
extern "C" __global__ void atomics(const int* x, int* signed_, unsigned* bits, float* f, unsigned long long* wide, double* d, int* found) {
  __shared__ int s[4];
  int i = blockIdx.x * blockDim.x + threadIdx.x, t = threadIdx.x;
  if (t < 4) s[t] = 0;
  __syncthreads();
  atomicAdd(&s[x[i] & 3], x[i]);
  found[i] = atomicAdd(signed_, 3);
  atomicMax(signed_ + 1, x[i]);
  atomicMin(signed_ + 2, x[i]);
  atomicSub(signed_ + 3, x[i]);
  atomicAnd(bits, x[i] | 0xff);
  atomicOr(bits + 1, x[i] & 0xff00);
  atomicXor(bits + 2, x[i]);
  found[i + 256] = atomicInc(bits + 3, 99);
  found[i + 512] = atomicDec(bits + 4, 50);
  found[i + 768] = atomicExch(bits + 5, i + 1);
  atomicAdd(f, 0.5f);
  atomicAdd(wide, 1ull << 33);
  atomicAdd(d, 0.25);
  unsigned old = atomicAdd(bits + 6, 0), seen;
  do { seen = old; old = atomicCAS(bits + 6, seen, seen * 5 + 1); } while (old != seen);
  __syncthreads();
  if (t < 4) atomicAdd(&total, s[t]);
  if (t < 4) found[1024 + blockIdx.x * 4 + t] = s[t];
}
extern "C" __global__ void votes(const int* x, int* out) {
  int t = threadIdx.x, n = blockDim.x, i = blockIdx.x * n + t, m = gridDim.x * n;
  out[i] = __syncthreads_count(x[i] > 3);
  out[i + m] = __syncthreads_and(x[i] > -9) * 2 + __syncthreads_or(x[i] > 8);
  out[i + 2 * m] = __match_any_sync(0xffffffff, x[i]);
  int agree;
  out[i + 3 * m] = __match_all_sync(0xffffffff, x[i] & 16, &agree);
  out[i + 4 * m] = agree;
  int sum = x[i];
  for (int k = 16; k > 0; k /= 2) sum += __shfl_xor_sync(0xffffffff, sum, k);
  out[i + 5 * m] = sum;
#if __CUDA_ARCH__ >= 800
  out[i + 6 * m] = __reduce_add_sync(0xffffffff, x[i]) + __reduce_max_sync(0xffffffff, x[i]) * 1000 + __reduce_min_sync(0xffffffff, x[i]) * 100;
  out[i + 7 * m] = __reduce_xor_sync(0xffffffff, (unsigned)x[i]) ^ (__reduce_or_sync(0xffffffff, (unsigned)x[i]) & __reduce_and_sync(0xffffffff, (unsigned)x[i]));
#else
  out[i + 6 * m] = out[i + 7 * m] = 0;
#endif
}
extern "C" __global__ void branches(const int* x, int* out) {
  int t = threadIdx.x, v = out[t];
  switch (x[t]) {
    case 0: v = 3; break; case 1: v ^= 77; break; case 2: v += 7; break; case 3: v *= 5; break;
    case 4: v -= 7; break; case 5: v /= 7; break; case 6: v = -v; break; case 7: v <<= 2; break;
  }
  out[t] = v;
}
extern "C" __global__ void grid(int* out) {
  extern __shared__ int s[];
  int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  int threads = blockDim.x * blockDim.y * blockDim.z;
  s[thread] = threadIdx.x * 100 + threadIdx.y * 10 + threadIdx.z;
  __syncthreads();
  out[block * threads + thread] = s[threads - 1 - thread] * 1000 + blockIdx.x * 100 + blockIdx.y * 10 + blockIdx.z;
}
extern "C" __global__ void floats(const float* x, const double* y, float* out, double* wide) {
  int t = threadIdx.x;
  out[t] = __fmul_rd(x[t], x[t + 1]) + __fadd_ru(x[t], 1e-9f);
  out[t + 32] = __fsqrt_rn(fabsf(x[t])) + __frcp_rn(x[t]);
  out[t + 64] = __saturatef(x[t]) + rintf(x[t]) + __int2float_rz(__float2int_ru(x[t] * 1e8f));
  out[t + 96] = (float)y[t];
  wide[t] = y[t] * y[t + 1] + 3.0 / y[t] - fabs(y[t]);
  wide[t + 32] = sqrt(fabs(y[t])) + (int)y[t] + (double)(long long)(y[t] * 1e6) + fmin(y[t], 2.0);
}
"""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def module(request):
    return ptx.parse(compile_ptx(SOURCE, request.param))


@pytest.fixture(scope="module")
def newest():
    return ptx.parse(compile_ptx(SOURCE, "compute_90"))


def numbers(n, seed=1, low=-10, high=30):
    return np.random.default_rng(seed).integers(low, high, n, dtype=np.int32)


def clean(report):
    assert report.findings == []
    return report


def helper(a, b, p):
    return p[0] + b if a > 3 else int(p[3] * a) - p[1]


def test_calls_with_structures_as_arguments_and_results(module):
    x, out = numbers(64), np.zeros(64, np.int32)
    q = (7, -100, 1.5, 2.5, 3.5)
    clean(module.launch("calls", 1, 64, [x, out, struct.pack("<i4xq3f4x", *q)]))
    want = [
        helper(v, t, (v, 3 * v, v, 2 * v, 0)) + (helper(t, 5, q) if v & 1 else 0)
        for t, v in enumerate(x.tolist())
    ]
    assert out.tolist() == want


def test_a_barrier_in_a_function_called_twice(module):
    x, out = numbers(64), np.zeros(64, np.int32)
    clean(module.launch("calls_with_barriers", 1, 64, [x, out]))
    assert out.tolist() == (x[63 - (np.arange(64) ^ 5)] + 1).tolist()


@pytest.mark.parametrize("n", [2, 7, 16])
def test_local_and_constant_memory(module, n):
    x, out = numbers(64, low=0), np.zeros(64, np.int32)
    report = clean(module.launch("locals", 1, 64, [x, out, n]))
    for t in range(64):
        a = [int(x[i]) * i for i in range(n)]
        for i in range(1, n):
            a[(i + t) % n] += a[i - 1]
        assert out[t] == a[int(x[t]) % n] + [3, 1, 4, 1, 5, 9, 2, 6][t & 7] + [10, 20, 30, 40][x[t] & 3]
    assert report.counters["const_load_bytes"] == 64 * 4
    assert report.counters["local_store_bytes"] > 0


@pytest.mark.parametrize("n", [0, 1, 2], ids=["local", "shared", "both"])
def test_generic_addresses_of_local_and_shared_memory(newest, n):
    x, out = numbers(32, low=0), np.zeros(32, np.int32)
    clean(newest.launch("generic", 1, 32, [x, out, n]))
    for t in range(32):
        mine, shared = [100 * i + t for i in range(32)], list(range(32))
        source = mine if n == 0 or (n == 2 and t % 3) else shared
        source[int(x[t]) & 31 if n == 0 else t] += 7
        assert out[t] == source[t]


@pytest.mark.parametrize("group_warps", [1, 4096], ids=["small groups", "one group"])
def test_atomics(module, group_warps, monkeypatch):
    monkeypatch.setattr(machine, "GROUP_WARPS", group_warps)
    x = numbers(256, low=-(2**20), high=2**20)
    signed, bits = np.array([5, 0, 0, 9], np.int32), np.array([0xFFFFFFFF, 1, 2, 95, 3, 0, 7], np.uint32)
    f, wide, d = np.zeros(1, np.float32), np.array([2**40], np.uint64), np.array([1.0])
    found = np.zeros(2048, np.int32)
    clean(module.launch("atomics", 4, 64, [x, signed, bits, f, wide, d, found]))
    v = x.astype(np.int64)
    u = v % 2**32
    assert signed.tolist() == [5 + 3 * 256, max(0, v.max()), min(0, v.min()), 9 - v.sum()]
    assert bits[0] == np.bitwise_and.reduce(u | 0xFF)
    assert bits[1] == 1 | np.bitwise_or.reduce(u & 0xFF00)
    assert bits[2] == 2 ^ np.bitwise_xor.reduce(u)
    inc, dec, seen_inc, seen_dec = 95, 3, [], []
    for _ in range(256):
        seen_inc.append(inc)
        seen_dec.append(dec)
        inc = 0 if inc >= 99 else inc + 1
        dec = 50 if dec == 0 or dec > 50 else dec - 1
    assert bits[3:5].tolist() == [inc, dec]
    assert sorted(found[256:512].tolist()) == sorted(seen_inc)
    assert sorted(found[512:768].tolist()) == sorted(seen_dec)
    # Each thread got what another one put there, and one is there still.
    assert sorted([*found[768:1024].tolist(), int(bits[5])]) == list(range(257))
    assert sorted(found[:256].tolist()) == [5 + 3 * k for k in range(256)]
    product = 7
    for _ in range(256):
        product = (product * 5 + 1) % 2**32
    assert (f[0], wide[0], d[0], bits[6]) == (128.0, 2**40 + (256 << 33), 65.0, product)
    sums = [
        [int(v[b * 64 : b * 64 + 64][(v[b * 64 : b * 64 + 64] & 3) == k].sum()) for k in range(4)]
        for b in range(4)
    ]
    assert found[1024:1040].reshape(4, 4).tolist() == sums


def test_votes_and_matches(module):
    x = numbers(256, low=-9, high=10)
    x[64:128] = 4
    out = np.zeros((8, 256), np.int32)
    clean(module.launch("votes", 2, 128, [x, out]))
    blocks, warps = x.reshape(2, 128), x.reshape(8, 32).astype(np.int64)
    spread = lambda per: np.repeat(np.array(per), 256 // len(per)).tolist()  # noqa: E731
    assert out[0].tolist() == spread((blocks > 3).sum(axis=1))
    assert out[1].tolist() == spread((blocks > -9).all(axis=1) * 2 + (blocks > 8).any(axis=1))
    bit = 1 << np.arange(32)
    assert (
        out[2].view(np.uint32).reshape(8, 32) == [[(bit * (w == v)).sum() for v in w] for w in warps]
    ).all()
    agree = [len(set((w & 16).tolist())) == 1 for w in warps]
    assert out[3].tolist() == spread([-1 if a else 0 for a in agree])
    assert out[4].tolist() == spread([int(a) for a in agree])
    assert out[5].tolist() == spread(warps.sum(axis=1))
    if out[6].any():
        assert out[6].tolist() == spread(
            warps.sum(axis=1) + warps.max(axis=1) * 1000 + warps.min(axis=1) * 100
        )
        both = np.bitwise_or.reduce(warps, axis=1) & np.bitwise_and.reduce(warps, axis=1)
        assert out[7].tolist() == spread(np.bitwise_xor.reduce(warps, axis=1) ^ both)


def test_a_switch(module):
    x, out = numbers(64, low=-2, high=10), numbers(64, 2, 1, 10000)
    before = out.copy()
    clean(module.launch("branches", 1, 64, [x, out]))
    cases = {0: lambda v: 3, 1: lambda v: v ^ 77, 2: lambda v: v + 7, 3: lambda v: v * 5, 4: lambda v: v - 7,
             5: lambda v: v // 7, 6: lambda v: -v, 7: lambda v: v << 2}  # fmt: skip
    assert out.tolist() == [cases.get(int(k), lambda v: v)(int(v)) for k, v in zip(x, before, strict=True)]


@pytest.mark.parametrize(
    ("grid", "block"),
    [
        ((5, 1, 1), (33, 1, 1)),
        ((3, 4, 1), (4, 8, 1)),
        ((2, 3, 4), (3, 5, 7)),
        ((1, 1, 9), (1, 1, 64)),
        (7, 96),
    ],
    ids=str,
)
def test_grids_and_blocks_of_one_to_three_dimensions(newest, grid, block):
    extent = lambda e: (*np.atleast_1d(e).tolist(), 1, 1)[:3]  # noqa: E731
    (gx, gy, gz), (bx, by, bz) = extent(grid), extent(block)
    threads = bx * by * bz
    out = np.zeros((gz, gy, gx, threads), np.int32)
    clean(newest.launch("grid", grid, block, [out], dynamic_shared=4 * threads))
    z, y, x, thread = np.indices(out.shape)
    other = threads - 1 - thread
    inner = other % bx * 100 + other // bx % by * 10 + other // (bx * by)
    np.testing.assert_array_equal(out, inner * 1000 + x * 100 + y * 10 + z)


def test_floats(module):
    random = np.random.default_rng(3)
    x, y = random.normal(size=33).astype(np.float32), random.normal(size=33) * 10
    out, wide = np.zeros(128, np.float32), np.zeros(64)
    clean(module.launch("floats", 1, 32, [x, y, out, wide]))
    f, g = x[:32].astype(np.float64), y[:32]

    def down(v):
        nearest = v.astype(np.float32)
        return np.where(nearest > v, np.nextafter(nearest, np.float32(-np.inf)), nearest)

    def up(v):
        return -down(-v)

    tiny = np.float64(np.float32(1e-9))
    np.testing.assert_array_equal(out[:32], down(f * x[1:].astype(np.float64)) + up(f + tiny))
    np.testing.assert_array_equal(out[32:64], np.sqrt(np.abs(x[:32])) + np.float32(1) / x[:32])
    whole = np.ceil(x[:32] * np.float32(1e8)).astype(np.int64)
    whole = np.clip(whole, -(2**31), 2**31 - 1)
    towards = np.where(whole < 0, up(whole.astype(np.float64)), down(whole.astype(np.float64)))
    np.testing.assert_array_equal(out[64:96], np.clip(x[:32], 0, 1) + np.rint(x[:32]) + towards)
    np.testing.assert_array_equal(out[96:], g.astype(np.float32))
    np.testing.assert_allclose(wide[:32], g * y[1:] + 3.0 / g - np.abs(g), rtol=1e-14)
    np.testing.assert_allclose(
        wide[32:], np.sqrt(np.abs(g)) + np.trunc(g) + np.trunc(g * 1e6) + np.minimum(g, 2.0), rtol=1e-14
    )


HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            ".func f() { call.uni f; ret; }\n.visible .entry k() {\ncall.uni f;\nret; }",
            4,
            "f, which calls itself",
        ),
        (".visible .entry k() {\ncall.uni g;\nret; }", 5, "function g, which has no body here"),
        (
            ".func f(.param .b32 a) { ret; }\n.visible .entry k() {\ncall.uni f;\nret; }",
            6,
            "f with 0 arguments",
        ),
        (".visible .entry k() { .reg .b64 %rd0;\ncall.uni %rd0;\nret; }", 5, "a function by its address"),
        (
            ".visible .entry k() { .reg .b32 %r0; .reg .b64 %rd0;\natom.global.inc.s32 %r0, [%rd0], 1;\nret; }",
            5,
            ".s32 has add min max, not inc",
        ),
    ],
)
def test_what_cannot_be_called_is_an_error(text, line, message):
    with pytest.raises(ptx.UnsupportedInstructionError, match=message) as caught:
        ptx.parse(HEAD + text).launch("k", 1, 32, [])
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("arg", "got"), [(b"1234", "4 bytes"), (5, "int"), (np.zeros(32, np.uint8), "ndarray")]
)
def test_a_structure_of_another_size_is_an_error(newest, arg, got):
    with pytest.raises(ptx.LaunchError, match=f"is a structure: give 32 bytes, not {got}"):
        newest.launch("calls", 1, 32, [numbers(32), numbers(32), arg])


BARRIERS = """
.visible .entry k(.param .u64 out) {
.reg .b32 %r<9>; .reg .b64 %rd<4>; .reg .pred %p<4>; .shared .b32 s[256];
mov.u32 %r0, %tid.x; shl.b32 %r1, %r0, 2; mov.u32 %r2, s; add.u32 %r2, %r2, %r1; setp.lt.u32 %p0, %r0, 64;
ld.param.u64 %rd0, [out]; cvt.u64.u32 %rd1, %r1; add.u64 %rd0, %rd0, %rd1;
BODY
ret;
}
"""


def launch_barriers(body, threads=128):
    out = np.full(threads, -1, np.int32)
    report = ptx.parse(HEAD + BARRIERS.replace("BODY", body)).launch(
        "k", 1, threads, [out], instruction_budget=100_000
    )
    return out, report


def test_half_of_a_block_meets_at_a_barrier_of_its_own():
    out, report = launch_barriers("""
      @!%p0 bra REST; st.shared.u32 [%r2], %r0; bar.sync 1, 64; xor.b32 %r1, %r1, 128; mov.u32 %r3, s; add.u32 %r3, %r3, %r1;
      ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd0], %r4; REST: bar.sync 0;""")
    assert out.tolist() == [*range(32, 64), *range(32), *[-1] * 64]
    assert report.findings == []


def test_producers_arrive_and_consumers_wait():
    # The first two warps only arrive at barrier 2; the others wait there for what those have written.
    out, report = launch_barriers("""
      @!%p0 bra WAIT; st.shared.u32 [%r2], %r0; bar.arrive 2, 128; bra DONE;
      WAIT: bar.sync 2, 128; ld.shared.u32 %r4, [%r2+-256]; st.global.u32 [%rd0], %r4; DONE:""")
    assert out.tolist() == [*[-1] * 64, *range(64)]
    assert report.findings == []


def test_a_guarded_barrier_holds_only_those_that_arrive():
    out, report = launch_barriers("""
      st.shared.u32 [%r2], %r0; @%p0 bar.sync 1, 64; setp.lt.u32 %p1, %r0, 64; mov.u32 %r4, 7;
      @%p1 xor.b32 %r1, %r1, 128; mov.u32 %r3, s; add.u32 %r3, %r3, %r1; ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd0], %r4;""")
    assert out.tolist() == [*range(32, 64), *range(32), *range(64, 128)]
    assert report.findings == []


def test_votes_at_a_barrier_that_warps_reach_by_two_ways():
    out, report = launch_barriers("""
      setp.gt.u32 %p1, %r0, 99; @%p0 bra A; bar.red.popc.u32 %r4, 0, %p1; bra J;
      A: bar.red.popc.u32 %r4, 0, %p1; J: st.global.u32 [%rd0], %r4;""")
    assert out.tolist() == [28] * 128
    assert report.findings == []


def test_who_waits_where_too_few_come_is_stopped():
    out, report = launch_barriers("@%p0 bar.sync 1, 128; st.global.u32 [%rd0], %r0;")
    assert out.tolist() == [*[-1] * 64, *range(64, 128)]
    assert [(f.kind, f.severity) for f in report.findings] == [("deadlock", "error")]
    assert "PTX line 9 (bar.sync)" in report.findings[0].where
    assert "thread (0, 0, 0) of block (0, 0, 0) waits at barrier 1" in report.findings[0].message
