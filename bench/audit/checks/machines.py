"""Checks of the machines themselves: known programs with known results, counts and findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.audit.checks.check import Check
from bench.audit.checks.graphs import full_range
from simulators import ptx
from simulators.vta import Config, Machine, isa
from simulators.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Memory, Store, Uop
from simulators.vta.machine import RunReport

# Byte addresses in VTA's DRAM.
DATA, WEIGHT, OUT, UOPS, DRAM = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
TILES = 3
ONE: dict[str, Any] = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1}

# Words of known instructions, from the bit fields of apache/tvm-vta's hw_spec.h.
GOLDEN: list[tuple[isa.Instruction, tuple[int, int]]] = [
    (
        Load(
            memory_type=Memory.INP,
            sram_base=5,
            dram_base=0x1000,
            y_size=14,
            x_size=14,
            x_stride=14,
            y_pad_0=1,
            y_pad_1=1,
            x_pad_0=1,
            x_pad_1=1,
            push_next=True,
        ),
        (0x0000004000001540, 0x1111000E000E000E),
    ),
    (
        Store(
            memory_type=Memory.OUT,
            sram_base=0,
            dram_base=0x200,
            y_size=1,
            x_size=64,
            x_stride=64,
            pop_prev=True,
            push_prev=True,
        ),
        (0x0000000800000229, 0x0000004000400001),
    ),
    (
        Gemm(
            uop_bgn=0,
            uop_end=1,
            iter_out=16,
            iter_in=4,
            dst_out=4,
            dst_in=1,
            src_out=4,
            src_in=1,
            wgt_out=0,
            wgt_in=1,
            pop_prev=True,
        ),
        (0x000800800020000A, 0x0040000201000804),
    ),
]


def _words() -> str | None:
    """Known instructions have their known bits, and are read back from them."""
    for instruction, (low, high) in GOLDEN:
        (word,) = isa.encode([instruction])
        if (int(word[0]), int(word[1])) != (low, high):
            return f"{instruction} becomes {int(word[0]):#018x} {int(word[1]):#018x}"
        read = isa.decode(np.array([[low, high]], np.uint64))[0]
        if read != instruction:
            return f"{low:#018x} {high:#018x} is read as {read}"
    return None


def _transfer(kind: Any, memory: Memory, element: int, **keys: Any) -> Any:
    sizes = {"sram_base": 0, "y_size": 1, "x_size": 1, "x_stride": 1} | keys
    return kind(memory_type=memory, dram_base=element, **sizes)


def _pipeline() -> list[isa.Instruction]:
    """Tiles that go one after another through the same place of every memory, with all tokens."""
    stream: list[isa.Instruction] = [
        _transfer(Load, Memory.UOP, UOPS // 4),
        _transfer(Load, Memory.WGT, WEIGHT // 256),
    ]
    for tile in range(TILES):
        first, last = tile == 0, tile == TILES - 1
        stream += [
            _transfer(Load, Memory.INP, DATA // 16 + tile, pop_next=not first, push_next=True),
            Gemm(reset=True, **ONE, pop_next=not first),
            Gemm(**ONE, pop_prev=True, push_prev=not last),
            Alu(alu_opcode=AluOpcode.SHR, use_imm=True, imm=5, **ONE),
            Alu(alu_opcode=AluOpcode.ADD, use_imm=True, imm=tile - 1, **ONE, push_next=True),
            _transfer(Store, Memory.OUT, OUT // 16 + tile, pop_prev=True, push_prev=True),
        ]
    return [*stream, Finish(pop_next=True)]


def _run(stream: Sequence[isa.Instruction]) -> tuple[RunReport, np.ndarray, np.ndarray, np.ndarray]:
    """The report, the result, and the operands: data (tiles, 16), weights (16, 16)."""
    data = full_range((TILES, 16), "int8", seed=1)
    # Small enough that no result needs more than 8 bits after the shift by 5.
    weight = full_range((16, 16), "int8", seed=2) // np.int8(64)
    dram = np.zeros(DRAM, np.uint8)
    dram[DATA : DATA + data.size] = data.view(np.uint8).reshape(-1)
    dram[WEIGHT : WEIGHT + weight.size] = weight.view(np.uint8).reshape(-1)
    dram[UOPS : UOPS + 4] = isa.encode_uops([Uop(0, 0, 0)]).astype("<u4").view(np.uint8)
    report = Machine(Config()).run(isa.encode(stream), dram)
    stored = dram[OUT : OUT + data.size].view(np.int8).reshape(data.shape)
    return report, stored, data, weight


def _vta_results() -> str | None:
    """What a small program of every engine stores and counts."""
    report, stored, data, weight = _run(_pipeline())
    meant = ((data.astype(int) @ weight.astype(int).T) >> 5) + np.arange(-1, TILES - 1)[:, None]
    if not np.array_equal(stored, meant.astype(np.int8)):
        return f"{np.count_nonzero(stored != meant)} of {meant.size} elements differ"
    counted = {name: report.counters[name] for name in ("inp_load_nbytes", "wgt_load_nbytes", "gemm_counter")}
    expected = {"inp_load_nbytes": TILES * 16, "wgt_load_nbytes": 256, "gemm_counter": TILES}
    if counted != expected:
        return f"the machine counts {counted} instead of {expected}"
    return f"it finds {report.findings[0].message}" if report.findings else None


# Place in the pipeline, the change, and the finding that has to come of it.
_BROKEN: list[tuple[str, int, dict[str, Any], str]] = [
    ("a GEMM does not wait for its data", 4, {"pop_prev": False}, "hazard"),
    ("a load does not signal", 2, {"push_next": False}, "deadlock"),
    ("a load ends beyond INP", 2, {"sram_base": 2048}, "sram-out-of-range"),
    ("a load begins beyond DRAM", 2, {"dram_base": 0x500}, "dram-out-of-range"),
    ("weights are not loaded", 1, {"x_size": 0}, "uninitialised"),
    ("an ALU operation that there is not", 5, {"alu_opcode": 7}, "illegal-instruction"),
    ("results need more than 8 bits", 6, {"imm": 300}, "lossy-store"),
    ("a token too many", 18, {"push_prev": True}, "surplus-token"),
]


def _vta_findings() -> str | None:
    """Programs that are broken in one place: the machine names what is wrong."""
    for what, place, keys, kind in _BROKEN:
        stream = _pipeline()
        stream[place] = replace(stream[place], **keys)
        if kind == "hazard":
            # The token that nobody waits for would be found instead.
            stream[2] = replace(stream[2], push_next=False)
        kinds = {finding.kind for finding in _run(stream)[0].findings}
        if kind not in kinds:
            return f"{what}: found is {', '.join(sorted(kinds)) or 'nothing'} instead of {kind}"
    stream = _pipeline()[:-1]
    kinds = {finding.kind for finding in _run(stream)[0].findings}
    return None if "no-finish" in kinds else f"a stream without FINISH: found is {kinds or 'nothing'}"


# 64 threads, two warps; each puts x[t] into shared memory and takes what thread 63 - t put there.
_EXCHANGE = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry exchange(.param .u64 x, .param .u64 out)
{
  .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<3>;
  .shared .align 4 .b8 tile[256];
  ld.param.u64 %rd1, [x];
  ld.param.u64 %rd2, [out];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, tile;
  mad.wide.u32 %rd3, %r1, 4, %rd1;
  ld.global.u32 %r3, [%rd3];
  shl.b32 %r4, %r1, 2;
  add.u32 %r5, %r2, %r4;
  st.shared.u32 [%r5], %r3;
  bar.sync 0;
  sub.u32 %r6, 252, %r4;
  add.u32 %r7, %r2, %r6;
  ld.shared.u32 %r8, [%r7];
  mad.wide.u32 %rd4, %r1, 4, %rd2;
  st.global.u32 [%rd4], %r8;
  ret;
}
"""
_BROKEN_PTX = [
    ("without its barrier", "  bar.sync 0;\n", "", "race"),
    ("that reads beyond the array", "[%rd3];", "[%rd3+256];", "out-of-bounds"),
    ("that reads what nobody wrote", "  st.shared.u32 [%r5], %r3;\n", "", "uninitialised"),
    ("that reads at an odd address", "[%r7];", "[%r7+2];", "misaligned"),
    (
        "whose second warp leaves the barrier out",
        "  bar.sync 0;\n",
        "  setp.lt.u32 %p1, %r1, 40;\n  @%p1 bar.sync 0;\n",
        "barrier-divergence",
    ),
]


def _launch(text: str) -> tuple[np.ndarray, np.ndarray, Any]:
    values, out = full_range((64,), "int32", seed=3), np.zeros(64, np.int32)
    return values, out, ptx.parse(text).launch("exchange", 1, 64, [values, out])


def _ptx_results() -> str | None:
    """What a small kernel stores and counts."""
    values, out, report = _launch(_EXCHANGE)
    if not np.array_equal(out, values[::-1]):
        return f"{np.count_nonzero(out != values[::-1])} of 64 elements differ"
    return f"it finds {report.findings[0].message}" if report.findings else None


def _ptx_findings() -> str | None:
    """Kernels that are broken in one place: the machine names what is wrong."""
    for what, old, new, kind in _BROKEN_PTX:
        assert _EXCHANGE.count(old) == 1
        try:
            findings = _launch(_EXCHANGE.replace(old, new))[2].findings
        except ptx.PtxError as error:
            return f"a kernel {what} ended with {error}"
        kinds = {finding.kind for finding in findings}
        if kind not in kinds:
            return f"a kernel {what}: found is {', '.join(sorted(kinds)) or 'nothing'} instead of {kind}"
    return None


MACHINE_CHECKS = [
    Check("vta-words", "the bits of known instructions, both ways", _words),
    Check("vta-program", "results and counts of a known program", _vta_results),
    Check("vta-findings", "programs that are broken in one place", _vta_findings),
    Check("ptx-program", "results of a known kernel", _ptx_results),
    Check("ptx-findings", "kernels that are broken in one place", _ptx_findings),
]
