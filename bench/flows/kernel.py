"""The private functions of a transformed graph, as what a kernel generator needs to know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from bench.flows.transformed import Transformed
from bench.passes.lift_kernels import bindings_of, is_packed_operator


@dataclass(frozen=True)
class TensorType:
    """Static shape and dtype of a tensor."""

    shape: Any
    dtype: str


@dataclass(frozen=True)
class PackedKernel:
    """One kernel: the packed tensor operator, what follows it, and the types at its edges."""

    name: str
    function: relax.Function
    operator: relax.Call
    epilogue: tuple[relax.Call, ...]
    parameters: tuple[TensorType, ...]
    result: TensorType

    @property
    def is_dense(self) -> bool:
        """Whether the tensor operator is a dense layer (else it is a convolution)."""
        return bool(self.operator.op.name == "bitexact.dense")


def packed_kernels(transformed: Transformed) -> list[PackedKernel]:
    """The kernels in the order of the layers."""
    return [
        packed_kernel(layer.kernel, transformed.mod[layer.kernel])
        for layer in transformed.report
        if layer.kernel
    ]


def packed_kernel(name: str, function: relax.Function) -> PackedKernel:
    """Read one private function, which begins with a packed tensor operator."""
    calls = [binding.value for binding in bindings_of(function) if isinstance(binding.value, relax.Call)]
    assert is_packed_operator(calls[0]), f"{name} does not begin with a packed tensor operator"
    return PackedKernel(
        name=name,
        function=function,
        operator=calls[0],
        epilogue=tuple(calls[1:]),
        parameters=tuple(_type(parameter.ty) for parameter in function.params),
        result=_type(calls[-1].ty),
    )


def _type(tensor: tvm.relax.TensorType) -> TensorType:
    return TensorType(tuple(int(extent) for extent in tensor.shape), str(tensor.dtype))
