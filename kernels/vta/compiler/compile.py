"""A scheduled PrimFunc as a VTA program, ahead of time.

The schedule has said everything: which loops are cut, what lies in which memory (scopes local.inp, local.wgt,
local.acc and local.out, the low bytes of the accumulators), and how often a buffer is there:
`virtual_threads` on a loop lets what is allocated in its body exist that many times, used in turn, so that
the next iteration is loaded while this one is computed. Here its loops are walked. An assignment with the
loops around it alone becomes LOADs, STOREs, GEMMs or ALU instructions, or is refused by name; every other
loop is unrolled into the stream, for VTA has none. Tokens are the builder's.
"""

from collections.abc import Callable
from typing import TypeAlias

import tvm
from tvm import s_tir, tirx
from tvm.ir import Call, TensorLoad

from kernels.vta.builder import Builder
from kernels.vta.compiler.affine import (
    Affine,
    Box,
    Conditions,
    Variable,
    boxes,
    conditions,
    constant,
    variable,
)
from kernels.vta.compiler.arithmetic import Chain, Step, chain_of, constant_steps
from kernels.vta.compiler.loops import Turns, fold
from kernels.vta.compiler.memories import Memories, numbers_of, size_of
from kernels.vta.compiler.statements import (
    SRAM,
    Access,
    Statement,
    UncompilableError,
    Use,
    address,
    buffer_of,
    elements,
    indices_of,
    lanes,
    nodes_of,
    reads_of,
    region,
    scope_of,
    statement_of,
    turns_of,
    uses_of,
)
from kernels.vta.compiler.transfers import PadError, transfers
from simulators.vta.config import PYNQ, Config
from simulators.vta.isa import AluOpcode, Memory
from simulators.vta.program import Buffer, Program

Emitter: TypeAlias = Callable[[Statement, dict[Variable, int], Box], None]
VIRTUAL_THREADS = "virtual_threads"


def compile_program(function: tirx.PrimFunc, config: Config = PYNQ) -> Program:
    """Compile a scheduled PrimFunc, whose parameters are its arguments and results in DRAM.

    UncompilableError (a ValueError) names a statement that VTA cannot execute; ValueError names the buffer
    that does not fit into its memory, its need and the limit.
    """
    return _Compiler(_lowered(function), config).program()


def _lowered(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Turn blocks into loops. What an iteration needs of a buffer is found out here, to the element.

    TVM's CompactBufferAllocation takes all rows of a strided convolution whose last tile is smaller, and its
    simplifier turns (x + 77) * 32767, of which VTA can do either step, into x * 32767 + 2523059.
    """
    transform = tvm.transform.Sequential(
        [
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.LowerOpaqueBlock(),
            # Only what the schedule says is unrolled.
            tirx.transform.UnrollLoop(),
        ]
    )
    (lowered,) = transform(tvm.IRModule({"main": function})).functions.values()
    return lowered


class _Compiler:
    def __init__(self, function: tirx.PrimFunc, config: Config) -> None:
        self._body = function.body
        self._config = config
        self._builder = Builder(config)
        self._sizes: dict[tirx.Buffer, int] = {}
        self._memories = Memories(config, self._sizes)
        self._statements: dict[tirx.Stmt, Statement | None] = {}
        self._addresses: dict[tuple[Access, tuple[int, ...]], Affine] = {}
        self._uses: dict[tirx.Stmt, dict[tirx.Buffer, list[Use]]] = {}
        self._aliased: set[tirx.Stmt] = set()
        self._emitters: dict[tirx.Stmt, Emitter] = {}
        self._products: dict[tirx.Stmt, tuple[Access, Access, Access]] = {}
        self._chains: dict[tirx.Stmt, Chain] = {}
        self._dram = self._parameters(list(function.params))

    def program(self) -> Program:
        self._measure(self._body, {})
        self._walk(self._body, {}, 1)
        return self._builder.finish()

    # Buffers --------------------------------------------------------------------------------------

    def _parameters(self, parameters: list[tirx.Buffer]) -> dict[tirx.Buffer, Buffer]:
        """Give each parameter its place in DRAM. Its role follows from where it is copied."""
        roles = {"local.wgt": "weight", "local.acc": "bias"}
        found = dict.fromkeys(parameters, "input")

        for node in nodes_of(self._body):
            if not isinstance(node, tirx.BufferStore):
                continue
            if node.buffer in found:
                found[node.buffer] = "output"
            for load in reads_of(node.value):
                if load.source in found and str(load.source.dtype) == str(node.buffer.dtype):
                    found[load.source] = roles.get(scope_of(node.buffer), "input")
        return {
            each: self._builder.buffer(
                each.name, role, tuple(int(extent) for extent in each.shape), str(each.dtype)
            )
            for each, role in found.items()
        }

    # Loops ----------------------------------------------------------------------------------------

    def _measure(self, here: tirx.Stmt, values: dict[Variable, int]) -> None:
        """Find the most elements that each buffer needs at any time."""
        match here:
            case tirx.SeqStmt():
                for each in here.seq:
                    if isinstance(each, tirx.AllocBuffer):
                        size = size_of(each.buffer, self._region(here, each.buffer, values), self._config)
                        self._sizes[each.buffer] = max(size, self._sizes.get(each.buffer, 0))
                    else:
                        self._measure(each, values)
            case tirx.For() if self._statement(here) is None:
                for value in turns_of(here):
                    self._measure(here.body, {**values, variable(here.loop_var): value})
            case tirx.IfThenElse() if self._holds(here, values):
                self._measure(here.then_case, values)

    def _walk(self, here: tirx.Stmt, values: dict[Variable, int], threads: int, visits: int = 1) -> None:
        """Emit a statement and all within, which virtual threads share and which is visited so often."""
        statement = self._statement(here)
        if statement is not None:
            self._emit(statement, values)
            return
        match here:
            case tirx.SeqStmt():
                self._sequence(here, values, threads, visits)
            case tirx.For():
                inside, turns = int(here.annotations.get(VIRTUAL_THREADS, threads)), turns_of(here)
                for value in turns:
                    self._walk(
                        here.body, {**values, variable(here.loop_var): value}, inside, visits * len(turns)
                    )
            case tirx.IfThenElse() if here.else_case is None:
                if self._holds(here, values):
                    self._walk(here.then_case, values, threads, visits)
            case tirx.Evaluate():
                if not isinstance(here.value, tirx.IntImm):
                    raise UncompilableError(f"VTA cannot call {here.value}")
            case _:
                raise UncompilableError(f"VTA has nothing for a {type(here).__name__}: {here}")

    def _sequence(self, here: tirx.SeqStmt, values: dict[Variable, int], threads: int, visits: int) -> None:
        if here not in self._aliased:
            self._aliased.add(here)
            self._alias(list(here.seq))
        with self._memories.scope():
            for each in here.seq:
                if isinstance(each, tirx.AllocBuffer):
                    within = self._region(here, each.buffer, values)
                    self._memories.allocate(each.buffer, within, min(threads, visits))
                else:
                    self._walk(each, values, threads, visits)

    def _holds(self, here: tirx.IfThenElse, values: dict[Variable, int]) -> bool:
        return all(each.at(values).constant >= 0 for each in conditions(here.condition))

    def _region(
        self, sequence: tirx.SeqStmt, buffer: tirx.Buffer, values: dict[Variable, int]
    ) -> tuple[range, ...]:
        """Return the indices of a buffer that a sequence reaches, at these values of the loops around it."""
        if sequence not in self._uses:
            self._uses[sequence] = uses_of(list(sequence.seq))
        return region(self._uses[sequence].get(buffer, []), values)

    def _statement(self, here: tirx.Stmt) -> Statement | None:
        if here not in self._statements:
            self._statements[here] = statement_of(here)
        return self._statements[here]

    # Buffers in place -----------------------------------------------------------------------------

    def _alias(self, sequence: list[tirx.Stmt]) -> None:
        """Let an elementwise result lie where its operand does, if nobody needs that again."""
        allocated = {each.buffer for each in sequence if isinstance(each, tirx.AllocBuffer)}
        touched = [_buffers_of(each) for each in sequence]
        for place, here in enumerate(sequence):
            statement = self._statement(here)
            if statement is None or statement.source.buffer not in allocated:
                continue
            target = statement.source
            if scope_of(target.buffer) not in ("local.acc", "local.out") or any(
                target.buffer in each for each in touched[:place]
            ):
                continue
            operand = self._in_place(statement)
            if operand in allocated and not any(operand in each for each in touched[place + 1 :]):
                self._memories.alias(target.buffer, operand)

    def _in_place(self, statement: Statement) -> tirx.Buffer | None:
        """Return the buffer that a statement changes element by element, and reads nowhere else."""
        loads = reads_of(statement.source.value)
        if any(scope_of(each.source) != "local.acc" for each in loads):
            return None
        first = self._chain(statement).first
        if isinstance(first, int) or sum(each.source.same_as(first.source) for each in loads) != 1:
            return None
        target = statement.source
        return first.source if indices_of(first) == indices_of(target) else None

    def _chain(self, statement: Statement) -> Chain:
        key = statement.source
        if key not in self._chains:
            value = key.value
            if isinstance(value, tirx.Cast) and scope_of(key.buffer) == "local.out":
                value = value.value
            try:
                self._chains[key] = chain_of(value)
            except ValueError as error:
                raise statement.refuse(str(error)) from None
        return self._chains[key]

    # Statements -----------------------------------------------------------------------------------

    def _emit(self, statement: Statement, values: dict[Variable, int]) -> None:
        """Emit the instructions of a statement, at these values of the loops around it."""
        where = [each.at(values) for each in statement.where]
        if statement.source not in self._emitters:
            self._emitters[statement.source] = self._emitter(statement)
        emit = self._emitters[statement.source]
        try:
            for box in boxes(statement.loops, where):
                emit(statement, values, box)
        except UncompilableError:
            raise
        except ValueError as error:
            raise statement.refuse(str(error)) from None

    def _emitter(self, statement: Statement) -> Emitter:
        target = scope_of(statement.source.buffer)
        loads = reads_of(statement.source.value)
        sources = {scope_of(each.source) for each in loads}
        if target == "global" and sources in ({"local.out"}, {"local.acc"}):
            return self._store
        if target in SRAM[:3] and sources == {"global"}:
            return self._load
        if target == "local.acc" and sources == {"local.acc", "local.inp", "local.wgt"}:
            return self._multiply
        if target in ("local.acc", "local.out") and sources <= {"local.acc"}:
            return self._compute
        between = " and ".join(sorted(sources)) or "a number"
        raise statement.refuse(f"VTA has no instruction that makes {target} of {between}")

    def _place(self, access: Access, values: dict[Variable, int]) -> Affine:
        """Return an address in numbers from the beginning of the buffer."""
        buffer = buffer_of(access)
        if buffer in self._dram:
            extents = self._dram[buffer].shape
            corner = 0
        else:
            within = self._memories.within(buffer)
            extents = tuple(map(len, within))
            corner = address([constant(each.start) for each in within], extents).constant
        key = access, extents
        if key not in self._addresses:
            self._addresses[key] = address(indices_of(access), extents)
        place = self._addresses[key].at(values)
        return Affine(place.constant - corner, place.factors)

    def _lanes(self, statement: Statement, place: Affine, box: Box) -> dict[Variable, int]:
        """Return the loops that walk through one element of the target, or of what it is copied from."""
        buffer = statement.source.buffer
        if scope_of(buffer) == "global":
            buffer = reads_of(statement.source.value)[0].source
        numbers = numbers_of(buffer, self._config)
        within = lanes(place, box, numbers)
        if within is None:
            raise statement.refuse(f"{buffer.name} is not addressed by whole elements of {numbers}")
        return within

    def _elements(  # noqa: PLR0917 - what is addressed, and where
        self,
        statement: Statement,
        access: Access,
        values: dict[Variable, int],
        box: Box,
        within: dict[Variable, int],
        numbers: int,
    ) -> Affine:
        """Return an address in elements, over how far each loop is from the box's corner."""
        place = elements(self._place(access, values), box, numbers, within)
        if place is None:
            raise statement.refuse(
                f"{buffer_of(access).name} is not addressed by whole elements of {numbers}"
            )
        if scope_of(buffer_of(access)) == "global":
            return place
        return Affine(place.constant + self._memories.first(buffer_of(access)), place.factors)

    # LOAD and STORE

    def _load(self, statement: Statement, values: dict[Variable, int], box: Box) -> None:
        target, value = statement.source, statement.source.value
        scope = scope_of(target.buffer)
        inside: Conditions = ()
        if isinstance(value, Call) and value.op.name == "prim.if_then_else":
            condition, value, other = value.args
            inside = tuple(each.at(values) for each in conditions(condition))
            if not isinstance(other, tirx.IntImm) or (int(other.value) and scope != "local.acc"):
                raise statement.refuse("a LOAD pads with zeros")
            if int(other.value):
                self._fill_and_copy_in(statement, values, box, int(other.value), value, inside)
                return
        try:
            self._copy_in(statement, value, values, box, inside)
        except PadError:
            if scope != "local.acc":
                raise
            self._fill_and_copy_in(statement, values, box, 0, value, inside)

    def _fill_and_copy_in(  # noqa: PLR0917 - a statement, and what it says
        self,
        statement: Statement,
        values: dict[Variable, int],
        box: Box,
        number: int,
        value: tirx.Expr,
        inside: Conditions,
    ) -> None:
        """Let all of a box be a number, and load into the middle of it."""
        self._fill(statement, values, box, number)
        for part in boxes(box, inside):
            self._copy_in(statement, value, values, part, ())

    def _copy_in(
        self,
        statement: Statement,
        value: tirx.Expr,
        values: dict[Variable, int],
        box: Box,
        inside: Conditions,
    ) -> None:
        target, scope = statement.source, scope_of(statement.source.buffer)
        widened = isinstance(value, tirx.Cast) and scope == "local.acc"
        load = value.value if widened else value
        dtype = "int32" if scope == "local.acc" and not widened else "int8"
        if not isinstance(load, TensorLoad) or str(load.source.dtype) != dtype:
            raise statement.refuse(f"a LOAD to {scope} copies {dtype} and computes nothing")
        memory = Memory.ACC_8BIT if widened else Memory[scope.removeprefix("local.").upper()]
        within = self._lanes(statement, self._place(target, values), box)
        numbers = numbers_of(target.buffer, self._config)
        outside = {name: each for name, each in box.items() if name not in within}
        sram = self._elements(statement, target, values, box, within, numbers)
        dram = self._elements(statement, load, values, box, within, numbers)
        # All of them, before the first is written: a pad may be too wide.
        for each in list(transfers(outside, inside, sram, dram)):
            self._builder.load(
                memory,
                self._dram[load.source],
                sram=each.sram,
                element=each.dram,
                rows=each.rows,
                columns=each.columns,
                pitch=each.pitch,
                pads=each.pads,
            )

    def _store(self, statement: Statement, values: dict[Variable, int], box: Box) -> None:
        target, value = statement.source, statement.source.value
        load = value.value if isinstance(value, tirx.Cast) else value
        if not isinstance(load, TensorLoad) or str(target.buffer.dtype) != "int8":
            raise statement.refuse("a STORE copies low bytes to int8, and computes nothing")
        within = self._lanes(statement, self._place(load, values), box)
        numbers = numbers_of(load.source, self._config)
        outside = {name: each for name, each in box.items() if name not in within}
        sram = self._elements(statement, load, values, box, within, numbers)
        dram = self._elements(statement, target, values, box, within, numbers)
        for each in transfers(outside, (), sram, dram):
            self._builder.store(
                self._dram[target.buffer],
                sram=each.sram,
                element=each.dram,
                rows=each.rows,
                columns=each.columns,
                pitch=each.pitch,
            )

    # GEMM

    def _multiply(self, statement: Statement, values: dict[Variable, int], box: Box) -> None:
        """acc[b, o] += Σ_i inp[b, i] · wgt[o, i] over tiles, with b, o and i innermost in their buffers."""
        if statement.source not in self._products:
            self._products[statement.source] = _product_of(statement)
        accesses = self._products[statement.source]
        b, c = self._config.batch, self._config.block
        numbers = (b * c, b * c, c * c)
        shapes: dict[tuple[int, ...], int] = {(1, 0, c): c, (0, 1, 1): c, (c, c, 0): b}
        places = [self._place(each, values) for each in accesses]
        seen: list[tuple[int, ...]] = []
        turns: list[Turns] = []
        for name, span in box.items():
            factors = tuple(place.factors.get(name, 0) for place in places)
            if len(span) == shapes.get(factors) and factors not in seen and len(span) > 1:
                seen.append(factors)
            elif len(span) > 1:
                if any(factor % number for factor, number in zip(factors, numbers, strict=True)):
                    raise statement.refuse(
                        f"a loop of {len(span)} is none of a product of tiles {b}x{c} and {c}x{c}"
                    )
                steps = (factor // number for factor, number in zip(factors, numbers, strict=True))
                turns.append(Turns(len(span), tuple(steps)))
        if len(seen) != sum(extent > 1 for extent in shapes.values()):
            raise statement.refuse(f"no product of tiles {b}x{c} and {c}x{c}")
        base = []
        for place, number, access in zip(places, numbers, accesses, strict=True):
            corner = place.constant + sum(factor * box[each].start for each, factor in place.factors.items())
            if corner % number:
                raise statement.refuse(
                    f"{buffer_of(access).name} is not addressed by whole elements of {number}"
                )
            base.append(corner // number + self._memories.first(buffer_of(access)))
        config = self._config
        limits = (config.acc_depth, config.inp_depth, config.wgt_depth)
        for each in fold(tuple(turns), tuple(base), limits, config.uop_depth):
            self._builder.gemm(each.kernel, each.outer, each.inner)

    # ALU

    def _compute(self, statement: Statement, values: dict[Variable, int], box: Box) -> None:
        target, chain = statement.source, self._chain(statement)
        place = self._place(target, values)
        within = self._lanes(statement, place, box)
        numbers = numbers_of(target.buffer, self._config)

        def where(access: Access) -> Affine:
            return self._elements(statement, access, values, box, within, numbers)

        dst = where(target)
        turns = {name: len(each) for name, each in box.items() if name not in within}
        steps = list(chain.steps)
        in_place = not isinstance(chain.first, int) and where(chain.first) == dst
        if not in_place:
            if any(step.operand is not None and where(step.operand) == dst for step in steps):
                raise statement.refuse("the result is needed before it is there: give it a buffer of its own")
            self._clear(dst, turns)
            first = chain.first
            steps = (
                [*constant_steps(first), *steps]
                if isinstance(first, int)
                else [Step(AluOpcode.ADD, operand=first), *steps]
            )
        elif any(step.operand is not None and where(step.operand) == dst for step in steps[1:]):
            raise statement.refuse("an operand is read after it has changed: give it a buffer of its own")
        for step in steps:
            self._alu(step, dst, dst if step.operand is None else where(step.operand), turns)

    def _fill(self, statement: Statement, values: dict[Variable, int], box: Box, number: int) -> None:
        """Let all of a box be a number."""
        target = statement.source
        within = self._lanes(statement, self._place(target, values), box)
        numbers = numbers_of(target.buffer, self._config)
        dst = self._elements(statement, target, values, box, within, numbers)
        turns = {name: len(each) for name, each in box.items() if name not in within}
        self._clear(dst, turns)
        for step in constant_steps(number):
            self._alu(step, dst, dst, turns)

    def _clear(self, dst: Affine, turns: dict[Variable, int]) -> None:
        # Micro-ops of a reset have no source; that of the target is one that exists.
        steps = tuple(Turns(count, (dst.factors.get(name, 0), 0)) for name, count in turns.items())
        limits = (self._config.acc_depth, self._config.inp_depth)
        for each in fold(steps, (dst.constant, 0), limits, self._config.uop_depth):
            self._builder.clear(each.kernel, each.outer, each.inner)

    def _alu(self, step: Step, dst: Affine, src: Affine, turns: dict[Variable, int]) -> None:
        # With an immediate src is dst: some backends read acc[src] there too.
        loops = tuple(
            Turns(count, (dst.factors.get(name, 0), src.factors.get(name, 0)))
            for name, count in turns.items()
        )
        limits = (self._config.acc_depth, self._config.inp_depth)
        for each in fold(loops, (dst.constant, src.constant), limits, self._config.uop_depth):
            self._builder.alu(step.opcode, each.kernel, each.outer, each.inner, immediate=step.immediate)


def _buffers_of(root: tirx.Stmt) -> set[tirx.Buffer]:
    """Return the buffers that a statement reads or writes."""
    return {buffer_of(each) for each in nodes_of(root) if isinstance(each, TensorLoad | tirx.BufferStore)}


def _product_of(
    statement: Statement,
) -> tuple[Access, Access, Access]:
    """Return the accumulator, the data and the weight of acc += data · weight."""
    target, value = statement.source, statement.source.value
    refusal = statement.refuse("a GEMM is acc += int32(data) * int32(weight)")
    if not isinstance(value, tirx.Add):
        raise refusal
    for kept, added in ((value.a, value.b), (value.b, value.a)):
        if (
            isinstance(kept, TensorLoad)
            and kept.source.same_as(target.buffer)
            and indices_of(kept) == indices_of(target)
            and isinstance(added, tirx.Mul)
            and all(
                isinstance(each, tirx.Cast) and isinstance(each.value, TensorLoad)
                for each in (added.a, added.b)
            )
        ):
            loads = {scope_of(each.value.source): each.value for each in (added.a, added.b)}
            if set(loads) == {"local.inp", "local.wgt"}:
                return target, loads["local.inp"], loads["local.wgt"]
    raise refusal
