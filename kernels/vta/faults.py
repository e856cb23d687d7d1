"""Faults planted in a VTA program: one real instruction is decoded, changed and encoded again.

Each function takes and returns the bytes of a program's file. What is changed is chosen so that random
data show it; FaultNotPlanted says that the program has nothing to change.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from kernels.faults import FaultNotPlanted
from simulators.vta.isa import Alu, AluOpcode, Gemm, Instruction, Load, Memory, decode, encode
from simulators.vta.program import Program

_Kind = TypeVar("_Kind", Load, Gemm, Alu)


def skip_gemm_uop(program: bytes) -> bytes:
    """Let the GEMM with the most iterations leave out the first half of its micro-ops.

    One alone may be a tap that meets nothing but padding: its product is zero, and nobody would miss it.
    """

    def weight(gemm: Gemm) -> int:
        return 0 if gemm.reset else gemm.iter_out * gemm.iter_in * (gemm.uop_end - gemm.uop_bgn)

    def change(gemm: Gemm) -> Gemm:
        return replace(gemm, uop_bgn=(gemm.uop_bgn + gemm.uop_end + 1) // 2)

    return _planted(program, Gemm, weight, change, "GEMM micro-op")


def shift_by_one(program: bytes) -> bytes:
    """Let the immediate right shift with the most iterations shift by one bit more (by one less from 31)."""

    def weight(alu: Alu) -> int:
        shifts = alu.alu_opcode == AluOpcode.SHR and alu.use_imm and alu.imm >= 0
        return alu.iter_out * alu.iter_in * (alu.uop_end - alu.uop_bgn) if shifts else 0

    def change(alu: Alu) -> Alu:
        return replace(alu, imm=alu.imm + 1 if alu.imm < 31 else alu.imm - 1)

    return _planted(program, Alu, weight, change, "ALU right shift by an immediate")


def drop_padding_row(program: bytes) -> bytes:
    """Let the largest LOAD that pads above its data write one row of zeros less: all below moves up.

    A row of zeros missing below is not a fault that shows: the memory may hold zeros there already.
    """

    def weight(load: Load) -> int:
        return load.y_size * load.x_size if load.memory_type == Memory.INP and load.y_pad_0 else 0

    def change(load: Load) -> Load:
        return replace(load, y_pad_0=load.y_pad_0 - 1)

    return _planted(program, Load, weight, change, "LOAD with a padding row above its data")


def _planted(
    blob: bytes,
    kind: type[_Kind],
    weight: Callable[[_Kind], int],
    change: Callable[[_Kind], _Kind],
    what: str,
) -> bytes:
    """Change the first of the instructions of a kind that have the greatest weight."""
    program = Program.from_bytes(blob)
    stream: list[Instruction] = decode(program.insns, program.config)
    weights = [weight(each) if isinstance(each, kind) else 0 for each in stream]
    most = max(weights, default=0)
    if most == 0:
        raise FaultNotPlanted(f"the program has no {what}")
    place = weights.index(most)
    chosen = stream[place]
    assert isinstance(chosen, kind)
    stream[place] = change(chosen)
    return replace(program, insns=encode(stream, program.config)).to_bytes()
