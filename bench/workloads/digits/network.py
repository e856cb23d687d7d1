"""The digits network in Relax, with the trained weights that `train.py` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Expr

from bench.workloads.workload import Workload

_DATA = Path(__file__).with_name("digits.npz")
# Pixels of the scans are counts of 0..16.
_PIXEL_SCALE = np.float32(1 / 16)


@cache
def _arrays() -> Mapping[str, np.ndarray]:
    with np.load(_DATA) as data:
        return dict(data)


def load(*, batch: int = 256) -> Workload:
    """Load the network for a batch of 1 to 256 images, with the first `batch` shipped test images."""
    arrays = _arrays()
    if not 1 <= batch <= len(arrays["images"]):
        raise ValueError(
            f"batch {batch} of digits is not in 1..{len(arrays['images'])}, the images there are"
        )
    return Workload(
        name="digits",
        module=network(arrays, batch=batch),
        images=arrays["images"][:batch] * _PIXEL_SCALE,
        labels=arrays["labels"][:batch].astype(np.int64),
        calibration=arrays["calibration"] * _PIXEL_SCALE,
    )


def network(weights: Mapping[str, np.ndarray], *, batch: int) -> tvm.IRModule:
    """Build the float network from `conv1_weight` (O, I, H, W), `conv1_bias` (O,) … `dense_weight` (10, 64).

    `main(data: (batch, 1, 8, 8)) -> (batch, 10)` logits. Global average pooling over the 4x4 positions that
    are left makes the average exact in integers: a sum and a shift.
    """
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType((batch, 1, 8, 8), "float32"))

    def emit(name: str, value: Expr) -> Expr:
        return builder.emit(value, name_hint=name)

    def convolution(name: str, source: Expr, *, padding: int, stride: int = 1) -> Expr:
        weight = relax.const(weights[f"{name}_weight"])
        bias = relax.const(weights[f"{name}_bias"].reshape(1, -1, 1, 1))
        result = emit(name, relax.op.nn.conv2d(source, weight, strides=stride, padding=padding))
        return emit(f"{name}_bias", relax.op.add(result, bias))

    with builder.function("main", [data]):
        with builder.dataflow():
            relu1 = emit("relu1", relax.op.nn.relu(convolution("conv1", data, padding=1)))
            relu2 = emit("relu2", relax.op.nn.relu(convolution("conv2", relu1, padding=1, stride=2)))
            residual = emit("residual", relax.op.add(convolution("conv3", relu2, padding=1), relu2))
            relu3 = emit("relu3", relax.op.nn.relu(residual))
            relu4 = emit("relu4", relax.op.nn.relu(convolution("conv4", relu3, padding=0)))
            pool = emit("pool", relax.op.mean(relu4, axis=[2, 3]))
            dense = emit("dense", relax.op.matmul(pool, relax.const(weights["dense_weight"].T.copy())))
            logits = relax.op.add(dense, relax.const(weights["dense_bias"]))
            output = builder.emit_output(logits, name_hint="dense_bias")
        builder.emit_func_output(output)
    return builder.get()
