"""What is executed to prove the tensor-core kernels, on the PTX machine and on a GPU alike.

The workloads of TVM's HWNC test, every tensor instruction with every pair of types, and the padding table of
TVM's legalisation; each over the full operand range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from tvm import relax

import bench
from bench.compare.verdict import Verdict
from bench.int4 import limits
from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.tensorcore.tile import SUPPORTED, Tile, default_tile
from tests.bench.integer_graphs import module_of
from tests.kernels.tensorcore_reference import Conv, conv2d, operands, pack, stored
from tests.kernels.test_tensorcore_workloads import WORKLOADS

Case = Callable[[str], Verdict]
"""Runs on a device; the verdict says how it ended."""


def layer(conv: Conv, tile: Tile | None = None) -> Case:
    """A kernel of one convolution against NumPy, with inputs at the ends of their range among others."""
    used = tile or default_tile(conv.dtype, conv.of_weight)

    def run(device: str) -> Verdict:
        data = operands(conv.data_shape, conv.dtype, 31)
        weight = operands(conv.weight_shape, conv.of_weight, 32)
        expected = conv2d(conv, data, weight)
        function = conv2d_primfunc(conv.data_shape, **conv.options(), tile=tile)
        return bench.verify(
            schedule_conv2d(function),
            lambda *_: expected,
            "tensorcore",
            device,
            instruction="mma" if used.instruction == "mma" else "wmma.mma",
            inputs=[stored(data, conv.dtype), pack(weight, conv.of_weight, used)],
        )

    return run


def padded(dtype: str, *, batch: int = 16, inputs: int = 64, outputs: int = 64) -> Case:
    """A graph of one layer with sizes that no kernel takes, from its passes to its last tensor."""
    least, greatest = limits(dtype)
    random = np.random.default_rng(33)
    data = random.integers(least, greatest, (batch, inputs, 16, 16), dtype=np.int8, endpoint=True)
    weight = random.integers(least, greatest, (outputs, inputs, 3, 3), dtype=np.int8, endpoint=True)

    def build(emit, parameter):  # type: ignore[no-untyped-def]
        operands_ = [relax.op.astype(each, dtype) for each in (parameter, relax.const(weight))]
        return emit("conv", relax.op.nn.conv2d(*operands_, padding=[1, 1, 1, 1], out_dtype="int32"))

    def run(device: str) -> Verdict:
        return bench.run(module_of({"data": (data.shape, "int8")}, build), data, "tensorcore", device)

    return run


def _instruction(tile: Tile, dtype: str, weight_dtype: str) -> Case:
    return layer(
        Conv(3, 3, 2 * tile.m, 2 * tile.k, 2 * tile.n, (2, 2), padding=(0, 1, 1, 0), dtype=dtype,
             weight_dtype=weight_dtype),
        tile,
    )  # fmt: skip


VARIED = [
    ("batch", 7), ("batch", 3),
    ("inputs", 63), ("inputs", 33), ("inputs", 13), ("inputs", 1),
    ("outputs", 63), ("outputs", 33), ("outputs", 1),
]  # fmt: skip

INSTRUCTIONS: Mapping[str, Case] = {
    f"{tile} {a}·{b}": _instruction(tile, a, b) for tile, a, b in sorted(SUPPORTED, key=str)
}
LAYERS: Mapping[str, Case] = {name: layer(conv) for name, conv in WORKLOADS.items()}
PADDED: Mapping[str, Case] = {
    f"{dtype}, {size} {extent}": padded(dtype, **{size: extent})
    for dtype in ("int8", "int4")
    for size, extent in VARIED
}
CASES: Mapping[str, Case] = {**LAYERS, **INSTRUCTIONS, **PADDED}
