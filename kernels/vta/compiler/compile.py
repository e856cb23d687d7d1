"""A scheduled PrimFunc as a VTA program, ahead of time.

The schedule has said everything: which loops are cut, what lies in which memory (scopes local.inp, local.wgt,
local.acc and local.out, the low bytes of the accumulators), and how often a buffer is there:
`virtual_threads` on a loop lets what is allocated in its body exist that many times, used in turn, so that
the next iteration is loaded while this one is computed. Here its loops are walked. An assignment with the
loops around it alone becomes LOADs, STOREs, GEMMs or ALU instructions, or is refused by name; every other
loop is unrolled into the stream, for VTA has none. Tokens are the builder's.
"""

import tvm
from tvm import s_tir, tirx
from tvm.ir import TensorLoad

from kernels.vta.builder import Builder
from kernels.vta.compiler.affine import (
    Variable,
    conditions,
    variable,
)
from kernels.vta.compiler.emission import Emission
from kernels.vta.compiler.memories import Memories, size_of
from kernels.vta.compiler.places import Places
from kernels.vta.compiler.statements import (
    Statement,
    UncompilableError,
    Use,
    buffer_of,
    indices_of,
    nodes_of,
    reads_of,
    region,
    scope_of,
    statement_of,
    turns_of,
    uses_of,
)
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Buffer, Program

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
        self._uses: dict[tirx.Stmt, dict[tirx.Buffer, list[Use]]] = {}
        self._aliased: set[tirx.Stmt] = set()
        dram = self._parameters(list(function.params))
        self._emission = Emission(config, self._builder, Places(config, self._memories, dram), dram)

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
            self._emission.emit(statement, values)
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
        first = self._emission.chain(statement).first
        if isinstance(first, int) or sum(each.source.same_as(first.source) for each in loads) != 1:
            return None
        target = statement.source
        return first.source if indices_of(first) == indices_of(target) else None


def _buffers_of(root: tirx.Stmt) -> set[tirx.Buffer]:
    """Return the buffers that a statement reads or writes."""
    return {buffer_of(each) for each in nodes_of(root) if isinstance(each, TensorLoad | tirx.BufferStore)}
