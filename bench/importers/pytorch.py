"""PyTorch networks, by torch.export and TVM's frontend for it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import tvm
from tvm import relax

from bench.passes.fold_batch_norm import fold_batch_norm
from bench.passes.lift_kernels import bindings_of, substitute

if TYPE_CHECKING:
    import torch

INSTALL = "pip install torch==2.13.0"


def from_pytorch(model: torch.nn.Module, example: torch.Tensor) -> tvm.IRModule:
    """Import a network in evaluation mode: ``main(data)`` in float32, weights as constants.

    ``example`` gives the shape of the one input. Batch normalisation behind a convolution is folded into it,
    constants are folded, and bindings are named after their operators: ``conv1``, ``relu1``, ``dense1``.

    ImportError with the line to install where PyTorch is missing; ValueError for a model in training mode,
    whose batch normalisation depends on the batch.
    """
    try:
        import torch
        from tvm.relax.frontend.torch import from_exported_program
    except ImportError as missing:
        raise ImportError(f"PyTorch is not installed: {INSTALL}") from missing
    if model.training:
        raise ValueError("from_pytorch: the model is in training mode: call its eval() first")
    with torch.no_grad():
        program = torch.export.export(model, (example,))
    module = from_exported_program(program, keep_params_as_input=False, unwrap_unit_return_tuple=True)
    passes = [
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(),
        relax.transform.FoldConstant(),
    ]
    module = fold_batch_norm(tvm.transform.Sequential(passes)(module))
    return _with_readable_names(module)


_NAMES = {"relax.nn.conv2d": "conv", "relax.nn.conv2d_transpose": "transposed", "relax.matmul": "dense"}


def _with_readable_names(mod: tvm.IRModule) -> tvm.IRModule:
    """The same function with the input ``data`` and each binding named after its operator."""
    main = mod["main"]
    (parameter,) = main.params
    data = relax.Var("data", parameter.ty)
    new: dict[relax.Var, relax.Expr] = {parameter: data}
    counts: Counter[str] = Counter()
    builder = relax.BlockBuilder()
    with builder.function("main", [data]):
        with builder.dataflow():
            for binding in bindings_of(main):
                value = substitute(binding.value, new)
                if isinstance(value, relax.Var):
                    new[binding.var] = value
                    continue
                name = _name(value)
                counts[name] += 1
                new[binding.var] = builder.emit(value, f"{name}{counts[name]}")
            output = builder.emit_output(new[main.body.body], "output")
        builder.emit_func_output(output)
    return builder.finalize()


def _name(value: relax.Expr) -> str:
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return "value"
    operator = str(value.op.name)
    return _NAMES.get(operator, operator.rpartition(".")[2])
