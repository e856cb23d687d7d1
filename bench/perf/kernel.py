"""One layer through a target's passes and kernels, on the target's machine in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from bench.compare.verdict import LayerVerdict
from bench.devices.machines import Machine, machine_for
from bench.efficiency import LayerShapes
from bench.evaluate import evaluate_all
from bench.evaluate.dtypes import numpy_dtype
from bench.flows.flow import flow_for
from bench.flows.kernel import packed_kernels
from bench.flows.transformed import Layer
from bench.passes.lift_kernels import bindings_of
from bench.perf.layers import NamedLayer

DATA_DTYPE = {"tensorcore": "int8", "hexagon": "uint8", "vta": "int8"}
"""The data that a target's kernels take at their best."""
HELD = {"int4": "int8", "uint4": "uint8"}


def random_of(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Values over the whole range of a type; those of 4 bits are held in 8."""
    low, high = {"int4": (-8, 7), "uint4": (0, 15)}.get(dtype) or (np.iinfo(dtype).min, np.iinfo(dtype).max)
    held = HELD.get(dtype, dtype)
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True, dtype=held)


def graph_of(layer: NamedLayer, target: str) -> tvm.IRModule:
    """A graph of one convolution or dense layer: its int32 result, or, for VTA, what follows it there.

    That is >> 8, + bias, clip to 0..127 and a cast, as in the layers of VTA's own benchmark.
    """
    shapes = layer.shapes
    values = random_of(shapes.weight, layer.weight, 1)
    weight: relax.Expr = relax.const(values.T.copy() if len(shapes.data) == 2 else values)
    data = relax.Var("data", relax.TensorType(shapes.data, HELD.get(layer.data, layer.data)))
    builder = relax.BlockBuilder()
    with builder.function("main", [data]):
        with builder.dataflow():
            taken = builder.emit(relax.op.astype(data, layer.data)) if layer.data in HELD else data
            weight = builder.emit(relax.op.astype(weight, layer.weight)) if layer.weight in HELD else weight
            result = builder.emit(_product(taken, weight, shapes), "layer")
            if target == "vta":
                result = _finish(builder, result, shapes)
            output = builder.emit_output(result, "result")
        builder.emit_func_output(output)
    return builder.finalize()


def _product(data: relax.Expr, weight: relax.Expr, shapes: LayerShapes) -> relax.Expr:
    if len(shapes.data) == 2:
        return relax.op.matmul(data, weight, out_dtype="int32")
    return relax.op.nn.conv2d(
        data,
        weight,
        strides=list(shapes.strides),
        padding=list(shapes.padding),
        dilation=list(shapes.dilation),
        out_dtype="int32",
    )


def _finish(builder: relax.BlockBuilder, sums: relax.Var, shapes: LayerShapes) -> relax.Expr:
    channels = (1, shapes.weight[0], 1, 1)[: len(shapes.data)]
    bias = np.random.default_rng(2).integers(-2000, 2000, channels, dtype=np.int32)
    shifted = builder.emit(relax.op.right_shift(sums, relax.const(np.int32(8))))
    added = builder.emit(relax.op.add(shifted, relax.const(bias)))
    clipped = builder.emit(relax.op.clip(added, 0, 127))
    return builder.emit(relax.op.astype(clipped, "int8"))


@dataclass
class CompiledLayer:
    """One layer, compiled for a target."""

    layer: NamedLayer
    target: str

    def __post_init__(self) -> None:
        self.flow = flow_for(self.target)
        self.module = graph_of(self.layer, self.target)
        self.transformed = self.flow.transform(self.module)
        self.files = self.flow.machine_files(self.transformed)
        (self.entry,) = (entry for entry in self.transformed.report if entry.kernel)
        self.kernel = {each.name: each for each in packed_kernels(self.transformed)}[str(self.entry.kernel)]

    @cached_property
    def machine(self) -> Machine:
        """The machine, loaded with the layer's code; to be closed."""
        return machine_for(self.target)(self.files)

    def counted(self) -> LayerVerdict:
        """Execute the kernel once on operands of no meaning: what the machine counted."""
        inputs = [
            random_of(each.shape, numpy_dtype(each.dtype).name, number)
            for number, each in enumerate(self.kernel.parameters)
        ]
        result = self.kernel.result
        report = self.machine.call(
            self.kernel.name, [*inputs, np.zeros(result.shape, numpy_dtype(result.dtype))]
        )
        self.machine.close()
        return LayerVerdict(
            self.layer.name,
            self.entry.operator,
            self.entry.shapes,
            self.entry.instruction,
            count=report.counters["tensor_instructions"],
            counters=report.counters,
        )

    @cached_property
    def data(self) -> np.ndarray:
        """The layer's input."""
        return random_of(self.layer.shapes.data, self.layer.data, 3)

    def through_instructions(self) -> dict[str, np.ndarray]:
        """Evaluate the transformed graph through the models of the target's instructions: every tensor."""
        return evaluate_all(self.transformed.mod, self.data, overrides=self.flow.overrides)

    def call(self) -> tuple[Callable[[], np.ndarray], np.ndarray]:
        """A function that executes the kernel on the layer's data, and the result it should have."""
        values = self.through_instructions()
        arguments = _arguments(self.transformed.mod, self.entry, values)
        expected = values[self.entry.result]
        out = np.empty_like(expected)

        def execute() -> np.ndarray:
            self.machine.call(self.kernel.name, [*arguments, out])
            return out

        return execute, expected


def _arguments(mod: tvm.IRModule, layer: Layer, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the kernel of a layer is called with."""
    (binding,) = (each for each in bindings_of(mod["main"]) if each.var.name == layer.result)
    return [
        each.value.numpy() if isinstance(each, GenericConst) else values[each.name]
        for each in binding.value.args
    ]
