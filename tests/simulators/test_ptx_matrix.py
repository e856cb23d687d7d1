# ruff: noqa: E501  (tables of cases: one case, one line)
"""Tensor-core kernels as NVRTC writes them, against plain integer sums and against the instruction models."""

import ml_dtypes
import numpy as np
import pytest

from simulators import ptx, wmma
from simulators.ptx.fragments import Fragment, Tile
from tests.simulators.cuda_source import compile_ptx

INT32 = np.iinfo(np.int32)
RANGES = {"signed char": (-128, 127), "unsigned char": (0, 255), "s4": (-8, 7), "u4": (0, 15)}
NAMES = {"signed char": "s8", "unsigned char": "u8", "s4": "s4", "u4": "u4"}
NUMPY = {"signed char": np.int8, "unsigned char": np.uint8}
BYTES = [(m, n, 16, t, la, lb) for m, n in ((16, 16), (8, 32), (32, 8)) for t in NUMPY
         for la in ("row", "col") for lb in ("row", "col")]  # fmt: skip
NIBBLES = [(8, 8, 32, t, "row", "col") for t in ("s4", "u4")]

# One warp multiplies one tile; shared memory is used where SHARED is 1. The stride of every matrix is wider than it.
TILE = """
extern "C" __global__ void {name}(const {pointer}* a, const {pointer}* b, const int* c, int* d,
                                  int lda, int ldb, int ldc) {{
  wmma::fragment<wmma::matrix_a, {m}, {n}, {k}, {element}, wmma::{la}_major> fa;
  wmma::fragment<wmma::matrix_b, {m}, {n}, {k}, {element}, wmma::{lb}_major> fb;
  wmma::fragment<wmma::accumulator, {m}, {n}, {k}, int> fc;
  wmma::load_matrix_sync(fa, a, lda);
  wmma::load_matrix_sync(fb, b, ldb);
  wmma::load_matrix_sync(fc, c, ldc, wmma::mem_{lc}_major);
  wmma::mma_sync(fc, fa, fb, fc{saturate});
  wmma::store_matrix_sync(d, fc, ldc, wmma::mem_{lc}_major);
}}
"""


def kernel_name(case, satfinite, lc):
    m, n, k, t, la, lb = case
    return f"tile_m{m}n{n}k{k}_{NAMES[t]}_{la}_{lb}_{lc}_{'sat' if satfinite else 'wrap'}"


VARIANTS = [(case, sat, lc) for case in BYTES + NIBBLES for sat in (False, True) for lc in ("row", "col")]


@pytest.fixture(scope="module")
def tiles():
    source = "#include <mma.h>\nusing namespace nvcuda;\n"
    for case, satfinite, lc in VARIANTS:
        m, n, k, t, la, lb = case
        sub = t in ("s4", "u4")
        source += TILE.format(
            name=kernel_name(case, satfinite, lc), pointer="int" if sub else t, m=m, n=n, k=k, la=la, lb=lb, lc=lc,
            element=f"wmma::experimental::precision::{t}" if sub else t, saturate=", true" if satfinite else "",
        )  # fmt: skip
    return ptx.parse(compile_ptx(source))


def stored(matrix, layout, stride, fill):
    """A matrix as it lies in memory, rows (or columns) `stride` elements apart, with other values between."""
    runs = matrix if layout == "row" else matrix.T
    memory = np.full((runs.shape[0], stride), fill, runs.dtype)
    memory[:, : runs.shape[1]] = runs
    return memory


def packed(nibbles):
    """Eight to a word, element 0 lowest."""
    words = (nibbles.reshape(-1, 8).astype(np.int64) & 15) << (4 * np.arange(8))
    return words.sum(axis=1).astype(np.uint32).view(np.int32)


@pytest.mark.parametrize(("case", "satfinite", "lc"), VARIANTS, ids=[kernel_name(*v) for v in VARIANTS])
def test_wmma_tile_is_exact(tiles, case, satfinite, lc):
    m, n, k, t, la, lb = case
    random = np.random.default_rng(7)
    low, high = RANGES[t]
    a, b = random.integers(low, high + 1, (m, k)), random.integers(low, high + 1, (k, n))
    a[0], b[:, 0], a[1], b[:, 1] = low, low, high, high
    c = random.integers(INT32.min, INT32.max, (m, n), dtype=np.int32, endpoint=True)
    c[:2, :2] = INT32.max
    c[2:4, :2] = INT32.min
    sub = t in ("s4", "u4")
    gap = 32
    strides = [
        (k if la == "row" else m) + gap,
        (n if lb == "row" else k) + gap,
        (n if lc == "row" else m) + gap,
    ]
    memory = [stored(a, la, strides[0], high), stored(b, lb, strides[1], high), stored(c, lc, strides[2], 99)]
    given = [packed(x) if sub else x.astype(NUMPY[t]) for x in memory[:2]]
    d = np.full(memory[2].shape, 1234, np.int32)
    report = tiles.launch(kernel_name(case, satfinite, lc), 1, 32, [*given, memory[2], d, *strides])

    total = a @ b + c.astype(np.int64)
    want = np.clip(total, INT32.min, INT32.max) if satfinite else (total + 2**31) % 2**32 - 2**31
    inner = n if lc == "row" else m
    got = d[:, :inner] if lc == "row" else d[:, :inner].T
    np.testing.assert_array_equal(got, want)
    assert (d[:, inner:] == 1234).all(), "wrote beyond the tile"
    dtype = {"s4": ml_dtypes.int4, "u4": ml_dtypes.uint4}.get(t) or NUMPY[t]
    np.testing.assert_array_equal(got, wmma.mma(a.astype(dtype), b.astype(dtype), c, satfinite=satfinite))
    assert report.findings == []
    assert report.counters["tensor_instructions"] == report.counters["instructions.wmma.mma"] == 1
    assert report.counters["instructions.wmma.load"] == 3
    operand_bytes = (a.size + b.size) // (2 if sub else 1)
    assert report.counters["global_load_bytes"] == operand_bytes + 4 * m * n
    assert report.counters["global_store_bytes"] == 4 * m * n


CONVOLUTION = """
#include <mma.h>
using namespace nvcuda;
// data (H, W, N, C) padded beforehand, weight (K, K, O, C), out (OH, OW, N, O); two warps share the weights' tile.
extern "C" __global__ void convolution(const signed char* data, const signed char* weight, int* out,
                                       int width, int batch, int channels, int filters, int out_width, int size,
                                       int stride) {
  __shared__ __align__(16) signed char rows[2 * 8 * 16];
  __shared__ __align__(16) signed char columns[32 * 16];
  int lane = threadIdx.x, warp = threadIdx.y;
  int y = blockIdx.z / out_width, x = blockIdx.z % out_width;
  int n = (blockIdx.x * 2 + warp) * 8, o = blockIdx.y * 32;
  wmma::fragment<wmma::accumulator, 8, 32, 16, int> sum;
  wmma::fill_fragment(sum, 0);
  for (int dy = 0; dy < size; dy++) for (int dx = 0; dx < size; dx++) for (int k = 0; k < channels; k += 16) {
    const signed char* from = data + (((y * stride + dy) * width + x * stride + dx) * batch + n) * channels + k;
    *(int*)(rows + warp * 128 + lane * 4) = *(const int*)(from + lane / 4 * channels + lane % 4 * 4);
    const signed char* filter = weight + ((dy * size + dx) * filters + o) * channels + k;
    if (warp == 0) *(int4*)(columns + lane * 16) = *(const int4*)(filter + lane * channels);
    __syncthreads();
    wmma::fragment<wmma::matrix_a, 8, 32, 16, signed char, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 8, 32, 16, signed char, wmma::col_major> b;
    wmma::load_matrix_sync(a, rows + warp * 128, 16);
    wmma::load_matrix_sync(b, columns, 16);
    wmma::mma_sync(sum, a, b, sum);
    __syncthreads();
  }
  wmma::store_matrix_sync(out + ((y * out_width + x) * batch + n) * filters + o, sum, filters, wmma::mem_row_major);
}
"""


@pytest.mark.parametrize("check", [False, True], ids=["unchecked", "checked"])
@pytest.mark.parametrize(
    "layer",
    [(16, 16, 4, 32, 1, 1), (32, 48, 6, 64, 3, 1), (16, 16, 7, 32, 3, 2), (16, 80, 5, 32, 5, 1)],
    ids=lambda layer: "batch {}, {} channels, {} wide, {} filters of size {}, stride {}".format(*layer),
)
def test_convolution_is_exact(layer, check):
    batch, channels, image, filters, size, stride = layer
    random = np.random.default_rng(3)
    data = random.integers(-128, 128, (image, image, batch, channels), dtype=np.int8)
    weight = random.integers(-128, 128, (size, size, filters, channels), dtype=np.int8)
    out_size = (image - size) // stride + 1
    out = np.zeros((out_size, out_size, batch, filters), np.int32)
    module = ptx.parse(compile_ptx(CONVOLUTION))
    grid = (batch // 16, filters // 32, out_size**2)
    args = [data, weight, out, image, batch, channels, filters, out_size, size, stride]
    report = module.launch("convolution", grid, (32, 2), args, check=check)

    want = np.zeros(out.shape, np.int64)
    for dy in range(size):
        for dx in range(size):
            window = data[dy : dy + stride * out_size : stride, dx : dx + stride * out_size : stride][
                :out_size, :out_size
            ]
            want += window.astype(np.int64) @ weight[dy, dx].T.astype(np.int64)
    np.testing.assert_array_equal(out, want)
    assert report.findings == []
    macs = out.size * channels * size * size
    assert report.counters["tensor_instructions"] * 8 * 32 * 16 == macs
    assert report.counters["instructions.bar"] == 2 * report.counters["tensor_instructions"]


def test_only_the_warps_of_a_branch_multiply():
    source = """
    #include <mma.h>
    using namespace nvcuda;
    extern "C" __global__ void some_warps(const signed char* a, const signed char* b, int* d, int which) {
      wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major> fa;
      wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major> fb;
      wmma::fragment<wmma::accumulator, 16, 16, 16, int> fc;
      wmma::fill_fragment(fc, threadIdx.y);
      wmma::load_matrix_sync(fa, a, 16);
      if (which >> threadIdx.y & 1) wmma::load_matrix_sync(fa, a + 256, 16);
      wmma::load_matrix_sync(fb, b, 16);
      if (which >> threadIdx.y & 2) wmma::mma_sync(fc, fa, fb, fc);
      wmma::mma_sync(fc, fa, fb, fc);
      if (threadIdx.y != 2) wmma::store_matrix_sync(d + threadIdx.y * 256, fc, 16, wmma::mem_row_major);
    }"""
    random = np.random.default_rng(6)
    a, b = (
        random.integers(-128, 128, (2, 16, 16), dtype=np.int8),
        random.integers(-128, 128, (16, 16), dtype=np.int8),
    )
    d = np.full((4, 16, 16), 77, np.int32)
    which = 0b01101
    report = ptx.parse(compile_ptx(source)).launch("some_warps", 1, (32, 4), [a, b, d, which])
    for warp in range(4):
        times = 2 if which >> warp & 2 else 1
        want = warp + times * (a[which >> warp & 1].astype(np.int64) @ b.T.astype(np.int64))
        np.testing.assert_array_equal(d[warp], np.full((16, 16), 77) if warp == 2 else want)
    assert report.findings == []
    assert report.counters["tensor_instructions"] == 4 + sum(bool(which >> warp & 2) for warp in range(4))


@pytest.mark.parametrize(("type_", "elements"), [("u4", range(8)), ("s4", [0, 1, 2, 3, 4, 5, 6, -1])])
def test_element_0_of_a_word_is_in_its_low_nibble(type_, elements):
    word = 0x76543210 if type_ == "u4" else 0xF6543210
    fragment = Fragment((), np.full((1, 1, 1, 32), word, np.uint32))
    matrix = fragment.factor(Tile(8, 32, type_))
    assert matrix[0, 0, 0].tolist() == [*elements] * 4


def test_fragments_that_arithmetic_touched_are_gathered_again():
    # Doubling each element in registers between load and store goes around everything the machine remembers of them.
    source = """
    #include <mma.h>
    using namespace nvcuda;
    extern "C" __global__ void doubled(const signed char* a, const signed char* b, int* d, int n) {
      wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major> fa;
      wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major> fb;
      wmma::fragment<wmma::accumulator, 16, 16, 16, int> fc;
      wmma::fill_fragment(fc, 3);
      wmma::load_matrix_sync(fa, a, 16);
      wmma::load_matrix_sync(fb, b, 16);
      for (int i = 0; i < n; i++) {
        wmma::mma_sync(fc, fa, fb, fc);
        for (int j = 0; j < fc.num_elements; j++) fc.x[j] = fc.x[j] * 2 + (fc.x[j] < 0);
      }
      wmma::store_matrix_sync(d, fc, 16, wmma::mem_row_major);
    }"""
    random = np.random.default_rng(5)
    a, b = random.integers(-128, 128, (2, 16, 16), dtype=np.int8)
    d = np.zeros((16, 16), np.int32)
    ptx.parse(compile_ptx(source)).launch("doubled", 1, 32, [a, b, d, 3])
    want = np.full((16, 16), 3, np.int64)
    for _ in range(3):
        want = want + a.astype(np.int64) @ b.T.astype(np.int64)
        want = want * 2 + (want < 0)
    np.testing.assert_array_equal(d, want)


BITS = """
#include <mma.h>
using namespace nvcuda;
extern "C" __global__ void bits_{name}(const int* a, const int* b, int* d) {{
  wmma::fragment<wmma::matrix_a, 8, 8, 128, wmma::experimental::precision::b1, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 8, 8, 128, wmma::experimental::precision::b1, wmma::col_major> fb;
  wmma::fragment<wmma::accumulator, 8, 8, 128, int> fc;
  wmma::fill_fragment(fc, 0x7fffffc0);
  wmma::load_matrix_sync(fa, a, 256);
  wmma::load_matrix_sync(fb, b, 128);
  wmma::bmma_sync(fc, fa, fb, fc, wmma::experimental::bmmaBitOp{name});
  wmma::store_matrix_sync(d, fc, 8, wmma::mem_row_major);
}}
"""


@pytest.mark.parametrize("operation", ["XOR", "AND"])
def test_wmma_of_single_bits_is_exact(operation):
    random = np.random.default_rng(6)
    a, b = random.random((8, 256)) < 0.5, random.random((8, 128)) < 0.5
    d = np.zeros((8, 8), np.int32)
    given = [np.packbits(x, axis=1, bitorder="little").view(np.int32) for x in (a, b)]
    report = ptx.parse(compile_ptx(BITS.format(name=operation))).launch(
        f"bits_{operation}", 1, 32, [*given, d]
    )
    rows, columns = a[:, None, :128], b[None]
    want = ((rows ^ columns) if operation == "XOR" else (rows & columns)).sum(axis=2) + 0x7FFFFFC0
    np.testing.assert_array_equal(d, (want + 2**31) % 2**32 - 2**31)
    assert report.findings == []
    assert report.counters["tensor_instructions"] == 1


HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n.reg .b32 %r<20>; .reg .b64 %rd<2>;\nld.param.u64 %rd0, [p];\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wmma.mma.sync.aligned.row.col.m16n16k16.s32.s8.u8.s32 {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}, {%r8,%r9}, {%r8,%r9}, {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7};", "A and B of one type"),
        ("wmma.load.a.sync.aligned.row.m8n8k32.global.s8 {%r0}, [%rd0];", "not m8n8k32"),
        ("wmma.load.a.sync.aligned.col.m8n8k32.global.s4 {%r0}, [%rd0];", ".s4 a is row"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.global.s32 {%r0,%r1}, [%rd0];", "matrix a of .s32"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r0,%r1}, [%rd0];", "modifier .f16"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.global.s8 {%r0}, [%rd0];", "takes 2 32-bit registers"),
    ],
)  # fmt: skip
def test_what_wmma_is_not_is_an_error(line, message):
    with pytest.raises(ptx.PtxError, match=message) as caught:
        ptx.parse(f"{HEAD}{line}\nret;\n}}").launch("k", 1, 32, [np.zeros(64, np.uint8)])
    assert "line 8" in str(caught.value)


def test_wmma_in_a_divided_warp_is_a_finding():
    source = (
        HEAD
        + """.reg .pred %p; mov.u32 %r8, %laneid; setp.lt.u32 %p, %r8, 16;
    @%p wmma.load.a.sync.aligned.row.m16n16k16.global.s8 {%r0,%r1}, [%rd0];
    ret; }"""
    )
    report = ptx.parse(source).launch("k", 1, 32, [np.zeros(256, np.uint8)])
    assert [f.kind for f in report.findings] == ["barrier-divergence"]


@pytest.mark.parametrize(
    ("offset", "size", "kind"),
    [(4, 512, "misaligned"), (16, 256, "out-of-bounds"), (8, 256, "out-of-bounds")],
)
def test_wmma_load_outside_or_askew_is_a_finding(offset, size, kind):
    source = f"{HEAD}wmma.load.a.sync.aligned.row.m16n16k16.global.s8 {{%r0,%r1}}, [%rd0+{offset}];\nret;\n}}"
    report = ptx.parse(source).launch("k", 1, 32, [np.zeros(size, np.uint8)])
    assert [(f.kind, f.severity) for f in report.findings] == [(kind, "error")]
    assert "PTX line 8" in report.findings[0].where
