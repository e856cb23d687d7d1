"""Several graphs as one: what is compiled together costs one compilation."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax

from bench.passes.lift_kernels import bindings_of, substitute


def together(modules: Sequence[tvm.IRModule]) -> tvm.IRModule:
    """One module whose ``main`` computes each of them, side by side.

    Parameters and bindings of the n-th are named ``prefix(n)`` and their own name; the result is a tuple of
    the results. Each ``main`` returns one tensor and calls operators only.
    """
    builder = relax.BlockBuilder()
    new: dict[relax.Var, relax.Expr] = {}
    for number, module in enumerate(modules):
        for parameter in module["main"].params:
            new[parameter] = relax.Var(prefix(number) + parameter.name, parameter.ty)
    parameters = [new[parameter] for module in modules for parameter in module["main"].params]
    with builder.function("main", parameters):
        with builder.dataflow():
            for number, module in enumerate(modules):
                for binding in bindings_of(module["main"]):
                    name = prefix(number) + binding.var.name
                    new[binding.var] = builder.emit(substitute(binding.value, new), name)
            results = [new[module["main"].body.body] for module in modules]
            output = builder.emit_output(relax.Tuple(results), "results")
        builder.emit_func_output(output)
    return builder.finalize()


def prefix(number: int) -> str:
    """What stands before the names of the n-th graph."""
    return f"case{number}_"
