"""What a user hands in as a kernel, brought to one form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from bench.artifact import TensorSpec
from simulators.vta.program import Program

Scheduler = Callable[[Schedule], "Schedule | None"]


@dataclass(frozen=True)
class Kernel:
    """A kernel ready to be compiled, and the tensors it takes; the last of them is its result.

    ``code`` is a scheduled PrimFunc, or a VTA program. ``plain`` is the function before scheduling, where
    there is one.
    """

    name: str
    code: PrimFunc | Program
    tensors: tuple[TensorSpec, ...]
    plain: PrimFunc | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """All tensors but the result."""
        return self.tensors[:-1]

    @property
    def output(self) -> TensorSpec:
        """The result."""
        return self.tensors[-1]


def kernel_of(given: Any, *, block: PrimFunc | None = None) -> Kernel:
    """Bring a PrimFunc, an IRModule with one, a Schedule, a VTA program or a scheduler to one form.

    A scheduling function takes a Schedule of ``block`` and changes it, or returns another. Raises ValueError
    for anything else, for a module with more than one function, and for shapes that are not static.
    """
    if isinstance(given, Program):
        return Kernel(
            "kernel", given, tuple(_buffer(buffer) for buffer in (*given.arguments, *given.outputs))
        )
    plain = None
    if callable(given) and not isinstance(given, PrimFunc | tvm.IRModule):
        if block is None:
            raise ValueError("a function that schedules needs the PrimFunc that it schedules: give block=")
        schedule, plain = Schedule(block), block
        given = given(schedule) or schedule
    name = "kernel"
    if isinstance(given, Schedule):
        given = given.mod
    if isinstance(given, tvm.IRModule):
        functions = [(variable, function) for variable, function in given.functions_items()]
        if len(functions) != 1:
            raise ValueError(f"the module holds {len(functions)} functions; a kernel is one")
        name, given = functions[0][0].name_hint, functions[0][1]
    if not isinstance(given, PrimFunc):
        raise ValueError(
            f"a kernel is a PrimFunc, an IRModule, a Schedule, a VTA program or a function that schedules, "
            f"not a {type(given).__name__}"
        )
    return Kernel(name, given, tuple(_parameter(parameter) for parameter in given.params), plain)


def _parameter(parameter: Any) -> TensorSpec:
    try:
        shape = tuple(int(extent) for extent in parameter.shape)
    except (TypeError, ValueError, AttributeError):
        raise ValueError(f"parameter {parameter} of the kernel is no buffer of static shape") from None
    return TensorSpec(parameter.name, shape, str(parameter.dtype))


def _buffer(buffer: Any) -> TensorSpec:
    return TensorSpec(buffer.name, tuple(buffer.shape), np.dtype(buffer.dtype).name)
