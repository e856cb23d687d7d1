"""What one statement becomes: LOADs, STOREs, GEMMs or ALU instructions, or an error that names it."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Call, TensorLoad

from kernels.vta.builder import Builder
from kernels.vta.compiler.affine import Affine, Box, Conditions, Variable, boxes, conditions
from kernels.vta.compiler.arithmetic import Chain, Step, chain_of, constant_steps
from kernels.vta.compiler.loops import Turns, fold
from kernels.vta.compiler.memories import numbers_of
from kernels.vta.compiler.places import Places
from kernels.vta.compiler.statements import (
    SRAM,
    Access,
    Statement,
    UncompilableError,
    buffer_of,
    indices_of,
    reads_of,
    scope_of,
)
from kernels.vta.compiler.transfers import PadError, transfers
from simulators.vta.config import Config
from simulators.vta.isa import AluOpcode, Memory
from simulators.vta.program import Buffer

Emitter: TypeAlias = Callable[[Statement, dict[Variable, int], Box], None]


class Emission:
    """Emits the statements of one function to a builder."""

    def __init__(
        self, config: Config, builder: Builder, places: Places, dram: Mapping[tirx.Buffer, Buffer]
    ) -> None:
        self._config = config
        self._builder = builder
        self._places = places
        self._dram = dram
        self._emitters: dict[tirx.Stmt, Emitter] = {}
        self._products: dict[tirx.Stmt, tuple[Access, Access, Access]] = {}
        self._chains: dict[tirx.Stmt, Chain] = {}

    def chain(self, statement: Statement) -> Chain:
        """Read what a statement computes on accumulators."""
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

    def emit(self, statement: Statement, values: dict[Variable, int]) -> None:
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
        within = self._places.lanes(statement, self._places.numbers_at(target, values), box)
        numbers = numbers_of(target.buffer, self._config)
        outside = {name: each for name, each in box.items() if name not in within}
        sram = self._places.elements(statement, target, values, box, within, numbers)
        dram = self._places.elements(statement, load, values, box, within, numbers)
        # All of them, before the first is written: a pad may be too wide.
        for each in list(transfers(outside, inside, sram, dram)):
            self._builder.load(memory, self._dram[load.source], each)

    def _store(self, statement: Statement, values: dict[Variable, int], box: Box) -> None:
        target, value = statement.source, statement.source.value
        load = value.value if isinstance(value, tirx.Cast) else value
        if not isinstance(load, TensorLoad) or str(target.buffer.dtype) != "int8":
            raise statement.refuse("a STORE copies low bytes to int8, and computes nothing")
        within = self._places.lanes(statement, self._places.numbers_at(load, values), box)
        numbers = numbers_of(load.source, self._config)
        outside = {name: each for name, each in box.items() if name not in within}
        sram = self._places.elements(statement, load, values, box, within, numbers)
        dram = self._places.elements(statement, target, values, box, within, numbers)
        for each in transfers(outside, (), sram, dram):
            self._builder.store(self._dram[target.buffer], each)

    # GEMM

    def _multiply(self, statement: Statement, values: dict[Variable, int], box: Box) -> None:
        """acc[b, o] += Σ_i inp[b, i] · wgt[o, i] over tiles, with b, o and i innermost in their buffers."""
        if statement.source not in self._products:
            self._products[statement.source] = _product_of(statement)
        accesses = self._products[statement.source]
        b, c = self._config.batch, self._config.block
        numbers = (b * c, b * c, c * c)
        shapes: dict[tuple[int, ...], int] = {(1, 0, c): c, (0, 1, 1): c, (c, c, 0): b}
        places = [self._places.numbers_at(each, values) for each in accesses]
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
            base.append(corner // number + self._places.first(access))
        config = self._config
        limits = (config.acc_depth, config.inp_depth, config.wgt_depth)
        for each in fold(tuple(turns), tuple(base), limits, config.uop_depth):
            self._builder.gemm(each.kernel, each.outer, each.inner)

    # ALU

    def _compute(self, statement: Statement, values: dict[Variable, int], box: Box) -> None:
        target, chain = statement.source, self.chain(statement)
        place = self._places.numbers_at(target, values)
        within = self._places.lanes(statement, place, box)
        numbers = numbers_of(target.buffer, self._config)

        def where(access: Access) -> Affine:
            return self._places.elements(statement, access, values, box, within, numbers)

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
        within = self._places.lanes(statement, self._places.numbers_at(target, values), box)
        numbers = numbers_of(target.buffer, self._config)
        dst = self._places.elements(statement, target, values, box, within, numbers)
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
