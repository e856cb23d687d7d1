"""Which tensors take the scale of a concatenation that they end in, so that it only moves bytes."""

from __future__ import annotations

from tvm import relax
from tvm.ir import Call, Expr

CONCATENATION = "relax.concat"
MOVEMENTS = frozenset(
    {
        "relax.nn.max_pool2d",
        "relax.reshape",
        "relax.flatten",
        "relax.permute_dims",
        "relax.image.resize2d",
        "relax.repeat",
        "relax.nn.pad",
    }
)
"""Operators whose results have the scale of their operand."""


def aligned_tensors(function: relax.Function) -> dict[str, str]:
    """For each tensor that a concatenation joins, perhaps moved before, the name of that concatenation.

    A concatenation in another one takes that one's. A tensor in two that are not one in the other takes
    the scale of the later one, and is rescaled for the other.
    """
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    producers = {binding.var: binding.value for binding in bindings}
    aligned: dict[str, str] = {}
    for binding in reversed(bindings):
        if not _is(binding.value, CONCATENATION):
            continue
        for field in binding.value.args[0].fields:
            origin = _origin(field, producers)
            if origin not in producers:
                # The input is data already: what is lost of it would be lost for everything.
                continue
            aligned.setdefault(origin.name, aligned.get(binding.var.name, binding.var.name))
    return aligned


def _origin(variable: relax.Var, producers: dict[relax.Var, Expr]) -> relax.Var:
    """The tensor whose values a tensor has, before it was renamed or moved."""
    producer = producers.get(variable)
    if isinstance(producer, relax.Var):
        return _origin(producer, producers)
    if producer is not None and any(_is(producer, name) for name in MOVEMENTS):
        return _origin(producer.args[0], producers)
    return variable


def _is(expression: Expr, operator: str) -> bool:
    return isinstance(expression, Call) and getattr(expression.op, "name", "") == operator
