"""One GEMM or ALU instruction with its micro-ops: what it touches, whether it may, and how it is executed.

A kernel depends on the instruction and its micro-ops alone, so one serves every execution of both.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulators.vta import alu, compute
from simulators.vta.compute import Operand, Operands, Product, Step
from simulators.vta.config import Config
from simulators.vta.hazards import Span, span_of
from simulators.vta.isa import Alu, AluOpcode, Gemm, uop_columns
from simulators.vta.memory import Sram, TrapError, low_bits
from simulators.vta.profiles import Profile

# Iterations of a GEMM with reset whose products are formed at a time, where a backend shows them.
SHOWN = 1 << 12


@dataclass(frozen=True, eq=False)
class Kernel:
    """A GEMM or ALU instruction with at least one iteration.

    reads: sets of elements by memory. result: the accumulators that it writes. plan: how it is executed, or
    None for one of so many iterations that it is planned piece by piece whenever it is executed. uneven: a
    backend's rule on the distance of iterations that it breaks, or "". moved: an immediate is applied to
    another element than dst.
    """

    instruction: Gemm | Alu
    operands: Operands
    iterations: int
    reads: tuple[tuple[str, Span], ...]
    result: Span
    plan: list | None
    uneven: str
    moved: bool

    @property
    def nbytes(self) -> int:
        """About how many bytes the kernel takes."""
        bases = sum(each.base.nbytes for each in self.operands)
        return 1024 + bases + sum(each.nbytes for each in self.plan or ())

    def pieces(self) -> Iterator[tuple[Operands, int, int]]:
        """Cut the instruction into pieces of bounded size, in the order of its iterations."""
        return compute.pieces(self.operands, self.instruction.iter_out, self.instruction.iter_in)

    def plans(self) -> Iterator[list]:
        """Yield the plans of the pieces."""
        if self.plan is not None:
            yield self.plan
            return
        for piece in self.pieces():
            yield _plan(self.instruction, *piece, self.moved)


def kernel_of(instruction: Gemm | Alu, uops: np.ndarray, config: Config, profile: Profile) -> Kernel | None:
    """Prepare an instruction with the micro-ops in UOP, uint32[depth]; None where it has no iteration.

    TrapError where an index lies beyond a memory. As in the functional simulator, the source of an ALU
    instruction is checked even where an immediate takes its place.
    """
    loops = (instruction.iter_out, instruction.iter_in)
    iterations = loops[0] * loops[1] * (instruction.uop_end - instruction.uop_bgn)
    if not iterations:
        return None
    operands = _operands(instruction, uops, config, profile)
    dst, src, wgt = operands
    _check("ACC", config.acc_depth, dst, loops, profile)
    multiplies = isinstance(instruction, Gemm) and not instruction.reset
    if isinstance(instruction, Alu):
        _check("ACC", config.acc_depth, src, loops, profile)
    elif multiplies:
        _check("INP", config.inp_depth, src, loops, profile)
        _check("WGT", config.wgt_depth, wgt, loops, profile)
    result = _set(dst, loops, config.acc_depth)
    reads: list[tuple[str, Span]] = []
    moved = False
    if multiplies:
        reads = [
            ("INP", _set(src, loops, config.inp_depth)),
            ("WGT", _set(wgt, loops, config.wgt_depth)),
            ("ACC", result),
        ]
    elif isinstance(instruction, Alu):
        from_src = not instruction.use_imm or profile.immediate == "src"
        moved = instruction.use_imm and from_src and not _same(dst, src, loops)
        if not moved and instruction.alu_opcode != alu.MOVE:
            reads.append(("ACC", result))
        if moved or not instruction.use_imm:
            reads.append(("ACC", _set(src, loops, config.acc_depth)))
    whole = iterations <= compute.PIECE
    return Kernel(
        instruction=instruction,
        operands=operands,
        iterations=iterations,
        reads=tuple(reads),
        result=result,
        plan=_plan(instruction, operands, *loops, moved) if whole else None,
        uneven=_uneven(instruction, operands, profile),
        moved=moved,
    )


def _operands(instruction: Gemm | Alu, uops: np.ndarray, config: Config, profile: Profile) -> Operands:
    if instruction.uop_end > config.uop_depth:
        raise TrapError(
            "sram-out-of-range",
            f"micro-op {instruction.uop_end - 1} of UOP, which holds {config.uop_depth}"
            + _would_wrap(instruction.uop_end - 1, config.uop_depth, profile),
        )
    dst, src, wgt = uop_columns(uops[instruction.uop_bgn : instruction.uop_end], config)
    factors = (instruction.wgt_out, instruction.wgt_in) if isinstance(instruction, Gemm) else (0, 0)
    return (
        Operand(dst, instruction.dst_out, instruction.dst_in),
        Operand(src, instruction.src_out, instruction.src_in),
        Operand(wgt, *factors),
    )


def _would_wrap(index: int, depth: int, profile: Profile) -> str:
    return f"; {profile.name} would wrap to element {index % depth}" if profile.bounds == "wraps" else ""


def _check(name: str, depth: int, operand: Operand, loops: tuple[int, int], profile: Profile) -> None:
    highest = operand.highest(*loops)
    if highest >= depth:
        raise TrapError(
            "sram-out-of-range",
            f"element {highest} of {name}, which holds {depth}" + _would_wrap(highest, depth, profile),
        )


def _set(operand: Operand, loops: tuple[int, int], depth: int) -> Span:
    """The elements that an operand reaches over all iterations."""
    touched = np.zeros(depth, np.bool_)
    touched[operand.base] = True
    for count, factor in zip(loops, (operand.out, operand.inner), strict=True):
        done = 1
        while factor and done < count:
            # What the first turns reach, moved on, is what as many turns more reach.
            more = min(done, count - done)
            touched[more * factor :] |= touched[: -more * factor]
            done += more
    return span_of(touched)


def _same(dst: Operand, src: Operand, loops: tuple[int, int]) -> bool:
    """Whether two operands are the same element in every iteration."""
    out, inner = loops[0] < 2 or dst.out == src.out, loops[1] < 2 or dst.inner == src.inner
    return out and inner and np.array_equal(dst.base, src.base)


def _plan(
    instruction: Gemm | Alu, operands: Operands, iter_out: int, iter_in: int, moved: bool
) -> list[Product] | list[Step]:
    dst, src, wgt = operands
    if isinstance(instruction, Alu):
        source = src if moved or not instruction.use_imm else None
        return compute.plan_alu(dst, source, iter_out, iter_in)
    if instruction.reset:
        return []
    return compute.plan_gemm(dst, src, wgt, iter_out, iter_in)


def _uneven(instruction: Gemm | Alu, operands: Operands, profile: Profile) -> str:
    """The rule on the distance of iterations that an instruction breaks on a backend, or ""."""
    rule = "alu_distance" if isinstance(instruction, Alu) else "gemm_distance"
    limit = getattr(profile, rule)
    if limit == "any" or (isinstance(instruction, Gemm) and instruction.reset):
        return ""
    reads_src = isinstance(instruction, Alu) and (not instruction.use_imm or profile.immediate == "src")
    written = np.empty(0, np.int64)
    for (target, source, _), *loops in compute.pieces(operands, instruction.iter_out, instruction.iter_in):
        dst = target.indices(*loops)
        touched = [dst, source.indices(*loops)] if reads_src else [dst]
        before = np.concatenate([written, dst])
        for distance in range(1, int(limit)):
            behind = max(distance - written.size, 0)
            earlier = before[max(written.size - distance, 0) : before.size - distance]
            if any((each[behind:] == earlier).any() for each in touched):
                return rule
        written = before[-2:]
    return ""


# Execution -------------------------------------------------------------------------------------------


def run_gemm(kernel: Kernel, sram: Sram, config: Config, profile: Profile) -> int:
    """Execute a GEMM without reset; return the lanes whose sums wrapped where the backend's are narrow."""
    exact = config.exact_reduction
    for plan in kernel.plans():
        compute.run_gemm(plan, sram.acc, sram.inp, sram.wgt, exact=exact)
    _show(kernel, sram, config)
    if profile.partial_sum == "wide" or config.block < 32:
        return 0
    # Of 32 products of two int8 only 32 · 2^14 = 2^19 needs more than 20 bits: it becomes -2^19. Each is
    # found by a product of its own, of tiles that say in their first column which rows are all -128.
    lowest_inp, lowest_wgt = ((each == -128).all(axis=2) for each in (sram.inp, sram.wgt))
    if not (lowest_inp.any() and lowest_wgt.any()):
        return 0
    inp, wgt = np.zeros_like(sram.inp), np.zeros_like(sram.wgt)
    inp[:, :, 0], wgt[:, :, 0] = lowest_inp, lowest_wgt
    before = sram.acc.copy()
    for plan in kernel.plans():
        compute.run_gemm(plan, sram.acc, inp, wgt, exact=exact, scale=-(1 << 20))
    _show(kernel, sram, config)
    return int(np.count_nonzero(before != sram.acc))


def run_reset(kernel: Kernel, sram: Sram, config: Config, profile: Profile) -> None:
    """Execute a GEMM with reset."""
    if sram.out is not None and profile.reset == "keeps-sum":
        # Piece by piece, because an iteration shows what those before it left.
        for piece in kernel.pieces():
            _show_sums(piece, sram, config)
            _clear(piece, sram)
    sram.acc[kernel.result.key] = 0
    if sram.out is not None:
        sram.defined["OUT"][kernel.result.key] = profile.reset != "unknown"


def _clear(piece: tuple[Operands, int, int], sram: Sram) -> None:
    operands, *loops = piece
    sram.acc[operands[0].indices(*loops)] = 0


def _show_sums(piece: tuple[Operands, int, int], sram: Sram, config: Config) -> None:
    """Write to OUT what a reset clears: of the last iteration on each element, ACC plus the product."""
    assert sram.out is not None
    operands, *loops = piece
    dst, src, wgt = (each.indices(*loops) for each in operands)
    _, last = np.unique(dst[::-1], return_index=True)
    last = dst.size - 1 - last
    alone = np.bincount(dst)[dst[last]] == 1
    for begin in range(0, last.size, SHOWN):
        some = last[begin : begin + SHOWN]
        inp = sram.inp[src[some] % config.inp_depth]
        weights = sram.wgt[wgt[some] % config.wgt_depth]
        sums = (inp @ weights.swapaxes(1, 2)).astype(np.int64)
        # An earlier iteration on the same element has cleared it.
        sums += np.where(alone[begin : begin + SHOWN, None, None], sram.acc[dst[some]], 0)
        sram.out[dst[some]] = low_bits(sums.astype(config.acc_dtype), config)


def _show(kernel: Kernel, sram: Sram, config: Config) -> None:
    """Write the low bits of the results to OUT, where there is one."""
    if sram.out is not None:
        key = kernel.result.key
        sram.out[key] = low_bits(sram.acc[key], config)
        sram.defined["OUT"][key] = True


def run_alu(kernel: Kernel, instruction: Alu, sram: Sram, config: Config, profile: Profile) -> dict[str, int]:
    """Execute an ALU instruction; return how many lanes depend on which behaviour of the backend."""
    acc, counts = sram.acc, dict.fromkeys(("immediate", "shift", "opcode_4", "more_opcodes"), 0)
    opcode, immediate = instruction.alu_opcode, instruction.imm
    if kernel.moved:
        counts["immediate"] = kernel.iterations * acc[0].size
    for plan in kernel.plans():
        for step in plan:
            operand = immediate if instruction.use_imm else acc[step.src]
            here = acc[step.dst]
            value = acc[step.src] if kernel.moved else here
            # A slice is a view, and is changed in place.
            place = here if isinstance(step.dst, slice) else None
            result, behaviour, lanes = alu.operate(profile, opcode, value, operand, immediate, place)
            if result is not place:
                acc[step.dst] = result
            if lanes:
                counts[behaviour] += lanes
    if opcode == AluOpcode.MUL and profile.opcode_4 == "nothing":
        sram.defined["OUT"][kernel.result.key] = False
    else:
        _show(kernel, sram, config)
    return {behaviour: lanes for behaviour, lanes in counts.items() if lanes}
