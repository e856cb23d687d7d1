"""What a kernel's result should be: a NumPy function, or a PrimFunc that TVM builds for this CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm.tirx import PrimFunc

from bench.artifact import TensorSpec
from bench.lowering import HOST_TARGET
from bench.verification.kernel import Kernel

Reference = Callable[[Sequence[np.ndarray]], np.ndarray]


def reference_of(given: Any, kernel: Kernel) -> Reference:
    """The reference as a function of the inputs.

    ``given`` is a NumPy function of the inputs or a PrimFunc with the kernel's parameters; None stands for
    the function before scheduling. ValueError where there is none, or it does not fit the kernel.
    """
    if given is None:
        given = kernel.plain
    if given is None:
        raise ValueError(
            "there is nothing to compare with: give a reference (a NumPy function, or a PrimFunc that is not "
            "scheduled), or the kernel as a function that schedules a block"
        )
    if isinstance(given, PrimFunc):
        return _compiled(given, kernel.output)
    if not callable(given):
        raise ValueError(f"a reference is a NumPy function or a PrimFunc, not a {type(given).__name__}")

    def call(inputs: Sequence[np.ndarray]) -> np.ndarray:
        return _checked(given(*(array.copy() for array in inputs)), kernel.output)

    return call


def _compiled(function: PrimFunc, output: TensorSpec) -> Reference:
    shapes = [tuple(int(extent) for extent in parameter.shape) for parameter in function.params]
    module = tvm.IRModule({"reference": function.with_attr("global_symbol", "reference")})
    executable = tvm.compile(module, target=tvm.target.Target(HOST_TARGET))

    def call(inputs: Sequence[np.ndarray]) -> np.ndarray:
        for array, shape in zip(inputs, shapes, strict=False):
            if array.shape != shape:
                raise ValueError(f"the reference takes {shapes}, the kernel gives it {array.shape}")
        result = tvm.runtime.empty(output.shape, output.dtype)
        executable["reference"](*(tvm.runtime.tensor(array) for array in inputs), result)
        return _checked(result.numpy(), output)

    return call


def _checked(result: Any, output: TensorSpec) -> np.ndarray:
    """A reference that returns another shape is wrong; a wider integer type that holds its values is not."""
    array = np.asarray(result)
    if array.shape != output.shape:
        raise ValueError(f"the reference gives shape {array.shape}, the kernel {output.shape}")
    if array.dtype != np.dtype(output.dtype):
        narrowed = array.astype(output.dtype)
        wraps = np.dtype(output.dtype).kind in "iu" and array.dtype.kind in "iu"
        if not wraps and not np.array_equal(narrowed, array):
            raise ValueError(f"the reference gives {array.dtype}, the kernel {output.dtype}")
        array = narrowed
    return array
