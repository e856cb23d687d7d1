# ruff: noqa: E501  (tables of cases: one case, one line)
"""Integer, logic, comparison and conversion instructions against models in Python's unbounded integers."""

import itertools
import random

import pytest

from simulators.ptx import UnsupportedInstructionError
from simulators.ptx.errors import PtxSyntaxError
from tests.simulators.one_instruction import bits_of, corners, execute, wrapped


def trunc_div(a, b):
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def clamp_to(value, type_):
    low = -(1 << bits_of(type_) - 1) if type_[0] == "s" else 0
    return min(max(value, low), low + (1 << bits_of(type_)) - 1)


def field(type_):
    """bfe as the manual defines it, bit by bit."""

    def extract(a, b, c):
        msb, position, length = bits_of(type_) - 1, b & 0xFF, c & 0xFF
        a &= (1 << bits_of(type_)) - 1
        signed = type_[0] == "s" and length > 0
        sign = a >> min(position + length - 1, msb) & 1 if signed else 0
        d = 0
        for i in range(msb + 1):
            d |= (a >> position + i & 1 if i < length and position + i <= msb else sign) << i
        return d

    return extract


def insert(bits):
    def replace(a, b, c, d):
        position, length, result = c & 0xFF, d & 0xFF, b
        for i in range(length):
            if position + i < bits:
                result = result & ~(1 << position + i) | (a >> i & 1) << position + i
        return result

    return replace


def bytes_of(value, signed):
    found = [(value >> 8 * i) & 255 for i in range(4)]
    return [b - 256 if signed and b > 127 else b for b in found]


def dot(a_signed, b_signed):
    return lambda a, b, c: (
        c + sum(x * y for x, y in zip(bytes_of(a, a_signed), bytes_of(b, b_signed), strict=True))
    )


def signed_24(a):
    return ((a & 0xFFFFFF) ^ 0x800000) - 0x800000


def dot_halves(a_signed, b_signed, half):
    def halves(a):
        return [((h ^ 0x8000) - 0x8000) if a_signed else h for h in (a & 0xFFFF, a >> 16 & 0xFFFF)]

    def model(a, b, c):
        chosen = bytes_of(b, b_signed)[0:2] if half == "lo" else bytes_of(b, b_signed)[2:4]
        return c + sum(x * y for x, y in zip(halves(a), chosen, strict=True))

    return model


def permute(a, b, c):
    source = bytes_of(a, False) + bytes_of(b, False)
    result = 0
    for i in range(4):
        nibble = c >> 4 * i & 15
        byte = source[nibble & 7]
        if nibble & 8:
            byte = 255 if byte & 128 else 0
        result |= byte << 8 * i
    return result


def pick(table):
    """prmt with a mode: the manual's table of source bytes by control value, byte 0 first."""
    return lambda a, b, c: sum(
        (bytes_of(a, False) + bytes_of(b, False))[s] << 8 * i for i, s in enumerate(table[c & 3])
    )


def funnel(direction, mode):
    def shift(a, b, c):
        n = min(c, 32) if mode == "clamp" else c & 31
        both = b << 32 | a
        return both << n >> 32 if direction == "l" else both >> n

    return shift


def lut(table):
    return lambda a, b, c: sum(
        (table >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1)) & 1) << i for i in range(32)
    )


def leading_zeros(bits):
    return lambda a: bits - a.bit_length()


INTEGERS = ("u16", "s16", "u32", "s32", "u64", "s64")
WIDE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
BYTES_AND_ALL = ("u8", "s8", *INTEGERS)

# name, source types, result type, model
CASES: list[tuple] = []
for t in INTEGERS:
    n = bits_of(t)
    CASES += [
        (f"add.{t}", [t, t], t, lambda a, b: a + b),
        (f"sub.{t}", [t, t], t, lambda a, b: a - b),
        (f"mul.lo.{t}", [t, t], t, lambda a, b: a * b),
        (f"mul.hi.{t}", [t, t], t, lambda a, b, n=n: a * b >> n),
        (f"mad.lo.{t}", [t, t, t], t, lambda a, b, c: a * b + c),
        (f"mad.hi.{t}", [t, t, t], t, lambda a, b, c, n=n: (a * b >> n) + c),
        (f"div.{t}", [t, t], t, trunc_div),
        (f"rem.{t}", [t, t], t, lambda a, b: a - b * trunc_div(a, b)),
        (f"min.{t}", [t, t], t, min),
        (f"max.{t}", [t, t], t, max),
        (f"shr.{t}", [t, "u32"], t, lambda a, b: a >> min(b, 64)),
        (f"selp.{t}", [t, t, "pred"], t, lambda a, b, p: a if p else b),
    ]
for t, w in WIDE.items():
    CASES += [
        (f"mul.wide.{t}", [t, t], w, lambda a, b: a * b),
        (f"mad.wide.{t}", [t, t, w], w, lambda a, b, c: a * b + c),
    ]
for t in ("s16", "s32", "s64"):
    CASES += [(f"abs.{t}", [t], t, abs), (f"neg.{t}", [t], t, lambda a: -a)]
for t in ("u32", "s32", "u64", "s64"):
    CASES.append((f"bfe.{t}", [t, "u32", "u32"], t, field(t)))


def highest(type_, shiftamt):
    """bfind as the manual defines it: search down from the top for a bit that differs from the sign."""

    def search(a):
        msb = bits_of(type_) - 1
        a = ~a if a < 0 else a
        for i in range(msb, -1, -1):
            if a >> i & 1:
                return msb - i if shiftamt else i
        return -1

    return search


for t in ("u32", "s32", "u64", "s64"):
    CASES += [
        (f"bfind.{t}", [t], "u32", highest(t, False)),
        (f"bfind.shiftamt.{t}", [t], "u32", highest(t, True)),
    ]
for t in ("b16", "b32", "b64"):
    CASES += [
        (f"and.{t}", [t, t], t, lambda a, b: a & b),
        (f"or.{t}", [t, t], t, lambda a, b: a | b),
        (f"xor.{t}", [t, t], t, lambda a, b: a ^ b),
        (f"not.{t}", [t], t, lambda a: ~a),
        (f"shl.{t}", [t, "u32"], t, lambda a, b: a << min(b, 64)),
        (f"shr.{t}", [t, "u32"], t, lambda a, b: a >> min(b, 64)),
        (f"setp.eq.{t}", [t, t], "pred", lambda a, b: a == b),
        (f"mov.{t}", [t], t, lambda a: a),
    ]
for t in ("b32", "b64"):
    n = bits_of(t)
    CASES += [
        (f"popc.{t}", [t], "u32", lambda a: a.bit_count()),
        (f"clz.{t}", [t], "u32", leading_zeros(n)),
        (f"brev.{t}", [t], t, lambda a, n=n: int(f"{a:0{n}b}"[::-1], 2)),
        (f"bfi.{t}", [t, t, "u32", "u32"], t, insert(n)),
    ]
for op, model in {"and": lambda p, q: p & q, "or": lambda p, q: p | q, "xor": lambda p, q: p ^ q}.items():
    CASES.append((f"{op}.pred", ["pred", "pred"], "pred", model))
    CASES.append(
        (f"setp.lt.{op}.s32", ["s32", "s32", "pred"], "pred", lambda a, b, p, m=model: m(int(a < b), p))
    )
CASES.append(("not.pred", ["pred"], "pred", lambda p: 1 - p))
for name, model in {
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}.items():
    CASES += [(f"setp.{name}.{t}", [t, t], "pred", model) for t in INTEGERS]
for name, model in {"lo": lambda a, b: a < b, "hs": lambda a, b: a >= b}.items():
    CASES.append((f"setp.{name}.u32", ["u32", "u32"], "pred", model))
CASES += [
    ("add.sat.s32", ["s32", "s32"], "s32", lambda a, b: min(max(a + b, -(2**31)), 2**31 - 1)),
    ("sub.sat.s32", ["s32", "s32"], "s32", lambda a, b: min(max(a - b, -(2**31)), 2**31 - 1)),
    ("mul24.lo.u32", ["u32", "u32"], "u32", lambda a, b: (a % 2**24) * (b % 2**24)),
    ("mul24.lo.s32", ["s32", "s32"], "s32", lambda a, b: signed_24(a) * signed_24(b)),
]
CASES += [(f"sad.{t}", [t, t, t], t, lambda a, b, c: c + abs(a - b)) for t in INTEGERS]
for x, y in itertools.product(("u32", "s32"), repeat=2):
    c = "u32" if x == y == "u32" else "s32"
    CASES.append((f"dp4a.{x}.{y}", ["b32", "b32", c], c, dot(x == "s32", y == "s32")))
    for half in ("lo", "hi"):
        CASES.append((f"dp2a.{half}.{x}.{y}", ["b32", "b32", c], c, dot_halves(x == "s32", y == "s32", half)))
CASES.append(("prmt.b32", ["b32", "b32", "b32"], "b32", permute))
for mode, table in {
    "f4e": [(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)],
    "b4e": [(0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)],
    "rc8": [(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)],
    "ecl": [(0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)],
    "ecr": [(0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)],
    "rc16": [(0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)],
}.items():
    CASES.append((f"prmt.b32.{mode}", ["b32", "b32", "b32"], "b32", pick(table)))
for direction, mode in itertools.product("lr", ("clamp", "wrap")):
    CASES.append((f"shf.{direction}.{mode}.b32", ["b32", "b32", "u32"], "b32", funnel(direction, mode)))
for x, y in itertools.product(BYTES_AND_ALL, repeat=2):
    if x != y:
        CASES.append((f"cvt.{y}.{x}", [x], y, lambda a: a))
        CASES.append((f"cvt.sat.{y}.{x}", [x], y, lambda a, y=y: clamp_to(a, y)))

SMALL = (0, 1, 5, 8, 15, 16, 31, 32, 33, 63, 64, 255, 256, 2**32 - 1)


def operand_rows(sources: list[str], name: str) -> list[tuple]:
    """All corners against each other for up to two operands, else many random picks of corners and random values."""
    takes_position = name.split(".", maxsplit=1)[0] in ("shl", "shr", "bfe", "bfi", "shf")
    pools = []
    for index, type_ in enumerate(sources):
        if type_ == "pred":
            pools.append([0, 1])
        elif takes_position and type_ == "u32" and index > 0:
            pools.append(list(SMALL))
        else:
            pools.append(corners(type_))
    if len(sources) <= 2:
        return list(itertools.product(*pools))
    pick_from = random.Random(name)
    rows = []
    for _ in range(1000):
        row = [pick_from.choice(pool) for pool in pools]
        if pick_from.random() < 0.4:
            row = [wrapped(pick_from.getrandbits(64), t) if len(p) > 2 and p != list(SMALL) else v
                   for v, t, p in zip(row, sources, pools, strict=True)]  # fmt: skip
        rows.append(tuple(row))
    return rows


@pytest.mark.parametrize(("name", "sources", "result", "model"), CASES, ids=[c[0] for c in CASES])
def test_instruction_computes_what_the_manual_says(name, sources, result, model):
    rows = operand_rows(sources, name)
    got = execute(name, sources, result, [list(column) for column in zip(*rows, strict=True)])
    want = [wrapped(int(model(*row)), result) for row in rows]
    wrong = [(row, int(g), w) for row, g, w in zip(rows, got, want, strict=True) if int(g) != w]
    assert wrong == []
    assert any(w for w in want)


@pytest.mark.parametrize("table", [0x00, 0x01, 0x80, 0x96, 0xE8, 0xCA, 0xEA, 0xFF], ids=hex)
def test_lop3_follows_its_truth_table(table):
    rows = operand_rows(["b32"] * 3, f"lop3.{table}")
    columns = [list(c) for c in zip(*rows, strict=True)]
    got = execute("lop3.b32", ["b32"] * 4, "b32", columns, {3: hex(table)})
    assert got.tolist() == [lut(table)(*row) for row in rows]


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("-1", 2**32 - 1),
        ("0x7fffffff", 2**31 - 1),
        ("0b101", 5),
        ("017", 15),
        ("4294967295U", 2**32 - 1),
        ("WARP_SZ", 32),
    ],
)
def test_integer_literals(literal, value):
    got = execute("add.u32", ["u32", "u32"], "u32", [[0]], {1: literal})
    assert got.tolist() == [value]


@pytest.mark.parametrize(
    ("name", "sources", "immediates", "message"),
    [
        ("mad.sat.s32", ["s32", "s32"], {}, "line 11: instruction mad.sat.s32: modifier .sat"),
        ("mul.lo.f16", ["u32", "u32"], {}, "modifier .f16"),
        ("frobnicate.u32", ["u32"], {}, "no 'frobnicate'"),
        ("mul.s32", ["s32", "s32"], {}, "modifier .s32; supported: mul.lo"),
    ],
)
def test_lacking_instruction_is_named_with_its_line(name, sources, immediates, message):
    with pytest.raises(UnsupportedInstructionError, match="line 1") as caught:
        execute(name, sources, "u32", [[0]] * len(sources), immediates)
    assert message.removeprefix("line 11: ") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sources", "message"),
    [
        ("add.s64", ["s32", "s32"], "of another size"),
        ("add.s32", ["s32"], "takes 3 operands, not 2"),
        ("selp.b32", ["b32", "b32", "b32"], "is .b32"),
        ("lop3.b32", ["b32", "b32", "b32", "b32"], "must be an immediate"),
        ("setp.lo.s32", ["s32", "s32"], "compares unsigned"),
        ("setp.num.s32", ["s32", "s32"], "compares floats"),
        ("setp.lt.b32", ["b32", "b32"], "not defined for .b32"),
        ("setp.eq.b32", ["b32", "b32"], "is .b32, the result .pred"),
    ],
)
def test_wrong_operands_are_an_error(name, sources, message):
    with pytest.raises(PtxSyntaxError, match=message):
        execute(
            name,
            sources,
            "pred" if "setp" in name and "result" not in message else "b32",
            [[0]] * len(sources),
        )


def test_results_do_not_depend_on_uniform_operands():
    # With one thread every register has one value; with many it is an array: both ways must agree.
    for name in ("shl.b32", "shr.s32", "shr.u32"):
        for count in SMALL:
            one = execute(
                name,
                ["b32" if "b" in name else name[4:], "u32"],
                "b32",
                [[-5 & 0xFFFFFFFF if "b" in name or "u" in name else -5], [count]],
            )
            many = execute(
                name,
                ["b32" if "b" in name else name[4:], "u32"],
                "b32",
                [[-5 & 0xFFFFFFFF if "b" in name or "u" in name else -5] * 2, [count, 1]],
            )
            immediate = execute(
                name,
                ["b32" if "b" in name else name[4:], "u32"],
                "b32",
                [[-5 & 0xFFFFFFFF if "b" in name or "u" in name else -5]],
                {1: str(count)},
            )
            assert one[0] == many[0] == immediate[0]
