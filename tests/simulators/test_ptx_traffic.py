# ruff: noqa: E501  (tables of cases: one case, one line)
"""Sectors, shared-memory transactions and compulsory bytes, against counts by hand and by a plain model."""

import numpy as np
import pytest

from simulators import ptx
from simulators.ptx.traffic import sectors, transactions
from tests.simulators.cuda_source import compile_ptx

LANES = np.arange(32)

# Index of the 4-byte word (or item of another size) that each lane accesses, and the transactions that takes.
SHARED = {
    "each lane its word": (LANES, 4, 1),
    "two apart": (2 * LANES, 4, 2),
    "four apart": (4 * LANES, 4, 4),
    "thirty-two apart": (32 * LANES, 4, 32),
    "thirty-three apart": (33 * LANES, 4, 1),
    "all one word": (0 * LANES, 4, 1),
    "two words of one bank": (32 * (LANES % 2), 4, 2),
    "reversed": (31 - LANES, 4, 1),
    "bytes of eight words": (LANES, 1, 1),
    "bytes four words apart": (16 * LANES, 1, 4),
    "halves": (LANES, 2, 1),
    "eight bytes in a row": (LANES, 8, 2),
    "eight bytes, two apart": (2 * LANES, 8, 4),
    "sixteen bytes in a row": (LANES, 16, 4),
    "sixteen bytes, rows of 64": (4 * LANES, 16, 16),
    "sixteen bytes, rows of 80": (5 * LANES, 16, 4),
    "sixteen bytes, all the same": (0 * LANES, 16, 4),
}
IDEAL = {1: 1, 2: 1, 4: 1, 8: 2, 16: 4}


@pytest.mark.parametrize(("index", "size", "count"), SHARED.values(), ids=list(SHARED))
def test_shared_transactions(index, size, count):
    assert transactions(index.reshape(1, 1, 32), size, None) == (count, IDEAL[size])


def test_lanes_that_do_not_access_cause_no_conflicts():
    index, keep = (32 * LANES).reshape(1, 1, 32), (LANES < 3).reshape(1, 1, 32)
    assert transactions(index, 4, keep) == (3, 1)
    assert transactions(index, 4, keep & False) == (0, 0)
    assert transactions(index, 16, (LANES == 20).reshape(1, 1, 32)) == (1, 1)


def plain_transactions(index, size, keep):
    """Bank by bank, in Python."""
    total = least = 0
    lanes = {1: 32, 2: 32, 4: 32, 8: 16, 16: 8}[size]
    for warp, active in zip(index.reshape(-1, 32), keep.reshape(-1, 32), strict=True):
        for first in range(0, 32, lanes):
            banks = {}
            for lane in range(first, first + lanes):
                for byte in range(warp[lane] * size, warp[lane] * size + size) if active[lane] else ():
                    banks.setdefault(byte // 4 % 32, set()).add(byte // 4)
            total += max((len(words) for words in banks.values()), default=0)
            least += bool(banks)
    return total, least


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_shared_transactions_of_many_warps(size):
    random = np.random.default_rng(size)
    index, keep = random.integers(0, 4096 // size, (3, 5, 32)), random.random((3, 5, 32)) < 0.7
    assert transactions(index, size, keep) == plain_transactions(index, size, keep)
    assert transactions(index, size, None) == plain_transactions(index, size, keep | True)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_sectors_of_many_warps(size):
    random = np.random.default_rng(size)
    index, keep = random.integers(0, 2048 // size, (3, 5, 32)), random.random((3, 5, 32)) < 0.7
    for part in (keep, keep | True):
        want = sum(
            len({i * size // 32 for i in row[on]})
            for row, on in zip(index.reshape(-1, 32), part.reshape(-1, 32), strict=True)
        )
        assert sectors(index, size, part if part is keep else None) == want


SOURCE = """
extern "C" __global__ void strided(const int* x, int* out, int stride, int gap) {
  extern __shared__ int s[];
  int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  s[t * gap] = x[i * stride];
  __syncthreads();
  out[i] = s[t * gap];
}
extern "C" __global__ void same(const int* x, int* out) { out[threadIdx.x] = x[5]; }
extern "C" __global__ void twice(const int* x, int* out, int n) {
  for (int k = 0; k < n; k++) out[threadIdx.x] = x[threadIdx.x + k];
}
extern "C" __global__ void some(const int* x, int* out) { if (threadIdx.x % 16 < 4) out[threadIdx.x] = x[threadIdx.x]; }
"""


@pytest.fixture(scope="module")
def module():
    return ptx.parse(compile_ptx(SOURCE))


@pytest.mark.parametrize(
    ("stride", "gap", "load_sectors", "transactions_"),
    [(1, 1, 4, 1), (2, 1, 8, 1), (8, 1, 32, 1), (100, 1, 32, 1), (1, 2, 4, 2), (1, 8, 4, 8), (1, 33, 4, 1)],
)
def test_counters_of_strided_accesses(module, stride, gap, load_sectors, transactions_):
    x, out = np.zeros(256 * stride, np.int32), np.zeros(256, np.int32)
    report = module.launch("strided", 4, 64, [x, out, stride, gap], dynamic_shared=64 * gap * 4)
    warps = 8
    counters = report.counters
    assert counters["global_load_sectors"] == warps * load_sectors
    assert counters["global_store_sectors"] == warps * 4
    assert counters["shared_transactions"] == 2 * warps * transactions_
    assert counters["shared_bank_conflicts"] == 2 * warps * (transactions_ - 1)
    assert counters["global_compulsory_bytes"] == 2 * 256 * 4


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
def test_one_item_for_all_is_one_sector_for_each_warp(module, check):
    report = module.launch("same", 3, 64, [np.zeros(8, np.int32), np.zeros(64, np.int32)], check=check)
    assert report.counters["global_load_sectors"] == 6
    assert report.counters["global_load_bytes"] == 3 * 64 * 4
    assert report.counters["global_compulsory_bytes"] == 4 + 64 * 4


def test_what_is_loaded_again_is_compulsory_once(module):
    report = module.launch("twice", 1, 32, [np.zeros(64, np.int32), np.zeros(32, np.int32), 4])
    assert report.counters["global_load_bytes"] + report.counters["global_store_bytes"] == 2 * 4 * 128
    assert report.counters["global_compulsory_bytes"] == (35 + 32) * 4


def test_threads_that_are_masked_touch_no_sectors(module):
    report = module.launch("some", 1, 64, [np.zeros(64, np.int32), np.zeros(64, np.int32)])
    assert report.counters["global_load_sectors"] == report.counters["global_store_sectors"] == 4
    assert report.counters["global_compulsory_bytes"] == 2 * 16 * 4


FRAGMENTS = """
#include <mma.h>
using namespace nvcuda;
extern "C" __global__ void tiles(int* d, int lda, int ldc) {
  __shared__ __align__(32) signed char s[16 * 64];
  __shared__ __align__(32) int o[16 * 40];
  for (int i = threadIdx.x; i < 256; i += 32) ((int*)s)[i] = i;
  __syncthreads();
  wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 16, int> fc;
  wmma::fill_fragment(fc, 0);
  wmma::load_matrix_sync(fa, s, lda);
  wmma::load_matrix_sync(fb, s, lda);
  wmma::mma_sync(fc, fa, fb, fc);
  wmma::store_matrix_sync(o, fc, ldc, wmma::mem_row_major);
  __syncthreads();
  d[threadIdx.x] = o[threadIdx.x];
}
"""


@pytest.mark.parametrize(
    ("lda", "ldc", "loads", "stores"),
    # Eight rows of 16 bytes, and four of 32 bytes, go together.
    [(16, 40, 2 * 2, 8), (32, 40, 4 * 2, 8), (48, 40, 2 * 2, 8), (16, 32, 2 * 2, 32), (16, 16, 2 * 2, 16), (16, 24, 2 * 2, 8)],
)  # fmt: skip
def test_tiles_are_served_as_rows_of_lanes(lda, ldc, loads, stores):
    report = ptx.parse(compile_ptx(FRAGMENTS)).launch("tiles", 1, 32, [np.zeros(32, np.int32), lda, ldc])
    assert report.counters["shared_transactions"] - 8 - 1 == loads + stores
