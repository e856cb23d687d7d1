"""How many layers deep a network is."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax

from bench.passes.execution_order import executed_calls, longest_chain
from bench.passes.operator_names import operator_names


def count_layers(mod: tvm.IRModule | relax.Function, ops: Sequence[str]) -> int:
    """Count the layers on the longest chain of a network: the deepest path from definition to use.

    `ops` are the operators that are layers, as `relax.nn.conv2d` or `nn.conv2d`. Of a module `main` is
    followed, with every function it calls; two layers side by side count as one, in a tuple as elsewhere.
    ValueError names operators that do not exist.
    """
    return longest_chain(executed_calls(mod), operator_names(ops))
