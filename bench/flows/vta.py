"""VTA: packed graph, GEMM and ALU programs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar, cast

import tvm
from tvm import relax

from bench.evaluate.graph import attributes_of
from bench.evaluate.instructions import vta
from bench.flows.kernel import PackedKernel, packed_kernels
from bench.flows.transform import pack_and_lift
from bench.flows.transformed import Transformed
from bench.flows.vta_epilogue import epilogue_of
from bench.flows.vta_operators import PLAIN, PROGRAMS, Generators, described
from bench.passes.graph_pack import GraphPack, alu_chain, alu_chain_alone
from bench.passes.lift_kernels import bindings_of
from bench.passes.plain_layer import PlainLayer
from bench.passes.vta.between import lift_between, packed_images
from bench.passes.vta.region import Mark
from kernels.vta import conv2d, conv2d_transpose, dense
from kernels.vta.tensorir import conv2d_primfunc, conv2d_transpose_primfunc, dense_primfunc
from simulators.vta.config import Config
from simulators.vta.program import Program

T = TypeVar("T")

LAYER_PROGRAMS: Mapping[str, Callable[..., Program]] = {
    "bitexact.dense": dense,
    "relax.nn.conv2d": conv2d,
    "relax.nn.conv2d_transpose": conv2d_transpose,
}
LAYER_FUNCTIONS: Mapping[str, Callable[..., tvm.tirx.PrimFunc]] = {
    "bitexact.dense": dense_primfunc,
    "relax.nn.conv2d": conv2d_primfunc,
    "relax.nn.conv2d_transpose": conv2d_transpose_primfunc,
}
"""What makes a kernel of each packed tensor operator, from the same description."""


class VtaFlow:
    """A :class:`bench.flows.flow.Flow` for one configuration of VTA (default: the Pynq sample).

    ``start`` and ``stop`` narrow down what goes to VTA, as in :func:`bench.passes.graph_pack`.
    """

    target = "vta"
    artefact = "VTA program"
    scheme = "pow2"
    data_dtype = "int8"
    overrides = vta.OVERRIDES

    def __init__(
        self, config: Config | None = None, start: Mark | None = None, stop: Mark | None = None
    ) -> None:
        self._config = config or Config()
        self._start, self._stop = start, stop

    def transform(self, mod: tvm.IRModule) -> Transformed:
        """NCHW{b}n{c}c layouts; each layer with the ALU operators behind it, and those between the layers."""
        rewrite = GraphPack(
            mod,
            batch=self._config.batch,
            block=self._config.block,
            start=self._start,
            stop=self._stop,
            grouping="blocks",
        )
        layers = pack_and_lift(
            mod,
            target=self.target,
            rewrite=rewrite,
            generate=lambda kernel: self._generate(kernel, LAYER_PROGRAMS),
            instruction=_instruction,
            absorb=(alu_chain, alu_chain_alone),
            keep_packed=rewrite.keep_packed,
            tensors_last=True,
        )
        packed = {entry.transformed for entry in layers.correspondences if entry.layout}
        packed |= packed_images(layers.mod, self._config.batch, self._config.block)
        lifted, operators, on_host = lift_between(layers.mod, packed, self._why_no_program)
        kept = {binding.var.name for binding in bindings_of(lifted["main"])}
        return replace(
            layers,
            mod=lifted,
            operators=operators,
            on_host=on_host,
            correspondences=tuple(entry for entry in layers.correspondences if entry.transformed in kept),
        )

    def plain_kernels(self, transformed: Transformed) -> dict[str, tvm.tirx.PrimFunc]:
        """The kernels as plain TensorIR."""
        layers = {
            kernel.name: self._generate(kernel, LAYER_FUNCTIONS) for kernel in packed_kernels(transformed)
        }
        return layers | self._operators(transformed, PLAIN)

    def plain_objects(self) -> tuple[bytes, ...]:
        """Nothing: plain TensorIR calls none."""
        return ()

    def machine_files(self, transformed: Transformed) -> dict[str, bytes]:
        """``NAME.vta``, a program for each kernel."""
        layers = {
            kernel.name: self._generate(kernel, LAYER_PROGRAMS) for kernel in packed_kernels(transformed)
        }
        return self.compile(layers | self._operators(transformed, PROGRAMS))

    def compile(self, kernels: Mapping[str, Program]) -> dict[str, bytes]:
        """Programs to their files."""
        return {f"{name}.vta": program.to_bytes() for name, program in kernels.items()}

    def _generate(self, kernel: PackedKernel, generators: Mapping[str, Callable[..., T]]) -> T:
        """What the generator of a kernel's operator makes of it."""
        data, weight = (parameter.shape for parameter in kernel.parameters[:2])
        options: dict[str, Hashable] = {"epilogue": tuple(epilogue_of(kernel)), "config": self._config}
        if not kernel.is_dense:
            attributes = attributes_of(kernel.operator)
            options |= {name: tuple(attributes[name]) for name in ("strides", "padding")}
            options["groups"] = attributes["groups"]
            if "output_padding" in attributes:
                options["output_padding"] = tuple(attributes["output_padding"])
        generator = generators[kernel.operator.op.name]
        return cast(T, _generated(generator, (data, weight), tuple(options.items())))

    def _operators(self, transformed: Transformed, generators: Generators) -> dict[str, Any]:
        """What generators make of the operators between the layers."""
        return {name: self._operator(transformed.mod[name], generators) for name in transformed.operators}

    def _operator(self, function: relax.Function, generators: Generators) -> object:
        generator, shapes, options = described(function, generators)
        return _generated(generator, shapes, (*options.items(), ("config", self._config)))

    def _why_no_program(self, _: str, function: relax.Function) -> str | None:
        try:
            self._operator(function, PROGRAMS)
        except ValueError as reason:
            return str(reason)
        return None


@lru_cache(maxsize=256)
def _generated(
    generator: Callable[..., Any],
    shapes: tuple[tuple[int, ...], ...],
    options: tuple[tuple[str, Hashable], ...],
) -> object:
    """What a generator makes, once for each description: layers repeat, and each is asked for twice."""
    return generator(*shapes, **dict(options))


def _instruction(_: PlainLayer) -> str:
    return "GEMM"
