"""What stands around a kernel: variables that point to others, structures that are indexed, assertions.

What the machine lacks is refused only where a kernel uses it.
"""

import struct

import numpy as np
import pytest

from simulators import ptx
from tests.simulators.cuda_source import compile_ptx

ARCHITECTURES = ["compute_75", "compute_80", "compute_90"]

SOURCE = """
struct Table { int a[40]; float b; };
__constant__ Table constant;
__constant__ float factors[3] = {1.5f, 2.0f, -3.0f};
__device__ const char* message = "abc";
__device__ int numbers[4] = {5, 6, 7, 8};
__device__ int* third = numbers + 2;
__device__ int* pointers[2] = {numbers + 3, numbers};
__managed__ int managed = 9;
__device__ __noinline__ int one(int a) { return a + 1; }
__device__ __noinline__ int two(int a) { return a * 2; }
typedef int (*Function)(int);
__device__ Function functions[2] = {one, two};
__device__ __noinline__ int sum(Table t, int at) { return t.a[at] + (int)t.b; }
__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

extern "C" __global__ void points(int* out) {
  int t = threadIdx.x;
  out[t] = message[t % 3] * 1000 + *third * 100 + *pointers[t & 1] * 10 + managed + constant.a[t];
}
extern "C" __global__ void indexed(Table p, const int* x, int* out) {
  int t = threadIdx.x;
  out[t] = p.a[x[t]] + (int)(p.b * factors[x[t] % 3]);
}
extern "C" __global__ void passed(Table p, const int* x, int* out) {
  out[threadIdx.x] = sum(p, x[threadIdx.x]);
}
extern "C" __global__ void asserts(const int* x, int* out) {
  assert(x[threadIdx.x] >= 0);
  out[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void by_address(const int* x, int* out) {
  out[threadIdx.x] = functions[x[threadIdx.x] & 1](3);
}
extern "C" __global__ void recursive(int* out) { out[threadIdx.x] = fibonacci(out[threadIdx.x]); }
extern "C" __global__ void which(int* out) { out[0] = functions[0] != functions[1]; }
extern "C" __global__ void timed(long long* out) { out[0] = clock64(); }
"""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def module(request):
    return ptx.parse(compile_ptx(SOURCE, request.param))


@pytest.fixture(scope="module")
def newest():
    return ptx.parse(compile_ptx(SOURCE, "compute_90"))


TABLE = [*range(7, 47), 2.5]


def test_variables_hold_the_addresses_of_others(module):
    out = np.zeros(32, np.int32)
    report = module.launch("points", 1, 32, [out])
    want = [b"abc"[t % 3] * 1000 + 700 + (5 if t & 1 else 8) * 10 + 9 for t in range(32)]
    assert out.tolist() == want
    assert report.findings == []


@pytest.mark.parametrize("kernel", ["indexed", "passed"])
def test_a_structure_may_be_indexed(module, kernel):
    x, out = np.arange(32, dtype=np.int32)[::-1].copy(), np.zeros(32, np.int32)
    report = module.launch(kernel, 1, 32, [struct.pack("<40if", *TABLE), x, out])
    factors = [1.5, 2.0, -3.0]
    added = [int(2.5 * factors[i % 3]) if kernel == "indexed" else 2 for i in x]
    assert out.tolist() == [7 + int(i) + extra for i, extra in zip(x, added, strict=True)]
    assert report.findings == []


def test_an_index_beyond_a_structure_is_found(newest):
    x, out = np.array([0, 40, 41, 10**6], np.int32), np.zeros(4, np.int32)
    report = newest.launch("indexed", 1, 4, [struct.pack("<40if", *TABLE), x, out])
    assert [finding.kind for finding in report.findings] == ["out-of-bounds"]
    assert "first of 2 times" in report.findings[0].message


def test_an_assertion_that_fails_ends_the_launch(module):
    x, out = np.arange(32, dtype=np.int32), np.zeros(32, np.int32)
    assert module.launch("asserts", 1, 32, [x, out]).findings == []
    np.testing.assert_array_equal(out, x)
    x[5] = -1
    with pytest.raises(ptx.KernelTrapError, match=r"asserts, PTX line \d+ .*the kernel gave up"):
        module.launch("asserts", 1, 32, [x, out])


def test_functions_can_be_told_apart_by_their_addresses(newest):
    out = np.zeros(1, np.int32)
    newest.launch("which", 1, 1, [out])
    assert out[0] == 1


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("by_address", r"line \d+: call of a function by its address"),
        ("recursive", r"line \d+: call.uni of \w*fibonacci\w*, which calls itself"),
        ("timed", r"line \d+: special register %clock64"),
    ],
)
def test_what_is_lacking_is_refused_where_it_is_used(module, kernel, message):
    with pytest.raises(ptx.UnsupportedInstructionError, match=message):
        module.launch(kernel, 1, 1, [np.zeros(4, np.int64)] * len(module.kernels[kernel].parameters))


HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def test_a_pointer_to_what_is_not_declared_is_an_error():
    text = HEAD + ".global .align 8 .u64 p[2] = {0, generic(nowhere)};\n.visible .entry k()\n{\nret;\n}\n"
    with pytest.raises(
        ptx.LaunchError, match="variable p holds the address of nowhere, which is not declared"
    ):
        ptx.parse(text).launch("k", 1, 1, [])


def test_an_address_of_32_bits_is_refused():
    text = HEAD + ".global .align 4 .u32 q = 1;\n.global .align 4 .u32 p = q;\n"
    with pytest.raises(
        ptx.UnsupportedInstructionError, match=r"line 5: an address as a \.u32; only of 64 bits"
    ):
        ptx.parse(text)
