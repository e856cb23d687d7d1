"""Hexagon: NCHW32c graph, vrmpy kernels in one Hexagon ELF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import tvm
from tvm import relax

from bench.evaluate.graph import attributes_of
from bench.evaluate.instructions import vrmpy
from bench.flows.hexagon_operators import group, operator_kernel, why_no_kernel
from bench.flows.kernel import PackedKernel, packed_kernels
from bench.flows.transform import pack_and_lift
from bench.flows.transformed import Transformed
from bench.machine_files import HEXAGON_PRODUCTS, HEXAGON_PROGRAM, HEXAGON_SHAPES, HEXAGON_TWIN
from bench.passes.lift_kernels import bindings_of
from bench.passes.lift_operators import lift_operators
from bench.passes.vrmpy import LANES, PRODUCTS, pack_vrmpy
from kernels.hexagon.build import build_elf
from kernels.hexagon.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.hexagon.dense import dense_primfunc, schedule_dense, takes_signed_weights
from kernels.hexagon.depthwise import depthwise_primfunc, schedule_depthwise
from kernels.hexagon.machine_code import without_vrmpy
from kernels.hexagon.plain import plain_code, plain_object


class HexagonFlow:
    """A :class:`bench.flows.flow.Flow`."""

    target = "hexagon"
    artefact = "ELF (v67)"
    scheme = "fixed"
    data_dtype = "uint8"
    overrides = vrmpy.OVERRIDES

    def transform(self, mod: tvm.IRModule) -> Transformed:
        """NCHW32c layouts, channels padded to vrmpy's four products and 32 lanes; no operator left out."""
        layers = pack_and_lift(
            mod, target=self.target, rewrite=pack_vrmpy, generate=_primfunc, instruction=lambda _: "vrmpy"
        )
        # Which vrmpy depends on the shapes of the packed tensors.
        forms = {kernel.name: _instruction(kernel) for kernel in packed_kernels(layers)}
        report = tuple(
            replace(layer, instruction=forms[layer.kernel]) if layer.kernel else layer
            for layer in layers.report
        )
        lifted, operators = lift_operators(layers.mod, group)
        left = {
            binding.var.name: why_no_kernel(binding.value)
            for binding in bindings_of(lifted["main"])
            if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, tvm.ir.Op)
        }
        return replace(layers, mod=lifted, report=report, operators=operators, on_host=left)

    def plain_kernels(self, transformed: Transformed) -> dict[str, tvm.tirx.PrimFunc]:
        """The same schedules as the machine's, with C in place of HVX (:mod:`kernels.hexagon.plain`)."""
        with plain_code():
            return self._scheduled(transformed)

    def plain_objects(self) -> tuple[bytes, ...]:
        """The C in place of HVX."""
        return (plain_object(),)

    def machine_files(self, transformed: Transformed) -> dict[str, bytes]:
        """One ELF with all kernels, its twin without vrmpy, by which they are counted, and their products."""
        shapes = {name: operator_kernel(transformed.mod[name]).shapes for name in transformed.operators}
        products = {kernel.name: vrmpy_of_products(kernel) for kernel in packed_kernels(transformed)}
        return {
            **self.compile(self._scheduled(transformed)),
            HEXAGON_SHAPES: json.dumps(shapes).encode(),
            HEXAGON_PRODUCTS: json.dumps(products).encode(),
        }

    def _scheduled(self, transformed: Transformed) -> dict[str, tvm.tirx.PrimFunc]:
        # Layers that are alike share a kernel.
        scheduled = {
            kernel.name: _schedule(kernel)
            for kernel in {kernel.name: kernel for kernel in packed_kernels(transformed)}.values()
        }
        for name in transformed.operators:
            operator = operator_kernel(transformed.mod[name])
            scheduled[name] = operator.schedule(operator.plain)
        return scheduled

    def compile(self, kernels: Mapping[str, Any]) -> dict[str, bytes]:
        """Scheduled functions to one ELF."""
        elf = build_elf(kernels)
        return {HEXAGON_PROGRAM: elf, HEXAGON_TWIN: without_vrmpy(elf)}


def vrmpy_of_products(kernel: PackedKernel) -> int:
    """The products of a layer's packed tensors, over the 128 of a vrmpy.

    Of each 32 results, every group of 32 by 4 weights of their block of output channels is one vrmpy.
    """
    _, *of_a_block = kernel.parameters[1].shape
    return prod(kernel.result.shape) // LANES * prod(of_a_block) // (LANES * PRODUCTS)


def _instruction(kernel: PackedKernel) -> str:
    """The form of vrmpy that a kernel accumulates with (docs/hexagon.md)."""
    data, weight = kernel.parameters[:2]
    if _is_depthwise(kernel) or (kernel.is_dense and takes_signed_weights(data.shape, weight.dtype)):
        two_vectors = {("uint8", "uint8"): "vrmpyubv", ("int8", "int8"): "vrmpybv"}
        return two_vectors.get((data.dtype, weight.dtype), "vrmpybusv")
    # Signed weights are shifted to unsigned, so the data, in the scalar register, decide.
    return "vrmpyub" if data.dtype == "uint8" else "vrmpybus"


def _primfunc(kernel: PackedKernel) -> tvm.tirx.PrimFunc:
    data, weight = kernel.parameters[:2]
    dtypes: dict[str, Any] = {"data_dtype": data.dtype, "weight_dtype": weight.dtype}
    if kernel.is_dense:
        return dense_primfunc(data.shape, weight.shape, **dtypes)
    attributes = attributes_of(kernel.operator)
    window: dict[str, Any] = {name: tuple(attributes[name]) for name in ("strides", "padding", "dilation")}
    if _is_depthwise(kernel):
        return depthwise_primfunc(data.shape, tuple(attributes["kernel"]), **window, **dtypes)
    return conv2d_primfunc(data.shape, weight.shape, **window, groups=attributes["groups"], **dtypes)


def _schedule(kernel: PackedKernel) -> tvm.tirx.PrimFunc:
    if kernel.is_dense:
        return schedule_dense(_primfunc(kernel))
    schedule = schedule_depthwise if _is_depthwise(kernel) else schedule_conv2d
    return schedule(_primfunc(kernel))


def _is_depthwise(kernel: PackedKernel) -> bool:
    return bool(kernel.operator.op.name == "bitexact.depthwise_conv2d")
