"""Which part of a graph may be packed: all of it, or what stands between two marks."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax

Mark = str | tuple[str, int]
"""A binding by its name, or an operator by its name (``relax.`` may be left out) and, where there are more
than one, the place among them from 0; negative ones count from the end. Without a place, the first."""


def region(bindings: Sequence[relax.VarBinding], start: Mark | None, stop: Mark | None) -> range:
    """Positions of the bindings that may be packed: those behind ``start`` and before ``stop``.

    Neither mark belongs to the region, as in TVM's ``vta.top.graphpack``. ValueError for a mark that is not
    in the graph, and for a stop that does not stand behind the start.
    """
    first = 0 if start is None else _position(bindings, start, "start") + 1
    last = len(bindings) if stop is None else _position(bindings, stop, "stop")
    if last < first:
        raise ValueError(f"graph_pack: stop {stop!r} stands before start {start!r}")
    return range(first, last)


def _position(bindings: Sequence[relax.VarBinding], mark: Mark, which: str) -> int:
    name, place = (mark, 0) if isinstance(mark, str) else mark
    operators = [_operator(binding) for binding in bindings]
    found = [index for index, operator in enumerate(operators) if operator in (name, f"relax.{name}")]
    if isinstance(mark, str):
        found = [index for index, binding in enumerate(bindings) if binding.var.name == mark] or found
    if not found:
        known = ", ".join(sorted({operator.removeprefix("relax.") for operator in operators if operator}))
        raise ValueError(
            f"graph_pack: {which} {mark!r} is neither a binding of main nor one of its operators, {known}"
        )
    if not -len(found) <= place < len(found):
        raise ValueError(
            f"graph_pack: {which} {mark!r}: there are {len(found)} {name}, "
            f"so its place is one of {-len(found)}..{len(found) - 1}"
        )
    return found[place]


def _operator(binding: relax.VarBinding) -> str:
    call = binding.value
    return call.op.name if isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.Op) else ""
