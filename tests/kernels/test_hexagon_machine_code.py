"""vrmpy words in ELF files: found, decoded and rewritten as LLVM's assembler would have written them."""

import numpy as np
import pytest

from kernels.hexagon import toolchain
from kernels.hexagon.machine_code import (
    OPERATIONS,
    decode_vrmpy,
    executable_ranges,
    find_vrmpy,
    rewrite,
    without_vrmpy,
)
from simulators.hvx.qemu import FunctionServer
from tests.simulators.hvx_guest import guest, needs_qemu, needs_toolchain

pytestmark = [needs_toolchain]

SYNTAX = {
    "vrmpyubv": "v{d}.uw = vrmpy(v{u}.ub, v{v}.ub)",
    "vrmpybv": "v{d}.w = vrmpy(v{u}.b, v{v}.b)",
    "vrmpybusv": "v{d}.w = vrmpy(v{u}.ub, v{v}.b)",
    "vrmpyub": "v{d}.uw = vrmpy(v{u}.ub, r{v}.ub)",
    "vrmpybus": "v{d}.w = vrmpy(v{u}.ub, r{v}.b)",
}
# HVX multiplies next to vrmpy in the encoding, and words that are none at all.
OTHERS = [
    "v1:0.h = vmpy(v2.ub, v3.b)",
    "v1:0.h += vmpy(v2.ub, r3.b)",
    "v0.w = vdmpy(v1.h, v2.h):sat",
    "v0.w += vdmpy(v1.h, r2.h):sat",
    "v0.h = vdmpy(v1.ub, r2.b)",
    "v1:0.uw = vrmpy(v3:2.ub, r4.ub, #0)",
    "v1:0.w += vrmpy(v3:2.ub, r4.b, #1)",
    "v1:0.w = vtmpy(v3:2.h, r4.b)",
    "v0.w = vadd(v1.w, v2.w)",
    "v0 = vsplat(r0)",
    "v0 = vmem(r0+#0)",
    "r0 = add(r1, r2)",
    "r0 = ##0x1c002040",
]


def assemble(packets: list[str]) -> bytes:
    lines = "".join(f'"{packet}\\n"' for packet in packets)
    return toolchain.compile_c(f"__asm__({lines});")


def words(elf: bytes) -> list[int]:
    (begin, end) = next(pair for pair in executable_ranges(elf) if pair[0] < pair[1])
    return np.frombuffer(elf[begin:end], "<u4").tolist()


def syntax(operation: str, destination: int, first: int, second: int) -> str:
    text = SYNTAX[operation.removesuffix("_acc")].format(d=destination, u=first, v=second)
    return text.replace(" = ", " += ") if operation.endswith("_acc") else text


@pytest.mark.parametrize("registers", [(0, 0, 0), (31, 31, 31), (21, 10, 5), (1, 2, 28)])
def test_every_form_is_encoded_as_the_assembler_does(registers):
    elf = assemble([f"{{ {syntax(operation, *registers)} }}" for operation in OPERATIONS])
    found = find_vrmpy(elf)
    assert [instruction.operation for instruction in found] == list(OPERATIONS)
    for instruction, word in zip(found, words(elf), strict=True):
        assert (instruction.destination, instruction.first, instruction.second) == registers
        assert instruction.word == word
        assert int.from_bytes(elf[instruction.offset : instruction.offset + 4], "little") == word


@pytest.mark.parametrize("text", OTHERS)
def test_no_other_instruction_is_taken_for_a_vrmpy(text):
    assert find_vrmpy(assemble([f"{{ {text} }}"])) == []


def test_a_duplex_is_no_vrmpy():
    assert decode_vrmpy(0x1C02_E143) is not None
    assert decode_vrmpy(0x1C02_2143) is None  # parse bits 00


@pytest.mark.parametrize(("old", "new"), [("vrmpybusv_acc", "vrmpyubv_acc"), ("vrmpybusv_acc", "vrmpybusv")])
def test_a_rewritten_instruction_is_what_the_assembler_makes_of_the_other(old, new):
    before, after = (assemble([f"{{ {syntax(name, 3, 1, 2)} }}", "{ v3 = v4 }"]) for name in (old, new))
    (instruction,) = find_vrmpy(before)
    assert words(rewrite(before, instruction, operation=new)) == words(after)


NOP = "nop"
TWINS = {
    "alone": ("v3.w += vrmpy(v1.ub, v2.b)", NOP),
    "two-in-a-packet": (
        "v3.uw += vrmpy(v1.ub, r2.ub)\\n v4.uw += vrmpy(v1.ub, r3.ub)",
        "nop\\n nop",
    ),
    "no-vrmpy": ("v4 = v5\\n vmem(r0+#0) = v4.new", "v4 = v5\\n vmem(r0+#0) = v4.new"),
    "stored-by-offset": (
        "v3.w += vrmpy(v1.ub, v2.b)\\n vmem(r2+#-3) = v3.new",
        "nop\\n vmem(r2+#-3) = v3",
    ),
    "stored-with-an-increment": (
        "v3.w += vrmpy(v1.ub, v2.b)\\n r5 = add(r6, r7)\\n vmem(r2++#2) = v3.new",
        "nop\\n r5 = add(r6, r7)\\n vmem(r2++#2) = v3",
    ),
    "stored-with-a-modifier": (
        "v3.w += vrmpy(v1.ub, v2.b)\\n vmem(r2++m1):nt = v3.new",
        "nop\\n vmem(r2++m1):nt = v3",
    ),
    "the-first-of-two-stored": (
        "v3.uw += vrmpy(v1.ub, r2.ub)\\n v4.uw += vrmpy(v1.ub, r3.ub)\\n vmem(r0+#1) = v3.new",
        "nop\\n nop\\n vmem(r0+#1) = v3",
    ),
    "a-value-from-before-the-vrmpy-stored": (
        "v3 = vsplat(r1)\\n v4.uw += vrmpy(v1.ub, r2.ub)\\n vmem(r0+#1) = v3.new",
        "v3 = vsplat(r1)\\n nop\\n vmem(r0+#1) = v3.new",
    ),
    "another-value-stored": (
        "v3 = vmem(r1+#0)\\n v4.w += vrmpy(v1.ub, v2.b)\\n vmem(r0+#1) = v3.new",
        "v3 = vmem(r1+#0)\\n nop\\n vmem(r0+#1) = v3.new",
    ),
}
# What the assembler would not write: a current load that nothing uses. QEMU executes it.
EXECUTED = {
    **{name: packet for name, (packet, _) in TWINS.items()},
    "current-load-consumed": "v3.cur = vmem(r1+#0)\\n v4.w += vrmpy(v3.ub, v2.b)",
}


@pytest.mark.parametrize(("packet", "expected"), TWINS.values(), ids=TWINS)
def test_the_twin_is_what_the_assembler_makes_of_the_packet_without_vrmpy(packet, expected):
    twin = without_vrmpy(assemble([f"{{ {packet} }}"]))
    assert find_vrmpy(twin) == []
    # The assembler may order a packet otherwise: compare the words without the parse bits, as a set.
    assert sorted(w & ~0xC000 for w in words(twin)) == sorted(
        w & ~0xC000 for w in words(assemble([f"{{ {expected} }}"]))
    )


def test_a_predicated_store_of_a_vrmpy_is_refused():
    with pytest.raises(ValueError, match="the predicated store 0x28a2c942 takes the new value of a vrmpy"):
        without_vrmpy(assemble(["{ v5.w += vrmpy(v1.ub, v2.b)\\n if (p1) vmem(r2+#1) = v5.new }"]))


@needs_qemu
@pytest.mark.parametrize("packet", EXECUTED.values(), ids=EXECUTED)
def test_the_twin_executes_as_many_hvx_instructions_less_as_it_has_vrmpy_less(packet):
    packet = packet.replace("r2+#-3", "r2+#3")  # inside the tensor
    source = f"""
    i32 __tvm_ffi_packet(void *self, const any *a, i32 count, any *result) {{
      (void)self, (void)count, (void)result;
      register u8 *r0 __asm__("r0") = a[1].value.tensor->data;
      register u8 *r1 __asm__("r1") = r0, *r2 __asm__("r2") = r0;
      __asm__ volatile("m1 = r31\\n{{ {packet} }}" : "+r"(r2) : "r"(r0), "r"(r1)
                       : "v3", "v4", "r5", "m1", "memory");
      return 0;
    }}
    """
    elf = guest(source, ["packet"])
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=20) as server:
        counters = server.call("packet", [np.zeros(1, np.uint8)], np.zeros(1024, np.uint8))
    assert counters["vrmpy"] == packet.count("vrmpy") == len(find_vrmpy(elf))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda elf: b"nonsense", "not a 32-bit little-endian Hexagon ELF"),
        (lambda elf: elf[:18] + b"\x3e" + elf[19:], "not a 32-bit little-endian Hexagon ELF"),
        (lambda elf: elf[: len(elf) - 8], "section headers lead outside"),
        (lambda elf: elf[:32] + len(elf).to_bytes(4, "little") + elf[36:], "section headers lead outside"),
    ],
    ids=["no-elf", "x86", "cut-short", "headers-outside"],
)
def test_a_damaged_elf_is_refused(damage, message):
    elf = assemble(["{ v0 = v1 }"])
    with pytest.raises(ValueError, match=message):
        find_vrmpy(damage(elf))
