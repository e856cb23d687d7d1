"""What a float module must be to be quantised, and its evaluation on the calibration data."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, Op

from bench.evaluate import evaluate
from bench.passes.quantization.registry import TRANSLATORS

SAMPLED = 1 << 17


def float_main(mod: tvm.IRModule) -> relax.Function:
    """The `main` of a module that can be quantised; ValueError says why it cannot."""
    functions = {variable.name_hint: function for variable, function in mod.functions.items()}
    if set(functions) != {"main"} or not isinstance(functions["main"], relax.Function):
        raise ValueError(
            f"quantize takes a module of one Relax function, main; this one has {sorted(functions)}"
        )
    function = functions["main"]
    if len(function.params) != 1 or str(function.params[0].ty.dtype) != "float32":
        parameters = ", ".join(f"{parameter.name}: {parameter.ty}" for parameter in function.params)
        raise ValueError(
            f"quantize takes a main with one float32 input, weights as constants; not ({parameters})"
        )
    names = [function.params[0].name]
    for binding in (binding for block in function.body.blocks for binding in block.bindings):
        if binding.var.name in names:
            raise ValueError(f"quantize: two tensors are named {binding.var.name!r}; scales are kept by name")
        names.append(binding.var.name)
        value = binding.value
        operator = value.op.name if isinstance(value, Call) and isinstance(value.op, Op) else None
        if operator not in TRANSLATORS and not isinstance(value, relax.Var):
            raise ValueError(
                f"quantize: binding {binding.var.name!r} is {operator or type(value).__name__}, which is not "
                f"quantised; what is: {', '.join(sorted(TRANSLATORS))}"
            )
    return function


def calibrate(function: relax.Function, calibration: np.ndarray, *, values: bool) -> dict[str, np.ndarray]:
    """Evaluate the float graph on the calibration data: every binding, and the input by its name.

    Of each tensor the smallest and the largest value are kept; with `values` evenly spaced ones as well, at
    most `SAMPLED` for each evaluation.
    """
    (parameter,) = function.params
    shape = tuple(int(extent) for extent in parameter.ty.shape)
    calibration = np.asarray(calibration, np.float32)
    if calibration.shape[1:] != shape[1:] or not len(calibration):
        raise ValueError(f"calibration data of shape {calibration.shape} do not fit the input {shape}")
    batch, count = shape[0], len(calibration)
    recorded: dict[str, list[np.ndarray]] = {}
    for start in range(0, count, batch):
        chunk = calibration[start : start + batch]
        # The batch of the graph is fixed: what is missing is repeated and not looked at.
        filled = np.resize(chunk, shape)
        record = _Samples(recorded, batch=batch, count=len(chunk), values=values)
        record[parameter.name] = filled
        evaluate(function, filled, record=record)
    return {name: np.concatenate(samples) for name, samples in recorded.items()}


class _Samples(dict[str, np.ndarray]):
    """A record of one evaluation that keeps no tensor, but adds a sample of it to what was recorded."""

    def __init__(
        self, recorded: dict[str, list[np.ndarray]], *, batch: int, count: int, values: bool
    ) -> None:
        super().__init__()
        self._recorded = recorded
        self._batch, self._count, self._values = batch, count, values

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        if value.shape[:1] == (self._batch,):
            value = value[: self._count]
        samples = self._recorded.setdefault(name, [])
        samples.append(np.array([value.min(), value.max()]))
        if self._values:
            samples.append(value.reshape(-1)[:: -(-value.size // SAMPLED)].copy())
