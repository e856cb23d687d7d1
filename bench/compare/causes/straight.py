"""A kernel's function as a list of operators, to be evaluated many times with one of them changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.ir import GenericConst, Op

from bench.evaluate.graph import attributes_of
from bench.evaluate.registry import OperatorCall
from bench.passes.lift_kernels import bindings_of

Evaluate = Callable[[OperatorCall], Any]


@dataclass(frozen=True)
class Step:
    """One operator: ``reads`` are parameters (from 0) and results of earlier steps behind them, or values."""

    call: OperatorCall
    reads: tuple[int | np.ndarray, ...]


class Straight:
    """The operators of a function without branches, functions or tuples."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)

    @classmethod
    def of(cls, function: relax.Function) -> Straight | None:
        """Read a function; None for one that is not straight."""
        places: dict[relax.Var, int] = {parameter: place for place, parameter in enumerate(function.params)}
        steps: list[Step] = []
        for binding in bindings_of(function):
            if isinstance(binding.value, relax.Var) and binding.value in places:
                places[binding.var] = places[binding.value]
                continue
            step = _step(binding.value, places)
            if step is None:
                return None
            places[binding.var] = len(function.params) + len(steps)
            steps.append(step)
        is_last = places.get(function.body.body) == len(function.params) + len(steps) - 1
        return cls(steps) if steps and is_last else None

    @classmethod
    def of_call(cls, call: relax.Call) -> Straight | None:
        """One operator call by itself, its arguments as parameters."""
        described = _described(call)
        return cls([Step(described, tuple(range(len(call.args))))]) if described else None

    def named(self, *operators: str) -> list[int]:
        """The places of the steps of some operators."""
        return [place for place, step in enumerate(self.steps) if step.call.operator in operators]

    def of_images(self, axis: int, images: int) -> Straight:
        """The same operators on so many images, counted by dimension ``axis`` of whatever has images."""

        def smaller(call: OperatorCall) -> OperatorCall:
            shape = list(call.shape or ())
            if axis < len(shape):
                shape[axis] = images
            return replace(call, shape=tuple(shape))

        return Straight([replace(step, call=smaller(step.call)) for step in self.steps])

    def run(self, arguments: Sequence[Any], changes: Mapping[int, Evaluate]) -> np.ndarray:
        """The result for these arguments, with some steps, by their places, computed otherwise."""
        values = list(arguments)
        for place, step in enumerate(self.steps):
            read = tuple(values[each] if isinstance(each, int) else each for each in step.reads)
            call = replace(step.call, arguments=read)
            values.append(changes[place](call) if place in changes else call.default())
        return np.asarray(values[-1])


def _step(value: Any, places: Mapping[relax.Var, int]) -> Step | None:
    described = _described(value)
    reads = [_read(argument, places) for argument in value.args] if described else []
    if described is None or any(read is None for read in reads):
        return None
    return Step(described, tuple(read for read in reads if read is not None))


def _described(value: Any) -> OperatorCall | None:
    if not isinstance(value, relax.Call) or not isinstance(value.op, Op):
        return None
    if not isinstance(value.ty, relax.TensorType):
        return None
    shape = tuple(int(extent) for extent in value.ty.shape)
    return OperatorCall(value.op.name, value.op.name, (), attributes_of(value), shape, str(value.ty.dtype))


def _read(argument: relax.Expr, places: Mapping[relax.Var, int]) -> int | Any | None:
    match argument:
        case relax.Var():
            return places.get(argument)
        case GenericConst():
            return argument.value.numpy()
        case tirx.IntImm() | tirx.FloatImm():
            return np.asarray(argument.value)[()]
    return None
