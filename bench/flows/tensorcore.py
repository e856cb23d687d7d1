"""Tensor cores: HWNC graph, kernels of wmma and mma.sync in PTX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm

from bench.evaluate.graph import attributes_of
from bench.evaluate.instructions import wmma
from bench.flows.kernel import PackedKernel, packed_kernels
from bench.flows.tensorcore_epilogue import epilogue_chain, epilogue_of
from bench.flows.transform import pack_and_lift
from bench.flows.transformed import Transformed
from bench.int4 import HELD, PER_WORD
from bench.lowering import BuildError
from bench.machine_files import LAUNCHES
from bench.passes.hwnc import HwncPack
from bench.passes.legal_shapes import LEGAL
from bench.passes.lift_kernels import absorb_nothing
from bench.passes.plain_layer import PlainLayer
from bench.tuning.drawing import drawn_tiling
from bench.tuning.records import Record, Records, default_folder
from kernels.tensorcore.batch_matmul import batch_matmul_primfunc
from kernels.tensorcore.conv2d import conv2d_primfunc
from kernels.tensorcore.dense import dense_primfunc
from kernels.tensorcore.ptx import PtxKernel, compile_ptx
from kernels.tensorcore.schedule import schedule_product
from kernels.tensorcore.tile import Tile
from kernels.tensorcore.tiling import Tiling


class TensorCoreFlow:
    """A :class:`bench.flows.flow.Flow`."""

    target = "tensorcore"
    artefact = "PTX (sm_80)"
    scheme = "fixed"
    data_dtype = "int8"
    overrides = wmma.OVERRIDES

    def __init__(
        self,
        *,
        extra_macs_limit: float | None = None,
        fuse: bool = True,
        tuning: str | Path | None = None,
        schedule_seed: int | None = None,
    ) -> None:
        """`extra_macs_limit`: what padding may cost (:class:`bench.passes.hwnc.HwncPack`); None: anything.

        `fuse`: whether a kernel computes what follows its layer as well; if not, the host does, and every
        accumulator can be compared. `tuning`: the folder of the records that kernels take their tilings from
        (:mod:`bench.tuning`); None: :func:`bench.tuning.records.default_folder`; empty: every kernel has its
        default tiling. `schedule_seed`: every kernel has a tiling drawn from what a tuner searches.
        """
        folder = default_folder() if tuning is None else tuning
        self._records = Records(Path(folder) if folder else None)
        self._schedule_seed = schedule_seed
        self._rewrite = HwncPack(extra_macs_limit=extra_macs_limit)
        self._absorb = epilogue_chain if fuse else absorb_nothing

    def transform(self, mod: tvm.IRModule) -> Transformed:
        """HWNC layouts, padded to the tile; each layer with what its kernel computes behind it.

        The report says which layers have a tuning record. Raises BuildError for a database of records that
        cannot be read.
        """
        transformed = pack_and_lift(
            mod,
            target=self.target,
            rewrite=self._rewrite,
            generate=primfunc,
            instruction=_instruction,
            absorb=self._absorb,
        )
        kernels = packed_kernels(transformed) if self._records.any else []
        tuned = {kernel.name: str(found) for kernel in kernels if (found := self._record(primfunc(kernel)))}
        report = [
            replace(layer, schedule=tuned.get(layer.kernel, "default") if layer.kernel else None)
            for layer in transformed.report
        ]
        return replace(transformed, report=tuple(report))

    def _record(self, function: tvm.tirx.PrimFunc) -> Record | None:
        try:
            return self._records.find(function)
        except ValueError as error:
            raise BuildError(str(error)) from error

    def _tiling(self, function: tvm.tirx.PrimFunc) -> Tiling | None:
        """The tiling of a kernel; None for its default."""
        if self._schedule_seed is not None:
            return drawn_tiling(function, seed=self._schedule_seed)
        record = self._record(function)
        return record.tiling if record else None

    def plain_kernels(self, transformed: Transformed) -> dict[str, tvm.tirx.PrimFunc]:
        """The kernels before scheduling."""
        return {kernel.name: primfunc(kernel) for kernel in packed_kernels(transformed)}

    def plain_objects(self) -> tuple[bytes, ...]:
        """Nothing: plain TensorIR calls none."""
        return ()

    def machine_files(self, transformed: Transformed) -> dict[str, bytes]:
        """``NAME.ptx`` for each kernel, scheduled as its record says if it has one; and all launches."""
        scheduled = {}
        for kernel in packed_kernels(transformed):
            function = primfunc(kernel)
            scheduled[kernel.name] = schedule_product(function, tiling=self._tiling(function))
        return self.compile(scheduled)

    def compile(self, kernels: Mapping[str, tvm.tirx.PrimFunc]) -> dict[str, bytes]:
        """Scheduled functions to PTX."""
        return files_of({name: compile_ptx(scheduled, name=name) for name, scheduled in kernels.items()})


def files_of(kernels: Mapping[str, PtxKernel]) -> dict[str, bytes]:
    """Compiled kernels as a machine of this target takes them: the PTX of each, and all launches."""
    files = {}
    launches = {}
    for name, kernel in kernels.items():
        launch = kernel.to_dict()
        files[f"{name}.ptx"] = launch.pop("text").encode()
        launches[name] = launch
    return {**files, LAUNCHES: json.dumps(launches, indent=1).encode()}


def _instruction(layer: PlainLayer) -> str:
    legal = LEGAL[layer.data_dtype, layer.weight_dtype]
    if legal.instruction == "wmma":
        return f"wmma.mma {legal.shape} {_element(layer.data_dtype)}"
    return f"mma.sync {legal.shape} {_element(layer.data_dtype)}·{_element(layer.weight_dtype)}"


def _element(dtype: str) -> str:
    """An element type as PTX spells it."""
    return dtype.replace("uint", "u").replace("int", "s")


def primfunc(kernel: PackedKernel) -> tvm.tirx.PrimFunc:
    """The function of a kernel before scheduling. Raises ValueError for a layer that has no kernel."""
    data, weight = kernel.parameters[:2]
    attributes = attributes_of(kernel.operator)
    dtype = attributes.get("data_dtype") or data.dtype
    weight_dtype = attributes.get("weight_dtype") or weight.dtype
    legal = LEGAL[dtype, weight_dtype]
    # Of 4-bit operands the kernel generators count values, not words.
    shape = (*data.shape[:-1], data.shape[-1] * PER_WORD) if dtype in HELD else data.shape
    options: dict[str, Any] = {
        "dtype": dtype,
        "weight_dtype": weight_dtype,
        "tile": Tile(legal.batch, legal.outputs, legal.inputs, legal.instruction),
        "epilogue": epilogue_of(kernel),
    }
    units = int(kernel.operator.ty.shape[-1])
    if kernel.operator.op.name == "bitexact.batch_matmul":
        return batch_matmul_primfunc(shape, units=units, **options)
    if kernel.is_dense:
        return dense_primfunc(shape, units=units, **options)
    window = {name: attributes[name] for name in ("strides", "padding", "dilation")}
    return conv2d_primfunc(shape, out_channels=units, kernel=weight.shape[:2], **window, **options)
