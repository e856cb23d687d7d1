"""Random straight-line integer programs, with guards and loops, against Python's integers."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators import ptx

M32, M64 = 2**32 - 1, 2**64 - 1
THREADS = 48


def signed(value, bits=32):
    return value - (1 << bits) if value >> (bits - 1) else value


def truncated(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def field(a, b, c):
    """bfe.u32."""
    position, length = b & 255, c & 255
    return (a >> position) & ((1 << length) - 1)


def permuted(a, b, c):
    source = [(b << 32 | a) >> 8 * i & 255 for i in range(8)]
    result = 0
    for i in range(4):
        nibble = c >> 4 * i & 15
        byte = source[nibble & 7]
        result |= (byte if nibble < 8 else 255 * (byte >> 7)) << 8 * i
    return result


# name, number of sources, meaning on unsigned 32-bit values; the result is cut to 32 bits.
OPERATIONS = [
    ("add.s32", 2, lambda a, b: a + b),
    ("sub.s32", 2, lambda a, b: a - b),
    ("mul.lo.s32", 2, lambda a, b: a * b),
    ("mul.hi.s32", 2, lambda a, b: signed(a) * signed(b) >> 32),
    ("mul.hi.u32", 2, lambda a, b: a * b >> 32),
    ("mad.lo.s32", 3, lambda a, b, c: a * b + c),
    ("mad.hi.u32", 3, lambda a, b, c: (a * b >> 32) + c),
    ("min.s32", 2, lambda a, b: min(signed(a), signed(b))),
    ("max.u32", 2, max),
    ("and.b32", 2, lambda a, b: a & b),
    ("or.b32", 2, lambda a, b: a | b),
    ("xor.b32", 2, lambda a, b: a ^ b),
    ("not.b32", 1, lambda a: ~a),
    ("neg.s32", 1, lambda a: -a),
    ("abs.s32", 1, lambda a: abs(signed(a))),
    ("shl.b32", 2, lambda a, b: a << min(b, 64)),
    ("shr.u32", 2, lambda a, b: a >> min(b, 32)),
    ("shr.s32", 2, lambda a, b: signed(a) >> min(b, 32)),
    ("div.u32", 2, lambda a, b: a // b if b else M32),
    ("rem.u32", 2, lambda a, b: a % b if b else a),
    ("div.s32", 2, lambda a, b: truncated(signed(a), signed(b)) if b else M32),
    ("rem.s32", 2, lambda a, b: signed(a) - signed(b) * truncated(signed(a), signed(b)) if b else a),
    ("popc.b32", 1, lambda a: a.bit_count()),
    ("clz.b32", 1, lambda a: 32 - a.bit_length()),
    ("brev.b32", 1, lambda a: int(f"{a:032b}"[::-1], 2)),
    ("bfe.u32", 3, field),
    ("prmt.b32", 3, permuted),
    ("sad.u32", 3, lambda a, b, c: c + abs(a - b)),
    ("add.sat.s32", 2, lambda a, b: max(-(2**31), min(2**31 - 1, signed(a) + signed(b)))),
    ("shf.l.wrap.b32", 3, lambda a, b, c: (b << 32 | a) << (c & 31) >> 32),
    ("dp4a.u32.u32", 3, lambda a, b, c: c + sum((a >> s & 255) * (b >> s & 255) for s in (0, 8, 16, 24))),
]
COMPARISONS = {
    "lt.s32": lambda a, b: signed(a) < signed(b),
    "ge.u32": lambda a, b: a >= b,
    "eq.s32": lambda a, b: a == b,
    "hi.u32": lambda a, b: a > b,
}
REGISTERS = 6


@dataclass(frozen=True)
class Step:
    """One instruction: an index into OPERATIONS, its destination and sources, perhaps a guard."""

    operation: int
    target: int
    sources: tuple[int, ...]
    immediate: int | None
    guard: str


def steps():
    register = st.integers(0, REGISTERS - 1)
    value = st.one_of(st.integers(0, M32), st.sampled_from([0, 1, 2**31, M32, 31, 32, 33, 0x80FF7F01]))
    return st.builds(
        Step, st.integers(0, len(OPERATIONS) - 1), register, st.tuples(register, register, register),
        st.one_of(st.none(), value), st.sampled_from(["", "", "@%p0 ", "@!%p0 "]),
    )  # fmt: skip


PROGRAM = st.tuples(
    st.lists(steps(), max_size=12),
    st.sampled_from(sorted(COMPARISONS)),
    st.lists(steps(), max_size=8),
    st.integers(0, 5),
    st.lists(steps(), max_size=6),
)


def text_of(step):
    name, count, _ = OPERATIONS[step.operation]
    sources = [f"%r{s}" for s in step.sources[:count]]
    if step.immediate is not None:
        sources[-1] = str(step.immediate)
    return f"{step.guard}{name} %r{step.target}, {', '.join(sources)};"


def run_step(step, registers, predicate):
    if (step.guard == "@%p0 " and not predicate) or (step.guard == "@!%p0 " and predicate):
        return
    _, count, meaning = OPERATIONS[step.operation]
    sources = [registers[s] for s in step.sources[:count]]
    if step.immediate is not None:
        sources[-1] = step.immediate
    registers[step.target] = meaning(*sources) & M32


def program_text(program):
    """Some instructions, a comparison, a loop whose turns depend on the thread, and a branch behind it."""
    before, comparison, body, turns, after = program
    lines = [*map(text_of, before), f"setp.{comparison} %p0, %r0, %r1;", "mov.u32 %turn, 0;", "LOOP:"]
    lines += [*map(text_of, body), f"setp.{comparison} %p0, %r1, %r2;", "add.u32 %turn, %turn, 1;"]
    lines += [f"and.b32 %limit, %tid.x, {turns};", "setp.le.u32 %p1, %turn, %limit;", "@%p1 bra LOOP;"]
    lines += ["@%p0 bra SKIP;", *map(text_of, after), "SKIP:"]
    load = [f"ld.global.u32 %r{i}, [%rd0+{4 * i}];" for i in range(REGISTERS)]
    store = [f"st.global.u32 [%rd0+{4 * i}], %r{i};" for i in range(REGISTERS)]
    head = [
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 x) {",
        f".reg .b32 %r<{REGISTERS}>, %turn, %limit; .reg .b64 %rd<2>; .reg .pred %p<2>;",
        f"ld.param.u64 %rd0, [x]; mov.u32 %turn, %tid.x; mul.wide.u32 %rd1, %turn, {4 * REGISTERS};",
        "add.u64 %rd0, %rd0, %rd1;",
    ]
    return "\n".join([*head, *load, *lines, *store, "ret;\n}\n"])


def expected(program, thread, values):
    before, comparison, body, turns, after = program
    registers, compare = list(values), COMPARISONS[comparison]
    # The predicate is false until the program compares.
    for step in before:
        run_step(step, registers, False)
    predicate = compare(registers[0], registers[1])
    for _ in range((thread & turns) + 1):
        for step in body:
            run_step(step, registers, predicate)
        predicate = compare(registers[1], registers[2])
    if not predicate:
        for step in after:
            run_step(step, registers, predicate)
    return registers


@given(PROGRAM, st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=120, deadline=None)
def test_random_programs_compute_what_python_does(program, seed, alike):
    random = np.random.default_rng(seed)
    ends = np.array([0, 1, M32, 2**31, 2**31 - 1, 33], np.uint32)
    drawn = random.integers(0, 2**32, (1 if alike else THREADS, REGISTERS), dtype=np.uint32)
    drawn = np.where(random.random(drawn.shape) < 0.3, random.choice(ends, drawn.shape), drawn)
    values = np.broadcast_to(drawn, (THREADS, REGISTERS)).copy()
    want = [expected(program, t, values[t].tolist()) for t in range(THREADS)]
    report = ptx.parse(program_text(program)).launch("k", 1, THREADS, [values])
    assert values.tolist() == want
    assert report.findings == []
