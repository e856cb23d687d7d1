# ruff: noqa: E501  (tables of cases: one case, one line)
"""mma.sync and ldmatrix with the manual's fragment layouts, element by element, against plain integer sums."""

import ml_dtypes
import numpy as np
import pytest

from simulators import ptx, wmma
from simulators.ptx import launch as machine
from tests.simulators.cuda_source import compile_ptx

INT32 = np.iinfo(np.int32)
BITS = {"s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1}
RANGES = {"s8": (-128, 127), "u8": (0, 255), "s4": (-8, 7), "u4": (0, 15), "b1": (0, 1)}
MODEL = {"s8": np.int8, "u8": np.uint8, "s4": ml_dtypes.int4, "u4": ml_dtypes.uint4}

# "Matrix Fragments for mma" of the PTX ISA: (row, column) of element i of lane (group g, member t).
A = {
    "m8n8k16": lambda g, t, i: (g, 4 * t + i),
    "m16n8k16": lambda g, t, i: (g if i < 4 else g + 8, 4 * t + i % 4),
    "m16n8k32 bytes": lambda g, t, i: (g if i < 4 or 8 <= i < 12 else g + 8, 4 * t + i % 4 + (16 if i >= 8 else 0)),
    "m8n8k32": lambda g, t, i: (g, 8 * t + i),
    "m16n8k32 nibbles": lambda g, t, i: (g if i < 8 else g + 8, 8 * t + i % 8),
    "m16n8k64": lambda g, t, i: (g if i < 8 or 16 <= i < 24 else g + 8, 8 * t + i % 8 + (32 if i >= 16 else 0)),
    "m8n8k128": lambda g, t, i: (g, 32 * t + i),
    "m16n8k128": lambda g, t, i: (g if i < 32 else g + 8, 32 * t + i % 32),
    "m16n8k256": lambda g, t, i: (g if i < 32 or 64 <= i < 96 else g + 8, 32 * t + i % 32 + (128 if i >= 64 else 0)),
}  # fmt: skip
B = {
    "m8n8k16": lambda g, t, i: (4 * t + i, g),
    "m16n8k16": lambda g, t, i: (4 * t + i, g),
    "m16n8k32 bytes": lambda g, t, i: (4 * t + i % 4 + (16 if i >= 4 else 0), g),
    "m8n8k32": lambda g, t, i: (8 * t + i, g),
    "m16n8k32 nibbles": lambda g, t, i: (8 * t + i, g),
    "m16n8k64": lambda g, t, i: (8 * t + i % 8 + (32 if i >= 8 else 0), g),
    "m8n8k128": lambda g, t, i: (32 * t + i, g),
    "m16n8k128": lambda g, t, i: (32 * t + i, g),
    "m16n8k256": lambda g, t, i: (32 * t + i % 32 + (128 if i >= 32 else 0), g),
}
C = {"m8": lambda g, t, i: (g, 2 * t + i), "m16": lambda g, t, i: (g if i < 2 else g + 8, 2 * t + i % 2)}

BYTES = [
    (s, a, b) for s in ("m8n8k16", "m16n8k16", "m16n8k32 bytes") for a in ("s8", "u8") for b in ("s8", "u8")
]
NIBBLES = [
    (s, a, b) for s in ("m8n8k32", "m16n8k32 nibbles", "m16n8k64") for a in ("s4", "u4") for b in ("s4", "u4")
]
SINGLE = [(s, "b1", "b1") for s in ("m8n8k128", "m16n8k128", "m16n8k256")]
CASES = [
    *((*case, end) for case in BYTES + NIBBLES for end in ("wrap", "satfinite")),
    *((*case, end) for case in SINGLE for end in ("xor", "and")),
]


def sizes(shape):
    m, rest = shape.split()[0][1:].split("n")
    n, k = rest.split("k")
    return int(m), int(n), int(k)


def name_of(case):
    return "_".join(case).replace(" ", "_")


def kernel(case):
    """One warp: its registers come from memory and go there, one row of memory a lane."""
    shape, a, b, end = case
    m, n, k = sizes(shape)
    counts = [m * k * BITS[a] // 1024, n * k * BITS[b] // 1024, m * n // 32]
    first = [counts[2], counts[2] + counts[0], counts[2] + counts[0] + counts[1]]
    groups = [
        "{" + ",".join(f"%{start + i}" for i in range(count)) + "}"
        for start, count in zip([0, *first], [counts[2], *counts], strict=True)
    ]
    dotted = f"mma.sync.aligned.{shape.split()[0]}.row.col{'.satfinite' if end == 'satfinite' else ''}.s32.{a}.{b}.s32"
    dotted += f".{end}.popc" if a == "b1" else ""
    inputs = [f'"r"({name}[threadIdx.x * {count} + {i}])'
              for name, count in zip("abc", counts, strict=True) for i in range(count)]  # fmt: skip
    outputs = [f'"=r"(d[threadIdx.x * {counts[2]} + {i}])' for i in range(counts[2])]
    return (
        f'extern "C" __global__ void {name_of(case)}(const int* a, const int* b, const int* c, int* d) {{\n'
        f'  asm volatile("{dotted} {", ".join(groups)};" : {", ".join(outputs)} : {", ".join(inputs)});\n}}\n'
    )


@pytest.fixture(scope="module")
def module():
    return ptx.parse(compile_ptx("".join(kernel(case) for case in CASES)))


def registers(matrix, place, bits, lanes=32):
    """The 32-bit registers of each lane: element i of a lane is the one at place(group, member, i)."""
    each = matrix.size // lanes
    words = np.zeros((lanes, each * bits // 32), np.int64)
    for lane in range(lanes):
        for i in range(each):
            value = int(matrix[place(lane // 4, lane % 4, i)]) & ((1 << bits) - 1)
            words[lane, i * bits // 32] |= value << (i * bits % 32)
    return words.astype(np.uint32).view(np.int32)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_mma_with_the_layouts_of_the_manual(module, case):
    shape, type_a, type_b, end = case
    m, n, k = sizes(shape)
    random = np.random.default_rng(17)
    a, b = (
        random.integers(RANGES[t][0], RANGES[t][1] + 1, s)
        for t, s in zip((type_a, type_b), ((m, k), (k, n)), strict=True)
    )
    if type_a != "b1":
        a[0], a[1], b[:, 0], b[:, 1] = *RANGES[type_a], *RANGES[type_b]
    c = random.integers(INT32.min, INT32.max, (m, n), dtype=np.int32, endpoint=True)
    c[:2, :2], c[2:4, :2] = INT32.max, INT32.min
    c[4] = INT32.max
    accumulator = C[f"m{m}"]
    given = [
        registers(a, A[shape], BITS[type_a]),
        registers(b, B[shape], BITS[type_b]),
        registers(c, accumulator, 32),
    ]
    d = np.zeros_like(given[2])
    report = module.launch(name_of(case), 1, 32, [*given, d])

    if type_a == "b1":
        pairs = (a[:, :, None] ^ b[None]) if end == "xor" else (a[:, :, None] & b[None])
        total = pairs.sum(axis=1) + c.astype(np.int64)
        model = wmma.binary_mma(a.astype(bool), b.astype(bool), c, end)
    else:
        total = a @ b + c.astype(np.int64)
        model = wmma.mma(a.astype(MODEL[type_a]), b.astype(MODEL[type_b]), c, satfinite=end == "satfinite")
    want = np.clip(total, INT32.min, INT32.max) if end == "satfinite" else (total + 2**31) % 2**32 - 2**31
    assert (total > INT32.max).any(), "no accumulator overflowed: the operands test nothing"
    np.testing.assert_array_equal(d, registers(want, accumulator, 32))
    np.testing.assert_array_equal(model, want)
    assert report.findings == []
    assert report.counters["tensor_instructions"] == report.counters["instructions.mma"] == 1


# Matrices of 16-bit items go through shared memory, with rows 16 bytes apart or more.
LDMATRIX = """
extern "C" __global__ void {name}(const unsigned* in, unsigned* out, const unsigned* at) {{
  __shared__ __align__(16) unsigned tile[4 * 8 * 8 * 2];
  int t = threadIdx.x;
  for (int i = t; i < 512; i += 32) tile[i] = in[i + blockIdx.x * 512];
  __syncthreads();
  unsigned address = (unsigned)__cvta_generic_to_shared(tile) + at[t];
  asm volatile("ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{slots}}}, [%{count}];"
               : {outputs} : "r"(address));
}}
"""
LOADS = [(count, trans) for count in (1, 2, 4) for trans in ("", ".trans")]


@pytest.fixture(scope="module")
def loads():
    source = "".join(
        LDMATRIX.format(
            name=f"load_x{count}{trans[1:]}", count=count, trans=trans, slots=",".join(f"%{i}" for i in range(count)),
            outputs=", ".join(f'"=r"(out[(blockIdx.x * 32 + t) * {count} + {i}])' for i in range(count)),
        )
        for count, trans in LOADS
    )  # fmt: skip
    return ptx.parse(compile_ptx(source))


@pytest.mark.parametrize(("count", "trans"), LOADS, ids=[f"x{c}{t}" for c, t in LOADS])
def test_ldmatrix(loads, count, trans):
    random = np.random.default_rng(count)
    blocks = 3
    memory = random.integers(0, 2**32, (blocks, 512), dtype=np.uint32)
    rows = random.permutation(128)[:32]
    out = np.zeros((blocks, 32, count), np.uint32)
    report = loads.launch(
        f"load_x{count}{trans[1:]}", blocks, 32, [memory, out, (rows * 16).astype(np.uint32)]
    )
    halves = memory.view(np.uint16).reshape(blocks, 128, 8).astype(np.int64)
    for block in range(blocks):
        for i in range(count):
            matrix = halves[block, rows[8 * i : 8 * i + 8]]
            matrix = matrix.T if trans else matrix
            # Lane l holds items 2 (l % 4) and 2 (l % 4) + 1 of row l / 4.
            want = [matrix[x // 4, 2 * (x % 4)] | matrix[x // 4, 2 * (x % 4) + 1] << 16 for x in range(32)]
            assert out[block, :, i].tolist() == want
    assert report.findings == []
    assert report.counters["shared_load_bytes"] == blocks * count * 128


HEAD = (
    ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n.reg .b32 %r<20>; .reg .pred %p;\n"
    ".shared .align 16 .b8 s[512]; mov.u32 %r9, %tid.x; shl.b32 %r8, %r9, 4; st.shared.v4.u32 [%r8], {%r9,%r9,%r9,%r9};\n"
)  # what follows is line 8


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("add.u32 %r8, %r8, 16; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0,%r1,%r2,%r3}, [%r8];", "out-of-bounds"),
        ("add.u32 %r8, %r8, 8; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r8];", "misaligned"),
        ("setp.lt.u32 %p, %r9, 16; @%p ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r8];", "barrier-divergence"),
        ("setp.lt.u32 %p, %r9, 3; @%p mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r0,%r1}, {%r2}, {%r3}, {%r4,%r5};", "barrier-divergence"),
    ],
    ids=["last row outside", "row misaligned", "divided warp", "mma in a divided warp"],
)  # fmt: skip
def test_a_bad_use_is_found(line, kind):
    report = ptx.parse(f"{HEAD}bar.sync 0; {line}\nret;\n}}").launch("k", 1, 32, [])
    assert [(f.kind, f.severity) for f in report.findings] == [(kind, "error")]
    assert "PTX line 8" in report.findings[0].where


def test_lanes_beyond_the_matrices_give_no_addresses():
    line = "setp.ge.u32 %p, %r9, 8; @%p mov.u32 %r8, 100000; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r8];"
    assert ptx.parse(f"{HEAD}bar.sync 0; {line}\nret;\n}}").launch("k", 1, 32, []).findings == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mma.sync.aligned.m16n8k32.row.col.s32.s8.s4.s32 {%r0,%r1,%r2,%r3}, {%r4,%r5,%r6,%r7}, {%r8,%r9}, {%r0,%r1,%r2,%r3};", "modifier .s4"),
        ("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r0,%r1}, {%r2,%r3}, {%r3}, {%r4,%r5};", "a 8 by 16 fragment of .s8 takes 1 32-bit registers"),
        ("mma.sync.aligned.m8n8k16.row.row.s32.s8.s8.s32 {%r0,%r1}, {%r2}, {%r3}, {%r4,%r5};", "modifier .row"),
        ("mma.sync.aligned.m8n8k128.row.col.satfinite.s32.b1.b1.s32.xor.popc {%r0,%r1}, {%r2}, {%r3}, {%r4,%r5};", "modifier .satfinite"),
        ("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0}, [%r8];", "takes 2 registers, not 1"),
        ("ldmatrix.sync.aligned.m8n8.x3.shared.b16 {%r0,%r1,%r2}, [%r8];", "modifier .x3"),
    ],
)  # fmt: skip
def test_what_mma_is_not_is_an_error(line, message):
    with pytest.raises(ptx.PtxError, match=message) as caught:
        ptx.parse(f"{HEAD}{line}\nret;\n}}").launch("k", 1, 32, [])
    assert "line 8" in str(caught.value)


CHAIN = """
extern "C" __global__ void chain(const int* a, const int* b, int* d, int steps) {
  int lane = threadIdx.x & 31, warp = threadIdx.x / 32 + blockIdx.x * 3;
  int fa[4], fb[2], fc[4] = {0, 0, 0, 0};
  for (int s = 0; s < steps; s++) {
    for (int i = 0; i < 4; i++) fa[i] = a[((warp * steps + s) * 32 + lane) * 4 + i];
    for (int i = 0; i < 2; i++) fb[i] = b[(s * 32 + lane) * 2 + i];
    asm volatile("mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(fc[0]), "+r"(fc[1]), "+r"(fc[2]), "+r"(fc[3])
                 : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
    if (s == 1) fc[2] += lane;
  }
  for (int i = 0; i < 4; i++) d[(warp * 32 + lane) * 4 + i] = fc[i];
}
"""


@pytest.mark.parametrize("group_warps", [1, 4096], ids=["small groups", "one group"])
def test_chains_of_many_warps_with_arithmetic_between(group_warps, monkeypatch):
    monkeypatch.setattr(machine, "GROUP_WARPS", group_warps)
    random = np.random.default_rng(3)
    warps, steps, place = 6, 4, C["m16"]
    a, b = random.integers(-8, 8, (warps, steps, 16, 64)), random.integers(0, 16, (steps, 64, 8))
    words_a = np.stack([[registers(x, A["m16n8k64"], 4) for x in row] for row in a])
    words_b = np.stack([registers(x, B["m16n8k64"], 4) for x in b])
    d = np.zeros((warps, 32, 4), np.int32)
    ptx.parse(compile_ptx(CHAIN)).launch("chain", 2, 96, [words_a, words_b, d, steps])
    added = np.zeros((16, 8), np.int64)
    for lane in range(32):
        added[place(lane // 4, lane % 4, 2)] += lane
    for warp in range(warps):
        want = sum(a[warp, s] @ b[s] for s in range(steps)) + added
        np.testing.assert_array_equal(d[warp], registers(want, place, 32))
