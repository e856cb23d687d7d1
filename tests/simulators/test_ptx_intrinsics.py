# ruff: noqa: E501  (tables of cases: one case, one line)
"""Expressions of CUDA C++, as NVRTC compiles them for each architecture, against Python's integers and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from simulators import ptx
from tests.simulators.cuda_source import compile_ptx

ARCHITECTURES = ["compute_75", "compute_80", "compute_86", "compute_89", "compute_90"]
LANES = 256


def u(value, bits=32):
    return value & ((1 << bits) - 1)


def s(value, bits=32):
    value = u(value, bits)
    return value - (1 << bits) if value >> (bits - 1) else value


def cut(a, b):
    """A quotient of C: towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def parts(word, bits, signed=False):
    """The lanes of a 32-bit word, lowest first."""
    lanes = [u(word) >> at & ((1 << bits) - 1) for at in range(0, 32, bits)]
    return [s(lane, bits) for lane in lanes] if signed else lanes


def joined(lanes, bits):
    return sum(u(lane, bits) << bits * at for at, lane in enumerate(lanes))


def both(a, b, bits, function, signed=False):
    """A function of each pair of lanes."""
    return joined(
        [function(x, y) for x, y in zip(parts(a, bits, signed), parts(b, bits, signed), strict=True)], bits
    )


def clamp(value, bits, signed=True):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return min(max(value, low), high)


def reverse(value, bits):
    return int(f"{u(value, bits):0{bits}b}"[::-1], 2)


def lowest(value, bits):
    """__ffs: the place of the lowest one, from 1; 0 for none."""
    value = u(value, bits)
    return (value & -value).bit_length()


def picked(a, b, selector):
    every = parts(a, 8) + parts(b, 8)
    return joined([every[selector >> 4 * at & 7] for at in range(4)], 8)


# An expression of int a and b (unsigned x and y), and what it is for Python's integers.
WORDS = {
    "min(a, b)": min,
    "max(a, b)": max,
    "umin(x, y)": lambda a, b: min(u(a), u(b)),
    "umax(x, y)": lambda a, b: max(u(a), u(b)),
    "abs(a)": lambda a, b: abs(a),
    "__clz(a)": lambda a, b: 32 - u(a).bit_length(),
    "__popc(a)": lambda a, b: u(a).bit_count(),
    "__brev(a)": lambda a, b: reverse(a, 32),
    "__ffs(a)": lambda a, b: lowest(a, 32),
    "__funnelshift_l(a, b, a & 63)": lambda a, b: (u(b) << 32 | u(a)) << (a & 31) >> 32,
    "__funnelshift_r(a, b, a & 63)": lambda a, b: (u(b) << 32 | u(a)) >> (a & 31),
    "__funnelshift_lc(a, b, a & 63)": lambda a, b: (u(b) << 32 | u(a)) << min(a & 63, 32) >> 32,
    "__funnelshift_rc(a, b, a & 63)": lambda a, b: (u(b) << 32 | u(a)) >> min(a & 63, 32),
    "__mulhi(a, b)": lambda a, b: a * b >> 32,
    "__umulhi(x, y)": lambda a, b: u(a) * u(b) >> 32,
    "__mul24(a, b)": lambda a, b: s(a, 24) * s(b, 24),
    "__umul24(x, y)": lambda a, b: u(a, 24) * u(b, 24),
    "__sad(a, b, 5)": lambda a, b: abs(a - b) + 5,
    "__usad(x, y, 7)": lambda a, b: abs(u(a) - u(b)) + 7,
    "__hadd(a, b)": lambda a, b: a + b >> 1,
    "__rhadd(a, b)": lambda a, b: a + b + 1 >> 1,
    "__uhadd(x, y)": lambda a, b: u(a) + u(b) >> 1,
    "__byte_perm(a, b, x & 0x7777)": lambda a, b: picked(a, b, u(a)),
    "__dp4a(a, b, 3)": lambda a, b: (
        3 + sum(x * y for x, y in zip(parts(a, 8, True), parts(b, 8, True), strict=True))
    ),
    "__dp4a(x, y, 3u)": lambda a, b: 3 + sum(x * y for x, y in zip(parts(a, 8), parts(b, 8), strict=True)),
    "__dp2a_lo(a, b, 1)": lambda a, b: (
        1 + sum(x * y for x, y in zip(parts(a, 16, True), parts(b, 8, True)[:2], strict=True))
    ),
    "__dp2a_hi(x, y, 1u)": lambda a, b: (
        1 + sum(x * y for x, y in zip(parts(a, 16), parts(b, 8)[2:], strict=True))
    ),
    "a / (b | 1)": lambda a, b: cut(a, b | 1),
    "a % (b | 1)": lambda a, b: a - cut(a, b | 1) * (b | 1),
    "x / (y | 1)": lambda a, b: u(a) // (u(b) | 1),
    "x % (y | 1)": lambda a, b: u(a) % (u(b) | 1),
    "a / 7 + a % 13": lambda a, b: cut(a, 7) + a - 13 * cut(a, 13),
    "x / 10u ^ x % 1000u": lambda a, b: u(a) // 10 ^ u(a) % 1000,
    "a >> (b & 31)": lambda a, b: a >> (b & 31),
    "x >> (y & 31)": lambda a, b: u(a) >> (b & 31),
    "a << (b & 31)": lambda a, b: a << (b & 31),
    "(a > 5 && b < 7) || a == b": lambda a, b: (a > 5 and b < 7) or a == b,
    "a & b ^ ~a | b << 3": lambda a, b: a & b ^ ~a | b << 3,
    "(signed char)a * (unsigned char)b": lambda a, b: s(a, 8) * u(b, 8),
    "(short)(a + b) / ((short)b | 1)": lambda a, b: cut(s(a + b, 16), s(b, 16) | 1),
    "__vadd4(x, y)": lambda a, b: both(a, b, 8, lambda p, q: p + q),
    "__vsub2(x, y)": lambda a, b: both(a, b, 16, lambda p, q: p - q),
    "__vaddss4(x, y)": lambda a, b: both(a, b, 8, lambda p, q: clamp(p + q, 8), signed=True),
    "__vsubus2(x, y)": lambda a, b: both(a, b, 16, lambda p, q: clamp(p - q, 16, signed=False)),
    "__vmaxs4(x, y)": lambda a, b: both(a, b, 8, max, signed=True),
    "__vminu2(x, y)": lambda a, b: both(a, b, 16, min),
    "__vavgu4(x, y)": lambda a, b: both(a, b, 8, lambda p, q: p + q + 1 >> 1),
    "__vabsdiffu4(x, y)": lambda a, b: both(a, b, 8, lambda p, q: abs(p - q)),
    "__vabsdiffs2(x, y)": lambda a, b: both(a, b, 16, lambda p, q: abs(p - q), signed=True),
    "__vsadu4(x, y)": lambda a, b: sum(abs(p - q) for p, q in zip(parts(a, 8), parts(b, 8), strict=True)),
    "__vsadu2(x, y)": lambda a, b: sum(abs(p - q) for p, q in zip(parts(a, 16), parts(b, 16), strict=True)),
    "__vcmpgts4(x, y)": lambda a, b: both(a, b, 8, lambda p, q: -(p > q), signed=True),
    "__vseteq2(x, y)": lambda a, b: both(a, b, 16, lambda p, q: p == q),
    "__vimax_s32_relu(a, b)": lambda a, b: max(a, b, 0),
    "__vimin_s16x2_relu(x, y)": lambda a, b: both(a, b, 16, lambda p, q: max(min(p, q), 0), signed=True),
    "__vimax3_s32(a, b, 9)": lambda a, b: max(a, b, 9),
}

# The same of long long l and m, and unsigned v and w.
LONG = {
    "l + m": lambda a, b: a + b,
    "l * m": lambda a, b: a * b,
    "l / (m | 1)": lambda a, b: cut(a, b | 1),
    "l % (m | 1)": lambda a, b: a - cut(a, b | 1) * (b | 1),
    "v / (w | 1)": lambda a, b: u(a, 64) // (u(b, 64) | 1),
    "v % (w | 1)": lambda a, b: u(a, 64) % (u(b, 64) | 1),
    "l / 1000": lambda a, b: cut(a, 1000),
    "l >> (m & 63)": lambda a, b: a >> (b & 63),
    "v >> (m & 63)": lambda a, b: u(a, 64) >> (b & 63),
    "l << (m & 63)": lambda a, b: a << (b & 63),
    "min(l, m)": min,
    "max(v, w)": lambda a, b: max(u(a, 64), u(b, 64)),
    "llabs(l)": lambda a, b: abs(a),
    "__clzll(l)": lambda a, b: 64 - u(a, 64).bit_length(),
    "__popcll(l)": lambda a, b: u(a, 64).bit_count(),
    "__brevll(l)": lambda a, b: reverse(a, 64),
    "__ffsll(l)": lambda a, b: lowest(a, 64),
    "__mul64hi(l, m)": lambda a, b: a * b >> 64,
    "__umul64hi(v, w)": lambda a, b: u(a, 64) * u(b, 64) >> 64,
    "(long long)(int)l * (int)m": lambda a, b: s(a) * s(b),
    "(unsigned long long)(unsigned)l * (unsigned)m + v": lambda a, b: u(a) * u(b) + u(a, 64),
    "l & m | l ^ ~m": lambda a, b: a & b | a ^ ~b,
    "(l < m) * 2 + (v < w)": lambda a, b: (a < b) * 2 + (u(a, 64) < u(b, 64)),
    "l == m ? l : m": lambda a, b: b,
    "__shfl_xor_sync(~0u, l, 0) + 1": lambda a, b: a + 1,
}


def kernel(declarations, loads, expressions, result):
    rows = "".join(f"  out[t + {at * LANES}] = ({result})({e});\n" for at, e in enumerate(expressions))
    return f'extern "C" __global__ void k({declarations}, {result}* out) {{\n  int t = threadIdx.x;\n  {loads}\n{rows}}}\n'


def run(source, architecture, arguments, rows, dtype):
    out = np.zeros((rows, LANES), dtype)
    report = ptx.parse(compile_ptx(source, architecture)).launch("k", 1, LANES, [*arguments, out])
    assert report.findings == []
    return out


def operands(bits, seed):
    """Corners against corners, then numbers of all sizes."""
    ends = [0, 1, -1, 2, 7, -8, 1 << bits - 1, (1 << bits - 1) - 1, 0x5A5A5A5A5A5A5A5A, 0x80FF7F01C3A55A3C]
    pairs = [(a, b) for a in ends for b in ends]
    random = np.random.default_rng(seed)
    while len(pairs) < LANES:
        a, b = (int(random.integers(-(2**63), 2**63)) >> int(random.integers(0, 64)) for _ in range(2))
        pairs.append((a, b))
    return [(s(a, bits), s(b, bits)) for a, b in pairs]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_expressions_of_32_bits(architecture):
    source = kernel(
        "const int* p, const int* q", "int a = p[t], b = q[t]; unsigned x = a, y = b;", WORDS, "int"
    )
    pairs = operands(32, 1)
    arrays = [np.array(column, np.int32) for column in zip(*pairs, strict=True)]
    out = run(source, architecture, arrays, len(WORDS), np.int32)
    for row, (expression, function) in zip(out, WORDS.items(), strict=True):
        assert row.tolist() == [s(int(function(a, b))) for a, b in pairs], expression


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_expressions_of_64_bits(architecture):
    declared = "const long long* p, const long long* q"
    loads = "long long l = p[t], m = q[t]; unsigned long long v = l, w = m;"
    pairs = operands(64, 2)
    arrays = [np.array(column, np.int64) for column in zip(*pairs, strict=True)]
    out = run(kernel(declared, loads, LONG, "long long"), architecture, arrays, len(LONG), np.int64)
    for row, (expression, function) in zip(out, LONG.items(), strict=True):
        assert row.tolist() == [s(int(function(a, b)), 64) for a, b in pairs], expression


MODES = {"rn": "nearest", "rz": "towards zero", "rd": "down", "ru": "up"}


def rounded(exact, mode):
    """A fraction as float32, by the definition of each mode: the nearest neighbours on either side, and a choice."""
    nearest = np.float32(float(exact)) if abs(exact) < Fraction(2) ** 127 else np.float32(np.inf)
    below = above = nearest
    while below == np.inf or Fraction(float(below)) > exact:
        below = np.nextafter(below, np.float32(-np.inf))
    while Fraction(float(above)) < exact:
        above = np.nextafter(above, np.float32(np.inf))
    if below == above or mode == "rd":
        return below
    if mode == "ru":
        return above
    if mode == "rz":
        return below if exact > 0 else above
    down, up = exact - Fraction(float(below)), Fraction(float(above)) - exact
    even = below if below.view(np.int32) % 2 == 0 else above
    return even if down == up else below if down < up else above


def root(value, mode):
    """A square root as float32: the candidates around it, told apart by their exact squares."""
    exact = Fraction(float(value))
    below = np.float32(math.sqrt(float(value)))
    while Fraction(float(below)) ** 2 > exact:
        below = np.nextafter(below, np.float32(0))
    while Fraction(float(np.nextafter(below, np.float32(np.inf)))) ** 2 <= exact:
        below = np.nextafter(below, np.float32(np.inf))
    if Fraction(float(below)) ** 2 == exact or mode in ("rd", "rz"):
        return below
    above = np.nextafter(below, np.float32(np.inf))
    middle = (Fraction(float(below)) + Fraction(float(above))) / 2
    return above if mode == "ru" or exact > middle**2 else below


@pytest.fixture(scope="module")
def floats():
    """Pairs of float32 of all sizes whose quotients are normal numbers, some of them exact."""
    random = np.random.default_rng(3)
    magnitude = np.exp2(random.integers(-60, 60, (2, LANES))).astype(np.float32)
    pair = ((1 + random.random((2, LANES))) * magnitude * random.choice([-1, 1], (2, LANES))).astype(
        np.float32
    )
    pair[:, :8] = [[6, 1, -7, 9, 0.5, -1, 3, 2], [2, 3, 7, -10, 3, 1, -1, 49]]
    return pair


@pytest.mark.parametrize("architecture", ["compute_75", "compute_90"])
@pytest.mark.parametrize("mode", MODES, ids=MODES.values())
def test_quotients_reciprocals_and_roots_are_rounded_as_the_mode_says(floats, mode, architecture):
    expressions = [f"__fdiv_{mode}(a, b)", f"__frcp_{mode}(b)", f"__fsqrt_{mode}(fabsf(a))"]
    source = kernel("const float* p, const float* q", "float a = p[t], b = q[t];", expressions, "float")
    quotients, reciprocals, roots = run(source, architecture, list(floats), 3, np.float32)
    for a, b, quotient, reciprocal, square_root in zip(*floats, quotients, reciprocals, roots, strict=True):
        assert quotient == rounded(Fraction(float(a)) / Fraction(float(b)), mode)
        assert reciprocal == rounded(1 / Fraction(float(b)), mode)
        assert square_root == root(np.abs(a), mode)


@pytest.mark.parametrize("mode", MODES, ids=MODES.values())
def test_quotients_beyond_the_range(mode):
    """Overflow, underflow, zero, infinity and NaN, as IEEE 754 has them for each mode."""
    biggest, smallest = np.finfo(np.float32).max, np.float32(2.0**-149)
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    up = mode == "ru"
    cases = [
        (biggest, 0.5, inf if mode in ("rn", "ru") else biggest),
        (-biggest, 0.5, -inf if mode in ("rn", "rd") else -biggest),
        (smallest, 4, smallest if up else 0.0),
        (-smallest, 4, -smallest if mode == "rd" else -0.0),
        (1, 0, inf), (-1, 0, -inf), (0, -5, -0.0), (0, 0, nan), (inf, inf, nan), (3, inf, 0.0), (inf, -2, -inf),
        (nan, 1, nan),
    ]  # fmt: skip
    a, b, want = (np.resize(np.array(column, np.float32), LANES) for column in zip(*cases, strict=True))
    source = kernel("const float* p, const float* q", "", [f"__fdiv_{mode}(p[t], q[t])"], "float")
    (out,) = run(source, "compute_80", [a, b], 1, np.float32)
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(np.signbit(out[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]))


def test_roots_beyond_the_range():
    values = np.resize(np.array([0.0, -0.0, -1, np.inf, np.nan, 2.0**-149], np.float32), LANES)
    source = kernel("const float* p", "", ["__fsqrt_ru(p[t])", "__fsqrt_rz(p[t])"], "float")
    up, cut_ = run(source, "compute_80", [values], 2, np.float32)
    for out in (up, cut_):
        np.testing.assert_array_equal(out[:5], np.array([0, 0, np.nan, np.inf, np.nan], np.float32))
        assert np.signbit(out[1])
    assert Fraction(float(up[5])) ** 2 > Fraction(2) ** -149 > Fraction(float(cut_[5])) ** 2


SCOPES = """
extern "C" __global__ void k(const int* x, int* out) {
  __shared__ int s[2];
  int t = threadIdx.x;
  if (t < 2) s[t] = 0;
  __syncthreads();
  atomicAdd_block(out + blockIdx.x, x[t]);
  atomicMax_system(out + 2, x[t] + blockIdx.x);
  atomicAdd_block(s, x[t]);
  int before = atomicExch_block(s + 1, t);
  __syncthreads();
  if (t == 0) { out[3 + blockIdx.x] = s[0]; out[5 + blockIdx.x] = s[1]; }
  atomicXor_system(out + 7, before);
}
"""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_atomics_of_a_block_and_of_the_system(architecture):
    x, out = np.arange(64, dtype=np.int32) ** 2 - 700, np.zeros(8, np.int32)
    out[2] = -(2**31)
    report = ptx.parse(compile_ptx(SCOPES, architecture)).launch("k", 2, 64, [x, out])
    assert report.findings == []
    # Exchanges of a block hand on 0 and all but one of 0 to 63, the last stays; the xor of two blocks is none.
    assert out.tolist() == [x.sum(), x.sum(), x.max() + 1, x.sum(), x.sum(), 63, 63, 0]


STANDARD = """
#include <cuda/atomic>
extern "C" __global__ void k(int* x, int* out) {
  cuda::atomic_ref<int, cuda::thread_scope_device> a(*x), b(x[1]), c(x[2]), d(x[3]);
  int t = threadIdx.x;
  out[t] = a.fetch_add(3, cuda::memory_order_acq_rel);
  b.fetch_max(t * 7 % 61, cuda::memory_order_release);
  int seen = c.load(cuda::memory_order_acquire);
  while (!c.compare_exchange_weak(seen, seen + t, cuda::memory_order_acq_rel)) ;
  d.fetch_xor(t, cuda::memory_order_relaxed);
  cuda::atomic_thread_fence(cuda::memory_order_seq_cst, cuda::thread_scope_device);
}
"""


@pytest.mark.parametrize("architecture", ["compute_75", "compute_90"])
def test_atomics_of_the_standard_library(architecture):
    x, out = np.zeros(4, np.int32), np.zeros(64, np.int32)
    report = ptx.parse(compile_ptx(STANDARD, architecture)).launch("k", 1, 64, [x, out])
    assert report.findings == []
    assert sorted(out.tolist()) == [3 * t for t in range(64)]
    assert x.tolist() == [192, 60, sum(range(64)), 0]
