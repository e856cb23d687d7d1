"""Expressions on accumulators as steps of VTA's ALU, each in place."""

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Call, TensorLoad

from simulators.vta.isa import AluOpcode

IMMEDIATE = range(-(1 << 15), 1 << 15)
_BINARY: dict[type, AluOpcode] = {
    tirx.Add: AluOpcode.ADD,
    tirx.Mul: AluOpcode.MUL,
    tirx.Min: AluOpcode.MIN,
    tirx.Max: AluOpcode.MAX,
}


@dataclass(frozen=True)
class Step:
    """dst = operation(dst, immediate), or operation(dst, operand) with an accumulator somewhere else."""

    opcode: AluOpcode
    immediate: int | None = None
    operand: TensorLoad | None = None


@dataclass(frozen=True)
class Chain:
    """What a destination is first, an accumulator or a number, and the steps on it."""

    first: TensorLoad | int
    steps: tuple[Step, ...]


def chain_of(value: tirx.Expr) -> Chain:  # noqa: PLR0911 - a case each
    """Turn an expression into a chain; ValueError names the part that VTA's ALU cannot do."""
    match value:
        case TensorLoad():
            return Chain(value, ())
        case tirx.IntImm():
            return Chain(int(value.value), ())
        case tirx.Cast() if str(value.ty) == "int32" and str(value.value.ty) == "int64":
            return _low(value.value)
        case Call() if value.op.name == "tirx.reinterpret" and str(value.args[0].ty) == "uint32":
            return _masked(value.args[0])
        case tirx.Cast() if str(value.ty) == "int32" and str(value.value.ty) in ("int8", "int32"):
            return chain_of(value.value)
        case tirx.Sub():
            if (number := _number(value.b)) is not None:
                return _then(value.a, AluOpcode.ADD, -number)
            if (number := _number(value.a)) is not None:
                negated = _then(value.b, AluOpcode.MUL, -1)
                return Chain(negated.first, (*negated.steps, *_immediate(AluOpcode.ADD, number)))
        case tirx.RShift() | tirx.LShift():
            if (number := _number(value.b)) is not None and 0 <= number < 32:
                return _then(value.a, AluOpcode.SHR, number if isinstance(value, tirx.RShift) else -number)
        case _ if type(value) in _BINARY:
            return _binary(_BINARY[type(value)], value.a, value.b)
    raise ValueError(f"VTA's ALU has no {_named(value)} in {value}")


def _named(value: tirx.Expr) -> str:
    return value.op.name if isinstance(value, Call) else type(value).__name__


def _binary(opcode: AluOpcode, left: tirx.Expr, right: tirx.Expr) -> Chain:
    """Put the operand that is a number or an accumulator second."""
    for one, other in ((left, right), (right, left)):
        if (number := _number(other)) is not None:
            return _then(one, opcode, number)
    for one, other in ((left, right), (right, left)):
        if isinstance(other, TensorLoad):
            chain = chain_of(one)
            return Chain(chain.first, (*chain.steps, Step(opcode, operand=other)))
    raise ValueError(f"{opcode.name} of two results, {left} and {right}: give one a buffer in local.acc")


def _then(value: tirx.Expr, opcode: AluOpcode, number: int) -> Chain:
    chain = chain_of(value)
    return Chain(chain.first, (*chain.steps, *_immediate(opcode, number)))


def _immediate(opcode: AluOpcode, number: int) -> tuple[Step, ...]:
    """A step with an immediate; a sum with one that is too wide is several."""
    if number in IMMEDIATE:
        return (Step(opcode, number),)
    if opcode == AluOpcode.ADD and abs(number) < 1 << 18:
        part = IMMEDIATE.stop - 1 if number > 0 else IMMEDIATE.start
        return (Step(opcode, part), *_immediate(opcode, number - part))
    low, high = IMMEDIATE.start, IMMEDIATE.stop - 1
    raise ValueError(f"an immediate of {opcode.name} is {number}, and it holds {low} to {high}")


def constant_steps(number: int) -> tuple[Step, ...]:
    """Return the steps from zero to a number: nothing, a sum, or a sum shifted left."""
    if number == 0:
        return ()
    shift = 0
    while number >> shift not in IMMEDIATE:
        shift += 1
    if number >> shift << shift != number:
        raise ValueError(f"{number} is no number of 16 bits shifted left")
    return (Step(AluOpcode.ADD, number >> shift), *((Step(AluOpcode.SHR, -shift),) if shift else ()))


def _number(value: tirx.Expr) -> int | None:
    if isinstance(value, tirx.IntImm):
        return int(value.value)
    return None


def _masked(value: tirx.Expr) -> Chain:
    """Return the low 32 bits that a uint32 holds of an int64."""
    if isinstance(value, tirx.Cast) and isinstance(value.value, tirx.BitwiseAnd):
        inner, mask = value.value.a, value.value.b
        if _number(mask) == 2**32 - 1:
            return _low(inner)
    raise ValueError(f"VTA's ALU has no {_named(value)} of uint32 in {value}")


def _low(value: tirx.Expr) -> Chain:
    """Return the low half of sums and products in int64: what VTA's 32 bits are by themselves."""
    if isinstance(value, tirx.Cast) and str(value.value.ty) == "int32":
        return chain_of(value.value)
    if isinstance(value, tirx.IntImm):
        return Chain((int(value.value) + 2**31) % 2**32 - 2**31, ())
    if isinstance(value, tirx.Add | tirx.Mul | tirx.Sub):
        number = _number(value.b)
        if number is not None:
            chain = _low(value.a)
            number = -number if isinstance(value, tirx.Sub) else number
            if isinstance(value, tirx.Mul):
                return Chain(chain.first, (*chain.steps, *_immediate(AluOpcode.MUL, number)))
            return _plus(chain, number)
        if not isinstance(value, tirx.Sub):
            for one, other in ((value.a, value.b), (value.b, value.a)):
                if isinstance(other, tirx.Cast) and isinstance(other.value, TensorLoad):
                    chain = _low(one)
                    step = Step(_BINARY[type(value)], operand=other.value)
                    return Chain(chain.first, (*chain.steps, step))
    raise ValueError(f"VTA's ALU has no {_named(value)} of int64 in {value}")


def _plus(chain: Chain, number: int) -> Chain:
    """Add a number. TVM distributes (x + a) * b; where that made the number too wide it is undone."""
    last = chain.steps[-1] if chain.steps else None
    if number not in IMMEDIATE and last and last.opcode == AluOpcode.MUL and last.immediate:
        inner, rest = divmod(number, last.immediate)
        if rest == 0 and inner in IMMEDIATE:
            return Chain(chain.first, (*chain.steps[:-1], Step(AluOpcode.ADD, inner), last))
    return Chain(chain.first, (*chain.steps, *_immediate(AluOpcode.ADD, number)))
