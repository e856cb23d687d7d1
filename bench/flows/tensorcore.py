"""Tensor cores: HWNC graph, WMMA kernels in PTX."""

from __future__ import annotations

import json

import tvm

from bench.evaluate.graph import attributes_of
from bench.evaluate.instructions import wmma
from bench.flows.kernel import PackedKernel, packed_kernels
from bench.flows.transform import pack_and_lift
from bench.flows.transformed import Transformed
from bench.machine_files import LAUNCHES
from bench.passes.hwnc import pack_hwnc
from bench.passes.plain_layer import PlainLayer
from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from kernels.tensorcore.ptx import compile_ptx


class TensorCoreFlow:
    """A :class:`bench.flows.flow.Flow`."""

    target = "tensorcore"
    artefact = "PTX (sm_80)"
    scheme = "fixed"
    data_dtype = "int8"
    overrides = wmma.OVERRIDES

    def transform(self, mod: tvm.IRModule) -> Transformed:
        """HWNC layouts, padded to the tile."""
        return pack_and_lift(
            mod, target=self.target, rewrite=pack_hwnc, generate=_primfunc, instruction=_instruction
        )

    def plain_kernels(self, transformed: Transformed) -> dict[str, tvm.tirx.PrimFunc]:
        """The kernels before scheduling."""
        return {kernel.name: _primfunc(kernel) for kernel in packed_kernels(transformed)}

    def machine_files(self, transformed: Transformed) -> dict[str, bytes]:
        """``NAME.ptx`` for each kernel, and how each is launched."""
        files = {}
        launches = {}
        for kernel in packed_kernels(transformed):
            schedule = schedule_dense if kernel.is_dense else schedule_conv2d
            compiled = compile_ptx(schedule(_primfunc(kernel)), name=kernel.name)
            launch = compiled.to_dict()
            files[f"{kernel.name}.ptx"] = launch.pop("text").encode()
            launches[kernel.name] = launch
        return {**files, LAUNCHES: json.dumps(launches, indent=1).encode()}


def _instruction(layer: PlainLayer) -> str:
    signedness = "s8" if layer.data_dtype == "int8" else "u8"
    return f"wmma.mma m8n32k16 {signedness}"


def _primfunc(kernel: PackedKernel) -> tvm.tirx.PrimFunc:
    data, weight = kernel.parameters[:2]
    units = kernel.result.shape[-1]
    if kernel.is_dense:
        return dense_primfunc(data.shape, units=units, dtype=data.dtype)
    attributes = attributes_of(kernel.operator)
    window = {name: attributes[name] for name in ("strides", "padding", "dilation")}
    return conv2d_primfunc(
        data.shape, out_channels=units, kernel=weight.shape[:2], dtype=data.dtype, **window
    )
