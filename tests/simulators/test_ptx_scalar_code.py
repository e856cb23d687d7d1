"""A mixed bag of scalar code as NVRTC compiles it for several architectures, against NumPy's int64."""

import numpy as np
import pytest

from simulators import ptx
from tests.simulators.cuda_source import compile_ptx

SOURCE = """
extern "C" __global__ void mixture(const int* x, const int* y, int* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = x[i], w = y[i], s = 0;
  for (int j = 0; j < (v & 15); j++) {
    s += (w >> j) * j;
    if (s & 1) s ^= 0x55; else s -= 3;
  }
  out[i] = s;
  out[i + n] = __popc(v) + __dp4a(v, w, s) + __clz(w) + __ffs(v);
  out[i + 2 * n] = min(v, w) - max(v, -5) + (v > 3 && w < 100 || v == w ? v : abs(w));
  out[i + 3 * n] = __byte_perm(v, w, 0x5140) + v / 7 + v % 13 + (int)((unsigned)v / 11u);
  out[i + 4 * n] = w ? v / w + v % w : 1;
  out[i + 5 * n] = __mulhi(v, w) + (int)(signed char)v + (int)((unsigned)v << 5 >> 11)
                   + (v & 0xf0 | w & 0x0f ^ 3);
  out[i + 6 * n] = (int)((float)(v >> 9) * 1.5f + 0.25f) + __float2int_rn((float)(w & 1023) / 3.0f);
  out[i + 7 * n] = (int)(((long long)v * w + 12345) >> 17) + __funnelshift_l(v, w, 9) + __brev(v);
}
// Requantising as a quantised layer does: multiply, round half up, shift, clamp, pack four to a word.
extern "C" __global__ void requantise(const int4* x, char4* out, int multiplier, int shift, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int4 v = x[i];
  int part[4] = {v.x, v.y, v.z, v.w};
  signed char done[4];
#pragma unroll
  for (int k = 0; k < 4; k++) {
    long long wide = (long long)part[k] * multiplier;
    int rounded = (int)((wide + (1LL << (shift - 1))) >> shift);
    done[k] = (signed char)max(-128, min(127, rounded));
  }
  out[i] = make_char4(done[0], done[1], done[2], done[3]);
}
"""


def wrap(value):
    return ((value + 2**31) % 2**32 - 2**31).astype(np.int64)


def signed_bytes(value):
    return [((value >> 8 * i & 255) ^ 128) - 128 for i in range(4)]


def trunc_div(a, b):
    return np.where(b == 0, 0, np.sign(a) * np.sign(b) * (np.abs(a) // np.maximum(np.abs(b), 1)))


@pytest.mark.parametrize("architecture", ["compute_75", "compute_80", "compute_90"])
def test_mixture(architecture):
    random = np.random.default_rng(11)
    n = 333
    x = random.integers(-(2**31), 2**31, n, dtype=np.int32)
    y = np.where(random.random(n) < 0.5, random.integers(-100, 100, n), random.integers(-(2**31), 2**31, n))
    y = y.astype(np.int32)
    x[:3], y[:3] = [-(2**31), 2**31 - 1, 0], [0, -1, 5]
    out = np.zeros((8, n), np.int32)
    report = ptx.parse(compile_ptx(SOURCE, architecture)).launch("mixture", 3, 128, [x, y, out, n])
    assert report.findings == []

    v, w = x.astype(np.int64), y.astype(np.int64)
    u = v % 2**32
    s = np.zeros(n, np.int64)
    for j in range(15):
        step = wrap(s + (w >> j) * j)
        s = np.where(j < (v & 15), np.where(step & 1, step ^ 0x55, wrap(step - 3)), s)
    dot = sum(a * b for a, b in zip(signed_bytes(v), signed_bytes(w), strict=True))
    ones = np.array([bin(k).count("1") for k in u])
    leading = np.array([32 - int(k).bit_length() for k in w % 2**32])
    first = np.array([(int(k) & -int(k)).bit_length() for k in u])
    both = (w % 2**32) << 32 | u
    permuted = (both & 255) | (both >> 32 & 255) << 8 | (both >> 8 & 255) << 16 | (both >> 40 & 255) << 24
    reverse = np.array([int(f"{k:032b}"[::-1], 2) for k in u])
    third = ((w & 1023).astype(np.float32) / np.float32(3)).astype(np.float64)
    want = [
        s,
        ones + dot + s + leading + first,
        np.minimum(v, w) - np.maximum(v, -5) + np.where((v > 3) & (w < 100) | (v == w), v, np.abs(w)),
        permuted + trunc_div(v, 0 * v + 7) + v - 13 * trunc_div(v, 0 * v + 13) + u // 11,
        np.where(w == 0, 1, trunc_div(v, w) + v - w * trunc_div(v, w)),
        (v * w >> 32) + signed_bytes(v)[0] + (u << 5 & 0xFFFFFFFF) // 2**11 + (v & 0xF0 | w & 0x0F ^ 3),
        np.trunc(((v >> 9) * 1.5 + 0.25).astype(np.float32)).astype(np.int64)
        + np.rint(third).astype(np.int64),
        (v * w + 12345 >> 17) + ((w << 9) + (u >> 23)) + reverse,
    ]
    for row, (got, expected) in enumerate(zip(out, want, strict=True)):
        np.testing.assert_array_equal(got, wrap(expected), err_msg=f"row {row}")


@pytest.mark.parametrize("shift", [1, 16, 31, 40])
def test_requantise(shift):
    random = np.random.default_rng(shift)
    x = random.integers(-(2**31), 2**31, (200, 4), dtype=np.int32) >> random.integers(0, 24, (200, 4))
    x = x.astype(np.int32)
    out = np.zeros((200, 4), np.int8)
    multiplier = 0x5A3C1234
    ptx.parse(compile_ptx(SOURCE)).launch("requantise", 4, 64, [x, out, multiplier, shift, 200])
    rounded = wrap(x.astype(np.int64) * multiplier + (1 << shift - 1) >> shift)
    np.testing.assert_array_equal(out, np.clip(rounded, -128, 127))
