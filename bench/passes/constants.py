"""Bindings whose value no input changes."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from bench.evaluate import evaluate


def constant_bindings(function: relax.Function) -> dict[relax.Var, np.ndarray]:
    """Values of the tensors that a function computes from constants alone, by their variables.

    A weight that is transposed or cast in the graph is one; 4-bit types are those of ml_dtypes. What the
    evaluation does not know is left out.
    """
    values: dict[relax.Var, np.ndarray] = {}
    for block in function.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
                continue
            read = relax.analysis.free_vars(value)
            if all(variable in values for variable in read) and isinstance(binding.var.ty, relax.TensorType):
                result = relax.Var(binding.var.name, binding.var.ty)
                body = relax.SeqExpr([relax.BindingBlock([relax.VarBinding(result, value)])], result)
                alone = relax.Function(read, body, result.ty)
                try:
                    values[binding.var] = evaluate(alone, [values[variable] for variable in read])
                except NotImplementedError:
                    continue
    return values
