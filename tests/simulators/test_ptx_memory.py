# ruff: noqa: E501  (tables of cases: one case, one line)
"""Loads and stores of every width and space, and what is found of bad ones."""

import numpy as np
import pytest

from simulators import ptx
from simulators.ptx import launch as machine
from tests.simulators.cuda_source import compile_ptx

SOURCE = """
struct alignas(16) Four { unsigned v[4]; };
extern "C" __global__ void copies(const unsigned char* in, unsigned char* out) {
  int i = threadIdx.x;
  out[i] = in[i];
  ((short*)(out + 1024))[i] = ((const short*)(in + 1024))[i];
  ((int2*)(out + 4096))[i] = __ldg((const int2*)(in + 4096) + i);
  ((uint4*)(out + 8192))[i] = ((const uint4*)(in + 8192))[i];
  ((long long*)(out + 16384))[i] = ((const signed char*)in)[i];
  ((uchar4*)(out + 20480))[i] = ((const uchar4*)(in + 20480))[i];
}
extern "C" __global__ void generic(const int* x, int* out, int which) {
  __shared__ int inside[64];
  int t = threadIdx.x;
  inside[t] = t * 3;
  __syncthreads();
  const int* from = (which == 2 ? t & 1 : which) ? inside : x;
  out[t] = from[t ^ 1];
  __syncthreads();
  int* to = (which == 2 ? t & 1 : which) ? inside : out + 64;
  to[t] = -t;
  __syncthreads();
  out[128 + t] = inside[t];
}
"""

HEAD = (
    ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u64 b)\n{\n"
    ".reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .pred %p<3>; .shared .align 16 .b8 s[256];\n"
    "ld.param.u64 %rd0, [a]; ld.param.u64 %rd1, [b]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd2, %r0, 4;\n"
    "add.u64 %rd3, %rd0, %rd2; add.u64 %rd4, %rd1, %rd2; mov.u32 %r1, 7; shl.b32 %r2, %r0, 2; mov.u32 %r3, s;\n"
    "add.u32 %r2, %r2, %r3; mov.u32 %r4, %ctaid.x;\n"
)  # what follows begins at line 10


def run(body, *, a=64, grid=1, check=True):
    first, second = np.arange(1, a + 1, dtype=np.uint32), np.full(64, 99, np.uint32)
    module = ptx.parse(f"{HEAD}{body}\nret;\n}}\n")
    report = module.launch("k", grid, 32, [first, second], check=check)
    return first, second, report


@pytest.fixture(scope="module")
def module():
    return ptx.parse(compile_ptx(SOURCE))


def test_widths_and_vectors(module):
    data = np.random.default_rng(0).integers(0, 256, 32768, dtype=np.uint8)
    out = np.zeros_like(data)
    report = module.launch("copies", 1, 64, [data, out])
    for start, size in ((0, 1), (1024, 2), (4096, 8), (8192, 16), (20480, 4)):
        np.testing.assert_array_equal(out[start : start + 64 * size], data[start : start + 64 * size])
    np.testing.assert_array_equal(out[16384 : 16384 + 512].view(np.int64), data[:64].view(np.int8))
    assert report.counters["global_load_bytes"] == 64 * (1 + 2 + 8 + 16 + 1 + 4)
    assert report.counters["global_store_bytes"] == 64 * (1 + 2 + 8 + 16 + 8 + 4)
    assert report.findings == []


@pytest.mark.parametrize("which", [0, 1, 2], ids=["global", "shared", "both at once"])
def test_generic_addresses(module, which):
    x, out = np.arange(100, 164, dtype=np.int32), np.zeros(192, np.int32)
    report = module.launch("generic", 1, 64, [x, out, which])
    t = np.arange(64)
    in_shared = np.array([0 * t, 0 * t + 1, t & 1][which], bool)
    np.testing.assert_array_equal(out[:64], np.where(in_shared, (t ^ 1) * 3, x[t ^ 1]))
    np.testing.assert_array_equal(out[64:128], np.where(in_shared, 0, -t))
    np.testing.assert_array_equal(out[128:], np.where(in_shared, -t, t * 3))
    assert report.findings == []


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
def test_the_last_of_several_writers_stays(check):
    _, out, _ = run("st.global.u32 [%rd1], %r0; st.shared.u32 [s], %r0; ld.shared.u32 %r5, [s]; "
                    "st.global.u32 [%rd1+4], %r5;", check=check)  # fmt: skip
    assert out[:2].tolist() == [31, 31]


def test_a_shared_address_wraps_at_32_bits():
    _, out, report = run("sub.u32 %r2, %r2, 256; st.shared.u32 [%r2+256], %r0; bar.sync 0; ld.shared.u32 %r5, [%r2+256]; "
                         "st.global.u32 [%rd4], %r5;")  # fmt: skip
    assert out[:32].tolist() == [*range(32)]
    assert report.findings == []


def test_a_clean_kernel_has_no_findings():
    a, b, report = run("ld.global.u32 %r5, [%rd3]; st.shared.u32 [%r2], %r5; bar.sync 0; ld.shared.u32 %r6, [%r2]; "
                       "st.global.u32 [%rd4], %r6;")  # fmt: skip
    np.testing.assert_array_equal(b[:32], a[:32])
    assert report.findings == []


BAD = {
    "load beyond the end": ("ld.global.u32 %r5, [%rd3+240]; st.global.u32 [%rd4], %r5;", "out-of-bounds", "thread (4, 0, 0)", 28),
    "load before the start": ("ld.global.u32 %r5, [%rd3+-8]; st.global.u32 [%rd4], %r5;", "out-of-bounds", "thread (0, 0, 0)", 2),
    "store beyond the end": ("st.global.u32 [%rd4+240], %r1;", "out-of-bounds", "thread (4, 0, 0)", 28),
    "load of one item beyond the end": ("ld.global.u32 %r5, [%rd3+132];", "out-of-bounds", "thread (31, 0, 0)", 1),
    "load half beyond the end": ("ld.global.v2.u32 {%r5, %r6}, [%rd0+252];", "misaligned", "thread (0, 0, 0)", 32),
    "load from null": ("mov.u64 %rd5, 0; ld.global.u32 %r5, [%rd5];", "out-of-bounds", "address 0x0", 32),
    "load from a pointer cut to 32 bits": ("cvt.u32.u64 %r5, %rd3; cvt.u64.u32 %rd5, %r5; ld.global.u32 %r5, [%rd5];", "out-of-bounds", "thread (0, 0, 0)", 32),
    "misaligned load": ("ld.global.u32 %r5, [%rd3+2];", "misaligned", "thread (0, 0, 0)", 32),
    "misaligned vector": ("ld.global.v2.u32 {%r5, %r6}, [%rd3];", "misaligned", "thread (1, 0, 0)", 16),
    "misaligned store": ("st.global.u32 [%rd4+1], %r1;", "misaligned", "thread (0, 0, 0)", 32),
    "shared store beyond the end": ("st.shared.u32 [%r2+240], %r1;", "out-of-bounds", "shared address 0x100", 28),
    "shared load before the start": ("ld.shared.u32 %r5, [%r2+-4];", "out-of-bounds", "thread (0, 0, 0)", 1),
    "misaligned shared": ("st.shared.u32 [%r2+2], %r1;", "misaligned", "thread (0, 0, 0)", 32),
    "uninitialised shared": ("ld.shared.u32 %r5, [%r2];", "uninitialised", "shared address 0x0", 32),
    "uninitialised in part": ("st.shared.u32 [%r2], %r1; ld.shared.u32 %r5, [%r2+16];", "uninitialised", "thread (28, 0, 0)", 4),
    "one byte of a word uninitialised": ("st.shared.u8 [%r2], %r1; st.shared.u16 [%r2+2], %r1; ld.shared.u32 %r5, [%r2];", "uninitialised", "thread (0, 0, 0)", 32),
    "only guarded threads": ("setp.gt.u32 %p0, %r0, 7; @%p0 ld.global.u32 %r5, [%rd3+240];", "out-of-bounds", "thread (8, 0, 0)", 24),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "detail", "count"), BAD.values(), ids=list(BAD))
def test_a_bad_access_is_found(body, kind, detail, count):
    a, _, report = run(body)
    finding = next(f for f in report.findings if f.kind == kind)
    assert finding.severity == "error"
    assert "k, PTX line 10" in finding.where
    assert detail in finding.message
    assert f"first of {count} times" in finding.message or (count == 1 and "once" in finding.message)
    np.testing.assert_array_equal(a, np.arange(1, 65))


@pytest.mark.parametrize(
    "body",
    [
        "setp.lt.u32 %p0, %r0, 9; @%p0 st.shared.u32 [%r2], %r1; @%p0 ld.shared.u32 %r5, [%r2];",
        "setp.lt.u32 %p0, %r0, 9; @%p0 ld.global.u32 %r5, [%rd3+220];",
        "setp.lt.u32 %p0, %r0, 9; @!%p0 bra END; st.shared.u32 [%r2], %r1; ld.shared.u32 %r5, [%r2]; END:",
        "setp.lt.u32 %p0, %r0, 9; @!%p0 bra END; ld.shared.u32 %r5, [%r2+99999]; END:",
    ],
    ids=["shared, guarded", "global, guarded", "shared, divided", "wild"],
)
def test_threads_that_do_not_run_are_not_blamed(body):
    _, _, report = run(body)
    assert [f.message.split("first of ")[1] for f in report.findings] == (
        ["9 times)"] if "99999" in body else []
    )


def test_loads_out_of_bounds_give_zero_and_such_stores_are_not_done():
    _, b, _ = run("ld.global.u32 %r5, [%rd3+240]; st.global.u32 [%rd4], %r5; st.global.u32 [%rd3+300], %r1;")
    np.testing.assert_array_equal(b[:32], [61, 62, 63, 64] + [0] * 28)
    assert (b[32:] == 99).all()


def test_a_finding_names_the_block_of_a_later_group(monkeypatch):
    monkeypatch.setattr(machine, "GROUP_WARPS", 2)
    _, _, report = run("setp.eq.u32 %p0, %r4, 5; @%p0 ld.global.u32 %r5, [%rd3+252];", grid=8)
    (finding,) = report.findings
    assert "block (5, 0, 0), thread (1, 0, 0)" in finding.message
    assert "first of 31 times" in finding.message


def test_each_line_is_reported_once_and_counted():
    _, _, report = run("mov.u32 %r5, 0;\nLOOP:\nld.global.u32 %r6, [%rd3+256];\nadd.u32 %r5, %r5, 1;\n"
                       "setp.lt.u32 %p0, %r5, 10;\n@%p0 bra LOOP;\nst.global.u32 [%rd4+256], %r1;")  # fmt: skip
    assert [(f.kind, f.where.split(" (")[0]) for f in report.findings] == [
        ("out-of-bounds", "k, PTX line 12"), ("out-of-bounds", "k, PTX line 16"),
    ]  # fmt: skip
    assert "first of 320 times" in report.findings[0].message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.global.u32 %r5, [%rd3+1];", "line 10.*global access of 4 bytes is misaligned"),
        ("ld.global.u32 %r5, [%rd2];", "line 10.*outside of all memory"),
        ("ld.shared.u32 %r5, [%r2+65536];", "shared access of 4 bytes is outside"),
        ("st.shared.u32 [%r2+-4], %r1;", "shared access of 4 bytes is outside"),
    ],
)
def test_without_checks_a_wild_access_stops_the_run(body, message):
    with pytest.raises(ptx.IllegalAddressError, match=message):
        run(body, check=False)


def test_divided_threads_access_only_what_is_theirs():
    _, b, report = run(
        "setp.lt.u32 %p0, %r0, 5;\n@%p0 bra LOW;\nld.global.u32 %r5, [%rd3];\nbra END;\nLOW:\n"
        "ld.global.u32 %r5, [%rd3+128];\nEND:\nst.global.u32 [%rd4], %r5;", a=37,
    )  # fmt: skip
    assert b[:32].tolist() == [33, 34, 35, 36, 37, *range(6, 33)]
    assert report.findings == []
    assert report.counters["global_load_bytes"] == 128
    assert report.counters["instructions.ld"] == 2 + 2
